"""Labelled sequences for tests: random DNA, and a table of rows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def random_dna(rng: np.random.Generator, length: int, gc: float = 0.5) -> str:
    """gc: the expected share of G and C."""
    p = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return "".join(rng.choice(list("ACGT"), p=p, size=length))


def labelled_table(path: Path, rows: list[dict[str, object]]) -> Path:
    """A TSV with the columns of the first row."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path
