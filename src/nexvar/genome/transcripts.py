"""One feature, and one transcript with its exons, coding bases and untranslated regions. 0-based half-open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nexvar.genome.features import CODING
from nexvar.genome.reference import Fasta, reverse_complement

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature, or one of its pieces. ``kind`` is the file's own word (gene, mRNA, CDS, D_loop, …), but for UTRs.

    strand: +, - or ".". phase: 0, 1, 2: how many bases to leave out before the first codon; None for none.
    type: the biotype of a gene or transcript (protein_coding, Mt_tRNA, …). tags: by commas (MANE_Select, …).
    aliases: other names of a gene, its locus tag among them, between tabs.
    """

    contig: str
    start: int
    end: int
    strand: str
    kind: str
    name: str = ""
    id: str = ""
    parent: str = ""
    phase: int | None = None
    type: str = ""
    description: str = ""
    tags: str = ""
    aliases: str = ""


@dataclass(frozen=True)
class Transcript:
    """Spans in the order of the plus strand, from a ring's origin on or, where they cross it, across it.

    cds: with the stop codon, whether the file counts it or not; two pieces that share a base or two are read as two (a
    ribosome that slips back). utr5, utr3: what of the exons lies outside of it.
    phase: bases to leave out before the first codon.
    """

    feature: Feature
    exons: tuple[Span, ...]
    cds: tuple[Span, ...]
    utr5: tuple[Span, ...]
    utr3: tuple[Span, ...]
    phase: int = 0

    @property
    def introns(self) -> tuple[Span, ...]:
        """What lies between the exons."""
        return tuple((a[1], b[0]) for a, b in zip(self.exons, self.exons[1:], strict=False) if a[1] < b[0])

    def spliced(self, fasta: Fasta) -> str:
        """The transcript's bases, on its own strand."""
        return _bases(fasta, self.feature, self.exons)

    def coding_sequence(self, fasta: Fasta) -> str:
        """The coding bases on the transcript's strand, from the first whole codon on."""
        return _bases(fasta, self.feature, self.cds)[self.phase :]


def make_transcript(feature: Feature, parts: Sequence[Feature], ring: int | None) -> Transcript:
    """A transcript of its parts. ring: the length of its contig, if that is circular."""
    coding = [part for part in parts if part.kind in CODING]
    cds = _ordered(coding, ring, slips=True)
    spans = {kind: _ordered((p for p in parts if p.kind == kind), ring) for kind in ("exon", "five_prime_UTR",
                                                                                    "three_prime_UTR")}  # fmt: skip
    first = (cds[-1] if feature.strand == "-" else cds[0]) if cds else None
    edge = 1 if feature.strand == "-" else 0
    phases = [p.phase or 0 for p in coding if p.kind == "CDS" and first and (p.start, p.end)[edge] == first[edge]]
    return Transcript(
        feature,
        spans["exon"] or cds or ((feature.start, feature.end),),
        cds,
        spans["five_prime_UTR"],
        spans["three_prime_UTR"],
        phases[0] if phases else 0,
    )


def _ordered(parts: Iterable[Feature], ring: int | None, *, slips: bool = False) -> tuple[Span, ...]:
    """Spans by start, joined where they touch or overlap; on a ring, from behind their largest gap on.

    slips: those that share one base or two stay apart.
    """
    joined: list[Span] = []
    for start, end in sorted((part.start, part.end) for part in parts):
        before = joined[-1] if joined else (start, start - 1)
        back = slips and before[0] < start and before[1] < end and 0 < before[1] - start < 3
        if start <= before[1] and not back:
            joined[-1] = before[0], max(end, before[1])
        else:
            joined.append((start, end))
    if ring is not None and len(joined) > 1:
        gaps = [b[0] - a[1] for a, b in zip(joined, joined[1:], strict=False)]
        around = joined[0][0] + ring - joined[-1][1]
        if max(gaps) > around:
            cut = gaps.index(max(gaps)) + 1
            joined = joined[cut:] + joined[:cut]
    return tuple(joined)


def _bases(fasta: Fasta, feature: Feature, spans: Sequence[Span]) -> str:
    bases = "".join(fasta.fetch(feature.contig, start, end) for start, end in spans)
    return reverse_complement(bases) if feature.strand == "-" else bases
