"""Everything that only a GPU can tell, as Markdown: ``python benchmarks/gpu.py`` on any CUDA machine.

The test suite; then forward, decoding (with CUDA graphs and without) and scoring of the shapes of Evo 2 7B and 1B with
random weights, in bfloat16 and with FP8 projections; then peak memory of the 7B shape from 8,192 to 1,048,576 bases.
What does not fit or fails is a line of its table, and the next is measured. ``--tiny --device cpu`` runs the same code
in small shapes where there is no GPU; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from _measure import interleaved, matmul_rate, peak_above, table
from nexvar import cards
from nexvar.inference.options import Options
from nexvar.models import striped_hyena2
from nexvar.ops import static
from nexvar.tokenizers import ByteTokenizer
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import Loaded
from sharing import scored, synthetic

ROOT = Path(__file__).resolve().parent.parent
TINY = {"hidden_size": 64, "pattern": "SDH*", "num_attention_heads": 2, "inner_mlp_size": 96,
        "hcs_filter_groups": 4, "hcm_filter_groups": 4}  # fmt: skip


class Sizes(NamedTuple):
    shapes: dict[str, str]  # name -> card
    changes: dict[str, Any]  # of its config
    length: int
    prompt: int
    tokens: int
    variants: int
    longest: int


FULL = Sizes({"7B": "nexvar_7b_base", "1B": "nexvar_1b_base"}, {}, 8192, 2048, 32, 16, 1 << 20)
SMALL = Sizes({"tiny": "nexvar_7b_base"}, TINY, 256, 64, 4, 2, 1024)


def model(card_name: str, changes: dict[str, Any], fp8: bool, device: torch.device) -> Loaded:
    """Random weights of a released shape, bfloat16."""
    card = cards.get(card_name)
    config = make_config(card.architecture, card.config, card.name)
    config = dataclasses.replace(config, fp8_projections=fp8, **changes)
    module = build(card.architecture, config).bfloat16().to_empty(device=device)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if any(fnmatch.fnmatch(name, pattern) for pattern in striped_hyena2.KEEP_FLOAT32):
            tensor.data = tensor.data.float()
        if name.endswith("fp8_scale"):
            tensor.data.fill_(1.0)
    module.init_weights()
    module.reset_buffers()
    return Loaded(module.eval(), ByteTokenizer(), card, device, torch.bfloat16)


def ids(length: int, device: torch.device) -> torch.Tensor:
    return torch.randint(65, 85, (1, length), generator=torch.Generator().manual_seed(0)).to(device)


def forward(loaded: Loaded, sizes: Sizes) -> list[list[object]]:
    """Seconds, tokens a second, GB above the weights."""
    job = partial(loaded.module, ids(sizes.length, loaded.device), logits=slice(-1, None))
    seconds = interleaved({"forward": job})["forward"].wall
    return [[f"{sizes.length:,}", seconds, sizes.length / seconds, peak_above(job) / 1e9]]


def decoding(loaded: Loaded, sizes: Sizes) -> list[list[object]]:
    """Milliseconds a token, as ever and in steps of fixed shape, which give the same logits."""
    capture = static.cuda_graph if loaded.device.type == "cuda" else None
    prompt, token = ids(sizes.prompt, loaded.device), ids(1, loaded.device)
    jobs: dict[str, Callable[[], object]] = {}
    logits: dict[str, torch.Tensor] = {}
    for name in ("as ever", "CUDA graphs" if capture else "static steps, not recorded"):
        cache = loaded.module.new_cache(1, sizes.prompt + 8 * sizes.tokens + 1)
        loaded.module(prompt, cache=cache, logits=slice(-1, None))
        loaded.module(token, cache=cache)
        step = partial(_logits, loaded.module, cache) if name == "as ever" else loaded.module.decoder(cache, capture)

        def job(name: str = name, step: Callable[[torch.Tensor], torch.Tensor] = step) -> None:
            for _ in range(sizes.tokens):
                logits[name] = step(token)

        jobs[name] = job
    times = interleaved(jobs)
    first, second = logits.values()
    same = "the same" if torch.equal(first, second) else f"differ by {float((first - second).abs().max()):.1e}"
    return [[name, 1e3 * t.wall / sizes.tokens, sizes.tokens / t.wall, same] for name, t in times.items()]


def _logits(module: Any, cache: Any, token: torch.Tensor) -> torch.Tensor:
    return module(token, cache=cache).logits


def scoring(loaded: Loaded, sizes: Sizes) -> list[list[object]]:
    """Seconds a variant of the BRCA1 protocol, and GB above the weights."""
    with tempfile.TemporaryDirectory() as folder:
        fasta, variants = synthetic(Path(folder))
        at = {"window": sizes.length, "left": sizes.length // 2}
        settings = Options(protocol="evo2-brca1", max_ref_mismatch=1.0).resolve(loaded)
        job = partial(scored, loaded, fasta, variants[: sizes.variants], dataclasses.replace(settings, **at))
        seconds = interleaved({"score": job}, repeats=2)["score"].wall
        alleles = sum(len(v.alts) for v in variants[: sizes.variants])
        return [[alleles, seconds / alleles, alleles / seconds, peak_above(job) / 1e9]]


def memory(loaded: Loaded, sizes: Sizes) -> list[list[object]]:
    """GB above the weights of a forward, by length."""
    found: list[list[object]] = []
    length = sizes.length
    while length <= sizes.longest:
        job = partial(loaded.module, ids(length, loaded.device), logits=slice(-1, None))
        try:
            found.append([f"{length:,}", peak_above(job) / 1e9])
        except RuntimeError as error:  # out of memory, above all
            found.append([f"{length:,}", _line(error)])
        length *= 2
    return found


TABLES: dict[Callable[[Loaded, Sizes], list[list[object]]], tuple[str, tuple[str, ...]]] = {
    forward: ("Forward", ("bases", "s", "bases a second", "GB above the weights")),
    decoding: ("Decoding", ("steps", "ms a token", "tokens a second", "logits")),
    scoring: ("Scoring, windows of the forward's length", ("alleles", "s an allele", "alleles a second", "GB above")),
}


@torch.inference_mode()
def measure(device: torch.device, sizes: Sizes) -> str:
    """All tables, as Markdown. One model is in memory at a time."""
    rows: dict[str, list[list[object]]] = {title: [] for title, _ in TABLES.values()}
    peaks: list[list[object]] = []
    for shape, card in sizes.shapes.items():
        for kind, fp8 in (("bfloat16", False), ("FP8", True)):
            loaded = model(card, sizes.changes, fp8, device)
            for section, (title, header) in TABLES.items():
                try:
                    found = section(loaded, sizes)
                except RuntimeError as error:
                    found = [[_line(error), *[""] * (len(header) - 1)]]
                rows[title] += [[shape, kind, *row] for row in found]
            if shape in ("7B", "tiny"):
                peaks += [[shape, kind, *row] for row in memory(loaded, sizes)]
            del loaded
    parts = [
        f"## {title}\n{table(('shape', 'projections', *header), rows[title])}" for title, header in TABLES.values()
    ]
    parts.append(
        f"## Peak memory of a forward\n{table(('shape', 'projections', 'bases', 'GB above the weights'), peaks)}"
    )
    return "\n\n".join(parts)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120]


def suite() -> str:
    """The tests, among them those that need CUDA; the last line of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", str(ROOT / "tests")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    kept = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    return "## Tests\n" + "\n".join(f"- {line}" for line in [*kept, lines[-1]])


def machine(device: torch.device) -> str:
    if device.type != "cuda":
        return f"No GPU: {device}, torch {torch.__version__}. The numbers mean nothing."
    p = torch.cuda.get_device_properties(device)
    memory = f"{p.total_memory / 1e9:.0f} GB, compute capability {p.major}.{p.minor}"
    rate = f"bfloat16 matmul {matmul_rate(torch.bfloat16, 8192) / 1e3:.0f} TFLOP a second"
    return f"{p.name}, {memory}; torch {torch.__version__}, CUDA {torch.version.cuda}; {rate}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small shapes, and no test suite: does the code run?")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here, so nothing is measured; --tiny --device cpu runs the same code", file=sys.stderr)
        return 2
    if device.type == "cpu" and not options.tiny:
        parser.error("a CPU would take days over these shapes: --tiny")
    print(f"# On a GPU\n{machine(device)}\n", flush=True)
    if not options.tiny:
        print(f"{suite()}\n", flush=True)
    print(measure(device, SMALL if options.tiny else FULL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
