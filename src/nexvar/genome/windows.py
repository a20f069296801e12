"""Variant + genome -> the reference and the alternative window. The only place that cuts windows from a genome.

SNV, window 8, p = 0-based position of the first REF base:

    reference   [p-4 . . . p . . . p+3]              the site is at index window // 2
    left end    [0 . p . . . . 7]                    shifted, not padded; the site is at index p
    right end   [L-8 . . . . . p L-1]                shifted
    circular    [L-2 L-1 0 p . . . .]                wraps; always centred

Indels: both windows have the same length. The edges that are read first agree, and the alternative's other edge moves
along the genome (a deletion takes in more of it, an insertion less): its right edge on the forward strand, its left
edge on the reverse strand, so that both alleles are read behind the same bases on either strand. Where the contig ends
there, the edges at the contig's end agree and the one that is read first moves.

Anchored windows, window 8, left 4, stride 2: each strand's begin at its own multiples of the stride (the reverse
strand's are counted from the contig's end) and at least ``left`` bases before the allele:

    forward     A . . . p . . .        begins at A, the last multiple that leaves 4 bases before p: here at p - 4
                A . . . p q . .        q, one base further, shares it, with 5 bases before it
    reverse     . . q p . . . A        read from the right, from its own A; q and p may lie in two windows there
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, Variant, reverse_complement

WINDOW = 8192
_EVENTS = {"DEL": "DEL", "DUP": "DUP", "DUP:TANDEM": "DUP", "INV": "INV"}  # other copies lie who knows where


class Status(str, Enum):
    """What became of an allele. OK and EDGE have a score, the others say why there is none."""

    OK = "OK"
    EDGE = "EDGE"  # scored in a window that is shifted, or cut, at a contig's end
    REF_MISMATCH = "REF_MISMATCH"  # REF is not what the genome has
    SYMBOLIC = "SYMBOLIC"  # <INS>, <CNV>, breakends, <DEL> without END, …
    STAR = "STAR"  # *: the base is missing because of another record's deletion
    MISSING_ALT = "MISSING_ALT"  # ALT is .
    SAME_AS_REF = "SAME_AS_REF"
    N_AT_SITE = "N_AT_SITE"  # N or an IUPAC code in the genome or an allele, at the site itself
    UNKNOWN_CONTIG = "UNKNOWN_CONTIG"  # not in the FASTA under any name we know
    OUT_OF_RANGE = "OUT_OF_RANGE"  # beyond the contig's end
    OUTSIDE_REGIONS = "OUTSIDE_REGIONS"  # not in the regions that were asked for
    TOO_LONG = "TOO_LONG"  # an allele longer than half the window

    def __str__(self) -> str:
        return self.value

    @property
    def scored(self) -> bool:
        """Whether an allele of this status gets a score."""
        return self in (Status.OK, Status.EDGE)


@dataclass(frozen=True)
class Windows:
    """The two windows of one allele, upper-case, of equal length; empty unless ``status.scored``.

    contig: the FASTA's name; rule: how it was found ("exact", …).
    start: 0-based coordinate of ``ref_seq[0]`` (on circular contigs the window may run past the end and wrap).
    alt_start: coordinate of ``alt_seq[0]``; differs from ``start`` only where the left edge moved.
    ref_site, alt_site: [start, end) of the allele within ``ref_seq`` / ``alt_seq``.
    detail: for people, e.g. what the genome has where REF does not fit.
    opposite: what the other strand reads, where it is not the same bases, as windows of this strand (indels; anchors).
    """

    status: Status
    contig: str = ""
    rule: str = ""
    start: int = 0
    alt_start: int = 0
    ref_seq: str = ""
    alt_seq: str = ""
    ref_site: tuple[int, int] = (0, 0)
    alt_site: tuple[int, int] = (0, 0)
    detail: str = ""
    opposite: Windows | None = None

    @property
    def end(self) -> int:
        """Exclusive end of the reference window."""
        return self.start + len(self.ref_seq)

    @property
    def n_fraction(self) -> float:
        """The share of the reference window that is not A, C, G or T."""
        known = sum(self.ref_seq.count(base) for base in "ACGT")
        return 1 - known / len(self.ref_seq) if self.ref_seq else 0.0

    def reverse(self) -> Windows:
        """The windows as they are read on the other strand; coordinates stay those of the forward strand."""
        there = self.opposite or self
        return replace(there._turned(), opposite=self._turned() if self.opposite else None)

    def _turned(self) -> Windows:
        size = len(self.ref_seq)
        (r0, r1), (a0, a1) = self.ref_site, self.alt_site
        return replace(self, ref_seq=reverse_complement(self.ref_seq), alt_seq=reverse_complement(self.alt_seq),
                       ref_site=(size - r1, size - r0), alt_site=(size - a1, size - a0), opposite=None)  # fmt: skip


def make_windows(
    fasta: Fasta, variant: Variant, window: int = WINDOW, *, left: int | None = None, stride: int | None = None
) -> list[Windows]:
    """One ``Windows`` per ALT, in order. ``left``, ``stride``: see ``allele_windows``."""
    ends = variant.ends or (None,) * len(variant.alts)
    return [
        allele_windows(fasta, variant.chrom, variant.pos0, variant.ref, alt, window, left=left, stride=stride, end=end)
        for alt, end in zip(variant.alts, ends, strict=True)
    ]


def tile_step(window: int) -> int:
    """Bases from one tile to the next: the variants of a tile are in the middle half of its window."""
    return max(1, window // 2)


def tile_left(pos0: int, window: int) -> int:
    """Bases before a variant in the window of its tile: every variant of the tile gets the same reference window."""
    return (window - tile_step(window)) // 2 + pos0 % tile_step(window)


def allele_windows(
    fasta: Fasta,
    chrom: str,
    pos0: int,
    ref: str,
    alt: str,
    window: int = WINDOW,
    *,
    left: int | None = None,
    stride: int | None = None,
    end: int | None = None,
) -> Windows:
    """The windows of one allele, or the status that says why there are none. Never raises for a variant.

    left: bases before the variant (default ``window // 2``). stride: the windows begin at multiples of it, and ``left``
    is the least that stands before the variant. end: 0-based exclusive end of a <DEL>, <DUP> or <INV>.
    """
    left = window // 2 if left is None else left
    if window < 2 or not 0 <= left < window:
        raise NexVarError(f"window {window} with {left} bases before the variant", fix="use a window of 2 or more")
    if alt in ("*", "."):
        return Windows(Status.STAR if alt == "*" else Status.MISSING_ALT)
    symbolic = not alt.isalpha()
    event = _event(alt) if symbolic else None
    if symbolic and (event is None or end is None):
        return Windows(Status.SYMBOLIC)
    resolved = fasta.resolve(chrom)
    if resolved is None:
        return Windows(Status.UNKNOWN_CONTIG, detail=fasta.why_unknown(chrom))
    contig, rule = resolved
    circular = contig in fasta.circular
    ref, alt = ref.upper(), alt if symbolic else alt.upper()
    last = max(pos0 + len(ref), end or 0) if symbolic else pos0 + len(ref)
    low, high = fasta.span(contig, pos0, last)
    if not low <= pos0 < high or (last > high and not circular):
        return Windows(Status.OUT_OF_RANGE, contig, rule, detail=f"{contig} has {fasta.extent(contig)}")
    longest = max(last - pos0, 0 if symbolic else len(alt))
    if longest > min(window // 2, high - low):
        return Windows(Status.TOO_LONG, contig, rule, detail=f"{longest:,} bases in a window of {window:,}")

    genome = fasta.fetch(contig, pos0, pos0 + len(ref))
    if any(r != g and r in "ACGT" and g in "ACGT" for r, g in zip(ref, genome, strict=True)):
        return Windows(Status.REF_MISMATCH, contig, rule, detail=f"the genome has {genome[:20]}")
    if event is not None:
        ref, alt = _explicit(event, fasta.fetch(contig, pos0, last))
    if not set(ref + alt + genome) <= set("ACGT"):
        return Windows(Status.N_AT_SITE, contig, rule)
    if ref == alt:
        return Windows(Status.SAME_AS_REF, contig, rule)
    length = high - low
    if stride is None:
        if circular:
            left = left * _size(window, length, len(alt) - len(ref)) // window
        return _build(fasta, contig, rule, pos0, ref, alt, window, left)
    if circular and length < window:
        left, stride = left * length // window, max(1, stride * length // window)
    turn = high if circular else None
    before = bases_from_anchor(pos0, left, stride, turn)
    behind = bases_from_anchor(high - pos0 - len(ref), left, stride, turn)
    forward = _build(fasta, contig, rule, pos0, ref, alt, window, before)
    reverse = _build(fasta, contig, rule, pos0, ref, alt, window, behind=behind)
    return _both_strands(forward, reverse)


def bases_from_anchor(pos0: int, left: int, stride: int, turn: int | None = None) -> int:
    """Bases from the anchor of the allele at ``pos0`` of a strand to it: ``left`` to ``left + stride - 1``.

    turn: length of a circular contig. On a linear one the first anchors lie before its beginning.
    """
    wanted = pos0 - left if turn is None else (pos0 - left) % turn
    return left + wanted % stride


def _both_strands(forward: Windows, reverse: Windows) -> Windows:
    """One allele's windows, each strand's in its own place; without a score, or at an edge, where one of them is."""
    for w in (forward, reverse):
        if not w.status.scored:
            return w
    status = Status.EDGE if Status.EDGE in (forward.status, reverse.status) else Status.OK
    return replace(forward, status=status, opposite=replace(reverse.opposite or reverse, status=status))


def _event(alt: str) -> str | None:
    """DEL, DUP or INV for a symbolic ALT that says where the event lies; None for the others."""
    name = alt[1:-1].upper() if alt[:1] == "<" and alt[-1:] == ">" else ""
    return "DEL" if name.startswith("DEL:") else _EVENTS.get(name)  # a deletion of whatever is a deletion


def _explicit(event: str, genome: str) -> tuple[str, str]:
    """REF and ALT of a symbolic event; ``genome`` is the base before it (VCF's POS) and the event."""
    if event == "DEL":
        return genome, genome[0]
    if event == "DUP":
        return genome[0], genome
    return genome, genome[0] + reverse_complement(genome[1:])


def _size(window: int, length: int, delta: int) -> int:
    """Bases of both windows on a contig of that length that the alternative makes ``delta`` longer."""
    return min(window, length, length + delta)


def _build(
    fasta: Fasta,
    contig: str,
    rule: str,
    pos0: int,
    ref: str,
    alt: str,
    window: int,
    left: int = 0,
    *,
    behind: int | None = None,
) -> Windows:
    """Both windows of a checked allele: where each begins, then their bases. Drawn at the top of this file.

    left: bases wanted before REF. behind: bases wanted after it, instead: where the other strand's window begins.
    """
    low, high = fasta.span(contig, pos0, pos0 + len(ref))
    circular = contig in fasta.circular
    delta = len(alt) - len(ref)
    size = _size(window, high - low, delta)
    wanted = pos0 - left if behind is None else min(pos0, pos0 + len(ref) + behind - size)
    wanted_end = wanted + window if behind is None else pos0 + len(ref) + behind

    # where the windows begin on an endless contig: the reference's, the alternative's forward and reverse
    at_least, alt_at_least = pos0 + len(ref) - size, pos0 + len(alt) - size  # they hold their alleles
    start = max(wanted, at_least)
    starts = endless = (start, max(start, alt_at_least), min(start + delta, pos0))
    if not circular:
        start = max(min(max(wanted, low), high - size), at_least)
        last = high + delta - size  # where the alternative window ends with the contig
        forward = last if wanted > high - size else start
        reverse = low if max(wanted_end, pos0 + len(ref)) < low + size else start + delta
        forward, reverse = (min(max(alt_start, alt_at_least, low), pos0, last) for alt_start in (forward, reverse))
        starts = (start, forward, reverse)
    if any(s > pos0 or s < alt_at_least or (s < low and not circular) for s in starts[1:]) or start > pos0:
        return Windows(Status.TOO_LONG, contig, rule, detail=f"does not fit in {size:,} bases")
    edge = not circular and (starts != endless or size != window)

    first, end = min(starts), max(start, *(alt_start - delta for alt_start in starts[1:])) + size
    once = fasta.fetch(contig, first, end) if end - first <= high - low else None  # a small circle: piece by piece

    def bases(begin: int, end: int) -> str:
        return fasta.fetch(contig, begin, end) if once is None else once[begin - first : end - first]

    turn = high if circular else 0
    status, ref_seq = Status.EDGE if edge else Status.OK, bases(start, start + size)

    def windows(alt_start: int) -> Windows:
        return Windows(
            status,
            contig,
            rule,
            start % turn if turn else start,
            alt_start % turn if turn else alt_start,
            ref_seq,
            bases(alt_start, pos0) + alt + bases(pos0 + len(ref), alt_start + size - delta),
            (pos0 - start, pos0 - start + len(ref)),
            (pos0 - alt_start, pos0 - alt_start + len(alt)),
        )

    _, forward, reverse = starts
    return windows(forward) if forward == reverse else replace(windows(forward), opposite=windows(reverse))


def join_edits(fasta: Fasta, chrom: str, edits: Iterable[tuple[int, str, str]]) -> Variant:
    """Several (pos0, ref, alt) of one haplotype as the one delins that applies them together (cis).

    The result spans from the first to the last edit. NexVarError if they overlap, or lie outside of the contig.
    """
    ordered = sorted((pos0, ref.upper(), alt.upper()) for pos0, ref, alt in edits)
    resolved = fasta.resolve(chrom)
    if resolved is None or not ordered:
        raise NexVarError(f"no contig {chrom!r}" if ordered else "a haplotype without variants", where=fasta.path)
    start, end = ordered[0][0], max(pos0 + len(ref) for pos0, ref, _ in ordered)
    genome = fasta.fetch(resolved.contig, start, end)
    parts, at = [], start
    for pos0, ref, alt in ordered:
        if pos0 < at:
            raise NexVarError(f"variants of one haplotype overlap at {chrom}:{pos0 + 1}", fix="keep one of them")
        parts += [genome[at - start : pos0 - start], alt]
        at = pos0 + len(ref)
        if genome[pos0 - start : at - start] != ref:
            raise NexVarError(f"REF={ref} but {chrom}:{pos0 + 1} is {genome[pos0 - start : at - start]}",
                              where=fasta.path, fix="is this the right assembly?")  # fmt: skip
    return Variant(chrom, start, genome, ("".join(parts),))
