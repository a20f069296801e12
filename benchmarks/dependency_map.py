"""A dependency map of 200 x 200 bases against its windows one by one: ``python benchmarks/dependency_map.py [--full]``.

    ours      ``attribution.dependency_map``: causal models read what follows a change, along one trunk
    other     a forward of the sequence and of every substitution, each whole and alone, and the same odds of it

The map stands at the end of a window of 512 bases (--full: 2,048), and alone. A masked model saves by batches alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from _measure import Row, interleaved, report, timed_row
from nexvar.inference.attribution import dependency_map
from nexvar.inference.attribution.reading import read, substitutions
from nexvar.inference.attribution.target import BaseOdds
from nexvar.weights.load import Loaded, load

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
MAP = 200
APART = 0.02  # of log2 of odds, whose largest are about 20


@torch.inference_mode()
def one_by_one(loaded: Loaded, text: str, keep: range) -> np.ndarray:
    """The definition, a window at a time."""
    reading, odds = read(loaded, text), BaseOdds.of(loaded)
    at_K = reading.token_L[keep.start : keep.stop] - loaded.module.causal

    def of(ids_T: np.ndarray) -> torch.Tensor:
        return odds(loaded.module(torch.as_tensor(ids_T)[None]).logits[0, at_K], np.zeros(len(keep), dtype=int))

    reference_K4 = of(reading.ids_T)
    change = torch.zeros(len(keep), len(keep))
    for i, base in substitutions(text, keep, "text"):
        moved_K = (of(reading.with_base(i, base).ids_T) - reference_K4).abs().amax(1) / np.log(2)
        change[i - keep.start] = torch.maximum(change[i - keep.start], moved_K)
    change.fill_diagonal_(0)
    return (change.triu() if loaded.module.causal else change).numpy()


def rows(full: bool) -> Iterator[Row]:
    text = "".join(random.Random(0).choices("ACGT", k=2048 if full else 512))
    for name, source, windows in (
        ("nexvar_mito, causal", "nexvar_mito", (len(text), MAP + 1)),
        ("a tiny Caduceus, masked", GOLDEN / "caduceus_ph_tiny", (MAP,)),
    ):
        loaded = load(source, device="cpu", dtype="float32")
        for window in windows:
            yield row(loaded, text[-window:], f"{name}: {MAP} x {MAP} in {window:,} bases")


def row(loaded: Loaded, text: str, case: str) -> Row:
    keep, found = range(len(text) - MAP, len(text)), dict[str, np.ndarray]()

    def ours() -> None:
        found["ours"] = dependency_map(loaded, text, keep=(keep.start, keep.stop))

    def other() -> None:
        found["other"] = one_by_one(loaded, text, keep)

    times = interleaved({"ours": ours, "other": other}, repeats=2, warmup=0)
    difference = float(np.abs(found["ours"] - found["other"]).max())
    if difference > APART:
        raise SystemExit(f"{case}: the contestants differ by {difference:.1e}")
    return timed_row(case, "windows one by one", times)


if __name__ == "__main__":
    report(__doc__, rows)
