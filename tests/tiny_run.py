"""A recipe so small that it trains in a second, genomes for it, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RECIPE = """
[model]
architecture = "striped_hyena2"
[model.config]
hidden_size = 32
pattern = "SDH*"
num_attention_heads = 2
inner_mlp_size = 48
vocab_size = 128
[data]
files = ["{fasta}"]
length = 48
circular = true
holdout = 2
[optimizer]
kind = "muon"
adam_lr = 3e-3
[schedule]
steps = 12
warmup = 2
decay = 4
[run]
out = "{out}"
batch = 4
micro_batch = 2
threads = 1
bf16 = false
log_every = 1
save_every = 2
eval_every = 6
"""


def genomes(count: int = 8, length: int = 160) -> list[tuple[str, str]]:
    """(name, letters) of relatives, two a genus: each differs from one ancestor at about a tenth of its bases."""
    rng = np.random.default_rng(0)
    ancestor = rng.integers(4, size=length)
    rows = []
    for i in range(count):
        letters = np.where(rng.random(length) < 0.1, rng.integers(4, size=length), ancestor)
        rows.append((f"Genus{i // 2}_species{i}", "".join("ACGT"[b] for b in letters)))
    return rows


def recipe_file(tmp_path: Path, fasta: Path, out: str = "run", **changes: str) -> Path:
    """The tiny recipe with lines replaced: ``recipe_file(…, **{"steps = 12": "steps = 3"})``."""
    text = RECIPE.format(fasta=fasta, out=tmp_path / out)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path / f"{out}.toml"
    path.write_text(text)
    return path


def losses(folder: Path) -> dict[int, float]:
    """Step -> training loss, from a run's log."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {r["step"]: r["loss"] for r in rows if "loss" in r}


def run_in_process(recipe: Path, kill_after: int | None = None, processes: int = 1) -> None:
    """Train in a process of its own; with ``kill_after``, SIGKILL it once that step is logged."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [sys.executable, *launcher, "-m", "nexvar.train", str(recipe)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    log = recipe.with_suffix("") / "log.jsonl"
    while kill_after is not None and process.poll() is None:
        if log.is_file() and f'"step": {kill_after},' in log.read_text():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), error
