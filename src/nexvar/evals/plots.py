"""Figures (matplotlib: ``pip install nexvar[plots]``): small panels that draw on an axes.

A panel takes an ``Axes`` and arrays and changes nothing outside it. Badness: higher = more likely class 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals import metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nexvar.evals.report import Report, Row

MOST_GROUPS = 40
INK, MUTED, FAINT = "#1f2933", "#7b8794", "#d9dfe5"
CLASS_1, CLASS_0 = "#d1495b", "#5f8fb4"  # told apart by every common colour blindness, and in grey


def new_figure(width: float, height: float) -> Figure:
    """A figure in the house style (inches). It touches no global state, so it is safe inside any program."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise NexVarError("matplotlib is not installed", fix="pip install 'nexvar[plots]'") from None
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 200) -> Path:
    figure.savefig(path, dpi=dpi)
    return Path(path)


def dress(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Quiet axes: no box, thin ticks, the title at the left."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(colors=MUTED, labelsize=9, length=3, width=0.8)
    if title:
        ax.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold", pad=20)
    ax.set_xlabel(x, fontsize=10, color=INK, labelpad=6)
    ax.set_ylabel(y, fontsize=10, color=INK, labelpad=6)


def strip(ax: Axes, badness: np.ndarray, labels: np.ndarray, groups: Sequence[str], names: tuple[str, str]) -> None:
    """Each variant a dot, one row per group and class, the class's median a bar.

    groups: the group of each variant, (N,). names: what class 0 and class 1 are called.
    """
    labels = np.asarray(labels, dtype=bool)
    of_group = np.asarray(groups)
    order = list(dict.fromkeys(groups))
    rng = np.random.default_rng(0)
    for i, group in enumerate(order):
        for label, shift, colour in ((False, 0.2, CLASS_0), (True, -0.2, CLASS_1)):
            values = badness[(of_group == group) & (labels == label)]
            if not len(values):
                continue
            height = i + shift + rng.uniform(-0.13, 0.13, len(values))
            alpha = float(np.clip(30 / np.sqrt(len(values)) / 2, 0.25, 0.85))
            ax.scatter(values, height, s=13, color=colour, alpha=alpha, linewidth=0, zorder=2)
            if len(values) < 3:
                continue
            middle = float(np.median(values))
            ax.plot([middle, middle], [i + shift - 0.18, i + shift + 0.18], color=INK, lw=2, zorder=3)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.5, -0.5)
    _name_rows(ax)
    ax.grid(axis="x", color=FAINT, lw=0.6, zorder=0)
    ax.set_axisbelow(True)
    for name, colour, x in ((names[1], CLASS_1, 1.0), (names[0], CLASS_0, 0.8)):
        ax.text(x, 1.01, "● " + name, color=colour, fontsize=10, ha="right", va="bottom", transform=ax.transAxes)


def auroc_bars(ax: Axes, rows: Sequence[Row], names: tuple[str, str] = ("class 0", "class 1")) -> None:
    """AUROC with its interval by group, from the line of chance; groups too small are named, not drawn."""
    estimates = [row.estimates.get("auroc") for row in rows]
    left = min(0.45, min((e.low for e in estimates if e), default=0.5) - 0.03)
    for i, (row, estimate) in enumerate(zip(rows, estimates, strict=True)):
        ax.text(1.16, i, f"{row.positives:,} / {row.negatives:,}", fontsize=9, color=MUTED, va="center", ha="right")
        if estimate is None:
            ax.text(0.51, i, "too few to say", fontsize=9, color=MUTED, va="center", style="italic")
            continue
        colour, weight = (INK, "bold") if i == 0 else (CLASS_0, "normal")
        ax.barh(i, estimate.value - 0.5, left=0.5, height=0.5, color=colour, zorder=2)
        for colour, width in (("white", 4.5), (INK if i else MUTED, 1.6)):  # a halo keeps it visible on the bar
            ax.plot([estimate.low, estimate.high], [i, i], color=colour, lw=width, zorder=3, solid_capstyle="butt")
        ax.text(max(estimate.high, 0.5) + 0.015, i, f"{estimate.value:.2f}", fontsize=12, color=INK, va="center",
                weight=weight)  # fmt: skip
    ax.axvline(0.5, color=INK, lw=1, zorder=4)
    ax.text(0.5, -0.72, "chance", fontsize=9, color=MUTED, ha="center", va="bottom")
    ax.text(1.16, -0.72, f"{names[1]} / {names[0]}", fontsize=9, color=MUTED, ha="right", va="bottom")
    ax.set_xlim(left, 1.16)
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.set_xticks([x for x in np.arange(0, 1.01, 0.1) if x >= left])
    ax.set_yticks(range(len(rows)), [row.group for row in rows])
    _name_rows(ax)
    ax.spines["left"].set_visible(False)


def _name_rows(ax: Axes) -> None:
    """The rows' names in ink, without tick marks."""
    ax.tick_params(axis="y", length=0, labelsize=10.5, labelcolor=INK)


