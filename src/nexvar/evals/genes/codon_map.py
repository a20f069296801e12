"""A heat map of every amino-acid change by residue: the table of codons.py as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nexvar.evals.genes.table_run import Rows
from nexvar.evals.plots import FAINT, INK, MUTED, new_figure, save
from nexvar.genome.genetic_codes import AMINO_ACIDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 150  # residues in one row of panels


def draw(rows: Rows, path: Path, *, title: str) -> None:
    """A column for each residue, a row for each amino acid; dots mark the wild type, grey what has no score.

    The strip beneath is the mean over the 19 other amino acids. rows: of ``codons.by_residue``.
    """
    known_residues = {row["residue"] for row in rows}
    residues = list(range(min(known_residues), max(known_residues) + 1))  # those without rows are grey
    index = {residue: i for i, residue in enumerate(residues)}
    scores_AR = np.full((len(AMINO_ACIDS), len(residues)), np.nan)
    wild = [""] * len(residues)
    for row in rows:
        i = index[row["residue"]]
        wild[i] = row["amino_acid"]
        if row["score"] is not None and row["kind"] != "synonymous":
            scores_AR[AMINO_ACIDS.index(row["alternative"]), i] = row["score"]
    missense_AR = np.where(np.array(list(AMINO_ACIDS))[:, None] == "*", np.nan, scores_AR)
    known = np.abs(scores_AR[~np.isnan(scores_AR)])
    limit = float(np.quantile(known, 0.98)) or 1.0 if len(known) else 1.0
    lines = [slice(at, at + LINE) for at in range(0, len(residues), LINE)]
    columns = min(len(residues), LINE)
    width, height = max(2.2 + 0.085 * columns, 6.0), 0.9 + 3.9 * len(lines)
    figure = new_figure(width, height)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=INK, fontweight="bold")
    axes = figure.subplots(2 * len(lines), 1, height_ratios=[21, 2] * len(lines), squeeze=False)[:, 0]
    for i, part in enumerate(lines):
        image = _map(axes[2 * i], scores_AR[:, part], wild[part], residues[part], limit, columns)
        means = np.array([np.nanmean(c) if not np.isnan(c).all() else np.nan for c in missense_AR[:, part].T])
        _map(axes[2 * i + 1], means[None], [], residues[part], limit, columns)
        axes[2 * i + 1].set_yticks([0.5], ["mean"], fontsize=7)
        axes[2 * i].set_xticklabels([])
        axes[2 * i + 1].set_xlabel("residue" if i == len(lines) - 1 else "", fontsize=9, color=INK)
    bar = figure.colorbar(image, ax=list(axes), fraction=0.35 / width, pad=0.01, extend="both")
    bar.set_label("score of the best codon change (below 0: less likely)", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=MUTED)
    save(figure, path, dpi=150)


def _map(ax: Axes, values_AR: np.ndarray, wild: list[str], residues: list[int], limit: float, columns: int) -> Any:
    count, rows = len(residues), len(values_AR)
    ax.set_facecolor(FAINT)
    image = ax.imshow(values_AR, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="none",
                      extent=(0.0, float(count), float(rows), 0.0))  # fmt: skip
    for x, amino_acid in enumerate(wild):
        if amino_acid and amino_acid in AMINO_ACIDS:
            ax.plot(x + 0.5, AMINO_ACIDS.index(amino_acid) + 0.5, ".", color=INK, markersize=3)
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ticks = [i for i, residue in enumerate(residues) if residue % 10 == 0 or i == 0]
    ax.set_xticks([t + 0.5 for t in ticks], [str(residues[t]) for t in ticks], fontsize=7)
    ax.set_yticks(np.arange(rows) + 0.5, list(AMINO_ACIDS)[:rows], fontsize=7)
    ax.tick_params(length=2, colors=MUTED)
    for side in ax.spines.values():
        side.set_visible(False)
    return image
