"""ROC curves of several models, one over the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals import metrics
from nexvar.evals.figures import pages
from nexvar.evals.figures.points import shortened
from nexvar.evals.plots import FAINT, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 5.0
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MOST = len(pages.COLOURS) * len(LINES)


def roc_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str = "") -> Figure:
    """Each model's (labels, scores), NaN = no score; the key, best first, says its AUROC and the rows of class 1 and 0.
    Of more than ``MOST`` models the best are drawn. A model with too few rows of a class is named without a curve."""
    if not isinstance(curves, Mapping) or not curves:
        raise NexVarError("nothing to draw", where="curves", fix="model -> (labels, scores), for one or more")
    ranked, few = [], []
    for name, (labels, scores) in curves.items():
        truth, values = metrics.as_numbers(labels, "labels"), metrics.as_numbers(scores, "scores").astype(np.float64)
        if truth.shape != values.shape:
            raise NexVarError(f"{truth.shape} labels but {values.shape} scores", where=name, fix="one for each row")
        there = np.isfinite(values)
        try:
            ranked.append((metrics.auroc(truth[there], values[there]), shortened(name), truth[there], values[there]))
        except metrics.TooFew as too_few:
            few.append(f"{shortened(name)}: too few, {too_few.what}")
    ranked.sort(key=lambda each: -each[0])
    texts = [f"{area:.3f}  {name}  ({y.sum():,.0f} / {(1 - y).sum():,.0f})" for area, name, y, _ in ranked[:MOST]]
    if len(ranked) > MOST:
        few.insert(0, f"{len(ranked) - MOST:,} more, all of them lower")
    line = 0.25
    side = max(SIDE, line * (len(texts) + len(few) + 1))
    wide = 0.9 + side + 0.7 + pages.widest([*texts, *few], pages.NUMBER + 0.5) + pages.MARGIN
    figure, top = pages.page(wide, side + 0.75, title)
    ax = pages.axes_at(figure, 0.9, top, side, side)
    ax.plot([0, 1], [0, 1], color=FAINT, lw=1)
    for i, (text, (_, _, labels, scores)) in enumerate(zip(texts, ranked, strict=False)):
        style: dict[str, Any] = {
            "color": pages.COLOURS[i % len(pages.COLOURS)],
            "ls": LINES[i // len(pages.COLOURS)],
            "lw": 1.7,
            "clip_on": False,
        }
        ax.plot(*metrics.roc_curve(labels, scores), **style)
        y = 1 - line * (i + 1.5) / side
        ax.plot([1 + 0.15 / side, 1 + 0.5 / side], [y, y], **style)
        pages.write(ax, 1 + 0.6 / side, y, text, fontsize=pages.NUMBER + 0.5)
    pages.write(ax, 1 + 0.6 / side, 1 - line / 2 / side, "AUROC  model  (class 1 / class 0)", fontsize=pages.NUMBER,
                color=MUTED)  # fmt: skip
    for i, text in enumerate(few, len(texts)):
        pages.write(ax, 1 + 0.6 / side, 1 - line * (i + 1.5) / side, text, fontsize=pages.NUMBER + 0.5, color=MUTED)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    for side_name in ("top", "right"):
        ax.spines[side_name].set_visible(False)
    for side_name in ("left", "bottom"):
        ax.spines[side_name].set_color(FAINT)
    ax.tick_params(colors=MUTED, labelsize=pages.NUMBER)
    ax.set_xlabel("false positive rate", fontsize=pages.NAME, color=INK)
    ax.set_ylabel("true positive rate", fontsize=pages.NAME, color=INK)
    return figure
