"""How much each base counts in the loss, by regions of a BED file.

record  start  end  name  weight        0-based half-open; where regions overlap, the later line holds
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.textio import Lines


class LossWeights:
    """Weights of the bases of many records; 1 outside all regions."""

    def __init__(self, steps: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self._steps = steps

    @classmethod
    def read(cls, path: Path, lengths: Mapping[str, int]) -> LossWeights:
        """From BED(.gz) with a fifth column, the weight; NexVarError names the line of a region that is none.

        lengths: in bases, of every record that may be named.
        Regions of other records are passed over, unless all are: one file may serve many corpora.
        """
        regions: dict[str, list[tuple[int, int, float]]] = {}
        for number, line in Lines(path):
            if line.strip() and not line.startswith(("#", "track", "browser")):
                name, region = _region(line, lengths, f"{path}:{number}")
                if region:
                    regions.setdefault(name, []).append(region)
        if not regions:
            raise NexVarError("no region of any record of data.files", where=path, fix="are the names the same?")
        return cls({name: _paint(rows) for name, rows in regions.items()})

    def of(self, record: str, positions: np.ndarray) -> np.ndarray:
        """Weights (len(positions),) float32 of 0-based positions of a record."""
        if record not in self._steps:
            return np.ones(len(positions), dtype=np.float32)
        edges, values = self._steps[record]
        return values[np.searchsorted(edges, positions, side="right")]


def _region(line: str, lengths: Mapping[str, int], where: str) -> tuple[str, tuple[int, int, float] | None]:
    columns = line.split("\t")
    try:
        name, start, end, weight = columns[0], int(columns[1]), int(columns[2]), float(columns[4])
    except (ValueError, IndexError):
        raise NexVarError(
            f"{line.strip()[:60]!r}", where=where, fix="tab-separated record, start, end, name, weight"
        ) from None
    if name not in lengths:
        return name, None
    if not 0 <= start < end <= lengths[name]:
        raise NexVarError(f"{start} to {end} of {lengths[name]} bases", where=where, fix="0 <= start < end <= length")
    if not 0 <= weight < math.inf:
        raise NexVarError(f"weight {columns[4]}", where=where, fix="a number from 0")
    return name, (start, end, weight)


def _paint(regions: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Edges (n,) and the weights (n + 1,) before, between and after them."""
    edges = np.unique([edge for start, end, _ in regions for edge in (start, end)])
    values = np.ones(len(edges) + 1, dtype=np.float32)
    for start, end, weight in regions:
        first, last = np.searchsorted(edges, (start, end))
        values[first + 1 : last + 1] = weight
    return edges, values
