"""The work plan: one pass over the variants checks them and cuts them into parts of whole positions.

The plan depends on the input and the window alone, and it fixes the batches: whoever computes a part, and whenever,
computes the same bytes. The first part is small, so that rows are on disk soon; the others grow to a budget of tokens.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from nexvar.errors import NexVarError
from nexvar.genome.agreement import check_agreement
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import VariantSource
from nexvar.genome.vcf import Record
from nexvar.genome.windows import Status, allele_windows

CHECKED_RECORDS = 20_000  # how many REFs are compared with the genome before anything is computed
STEP_ALLELES = 8  # of the first part: rows are on disk soon
PART_TOKENS = 1 << 21  # bases of the reference windows of one part: what a kill can cost
MAX_PART_ALLELES = 2048


@dataclass(frozen=True)
class Part:
    """Records [first, first + records) of the input."""

    index: int
    first: int
    records: int
    alleles: int


@dataclass(frozen=True)
class Survey:
    """What one pass over the input found.

    records, alleles: how many after each place where a part may end: between positions, at least ``STEP_ALLELES``
    apart. contigs: in order of appearance. digest: sha256 of every record. notes: what a person should know of the
    input. sorted: whether contigs stay together and positions ascend.
    """

    records: array[int]
    alleles: array[int]
    contigs: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()
    sorted: bool = True


def survey(reader: VariantSource, fasta: Fasta, limit: float, ask: Callable[[], None] = lambda: None) -> Survey:
    """Read every line once: malformed ones raise, and so does a wrong assembly, the commonest mistake.

    limit: the share of REFs that may differ from the genome's; 1: whatever differs, go on. ask: called again and again;
    what it raises ends the reading.
    """
    digest = hashlib.sha256()
    contigs: dict[str, None] = {}
    ends: tuple[array[int], array[int]] = array("q"), array("q")
    records = alleles = step = 0
    chrom, pos0, ascending = "", -1, True
    lines: list[str] = []
    compared, wrong = 0, []
    for record in reader:
        if record.chrom != chrom or record.pos0 != pos0:
            if alleles - step >= STEP_ALLELES:
                ends[0].append(records)
                ends[1].append(alleles)
                step = alleles
            if record.chrom != chrom:
                chrom = record.chrom
                ascending = ascending and chrom not in contigs
                contigs[chrom] = None
            else:
                ascending = ascending and record.pos0 > pos0
            pos0 = record.pos0
        records += 1
        alleles += record.alt.count(",") + 1
        lines.append(record.raw)
        if len(lines) == 1000:
            digest.update("".join(f"{line}\n" for line in lines).encode())
            lines = []
            ask()
        if compared < CHECKED_RECORDS:
            detail = _wrong_reference(record, fasta)
            compared += detail is not None
            wrong += [detail] if detail else []
    if not records:
        reader.scan()  # raises where there must be some, and knows the line
    notes = check_agreement(reader.name, reader.contigs, list(contigs), fasta, strict=limit < 1)
    if len(wrong) >= 3 and len(wrong) > limit * compared:
        raise NexVarError(
            f"{len(wrong):,} of {compared:,} REF alleles are not what {fasta.path.name} has: " + "; ".join(wrong[:3]),
            where=reader.name,
            fix="was the VCF called on another assembly? give its FASTA, or --max-ref-mismatch 1 to score the rest",
        )
    digest.update("".join(f"{line}\n" for line in lines).encode())
    ends[0].append(records)
    ends[1].append(alleles)
    return Survey(*ends, tuple(contigs), digest.hexdigest(), (*reader.notes, *notes), ascending)


def _wrong_reference(record: Record, fasta: Fasta) -> str | None:
    """What is wrong with REF; "" if nothing is; None where there is nothing to compare it with."""
    variant = record.variant
    w = allele_windows(fasta, variant.chrom, variant.pos0, variant.ref, "N", 2 * len(variant.ref) + 2)
    if w.status is Status.REF_MISMATCH:
        return f"{record.chrom}:{record.pos0 + 1} REF={variant.ref[:20]} but {w.detail}"
    return None if w.status is Status.UNKNOWN_CONTIG else ""


def cut(found: Survey, reader: VariantSource, window: int, together: int = 1) -> tuple[Part, ...]:
    """The parts: of ``STEP_ALLELES`` at first, then twice as many each, up to ``PART_TOKENS`` of windows.

    together: variants of one stretch of so many bases (a tile) stay in one part; above 1 the input is read again.
    """
    if not found.records[-1]:
        return ()
    largest, wanted = _largest(window), STEP_ALLELES
    parts: list[Part] = []
    first = before = 0
    ends = _tile_ends(reader, together) if together > 1 else zip(found.records, found.alleles, strict=True)
    for records, alleles in ends:
        if alleles - before >= wanted or records == found.records[-1]:
            parts.append(Part(len(parts), first, records - first, alleles - before))
            first, before, wanted = records, alleles, min(2 * wanted, largest)
    return tuple(parts)


def _largest(window: int) -> int:
    """Alleles of a part at most, about."""
    return min(max(PART_TOKENS // window, STEP_ALLELES), MAX_PART_ALLELES)


def pieces(records: Iterable[Record], window: int, together: int = 1) -> Iterator[list[Record]]:
    """The records of each part that ``cut`` would make, as they stream by: the same batches, so the same bits."""
    largest, wanted = _largest(window), STEP_ALLELES
    piece: list[Record] = []
    alleles = step = 0  # in the piece; at the last place where it might have ended
    last = None
    for record in records:
        here = record.chrom, record.pos0 // together
        if here != last and (together > 1 or alleles - step >= STEP_ALLELES):
            step = alleles
            if alleles >= wanted:
                yield piece
                piece, alleles, step, wanted = [], 0, 0, min(2 * wanted, largest)
        piece.append(record)
        alleles, last = alleles + len(record.alts), here
    if piece:
        yield piece


def _tile_ends(reader: VariantSource, together: int) -> Iterator[tuple[int, int]]:
    """(records, alleles) behind each stretch of ``together`` bases."""
    records = alleles = 0
    last = None
    for record in reader:
        here = record.chrom, record.pos0 // together
        if last not in (None, here):
            yield records, alleles
        records, alleles, last = records + 1, alleles + record.alt.count(",") + 1, here
    yield records, alleles


def records_of(reader: VariantSource, parts: list[Part]) -> Iterator[tuple[Part, list[Record]]]:
    """Each part (ascending) with its records, in one pass over the input."""
    records, position = iter(reader), 0
    for part in parts:
        chosen = list(islice(records, part.first - position, part.first - position + part.records))
        position = part.first + part.records
        yield part, chosen
