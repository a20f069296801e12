"""What a benchmark found, as rows: each cell on each set, overall and within each region, and models compared.

A region with fewer than ten variants of either class has no numbers: it says "too few".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nexvar.evals import metrics, statistics
from nexvar.evals.metrics import Estimate, TooFew
from nexvar.evals.noncoding.baselines import REGION, REGION_CLASS
from nexvar.evals.noncoding.regions import CLASSES
from nexvar.evals.noncoding.run import Data, Found
from nexvar.evals.noncoding.store import BASELINE, Cell
from nexvar.evals.noncoding.windows import Cut

ALL = "all"


@dataclass(frozen=True)
class Row:
    """A cell on the variants of one set, in one region. missing: variants without a score, which do not count.

    estimates: of each of ``METRICS``; empty where ``note`` says why. threshold: of MCC and F1 (Youden's).
    """

    width: int
    set: str
    region: str
    model: str
    method: str
    detail: str
    parameters: int
    positives: int
    negatives: int
    missing: int
    estimates: dict[str, Estimate]
    threshold: float
    note: str


def measure(found: Found, draws: int, seed: int) -> list[Row]:
    """Every cell on its sets; cells that could not be computed are rows with the reason."""
    rows: list[Row] = []
    for cell in found.cells:
        for set in _sets(cell, found.data):
            rows += _of(cell, set, found, draws, seed)
    for f in found.failures:
        for set in [f.set] if f.set else found.data.sets.rows:
            rows.append(Row(f.width, set, ALL, f.model, f.method, "", 0, 0, 0, 0, {}, np.nan, f.why))
    sets, regions = list(found.data.sets.rows), [ALL, *regions_of(found.data.region_N)]
    return sorted(rows, key=lambda r: (r.width, sets.index(r.set), regions.index(r.region), r.method == BASELINE))


def _sets(cell: Cell, data: Data) -> list[str]:
    return [cell.set] if cell.set else list(data.sets.rows)


def members(cell_set: str, data: Data, cut: Cut) -> np.ndarray:
    """(M,) the variants of a set that have a window."""
    rows = data.sets.rows[cell_set]
    return rows[cut.usable_N[rows]]


def regions_of(region_N: np.ndarray) -> list[str]:
    """Those that are there, in the order of the rules; then the file's own."""
    there = set(region_N.tolist()) - {""}
    return [name for name in CLASSES if name in there] + sorted(there - set(CLASSES))


def _of(cell: Cell, set: str, found: Found, draws: int, seed: int) -> Iterator[Row]:
    cut, data = found.cuts[cell.width], found.data
    rows = members(set, data, cut)
    constant = cell.method == BASELINE and cell.model in (REGION, REGION_CLASS)
    for region in [ALL, *([] if constant else regions_of(data.region_N[rows]))]:
        some = rows if region == ALL else rows[data.region_N[rows] == region]
        scored = some[np.isfinite(cell.score_N[some])]
        labels, scores = data.sets.positive_N[scored], cell.score_N[scored]
        estimates, threshold, note = dict[str, Estimate](), float("nan"), ""
        clusters = cut.group_N[scored] if cut.grouped else None
        try:
            estimates = metrics.bootstrap(labels, scores, draws=draws, seed=seed, clusters=clusters)
            threshold = metrics.youden_threshold(labels, scores)
        except TooFew as few:
            note = f"too few: {few.what}"
        yield Row(cell.width, set, region, cell.model, cell.method, cell.detail, cell.parameters, int(labels.sum()),
                  int((~labels).sum()), len(some) - len(scored), estimates, threshold, note)  # fmt: skip


def compare(found: Found, draws: int, seed: int) -> list[statistics.Row]:
    """Every two cells on the same set and width, of which one is a model's; q-values over all of them.

    DeLong's test, or, where the file names groups (genes), the bootstrap of whole groups.
    """
    made = []
    for width, cut in found.cuts.items():
        for set in found.data.sets.rows:
            cells = [c for c in found.cells if c.width == width and set in _sets(c, found.data)]
            rows = members(set, found.data, cut)
            groups = cut.group_N[rows] if cut.grouped else None
            models = [cell for cell in cells if cell.method != BASELINE]
            others = [cell for cell in cells if cell.method == BASELINE]
            pairs = [(a, b) for i, a in enumerate(models) for b in [*models[i + 1 :], *others]]
            for a, b in pairs:
                made.append(
                    statistics.compare(
                        found.data.sets.positive_N[rows], a.score_N[rows], b.score_N[rows], names=(a.name, b.name),
                        dataset=f"{set} {width}bp", groups=groups, draws=draws, seed=seed,
                    )
                )  # fmt: skip
    return statistics.with_q_values(made)
