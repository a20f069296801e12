"""A heat map: models down, tasks or sets across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nexvar.errors import NexVarError
from nexvar.evals.figures import pages
from nexvar.evals.figures.points import Point, names, one_series
from nexvar.evals.plots import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_HEIGHT, LEAST_WIDTH = 0.34, 0.62
SLANT = 0.7072  # cos 45°


def heat_map(points: Sequence[Point], *, metric: str = "AUROC", span: tuple[float, float] = (0.5, 1.0),
             title: str = "") -> Figure:  # fmt: skip
    """Every value printed in its cell, the best of each column bold; grey: too few, or not measured.

    span: the values of the darkest and the lightest colour; what lies outside has the colour of the end.
    The colours (cividis, Nuñez et al. 2018) go from dark to light for every kind of eye, and in grey.
    """
    low, high = span
    if not low < high:
        raise NexVarError(f"span {low} to {high}", where="span", fix="such as (0.5, 1.0)")
    points = one_series(points)
    models, columns = names(points)
    cells = {(point.model, point.column): point for point in points}
    best = {c: max((p.value for p in points if p.column == c and p.measured), default=None) for c in columns}
    text_width = pages.widest(columns, pages.NAME)
    slanted = text_width > 1.3
    cell = LEAST_WIDTH if slanted else max(LEAST_WIDTH, text_width + 0.15)
    below = (text_width * SLANT if slanted else 0) + 0.35
    left = pages.MARGIN + max(pages.widest(models, pages.NAME) + 0.1, text_width * SLANT if slanted else 0)
    wide, high_in = cell * len(columns), CELL_HEIGHT * len(models)
    bar = max(high_in, 1.2)
    figure, top = pages.page(left + wide + 1.1 + pages.MARGIN, max(bar, high_in + below) + 0.3, title)
    ax = pages.axes_at(figure, left, top, wide, high_in)
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    colours, scale = colormaps["cividis"], Normalize(low, high, clip=True)
    for y, model in enumerate(models):
        pages.write(ax, -0.5 - 0.1 / cell, y, model, ha="right")
        for x, column in enumerate(columns):
            point = cells.get((model, column))
            if point is None or not point.measured:
                face: Any = "#eceff2"
                ink = MUTED
                text = "too few" if point is not None and point.absence == "too few" else "–"
            else:
                face, ink = colours(scale(point.value)), "white" if scale(point.value) < 0.55 else INK
                text = f"{point.value:.3f}"
            ax.add_patch(_rectangle(x, y, face))
            bold = point is not None and point.value == best[column] and len(models) > 1
            pages.write(
                ax, x, y, text, ha="center", color=ink, fontsize=pages.NUMBER, weight="bold" if bold else "normal"
            )
    for x, column in enumerate(columns):
        slant = {"rotation": 45, "rotation_mode": "anchor", "ha": "right"} if slanted else {"ha": "center"}
        pages.write(ax, x, len(models) - 0.5 + 0.12 / CELL_HEIGHT, column, **{**slant, "va": "top"})
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.set_axis_off()
    _colour_bar(figure, pages.axes_at(figure, left + wide + 0.3, top, 0.16, bar), colours, scale, metric)
    return figure


def _rectangle(x: int, y: int, face: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5)


def _colour_bar(figure: Figure, ax: Axes, colours: Any, scale: Any, metric: str) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(scale, colours), cax=ax)
    bar.outline.set_visible(False)
    ax.tick_params(colors=MUTED, labelsize=pages.NUMBER, length=2)
    ax.set_ylabel(metric, fontsize=pages.NAME, color=INK, parse_math=False)
