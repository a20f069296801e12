"""The five pictures of a width, by the names of the published code. Needs matplotlib (``pip install 'nexvar[plots]'``).

    fig2_auroc_heatmap           everything x sets
    fig3_region_bars             everything x regions, of the last set
    fig4_zeroshot_vs_finetune    each model's methods, joined by a line, of the last set
    fig5_pareto_front            parameters against the AUROC of zero-shot, of the last set
    fig_s1_roc_curves            everything overlaid, of the last set

The last set is N3, where there is one, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nexvar.evals import figures
from nexvar.evals.figures import Point
from nexvar.evals.noncoding.report import ALL, Row, members
from nexvar.evals.noncoding.run import Found
from nexvar.evals.noncoding.store import BASELINE
from nexvar.files import disk_errors


def draw(rows: Sequence[Row], found: Found, folder: Path) -> list[str]:
    """Write what can be drawn, PNG and PDF; lines for people about what cannot."""
    if find_spec("matplotlib") is None:
        return ["no pictures: matplotlib is not installed (pip install 'nexvar[plots]')"]
    said = []
    for width in found.cuts:
        last = list(found.data.sets.rows)[-1]
        for name, make in _pictures([row for row in rows if row.width == width], found, width, last):
            with disk_errors(folder):
                (folder / f"{width}bp").mkdir(parents=True, exist_ok=True)
            figure = make()
            if figure is None:
                said.append(f"{width} bp: nothing to draw in {name}")
            else:
                figures.save(figure, folder / f"{width}bp" / name)
    return said


def _pictures(rows: list[Row], found: Found, width: int, last: str) -> list[tuple[str, Callable[[], Any]]]:
    whole = [row for row in rows if row.region == ALL]
    of_last = [row for row in whole if row.set == last]
    of_models = [row for row in of_last if row.method != BASELINE]
    zero = [row for row in of_models if row.method == "zero-shot" and row.parameters]
    within = [row for row in rows if row.set == last and row.region != ALL]
    title = f"{last}, {width} bp"

    def heat_map() -> Any:
        return _drawn(figures.heat_map, [_point(r, r.set) for r in whole], title=f"AUROC, {width} bp")

    def region_bars() -> Any:
        return _drawn(figures.region_bars, [_point(r, r.region) for r in within], title=title)

    def dots() -> Any:
        return _drawn(figures.dots, [_point(r, r.set) for r in of_models], title=title)

    def pareto() -> Any:
        sizes = {row.model: row.parameters for row in zero}
        return _drawn(figures.pareto, [_point(r, r.set) for r in zero], sizes, title=title)

    def roc_curves() -> Any:
        picked = members(last, found.data, found.cuts[width])
        labels = found.data.sets.positive_N[picked]
        cells = [c for c in found.cells if c.width == width and c.set in ("", last)]
        curves = {c.name: (labels, c.score_N[picked]) for c in cells}
        return figures.roc_curves(curves, title=title) if any(row.estimates for row in of_last) else None

    return [("fig2_auroc_heatmap", heat_map), ("fig3_region_bars", region_bars), ("fig4_zeroshot_vs_finetune", dots),
            ("fig5_pareto_front", pareto), ("fig_s1_roc_curves", roc_curves)]  # fmt: skip


def _drawn(picture: Callable[..., Any], points: list[Point], *more: Any, title: str) -> Any:
    """The figure; None where no point was measured."""
    return picture(points, *more, title=title) if any(point.measured for point in points) else None


def _point(row: Row, column: str) -> Point:
    found = row.estimates.get("auroc")
    low, value, high = (found.low, found.value, found.high) if found else (np.nan,) * 3
    return Point(row.model, column, value, low, high, (row.positives, row.negatives), row.method, row.note)
