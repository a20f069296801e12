"""Where in the genome a variant lies: one of seven classes, the first whose rule holds.

    splice_proximal  at most 20 bp from the first or last base of an exon, of any transcript
    utr_5prime       in a five_prime_UTR          utr_3prime      in a three_prime_UTR
    promoter         at most 2,000 bp from the first base of a transcript
    enhancer         in a cCRE that column 6 of its BED calls dELS or Enhancer
    deep_intronic    in a gene or transcript, and none of these (so also in an exon, far from its ends)
    intergenic       the rest

Distances are between 1-based positions, and the place is VCF's POS. The class depends on the transcripts: all, or one
a gene (MANE Select). Rules: Hollis36/genomic-fm-noncoding-benchmark, data/scripts/04_annotate_regions.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.annotation import Annotation
from nexvar.genome.bed import Regions
from nexvar.genome.columns import remedy
from nexvar.genome.reference import Fasta, Interval
from nexvar.genome.textio import Lines

CLASSES = ("splice_proximal", "utr_5prime", "utr_3prime", "promoter", "enhancer", "deep_intronic", "intergenic")
SPLICE, PROMOTER = 20, 2000  # bases
MANE = "MANE_Select"
_GENES = ("gene", "ncRNA_gene", "pseudogene")
_ENHANCERS = ("dELS", "Enhancer")


@dataclass(frozen=True)
class Rules:
    """The classes of one genome. enhancers: ``read_enhancers``. tag: only transcripts that carry it count."""

    annotation: Annotation
    enhancers: Regions | None = None
    tag: str = ""

    def check(self) -> None:
        """NexVarError where no transcript carries the tag: all would be intergenic."""
        if not any(len(self.annotation.transcript_spans(contig, self.tag)[0]) for contig in self.annotation.contigs):
            what = f"no transcript is tagged {self.tag}" if self.tag else "no transcript"
            raise NexVarError(what, where=self.annotation.name, fix="GENCODE's GFF3 or GTF, or without --mane")

    def classify(self, contig: str, pos0_N: np.ndarray) -> np.ndarray:
        """(N,) object: the class of each 0-based position of a contig."""
        spans = partial(self.annotation.spans, contig, tag=self.tag)
        bodies, minus = self.annotation.transcript_spans(contig, self.tag)
        starts = np.where(minus, bodies[:, 1], bodies[:, 0] + 1)  # 1-based
        genes = [] if self.tag else [self.annotation.spans(contig, kind) for kind in _GENES]
        enhancers = self.enhancers.intervals(contig) if self.enhancers is not None else []
        holds = (
            self.exon_distance(contig, pos0_N) <= SPLICE,
            _inside(pos0_N, spans("five_prime_UTR")),
            _inside(pos0_N, spans("three_prime_UTR")),
            _nearest(pos0_N + 1, starts) <= PROMOTER,
            _inside(pos0_N, np.array(enhancers, dtype=np.int64).reshape(-1, 2)),
            _inside(pos0_N, np.concatenate([bodies, *genes])),
        )
        return np.select(holds, CLASSES[:-1], CLASSES[-1]).astype(object)

    def exon_distance(self, contig: str, pos0_N: np.ndarray) -> np.ndarray:
        """(N,) float64: bases from each 0-based position to the nearest first or last base of an exon; inf for none."""
        exons = self.annotation.spans(contig, "exon", self.tag)
        return _nearest(pos0_N + 1, np.concatenate((exons[:, 0] + 1, exons[:, 1])))

    def is_coding(self, contig: str, pos0_N: np.ndarray) -> np.ndarray:
        """(N,) bool: in a coding sequence."""
        return _inside(pos0_N, self.annotation.spans(contig, "CDS", self.tag))


def _nearest(at_N: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N,) float64: distance to the nearest of ``places``; inf where there is none."""
    edges = np.concatenate(([-np.inf], np.unique(places), [np.inf]))
    right = np.searchsorted(edges, at_N, side="left").clip(1, len(edges) - 1)
    return np.minimum(at_N - edges[right - 1], edges[right] - at_N)


def _inside(pos0_N: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """(N,) bool: in one of the (start, end) rows."""
    if not len(spans):
        return np.zeros(len(pos0_N), dtype=bool)
    order = np.argsort(spans[:, 0], kind="stable")
    starts, reach = spans[order, 0], np.maximum.accumulate(spans[order, 1])
    before = np.searchsorted(starts, pos0_N, side="right") - 1
    return (before >= 0) & (reach[before] > pos0_N)


def read_enhancers(path: str | Path, fasta: Fasta) -> tuple[Regions, list[str]]:
    """Distal enhancers of a cCRE BED (ENCODE SCREEN: column 6 is the class), and lines for people.

    NexVarError where no row is of this genome, or none of its classes is an enhancer's.
    """
    lines, found, unknown, others = Lines(path), list[Interval](), 0, set[str]()
    for number, line in lines:
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields, where = line.split("\t"), f"{lines.name}:{number}"
        if len(fields) < 6 or not (fields[1].isdecimal() and fields[2].isdecimal()):
            good = "chrom, start, end, two names, and the class in column 6"
            hint = good if len(fields) >= 6 else remedy(line, 6, good)
            raise NexVarError(f"{line[:40]!r} is no cCRE", where=where, fix=hint)
        start, end = int(fields[1]), int(fields[2])
        if start >= end:
            raise NexVarError(f"start {start:,}, end {end:,}", where=where, fix="0-based, half-open: end above start")
        match = fasta.resolve(fields[0])
        if match is None:
            unknown += 1
            continue
        if end > (length := fasta.contigs.get(match.contig, end)):
            what = f"it ends at {end:,}, {match.contig} has {length:,} bases"
            raise NexVarError(what, where=where, fix="give ENCODE's cCREs of this assembly")
        if any(word in fields[5] for word in _ENHANCERS):
            found.append(Interval(match.contig, start, end))
        else:
            others.add(fields[5])
    if not found:
        what = f"no class is {' or '.join(_ENHANCERS)}: it has {', '.join(sorted(others)[:4])}" if others else (
            f"none of its {unknown:,} rows is on a contig of {fasta.path.name}")  # fmt: skip
        raise NexVarError(what, where=path, fix="give ENCODE's cCREs of this assembly")
    notes = [f"{path}: {unknown:,} rows on contigs that {fasta.path.name} does not have"] if unknown else []
    return Regions(found), notes
