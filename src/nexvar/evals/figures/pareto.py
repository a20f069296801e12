"""What a number of parameters gives: the Pareto front of size and value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.figures import pages
from nexvar.evals.figures.naming import Place, name_dots
from nexvar.evals.figures.points import Point, one_series, shortened
from nexvar.evals.plots import FAINT, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 8.0, 5.4


def pareto(points: Sequence[Point], parameters: Mapping[str, int], *, metric: str = "AUROC", title: str = "") -> Figure:
    """Parameters (log) against value, one point a model. parameters: model -> how many.

    The line is the front: the best value of any model with at most so many parameters. Models on it are filled.
    A name for which there is no room is left out (of dozens in one place)."""
    sizes = {shortened(m): arguments.whole(n, f"parameters of {m}", 1) for m, n in parameters.items()}
    there = [point for point in one_series(points) if point.measured]
    counted: dict[str, Point] = {}
    for point in there:
        if point.model in counted:
            what = f"it has values of {counted[point.model].column} and {point.column}"
            raise NexVarError(what, where=point.model, fix="give one value a model")
        if point.model not in sizes:
            raise NexVarError("no number of parameters", where=point.model, fix="name it in parameters")
        counted[point.model] = point
    front = front_of([(sizes[p.model], p.value) for p in there])

    figure, top = pages.page(WIDTH + 1.1 + pages.MARGIN, HEIGHT + 0.75, title)
    ax = pages.axes_at(figure, 1.1, top, WIDTH, HEIGHT)
    _frame(ax, [sizes[p.model] for p in there], there, metric)
    stairs = _stairs(sorted((sizes[there[i].model], there[i].value) for i in front), ax.get_xlim()[1])
    ax.plot(*zip(*stairs, strict=True), color=pages.COLOURS[1], lw=1.6, zorder=2)
    lines = list(itertools.pairwise(stairs))
    for i, point in enumerate(there):
        x, blue = sizes[point.model], pages.COLOURS[0]
        if point.has_interval:
            ax.plot([x, x], [point.low, point.high], color=MUTED, lw=1, zorder=1)
            lines.append(((x, point.low), (x, point.high)))
        ax.plot(x, point.value, "o", ms=8, mec=blue, mfc=blue if i in front else "white", mew=1.5, zorder=3)
    name_dots(ax, [(sizes[p.model], p.value, p.model, i in front) for i, p in enumerate(there)], lines)
    return figure


def _stairs(front: Sequence[Place], end: float) -> list[Place]:
    """The corners of the front from its smallest model to ``end``: a value holds until a larger model betters it."""
    corners = [front[0]]
    for size, value in front[1:]:
        corners += [(size, corners[-1][1]), (size, value)]
    return [*corners, (end, corners[-1][1])]


def front_of(pairs: Sequence[tuple[float, float]]) -> set[int]:
    """Places of the (size, value) pairs that no other one beats: none as small has more, none smaller has as much."""
    return {
        i
        for i, (size, value) in enumerate(pairs)
        if not any(s <= size and v >= value and (s, v) != (size, value) for s, v in pairs)
    }


def _frame(ax: Axes, sizes: Sequence[int], points: Sequence[Point], metric: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low = min(min(p.value, p.low) if p.has_interval else p.value for p in points)
    high = max(max(p.value, p.high) if p.has_interval else p.value for p in points)
    air = 0.08 * (high - low) or 0.05
    ax.set_xscale("log")
    ax.set_xlim(min(sizes) / 2, max(sizes) * 2)
    ax.set_ylim(low - air, high + air)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: counted_as(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(which="both", colors=MUTED, labelsize=pages.NUMBER)
    ax.grid(color=FAINT, lw=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("parameters", fontsize=pages.NAME, color=INK)
    ax.set_ylabel(metric, fontsize=pages.NAME, color=INK, parse_math=False)


def counted_as(number: float) -> str:
    """1500000 -> 1.5M."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"
