"""How well tracks are predicted: Pearson, Pearson of log1p and Spearman, of each track and their means.

    pearson, log1p_pearson, spearman    over all bins
    gene_…                              over bins in genes, of a stranded track in those of its strand
    gene_total_…                        of the genes' totals: one number a gene

Values are means a base, as the files say them. N bins, K tracks, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.annotation import read_annotation
from nexvar.genome.reference import Fasta, Interval
from nexvar.genome.transcripts import Feature
from nexvar.train.kinds import correlation, ranks

BED = (".bed", ".bed.gz")


@dataclass(frozen=True)
class Gene:
    """strand: "+", "-" or "."."""

    place: Interval
    strand: str


def read_genes(path: Path, fasta: Fasta) -> list[Gene]:
    """The genes of an annotation; where it has none, its transcripts (BED12); a shorter BED's regions. NexVarError
    where it has nothing of these."""
    annotation = read_annotation(path, fasta)
    genes, transcripts, regions = list[Gene](), list[Gene](), list[Gene]()
    for contig in annotation.contigs:
        span = fasta.span(contig)
        features = annotation.features(contig, *span)
        genes += [_gene(f) for f in features if f.kind == "gene"]
        transcripts += [_gene(t.feature) for t in annotation.transcripts(contig, *span)]
        regions += [_gene(f) for f in features if path.name.endswith(BED)]
    if not (genes or transcripts or regions):
        raise NexVarError("no genes", where=path, fix="a GFF3, GTF or BED with genes or transcripts")
    return genes or transcripts or regions


def _gene(feature: Feature) -> Gene:
    return Gene(Interval(feature.contig, feature.start, feature.end), feature.strand)


def measures(
    said: Sequence[np.ndarray], true: Sequence[np.ndarray], names: Sequence[str], prefix: str = ""
) -> dict[str, float]:
    """The three measures: their means over tracks, then each track's. said, true: of each track its values (N,)."""
    if min(map(len, said)) < 2:
        return {}
    each: dict[str, list[float]] = {"pearson": [], "log1p_pearson": [], "spearman": []}
    for s, t in zip(said, true, strict=True):
        s, t = s.astype(np.float64), t.astype(np.float64)
        each["pearson"].append(correlation(s, t))
        each["log1p_pearson"].append(correlation(np.log1p(s), np.log1p(t)))
        each["spearman"].append(correlation(ranks(s), ranks(t)))
    measured = {f"{prefix}{kind}": float(np.mean(values)) for kind, values in each.items()}
    if len(names) > 1:
        for kind, values in each.items():
            measured |= {f"{prefix}{kind}_{name}": value for name, value in zip(names, values, strict=True)}
    return measured


def gene_measures(
    said_NK: np.ndarray, true_NK: np.ndarray, spans_G2: np.ndarray, gene_strands: Sequence[str],
    names: Sequence[str], strands: Sequence[str],
) -> dict[str, float]:  # fmt: skip
    """Over bins in genes, and of totals. spans: bins [first, last) of each gene."""
    bins, totals = (list[np.ndarray](), list[np.ndarray]()), (list[np.ndarray](), list[np.ndarray]())
    for k, strand in enumerate(strands):
        mine_G = np.array([strand == "." or g in (strand, ".") for g in gene_strands], dtype=bool)
        first_G, last_G = spans_G2[mine_G].T
        changes = np.zeros(len(said_NK) + 1)
        np.add.at(changes, first_G, 1)
        np.add.at(changes, last_G, -1)
        inside_N = np.cumsum(changes)[:-1] > 0
        for values_NK, of_bins, of_genes in zip((said_NK, true_NK), bins, totals, strict=True):
            sums = np.concatenate([[0.0], np.cumsum(values_NK[:, k], dtype=np.float64)])
            of_bins.append(values_NK[inside_N, k])
            of_genes.append(sums[last_G] - sums[first_G])
    return {**measures(*bins, names, "gene_"), **measures(*totals, names, "gene_total_")}
