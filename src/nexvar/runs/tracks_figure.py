"""The picture of a region: a panel for each track, from 0 up, and below them the genes.

    draw(target, parts, manifest)     parts: the Parquet files of a run of ``nexvar tracks``

A long region is drawn as the means of ``COLUMNS`` stretches. Genes: a line from end to end, boxes for exons, thick ones
for coding bases, and an arrow behind the name; one transcript a gene (the one with the most coding bases). The axis
counts from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.annotation import Annotation, read_annotation
from nexvar.genome.reference import Fasta
from nexvar.genome.transcripts import Transcript
from nexvar.inference.core.sliding import Segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 1600
MOST_PANELS = 24
MOST_ROWS = 6  # of genes
LETTER = 0.0065  # of the picture's width
COLOURS = {"+": "#2f5d8a", "-": "#c0392b", ".": "#2e8b57"}
GENE = "#444444"


def check(path: Path, segments: Sequence[Segment], annotation: str | Path | None, genome: Fasta) -> None:
    """NexVarError for what is no single region, or an annotation that cannot be read."""
    if len(segments) != 1:
        what = f"{len(segments):,} regions, and a picture shows one"
        raise NexVarError(what, where=path, fix="--region, or .bw for all of them")
    if annotation is not None:
        read_annotation(annotation, genome)


def draw(target: Path, files: Sequence[Path], manifest: dict[str, Any]) -> None:
    """Write the picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, inputs = manifest["options"]["tracks"], manifest["inputs"]
    contig, start, end, means_CK = _means(files, names)
    rows: list[list[_Gene]] = []
    if inputs.get("annotation") is not None:
        fasta = Fasta(inputs["fasta"], synonyms=inputs.get("synonyms"))
        rows = _in_rows(read_annotation(inputs["annotation"], fasta), contig, start, end)
    heights = [1.0] * len(names) + ([0.3 + 0.28 * len(rows)] if rows else [])
    figure = Figure(figsize=(12, 1.1 + 1.05 * sum(heights)), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    edges = np.linspace(start, end, len(means_CK) + 1) + 1
    for ax, name, mean_C in zip(panels, names, means_CK.T, strict=False):
        ax.fill_between(edges, np.append(mean_C, mean_C[-1]), step="post", color=_colour(name), linewidth=0)
        ax.set_ylim(0, float(mean_C.max()) * 1.08 or 1.0)
        ax.set_title(name, loc="left", fontsize=9, pad=2)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    if rows:
        _draw_genes(panels[-1], rows)
    panels[-1].set_xlim(start + 1, end + 1)
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    panels[-1].tick_params(axis="x", labelsize=8)
    panels[-1].set_xlabel(f"{contig}:{start + 1:,}-{end:,}", fontsize=9)
    figure.savefig(target, dpi=130, format="png")


def _means(files: Sequence[Path], names: Sequence[str]) -> tuple[str, int, int, np.ndarray]:
    """The region, and (columns, K) means; one part in memory at a time."""
    import pyarrow.parquet as pq

    places = [pq.read_table(file, columns=["chrom", "start", "end"]) for file in files]
    contig = places[0]["chrom"][0].as_py()
    start, end = places[0]["start"][0].as_py(), places[-1]["end"][-1].as_py()
    columns = min(COLUMNS, sum(len(place) for place in places))
    sums_CK, counts_C = np.zeros((columns, len(names))), np.zeros(columns)
    for file, place in zip(files, places, strict=True):
        starts_N, ends_N = place["start"].to_numpy(), place["end"].to_numpy()
        at_N = np.minimum((starts_N + ends_N - 2 * start) * columns // (2 * (end - start)), columns - 1)
        counts_C += np.bincount(at_N, minlength=columns)
        for k, name in enumerate(names):
            values_N = pq.read_table(file, columns=[name])[name].to_numpy()
            sums_CK[:, k] += np.bincount(at_N, values_N, minlength=columns)
    return contig, start, end, sums_CK / np.maximum(counts_C, 1)[:, None]


def _colour(name: str) -> str:
    """By the strand that a name ends in, as people write it."""
    lower = name.lower()
    plus = lower.endswith(("+", "(+)", "fwd", "forward", "plus", "_p"))
    minus = lower.endswith(("-", "(-)", "rev", "reverse", "minus", "_m"))
    return COLOURS["+" if plus else "-" if minus else "."]


@dataclass(frozen=True)
class _Gene:
    """A gene in the picture: where it and its name end, and what is drawn of it."""

    transcript: Transcript
    name: str
    start: int  # of what is in the region
    end: float


def _in_rows(annotation: Annotation, contig: str, start: int, end: int) -> list[list[_Gene]]:
    """One transcript a gene, so that none stands on another, with room for its name."""
    named = {feature.id: feature.name for feature in annotation.features(contig, start, end)}
    of_gene: dict[str, Transcript] = {}
    for t in annotation.transcripts(contig, start, end):
        gene = t.feature.parent or t.feature.id
        if gene not in of_gene or _coding(t) > _coding(of_gene[gene]):
            of_gene[gene] = t
    rows: list[list[_Gene]] = []
    for id, t in sorted(of_gene.items(), key=lambda item: item[1].feature.start):
        name = (named.get(id) or t.feature.name) + {"+": " →", "-": " ←"}.get(t.feature.strand, "")
        first = max(t.feature.start, start)
        last = max(t.feature.end, first + (end - start) * LETTER * len(name)) + (end - start) * LETTER
        row = next((row for row in rows if row[-1].end < first), None)
        if row is None:
            rows.append(row := [])
        row.append(_Gene(t, name, first, last))
    return rows[:MOST_ROWS]


def _coding(t: Transcript) -> int:
    return sum(end - start for start, end in t.cds or t.exons)


def _draw_genes(ax: Axes, rows: Sequence[Sequence[_Gene]]) -> None:
    for y, row in enumerate(rows):
        for gene in row:
            t = gene.transcript
            ax.plot([t.feature.start + 1, t.feature.end + 1], [y, y], color=GENE, linewidth=0.8)
            for spans, height in ((t.exons, 0.22), (t.cds, 0.44)):
                ax.broken_barh([(a + 1, b - a) for a, b in spans], (y - height / 2, height), color=GENE, linewidth=0)
            ax.text(gene.start + 1, y - 0.3, gene.name, fontsize=6.5, va="bottom", clip_on=True)
    ax.set_ylim(len(rows) - 0.6, -0.95)
    ax.set_yticks([])
    ax.spines[["top", "right", "left"]].set_visible(False)
