"""Panels of rows: a name, a value on a common axis, the numbers beside it.

The longer of models and columns makes the rows, the other one the panels, so that one model on twenty tasks is one
panel and twenty models on one task are one, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.figures import pages
from nexvar.evals.figures.points import Point, checked, names, one_series
from nexvar.evals.plots import FAINT, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, AXIS, HEAD, FOOT, GAP, WIDEST_PAGE = 0.26, 2.3, 0.42, 0.62, 0.35, 17.0  # inches
KEY = 0.45  # inches beside a series' name
MARKERS = "osD^v"
# One row: axes, its place, its points (one of each series), the text columns' places (axes fraction).
Row = Callable[["Axes", int, Sequence[Point]], list[tuple[str, str]]]


def forest(points: Sequence[Point], *, metric: str = "AUROC", chance: float | None = 0.5, title: str = "") -> Figure:
    """Each value as a dot with its interval and in numbers. chance: a dashed line there."""

    def row(ax: Axes, y: int, of_row: Sequence[Point]) -> list[tuple[str, str]]:
        point = of_row[0]
        if point.has_interval:
            ax.plot([point.low, point.high], [y, y], color=INK, lw=1.4, solid_capstyle="butt")
        ax.plot(point.value, y, "s", color=pages.COLOURS[0], ms=5.5, clip_on=False)
        return _numbers(point)

    return _panels(one_series(points), row, metric=metric, chance=chance, title=title)


def region_bars(points: Sequence[Point], *, metric: str = "AUROC", chance: float | None = 0.5,
                title: str = "") -> Figure:  # fmt: skip
    """Each value as a bar from ``chance`` (None: from 0) with its interval, its numbers and ``n``."""

    def row(ax: Axes, y: int, of_row: Sequence[Point]) -> list[tuple[str, str]]:
        point, start = of_row[0], chance or 0.0
        ax.barh(y, point.value - start, left=start, height=0.62, color=pages.COLOURS[6])
        if point.has_interval:
            ax.plot([point.low, point.high], [y, y], color=INK, lw=1.4, solid_capstyle="butt")
        return _numbers(point)

    return _panels(one_series(points), row, metric=metric, chance=chance, title=title)


def dots(points: Sequence[Point], series: Sequence[str] | None = None, *, metric: str = "AUROC",
         chance: float | None = 0.5, title: str = "") -> Figure:  # fmt: skip
    """A dot for each way of asking (``Point.series``, up to five; by default all that are there), joined by a line."""
    points = checked(points)
    there = list(dict.fromkeys(point.series for point in points))
    order = there if series is None else arguments.a_list(series, "series", "names")
    if missing := [name for name in order if name not in there]:
        raise NexVarError(f"no points of {missing[0]!r}", where="series", fix=f"of {', '.join(map(repr, there))}")
    if len(order) > len(MARKERS):
        raise NexVarError(f"{len(order)} series", where="series", fix=f"choose up to {len(MARKERS)}")
    look = {name: (pages.COLOURS[i], MARKERS[i]) for i, name in enumerate(order)}

    def row(ax: Axes, y: int, of_row: Sequence[Point]) -> list[tuple[str, str]]:
        found = {point.series: point for point in of_row}
        values = [point.value for point in of_row]
        ax.plot([min(values), max(values)], [y, y], color=MUTED, lw=1.6, zorder=1)
        for name, point in found.items():
            colour, marker = look[name]
            ax.plot(point.value, y, marker, color=colour, ms=6.5, mec="white", mew=0.8, clip_on=False)
        return [(f"{found[name].value:.3f}" if name in found else "–", look[name][0]) for name in order]

    chosen = [point for point in points if point.series in order]
    return _panels(chosen, row, metric=metric, chance=chance, title=title, key=look)


def _numbers(point: Point) -> list[tuple[str, str]]:
    """(text, colour) of each text column."""
    if not point.measured:
        return [(point.absence, MUTED), (point.size, MUTED)]
    interval = f" [{point.low:.3f}, {point.high:.3f}]" if point.has_interval else ""
    return [(f"{point.value:.3f}{interval}", INK), (point.size, MUTED)]


def _panels(
    points: Sequence[Point],
    row: Row,
    *,
    metric: str,
    chance: float | None,
    title: str,
    key: dict[str, tuple[str, str]] | None = None,
) -> Figure:
    """row draws one row and says what stands beside it, as (text, colour) columns. key: series -> (colour, marker)."""
    models, columns = names(points)
    in_rows = len(models) >= len(columns)
    rows, panels = (models, columns) if in_rows else (columns, models)
    cells: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        place = (point.model, point.column) if in_rows else (point.column, point.model)
        cells.setdefault(place, []).append(point)

    columns_of_text = [_numbers(point) for point in points] if key is None else [[("-0.000", INK)] * len(key)]
    beside = [
        pages.widest((t for t, _ in column), pages.NUMBER) + 0.15 for column in zip(*columns_of_text, strict=True)
    ]
    axis = max(AXIS, pages.widest(panels, pages.HEADING, "bold") - sum(beside))
    panel, name = axis + 0.15 + sum(beside), pages.widest(rows, pages.NAME) + 0.15
    across = max(1, int((WIDEST_PAGE - 2 * pages.MARGIN - name + GAP) // (panel + GAP)))
    lines = math.ceil(len(panels) / across)
    across = math.ceil(len(panels) / lines)
    tall = HEAD + ROW * len(rows) + FOOT
    wide = 2 * pages.MARGIN + name + across * panel + (across - 1) * GAP
    if key:
        wide = max(wide, 2 * pages.MARGIN + sum(KEY + pages.widest([word], pages.NAME) for word in key))
    figure, top = pages.page(wide, (0.35 if key else 0) + lines * tall, title)
    if key:
        _key(figure, pages.MARGIN, top, key)
        top += 0.35
    limits = _limits(points, chance)
    for i, title_of_panel in enumerate(panels):
        down, right = divmod(i, across)
        left = pages.MARGIN + name + right * (panel + GAP)
        ax = pages.axes_at(figure, left, top + down * tall + HEAD, axis, ROW * len(rows))
        ax.set_xlim(*limits)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        _dress(ax, metric, chance)
        pages.write(ax, 0, 1 + 0.1 / (ROW * len(rows)), title_of_panel, fontsize=pages.HEADING, weight="bold",
                    va="bottom", transform=ax.transAxes)  # fmt: skip
        for y, row_name in enumerate(rows):
            if right == 0:
                pages.write(ax, -0.1 / axis, y, row_name, ha="right", transform=ax.get_yaxis_transform())
            of_row = cells.get((row_name, title_of_panel), [])
            measured = [point for point in of_row if point.measured]
            if measured:
                texts = row(ax, y, measured)
            else:
                texts = _numbers(of_row[0])[: 1 if key else 2] if of_row else [("not measured", MUTED)]
            start = axis + 0.15
            for (text, colour), width in zip(texts, beside, strict=False):
                pages.write(ax, start / axis, y, text, fontsize=pages.NUMBER, color=colour,
                            transform=ax.get_yaxis_transform())  # fmt: skip
                start += width
    return figure


def _limits(points: Sequence[Point], chance: float | None) -> tuple[float, float]:
    """The common axis: every value and interval, chance, and a little air."""
    seen = [v for p in points if p.measured for v in (p.value, p.low, p.high) if not math.isnan(v)]
    seen += [] if chance is None else [chance]
    low, high = min(seen), max(seen)
    air = 0.04 * (high - low) or 0.05
    return low - air, high + air


def _dress(ax: Axes, metric: str, chance: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.set_yticks([])
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.tick_params(axis="x", colors=MUTED, labelsize=pages.NUMBER, length=3)
    ax.grid(axis="x", color=FAINT, lw=0.6)
    ax.set_axisbelow(True)
    label = metric if chance is None else f"{metric} (dashed: chance, {chance:g})"
    ax.set_xlabel(label, fontsize=pages.NUMBER, color=MUTED, parse_math=False)
    if chance is not None:
        ax.axvline(chance, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=0.5)


def _key(figure: Figure, left: float, top: float, key: dict[str, tuple[str, str]]) -> None:
    """The series with their dots, in one line."""
    ax = pages.axes_at(figure, left, top, 1, 0.3)  # data coordinates are inches
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    x = 0.08
    for name, (colour, marker) in key.items():
        ax.plot(x, 0.5, marker, color=colour, ms=7, clip_on=False)
        pages.write(ax, x + 0.12, 0.5, name, color=colour)
        x += KEY + pages.widest([name], pages.NAME)
