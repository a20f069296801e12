"""Scores of SNVs along the genome: bigWig tracks for browsers, a sequence logo for people.

    out.bw      max |score| over the alternative bases of each position
    out.A.bw    (also C, G, T) the height of that base in the logo, as TraitGym writes them
    out.png     the logo, and each score beneath it

They show one readout, the score (``rows.score_readout``). Heights: log-ratios against the reference become
probabilities by a softmax over the four bases (the reference's ratio is 0), and a base is p × (2 − entropy) bits high;
a mean over the window counts times its bases. Distances have no probabilities: the reference base stands as
high as the mean distance.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.bigwig import write_bigwig
from nexvar.inference.scorers import EMBEDDING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASES = "ACGT"
ENDINGS = (".bw", ".png")
COLOURS = {"A": "#2e8b57", "C": "#2f5d8a", "G": "#d9902f", "T": "#c0392b"}
ROW = 100  # bases in one line of a logo
MAX_LOGO = 2000
PER_BASE = ("llr", "llr_acgt")  # readouts that are means over the window: times its length they are log-ratios


@dataclass(frozen=True)
class Line:
    """A row of a logo, N bases of a contig. heights_N4: letters of A, C, G, T, below 0 downwards. shown_N4: colours
    beneath them, NaN blank; None: no such panel."""

    chrom: str
    positions_N: np.ndarray  # 0-based
    heights_N4: np.ndarray
    shown_N4: np.ndarray | None


class Allele(Protocol):
    """What a track reads of a scored allele."""

    chrom: str
    pos: int  # 1-based
    ref: str
    alt: str
    llr: float | None
    window_start: int | None
    window_end: int | None
    extra: dict[str, float | None]


def check_track(path: Path, positions: int | None = None) -> None:
    """NexVarError where a library is missing, or where a logo of so many positions could not be read."""
    library = {".bw": "pybigtools", ".png": "matplotlib"}.get(path.suffix)
    if library and find_spec(library) is None:
        raise NexVarError(f"{library} is not installed", where=path, fix="pip install 'nexvar[tracks]'")
    if path.suffix == ".png" and positions is not None and positions > MAX_LOGO:
        fix = f"a region of at most {MAX_LOGO:,} bases, or .bw"
        raise NexVarError(f"a logo of {positions:,} positions cannot be read", where=path, fix=fix)


@dataclass(frozen=True)
class _Scores:
    """Of N positions of a contig. positions_N: 0-based. of_alts_N4: of A, C, G, T against the reference base, NaN for
    that base itself and where none is known. is_ref_N4: which base it is. windows_N: bases of the window."""

    positions_N: np.ndarray
    of_alts_N4: np.ndarray
    is_ref_N4: np.ndarray
    windows_N: np.ndarray

    def part(self, start: int, end: int) -> _Scores:
        """Of the positions [start, end)."""
        return _Scores(*(values[start:end] for values in vars(self).values()))


@dataclass
class _Columns:
    """Scores as they come, compactly: there may be millions."""

    positions: array[int] = field(default_factory=lambda: array("q"))
    of_alts: array[float] = field(default_factory=lambda: array("d"))  # four of each position
    references: array[int] = field(default_factory=lambda: array("b"))  # indices of their bases
    windows: array[int] = field(default_factory=lambda: array("q"))

    def add(self, pos0: int, ref: str, alt: str, value: float, window: int) -> None:
        if not self.positions or self.positions[-1] != pos0:
            self.positions.append(pos0)
            self.of_alts.extend([float("nan")] * 4)
            self.references.append(BASES.index(ref))
            self.windows.append(window)
        self.of_alts[len(self.of_alts) - 4 + BASES.index(alt)] = value

    def scores(self) -> _Scores:
        """By position, each once: a list may name them in any order."""
        positions_N, first, row_of = np.unique(np.array(self.positions), return_index=True, return_inverse=True)
        given_M4 = np.array(self.of_alts).reshape(-1, 4)
        rows, columns = np.nonzero(~np.isnan(given_M4))
        of_alts_N4 = np.full((len(positions_N), 4), np.nan)
        of_alts_N4[row_of[rows], columns] = given_M4[rows, columns]
        is_ref_N4 = np.array(self.references)[first, None] == np.arange(4)
        return _Scores(positions_N, of_alts_N4, is_ref_N4, np.array(self.windows)[first])


class TrackWriter:
    """Collects the SNVs, one vector of four scores for each position, and writes the file at the end.

    target: where to write; name: the file the user asked for, whose ending says what. lengths: of contigs. readout:
    which one it shows.
    """

    def __init__(self, target: Path, name: Path, lengths: dict[str, int], readout: str) -> None:
        self.target, self.name, self.lengths, self.readout = target, name, lengths, readout
        self.contigs: dict[str, _Columns] = {}

    def write(self, record: object, rows: Sequence[Allele]) -> None:
        """Add the SNVs among these alleles; others have no place on a track."""
        for row in rows:
            if len(row.ref) == len(row.alt) == 1 and row.ref in BASES and row.alt in BASES:
                value = self._value(row)
                if value is not None:
                    columns = self.contigs.setdefault(chromosome(row.chrom), _Columns())
                    columns.add(row.pos - 1, row.ref, row.alt, value, (row.window_end or 0) - (row.window_start or 0))

    def _value(self, row: Allele) -> float | None:
        """Of the readout: it is the LLR, or has a column of its own."""
        name = self.readout.upper()
        values = (row.llr, row.extra.get(name), row.extra.get(f"{name}_TILED"))
        return next((value for value in values if value is not None), None)

    def scores(self) -> dict[str, _Scores]:
        """Those of each contig."""
        return {contig: columns.scores() for contig, columns in self.contigs.items()}

    def heights(self, scores: _Scores) -> np.ndarray:
        """(N, 4): of each base in the logo."""
        known = np.nan_to_num(scores.of_alts_N4)
        if self.readout in EMBEDDING:
            return np.where(scores.is_ref_N4, known.sum(1, keepdims=True) / 3, 0.0)
        ratios = known * (scores.windows_N[:, None] if self.readout in PER_BASE else 1)
        p = np.exp(ratios - ratios.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        entropy = -(p * np.log2(np.where(p > 0, p, 1.0))).sum(1, keepdims=True)
        return p * (2 - entropy)

    def close(self) -> None:
        """Write the file: an empty track, or a logo that says so, where no SNV was scored."""
        if self.name.suffix == ".png":
            self._logo()
        else:
            self._bigwig()

    def _bigwig(self) -> None:
        base = self.name.suffixes[-2][1:] if len(self.name.suffixes) > 1 else ""
        lengths = {} if self.contigs else dict(self.lengths)
        values: list[tuple[str, int, int, float]] = []
        for chrom, scores in self.scores().items():
            lengths[chrom] = max(self.lengths.get(chrom, 0), int(scores.positions_N[-1]) + 1)
            if base in tuple(BASES):
                track = self.heights(scores)[:, BASES.index(base)]
            else:
                track = np.nanmax(np.abs(scores.of_alts_N4), axis=1)
            values += [(chrom, p, p + 1, v) for p, v in zip(scores.positions_N.tolist(), track.tolist(), strict=True)]
        write_bigwig(self.target, self.name, lengths, iter(values))

    def _logo(self) -> None:
        """Rows of letters above a heat map of all substitutions, as one figure."""
        parts = [
            (chrom, scores.part(at, at + ROW))
            for chrom, scores in self.scores().items()
            for at in range(0, len(scores.positions_N), ROW)
        ]
        if not parts:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=(4, 1), facecolor="white")
            figure.text(0.5, 0.5, "no SNV was scored", ha="center", va="center")
            FigureCanvasAgg(figure).print_png(str(self.target))
            return
        lines = [Line(chrom, part.positions_N, self.heights(part), part.of_alts_N4) for chrom, part in parts]
        check_track(self.name, sum(len(line.positions_N) for line in lines))
        draw_logo(self.target, lines, "distance" if self.readout in EMBEDDING else "bits", self.readout)


def draw_logo(target: Path, lines: Sequence[Line], unit: str, shown: str) -> None:
    """A PNG of the lines, all on one scale. unit: of the letters; shown: what the colours are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(line.positions_N) for line in lines)
    coloured = [line.shown_N4 for line in lines if line.shown_N4 is not None]
    per_line = [3, 1.4] if coloured else [3]
    size = (max(1.5 + 12.5 * columns / ROW, 4.0), (1.9 if coloured else 1.4) * len(lines) + 0.6)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(per_line) * len(lines), 1, height_ratios=per_line * len(lines), squeeze=False)[:, 0]
    top = max(float(line.heights_N4.clip(min=0).sum(1).max()) for line in lines)
    bottom = min(float(line.heights_N4.clip(max=0).sum(1).min()) for line in lines)
    limit = max((float(np.nanmax(np.abs(shown_N4))) for shown_N4 in coloured), default=1.0) or 1.0
    image = None
    for i, line in enumerate(lines):
        logo, *beneath = panels[i * len(per_line) : (i + 1) * len(per_line)]
        letters(logo, line.heights_N4, top if top > bottom else 1.0, columns, bottom)
        logo.set_title(f"{line.chrom}:{line.positions_N[0] + 1:,}–{line.positions_N[-1] + 1:,}", loc="left", fontsize=9)
        logo.set_ylabel(unit, fontsize=8)
        if beneath and line.shown_N4 is not None:
            image = _heat(beneath[0], line.positions_N, line.shown_N4, limit, columns)
        else:
            _ticks(logo, line.positions_N)
    if image is not None:
        figure.colorbar(image, ax=list(panels), label=shown, fraction=0.16 / size[0], pad=0.01)
    figure.savefig(target, dpi=120, format="png")


