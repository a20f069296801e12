"""Positions in and outside of exons, each with what a causal model reads up to it from either side.

    ... upstream .......... p              forward: ends at p, included
                            p .......... downstream ...      reverse: the other strand, which ends at p, too

From an annotation: half of the positions in an exon of any transcript, half in none, by lot. What is held out together
is a cluster of overlapping genes, with what lies up to the middle between it and the next. From a table: the layout of
Evo 2's samplePositions.tsv (organism, label, forward_seq, reverse_seq); what is held out together is a species.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals.tables import column, read_table, zero_or_one
from nexvar.genome.annotation import Annotation
from nexvar.genome.reference import reverse_complement

Span = tuple[int, int]


@dataclass(frozen=True)
class Positions:
    """forward, reverse: sequences that end at the position, upper case. labels: (N,) 1 in an exon. groups: of each."""

    forward: list[str]
    reverse: list[str]
    labels: np.ndarray
    groups: list[str]

    def __add__(self, other: Positions) -> Positions:
        labels = np.concatenate([self.labels, other.labels])
        return Positions(self.forward + other.forward, self.reverse + other.reverse, labels, self.groups + other.groups)

    def around(self) -> list[str]:
        """The bases on both sides of each position, on the forward strand."""
        return [f + reverse_complement(r)[1:] for f, r in zip(self.forward, self.reverse, strict=True)]

    def last(self, count: int) -> Positions:
        """The same with the last ``count`` bases of each sequence."""
        return Positions(
            [f[-count:] for f in self.forward], [r[-count:] for r in self.reverse], self.labels, self.groups
        )


def of_annotation(annotation: Annotation, window: int, count: int, seed: int = 0) -> Positions:
    """``count`` positions, half of them in exons; each window whole, and without N.

    NexVarError: no exon, or no position of one of the classes with ``window`` bases on each side.
    """
    fasta = annotation.fasta
    places: dict[int, list[tuple[str, int, int]]] = {0: [], 1: []}  # label -> (contig, start, end)
    clusters: dict[str, list[tuple[int, str]]] = {}  # contig -> (end of its ground, name), by end
    some_exon = False
    for contig in annotation.contigs:
        for low, high in fasta.spans(contig):
            transcripts = annotation.transcripts(contig, low, high)
            exons = merged(exon for t in transcripts for exon in t.exons)
            some_exon |= bool(exons)
            clusters.setdefault(contig, []).extend(_grounds(contig, [t.exons for t in transcripts], high))
            inside = (low + window - 1, high - window + 1)
            places[1] += [(contig, *span) for span in _cut(exons, inside)]
            places[0] += [(contig, *span) for span in _cut(_between(exons, low, high), inside)]
    if not some_exon:
        raise NexVarError("no exon and no CDS in the file", where=annotation.name, fix="give an annotation with exons")
    rng, texts, labels, groups = np.random.default_rng(seed), [], [], []
    for label, where in ((1, "in"), (0, "outside of")):
        if not places[label]:
            what = f"no position {where} exons with {window:,} bases on each side"
            raise NexVarError(what, where=annotation.name, fix="a smaller --window, or a larger genome")
        for contig, pos in _drawn(places[label], count // 2, rng):
            around = fasta.fetch(contig, pos - window + 1, pos + window)
            if not set(around) - set("ACGT"):
                texts.append((around[:window], reverse_complement(around[window - 1 :])))
                labels.append(label)
                groups.append(next(name for end, name in clusters[contig] if pos < end))
    return Positions([f for f, _ in texts], [r for _, r in texts], np.array(labels), groups)


def _drawn(places: Sequence[tuple[str, int, int]], count: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """``count`` different positions (all, where there are fewer), by place."""
    ends = np.cumsum([end - start for _, start, end in places])
    chosen = np.sort(rng.choice(int(ends[-1]), min(count, int(ends[-1])), replace=False, shuffle=False))
    rows = np.searchsorted(ends, chosen, side="right")
    return [(places[i][0], places[i][2] - int(ends[i] - n)) for i, n in zip(rows, chosen, strict=True)]


def _grounds(contig: str, transcripts: Iterable[tuple[Span, ...]], high: int) -> list[tuple[int, str]]:
    """(end, name) of the stretches into which clusters of overlapping transcripts cut a contig, half-way between."""
    spans = merged((exons[0][0], exons[-1][1]) for exons in transcripts if exons[0][0] < exons[-1][1])
    names = [f"{contig}:{start + 1}-{end}" for start, end in spans] or [contig]
    ends = [(a[1] + b[0]) // 2 for a, b in zip(spans, spans[1:], strict=False)]
    return list(zip([*ends, high], names, strict=True))


def merged(spans: Iterable[Span]) -> list[Span]:
    """By start, joined where they overlap or touch."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _between(spans: Sequence[Span], low: int, high: int) -> list[Span]:
    edges = [low, *(edge for span in spans for edge in span), high]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _cut(spans: Iterable[Span], inside: Span) -> list[Span]:
    """The parts of the spans that lie inside of one."""
    cut = [(max(a, inside[0]), min(b, inside[1])) for a, b in spans]
    return [(a, b) for a, b in cut if a < b]


def of_table(path: str | Path, window: int) -> Positions:
    """The rows of a table as Evo 2's samplePositions.tsv, sequences cut to their last ``window`` bases."""
    table = read_table(path)
    names = ("organism", "label", "forward_seq", "reverse_seq")
    organisms, labels, forward, reverse = (column(table, name, path) for name in names)
    for i, row in enumerate(zip(organisms, labels, forward, reverse, strict=True)):
        where = f"{path}: row {i + 1}"
        if None in row or zero_or_one(row[1]) is None:
            raise NexVarError(f"label {str(row[1])[:20]!r}, or a field is empty", where=where, fix="label 0 or 1")
        if min(len(row[2]), len(row[3])) < window:
            what = f"{min(len(row[2]), len(row[3])):,} bases"
            raise NexVarError(what, where=where, fix=f"--window {window} needs as many")
        if reverse_complement(row[3])[0].upper() != row[2][-1].upper():
            fix = "its last base is the complement of the last of forward_seq"
            raise NexVarError("reverse_seq does not end at the same position", where=where, fix=fix)
    return Positions(
        [text[-window:].upper() for text in forward],
        [text[-window:].upper() for text in reverse],
        np.array([zero_or_one(label) for label in labels]),
        [str(name) for name in organisms],
    )
