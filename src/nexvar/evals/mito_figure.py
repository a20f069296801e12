"""The demo's figure: human mitochondrial DNA as a ring, scores by class, and AUROC by region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nexvar.evals import plots
from nexvar.evals.variants import Row

LENGTH = 16569

# (name, first, last, kind), 1-based inclusive on NC_012920.1 (rCRS), as MITOMAP lists them. The control region wraps.
GENES: tuple[tuple[str, int, int, str], ...] = (
    ("D-loop", 16024, 576, "control"),
    ("F", 577, 647, "tRNA"),
    ("12S rRNA", 648, 1601, "rRNA"),
    ("V", 1602, 1670, "tRNA"),
    ("16S rRNA", 1671, 3229, "rRNA"),
    ("L1", 3230, 3304, "tRNA"),
    ("ND1", 3307, 4262, "protein"),
    ("I", 4263, 4331, "tRNA"),
    ("Q", 4329, 4400, "tRNA"),
    ("M", 4402, 4469, "tRNA"),
    ("ND2", 4470, 5511, "protein"),
    ("W", 5512, 5579, "tRNA"),
    ("A", 5587, 5655, "tRNA"),
    ("N", 5657, 5729, "tRNA"),
    ("C", 5761, 5826, "tRNA"),
    ("Y", 5826, 5891, "tRNA"),
    ("COX1", 5904, 7445, "protein"),
    ("S1", 7446, 7514, "tRNA"),
    ("D", 7518, 7585, "tRNA"),
    ("COX2", 7586, 8269, "protein"),
    ("K", 8295, 8364, "tRNA"),
    ("ATP8", 8366, 8572, "protein"),
    ("ATP6", 8527, 9207, "protein"),
    ("COX3", 9207, 9990, "protein"),
    ("G", 9991, 10058, "tRNA"),
    ("ND3", 10059, 10404, "protein"),
    ("R", 10405, 10469, "tRNA"),
    ("ND4L", 10470, 10766, "protein"),
    ("ND4", 10760, 12137, "protein"),
    ("H", 12138, 12206, "tRNA"),
    ("S2", 12207, 12265, "tRNA"),
    ("L2", 12266, 12336, "tRNA"),
    ("ND5", 12337, 14148, "protein"),
    ("ND6", 14149, 14673, "protein"),
    ("E", 14674, 14742, "tRNA"),
    ("CYTB", 14747, 15887, "protein"),
    ("T", 15888, 15953, "tRNA"),
    ("P", 15956, 16023, "tRNA"),
)
KINDS = {"protein": "#a9bccb", "rRNA": "#e2c48d", "tRNA": "#4f6273", "control": "#dfe5ea"}
RING, INNER, OUTER = 0.62, 0.76, 1.36  # radii of the gene ring and of the band that holds the scores


def _score_ring(ax: Any, positions: np.ndarray, badness: np.ndarray, labels: np.ndarray) -> None:
    """Each variant at its place on the ring; the further out, the worse the model finds it."""
    low, high = np.percentile(badness, [1, 99])
    radius = INNER + (OUTER - INNER) * np.clip((badness - low) / (high - low), 0, 1)
    angle = (positions - 1) / LENGTH * 2 * np.pi
    circle = np.linspace(0, 2 * np.pi, 400)
    for r in np.linspace(INNER, OUTER, 4):
        ax.plot(circle, np.full(400, r), color=plots.FAINT, lw=0.6, zorder=1)
    for chosen, colour, size, alpha in ((~labels, plots.CLASS_0, 15, 0.5), (labels, plots.CLASS_1, 34, 0.95)):
        ax.scatter(angle[chosen], radius[chosen], s=size, color=colour, alpha=alpha, linewidth=0.4, edgecolor="white",
                   zorder=4)  # fmt: skip
    ax.set_ylim(0, OUTER + 0.05)


def _centre(ax: Any) -> None:
    """What the ring is, and the colours of its genes."""
    place = {"ha": "center", "va": "center", "transform": ax.transAxes}
    ax.text(0.5, 0.555, "human mtDNA", fontsize=15, color=plots.INK, fontweight="bold", **place)
    ax.text(0.5, 0.525, f"{LENGTH:,} bp", fontsize=11, color=plots.MUTED, **place)
    for i, (kind, colour) in enumerate(KINDS.items()):
        y = 0.487 - 0.026 * i
        ax.text(0.455, y, "■", fontsize=11, color=colour, **place)
        ax.text(0.475, y, kind, fontsize=10, color=plots.INK, **(place | {"ha": "left"}))


def draw(
    path: str | Path,
    *,
    positions: np.ndarray,
    badness: np.ndarray,
    labels: np.ndarray,
    regions: Sequence[str],
    rows: Sequence[Row],
    title: str,
    subtitle: str,
    score_name: str,
) -> Path:
    """Write the figure (16:9, PNG).

    positions: (N,) 1-based. badness: (N,) higher = worse. labels: (N,) bool, True = pathogenic. rows: ``evaluate``'s.
    """
    figure = plots.new_figure(16, 9)
    ring = figure.add_axes((0.02, 0.055, 0.455, 0.455 * 16 / 9), projection="polar")
    plots.genome_ring(ring, GENES, LENGTH, KINDS, RING)
    _score_ring(ring, positions, badness, labels)
    _centre(ring)
    figure.text(0.2475, 0.028, "further out = less likely under the model", ha="center", fontsize=11,
                color=plots.MUTED)  # fmt: skip

    strip = figure.add_axes((0.585, 0.515, 0.385, 0.27))
    plots.dress(strip, "Scores by region and class", score_name)
    plots.strip(strip, badness, labels, regions, ("benign", "pathogenic"))

    bars = figure.add_axes((0.585, 0.085, 0.385, 0.245))
    plots.dress(bars, "AUROC with 95 % interval")
    plots.auroc_bars(bars, rows, ("benign", "pathogenic"))

    figure.text(0.035, 0.935, title, fontsize=23, fontweight="bold", color=plots.INK)
    figure.text(0.035, 0.897, subtitle, fontsize=12, color=plots.MUTED)
    return plots.save(figure, path, dpi=150)
