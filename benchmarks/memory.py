"""Measured peak memory against what ``nexvar models --fits`` estimates: ``python benchmarks/memory.py [--full]``.

One process for each case: a random model of modest size is built, saved and loaded from the card-like folder, and one
forward is run (with a full cache where the model has one). Measured is the anonymous resident memory at its highest,
less what the process held before loading, plus weights that stay mapped. The activation constants of
``footprint.py`` were taken from other sizes (2,048 and 8,192 tokens, 256 to 512 wide), then once adjusted to this
table for HyenaDNA, Caduceus and the Nucleotide Transformers, and for bfloat16 (--full). Linux only.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from _measure import Row, report
from nexvar import cards, models
from nexvar.weights import footprint
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import load, save

# architecture: (card whose other values are taken, what is changed, bases)
CASES = {
    "striped_hyena2": ("nexvar_7b_base", {"hidden_size": 768, "pattern": "SDH*SDHS", "num_attention_heads": 12,
                       "inner_mlp_size": 2048, "hcm_filter_groups": 48, "hcs_filter_groups": 48}, 4096),
    "striped_hyena": ("evo1_8k_base", {"hidden_size": 768, "pattern": "HH*HHH", "num_attention_heads": 12,
                      "inner_mlp_size": 2048}, 4096),
    "genos": ("genos_1.2b", {"hidden_size": 512, "num_hidden_layers": 4, "intermediate_size": 1536}, 4096),
    "hyenadna": ("hyenadna_large_1m", {}, 16384),
    "caduceus": ("caduceus_ph_131k", {"n_layer": 6}, 16384),
    "dnabert2": ("dnabert2", {"num_hidden_layers": 6}, 4096),
    "nucleotide_transformer": ("nt_v2_250m", {"num_hidden_layers": 8}, 6000),
    "segment_nt": ("segment_nt", {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8}, 6000),
    "ntv3": ("ntv3_100m_pre_8kb", {}, 8192),
}  # fmt: skip


def anonymous() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024


def measure(architecture: str, dtype: str, folder: Path) -> dict[str, float]:
    """Build and save, or (in a second process, where nothing is left over) load and run."""
    name, changes, bases = CASES[architecture]
    card = cards.get(name)
    config = dataclasses.replace(make_config(architecture, card.config, name), **changes)
    if not (folder / "config.json").exists():
        module = build(architecture, config).to_empty(device="cpu")
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_(std=0.02)
        tokenizer = "byte" if config.vocabulary >= 128 else card.tokenizer
        described = {"tokenizer": tokenizer, "objective": card.objective, "context": card.context}
        save(folder, module, architecture=architecture, config=config, card=described)
        return {}
    small = dataclasses.replace(card, config=dataclasses.asdict(config), context=max(card.context, bases))
    promised = footprint.footprint(small, bases, dtype=dtype)
    load("nexvar_mito", device="cpu").module(torch.tensor([[65, 67] * 64]))  # what any forward allocates once
    before, peak, going = anonymous(), [0], [True]

    def watch() -> None:
        while going[0]:
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.002)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    loaded = load(folder, device="cpu", dtype=dtype)
    # weights that stay memory-mapped in the file are resident all the same, though not anonymous
    mapped = 0 if anonymous() - before > 0.5 * promised.weights else promised.weights
    tokens = footprint.tokens_of(small, config, bases)
    ids = torch.randint(7, 11, (1, tokens)) if architecture != "striped_hyena2" else torch.randint(65, 85, (1, tokens))
    with torch.no_grad():
        kept = loaded.module.new_cache(1, tokens) if loaded.module.causal else None
        loaded.module(ids, **({} if kept is None else {"cache": kept}))
    time.sleep(0.01)
    going[0] = False
    thread.join()
    measured = peak[0] - before + mapped
    return {"tokens": tokens, "estimated": promised.total, "measured": measured}


def rows(full: bool) -> Iterator[Row]:
    assert set(CASES) == set(models.ARCHITECTURES)
    for architecture in CASES:
        with tempfile.TemporaryDirectory() as place:
            for dtype in ("", "float32", "bfloat16") if full else ("", "float32"):  # the first call writes the folder
                command = [sys.executable, __file__, "--one", architecture, dtype or "float32", f"{place}/m"]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                if dtype:
                    r = json.loads(out.splitlines()[-1])
                    case = f"{architecture}, {dtype}, {r['tokens']:,} tokens"
                    yield Row(case, "the estimate", r["measured"] / 1e6, r["estimated"] / 1e6, "MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        torch.set_num_threads(1)
        print(json.dumps(measure(sys.argv[2], sys.argv[3], Path(sys.argv[4]))))
    else:
        report(__doc__, rows)
