"""Names beside dots that lie anywhere, so that no name lies on another one or on a dot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nexvar.evals.figures import pages
from nexvar.evals.plots import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, low, right, high
RINGS, ON_A_LINE, CROSSING = 40, 2, 8  # costs are in rings of 0.11 inches
DOT, NEAR = 0.08, 0.2  # half a dot, and the distance that needs no line: inches


def name_dots(ax: Axes, named: Sequence[tuple[float, float, str, bool]], lines: Sequence[tuple[Place, Place]]) -> None:
    """Each name at the free place that costs least; a thin line leads to those further away. named: (x, y, name, is it
    bold), the bold ones choose first. A name without a free place within ``RINGS`` is left out.

    Cost: the rings between dot and name, and more where a name lies on one of ``lines`` or a thin line crosses one.
    """
    from matplotlib.patheffects import withStroke

    figure: Any = ax.figure
    renderer, inch = figure.canvas.get_renderer(), figure.dpi
    frame = ax.get_window_extent(renderer)
    dots = [ax.transData.transform((x, y)) for x, y, _, _ in named]
    half = DOT * inch
    taken: list[Box] = [(x - half, y - half, x + half, y + half) for x, y in dots]
    written: list[Box] = []
    leaders = np.empty((0, 2))
    drawn = np.concatenate([np.empty((0, 2)), *(_along(*ax.transData.transform(ends)) for ends in lines)])
    for (x, y), (_, _, name, bold) in sorted(zip(dots, named, strict=True), key=lambda each: not each[1][3]):
        style = {
            "weight": "bold" if bold else "normal",
            "path_effects": [withStroke(linewidth=2.5, foreground="white")],
        }
        text = pages.write(ax, 0, 0, name, fontsize=pages.NUMBER + 0.5, ha="left", va="bottom", **style)
        width, height = text.get_window_extent(renderer).size
        found, least = None, math.inf
        for ring, box in _around(x, y, width, height, inch):
            if ring >= least:
                break
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if not inside or any(_overlap(box, other) for other in taken):
                continue
            leader = _leader(x, y, box, NEAR * inch)
            crossing = _touches(leaders, box) or any(_touches(leader, other) for other in written)
            cost = ring + ON_A_LINE * _touches(drawn, box) + CROSSING * crossing
            if cost < least:
                found, least = (box, leader), cost
        if found is None:
            text.remove()
            continue
        box, leader = found
        taken.append(box)
        written.append(box)
        leaders = np.concatenate([leaders, leader])
        to_data = ax.transData.inverted().transform
        text.set_position(to_data(box[:2]))
        if len(leader):
            ax.plot(*to_data(leader[[0, -1]]).T, color=MUTED, lw=0.6, zorder=1)


def _around(x: float, y: float, width: float, height: float, inch: float) -> Iterator[tuple[int, Box]]:
    """(ring from 1, box): boxes around a dot, nearest first: right, left, above, below, and between them."""
    for ring in range(1, RINGS):
        gap = 0.11 * inch * ring
        for across, along in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            left = x + gap if across == 1 else x - gap - width if across == -1 else x - width / 2
            low = y + gap if along == 1 else y - gap - height if along == -1 else y - height / 2
            yield ring, (left, low, left + width, low + height)


def _leader(x: float, y: float, box: Box, near: float) -> np.ndarray:
    """Places (K, 2) on the line from a dot to the nearest place of its name; none where they are ``near``."""
    end = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    return _along((x, y), end) if math.dist(end, (x, y)) > near else np.empty((0, 2))


def _along(start: Any, end: Any) -> np.ndarray:
    """Places on a line, two pixels apart: (K, 2)."""
    start, end = np.asarray(start), np.asarray(end)
    return start + np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) // 2))[:, None] * (end - start)


def _touches(places: np.ndarray, box: Box) -> bool:
    x, y = places[:, 0], places[:, 1]
    return bool(((box[0] < x) & (x < box[2]) & (box[1] < y) & (y < box[3])).any())


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