def roc(ax: Axes, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """ROC curve of each named (labels, badness)."""
    ax.plot([0, 1], [0, 1], color=FAINT, lw=1)
    for (name, (labels, badness)), colour in zip(curves.items(), (INK, CLASS_1, CLASS_0), strict=False):
        area = metrics.auroc(labels, badness)
        ax.plot(*metrics.roc_curve(labels, badness), color=colour, lw=1.8, label=f"{name}  {area:.3f}")
    _square(ax)
    ax.legend(frameon=False, fontsize=9, loc="lower right", labelcolor=INK)


def precision_recall(ax: Axes, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Precision against recall of each named (labels, badness), chance as a line."""
    for (name, (labels, badness)), colour in zip(curves.items(), (INK, CLASS_1, CLASS_0), strict=False):
        ax.axhline(np.mean(labels), color=FAINT, lw=1)
        area = metrics.auprc(labels, badness)
        recall, precision = metrics.pr_curve(labels, badness)
        ax.step(recall, precision, where="pre", color=colour, lw=1.8, label=f"{name}  {area:.3f}")
    _square(ax)
    ax.legend(frameon=False, fontsize=9, loc="upper right", labelcolor=INK)


def _square(ax: Axes) -> None:
    ax.set_aspect("equal", anchor="W")
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.02)


def genome_ring(
    ax: Any, genes: Sequence[tuple[str, int, int, str]], length: int, colours: dict[str, str], radius: float
) -> None:
    """A ring of genes on a polar axes: (name, first, last, kind), 1-based inclusive; clockwise from the top.

    Genes long enough for it are named along the ring.
    """
    ax.set_theta_zero_location("N")
    ax.set_theta_direction(-1)
    ax.set_axis_off()
    turn = 2 * np.pi / length
    for name, first, last, kind in genes:
        span = (last - first) % length + 1
        ax.bar(
            (first - 1) * turn, 0.07, width=span * turn, bottom=radius, align="edge",
            color=colours[kind], edgecolor="white", linewidth=0.7, zorder=3,
        )  # fmt: skip
        if span > 0.026 * length:
            angle = (first - 1 + span / 2) * turn
            degrees = -np.degrees(angle)
            flip = 180 if np.pi / 2 < angle % (2 * np.pi) < 3 * np.pi / 2 else 0
            ax.text(
                angle, radius - 0.06, name, rotation=degrees + flip, ha="center", va="center",
                fontsize=9.5, color=INK, rotation_mode="anchor",
            )  # fmt: skip


def _largest(rows: Sequence[Row]) -> list[Row]:
    """The first row (all) and the groups with the most members of their smaller class, in their order."""
    sizes = sorted((min(row.positives, row.negatives) for row in rows[1:]), reverse=True)
    least = sizes[MOST_GROUPS - 1] if len(sizes) > MOST_GROUPS else -1
    groups = [row for row in rows[1:] if min(row.positives, row.negatives) >= least]
    return [*rows[:1], *groups[:MOST_GROUPS]]


def report(result: Report, path: str | Path, *, title: str = "") -> Path:
    """ROC, precision-recall, scores by class and AUROC by group on one page; returns ``path``.

    Of many groups the ``MOST_GROUPS`` largest are drawn (metrics.tsv has them all).
    """
    rows = _largest(result.rows)
    left_out = len(result.rows) - len(rows)
    above, upper, gap, lower, below = 1.34, 3.3, 1.05, max(3.3, 0.36 * len(rows)), 0.67  # inches, from the top
    height = above + upper + gap + lower + below
    figure = new_figure(13, height)
    between = gap / ((upper + lower) / 2)
    axes = figure.subplots(2, 2, gridspec_kw={"wspace": 0.34, "hspace": between, "height_ratios": [upper, lower]})
    figure.subplots_adjust(left=0.11, right=0.97, top=1 - above / height, bottom=below / height)
    curves = {result.score_name: (result.labels, result.badness)}
    if result.against is not None:
        curves[result.against_name] = (result.labels, result.against)
    dress(axes[0, 0], "ROC", "false positive rate", "true positive rate")
    roc(axes[0, 0], curves)
    dress(axes[0, 1], "Precision and recall", "recall", "precision")
    precision_recall(axes[0, 1], curves)
    dress(axes[1, 0], "Scores by class", f"{result.score_name}, turned so that higher = more likely class 1")
    drawn = np.isin(result.groups.astype(str), [row.group for row in rows]) | (len(result.rows) == 1)
    names = ("class 0", "class 1")
    strip(axes[1, 0], result.badness[drawn], result.labels[drawn], list(result.groups[drawn]), names)
    dress(axes[1, 1], "AUROC with 95 % interval" + (f" ({left_out:,} groups left out)" if left_out else ""))
    auroc_bars(axes[1, 1], rows)
    figure.text(0.11, 1 - 0.58 / height, title, fontsize=17, color=INK, fontweight="bold")
    return save(figure, path, dpi=130)