def chromosome(name: str) -> str:
    """The chromosome's name where a FASTA holds a piece of it, ``chr17:41176312-41350000``."""
    return re.sub(r":[0-9,]+-[0-9,]+$", "", name)


def contig_lengths(header: Sequence[str]) -> dict[str, int]:
    """Of the ##contig lines of a VCF's header."""
    matches = (re.match(r"##contig=<ID=([^,>]+).*?[,<]length=([0-9]{1,10})[,>]", line) for line in header)
    return {match[1]: int(match[2]) for match in matches if match}


def letters(ax: Axes, heights_N4: np.ndarray, top: float, columns: int, bottom: float = 0.0) -> None:
    """Stacked letters, one column a unit wide for each position, the highest on top; what is negative hangs below 0,
    upside down. Room for ``columns``."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    font = FontProperties(family="DejaVu Sans", weight="bold")
    shapes = {base: TextPath((0, 0), base, size=1, prop=font) for base in BASES}
    for x, column in enumerate(heights_N4):
        ends = {False: 0.0, True: 0.0}  # of what stands above 0, and hangs below it
        for index in np.argsort(np.abs(column)):
            height, base = float(column[index]), BASES[index]
            if abs(height) < (top - bottom) / 500:
                continue
            box = shapes[base].get_extents()
            fit = Affine2D().translate(-box.x0, -box.y0).scale(0.94 / box.width, height / box.height)
            path = fit.translate(x + 0.03, ends[height < 0]).transform_path(shapes[base])
            ax.add_patch(PathPatch(path, facecolor=COLOURS[base], edgecolor="none"))
            ends[height < 0] += height
    if bottom < 0:
        ax.axhline(0, color="#7b8794", linewidth=0.5)
    ax.set_xlim(0, columns)
    ax.set_ylim(bottom * 1.02, top * 1.02)
    ax.set_xticks([])
    ax.tick_params(labelsize=7)
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)


def _heat(ax: Axes, positions: np.ndarray, scores_N4: np.ndarray, limit: float, columns: int) -> Any:
    """Each score as a colour, red below 0; the reference base is blank."""
    shown = scores_N4.T
    extent = (0.0, float(len(positions)), 4.0, 0.0)
    image = ax.imshow(shown, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, extent=extent, interpolation="none")
    ax.set_xlim(0, columns)
    ax.set_yticks(np.arange(4) + 0.5, list(BASES), fontsize=6)
    _ticks(ax, positions)
    for side in ax.spines.values():
        side.set_visible(False)
    return image


def _ticks(ax: Axes, positions: np.ndarray) -> None:
    """A place every 20 bases, 1-based."""
    ticks = np.arange(0, len(positions), 20)
    ax.set_xticks(ticks + 0.5, [f"{positions[t] + 1:,}" for t in ticks], fontsize=7)
    ax.tick_params(length=2)
