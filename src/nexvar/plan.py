"""The work plan: one pass over the variants checks them and cuts them into parts of whole positions.

The plan depends on the input alone, and it fixes the batches: whoever computes a part, and whenever, computes the
same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nexvar.errors import NexVarError
from nexvar.genome import Fasta
from nexvar.variants import VariantSource
from nexvar.vcf import Record
from nexvar.windows import Status, allele_windows

CHECKED_RECORDS = 20_000  # how many REFs are compared with the genome before anything is computed
PART_ALLELES = 512


@dataclass(frozen=True)
class Part:
    """Records [first, first + records) of the input."""

    first: int
    records: int
    alleles: int


@dataclass(frozen=True)
class Survey:
    """What one pass over the input found. digest: sha256 of every record; contigs: in order of appearance."""

    parts: tuple[Part, ...]
    contigs: tuple[str, ...]
    digest: str


def find_parts(reader: VariantSource, fasta: Fasta, limit: float) -> Survey:
    """Read every line once: malformed ones raise, and so does a wrong assembly, the commonest mistake.

    Parts have at least ``PART_ALLELES`` and are cut between positions, so that alleles of one window stay together.
    """
    digest = hashlib.sha256()
    contigs: dict[str, None] = {}
    parts: list[Part] = []
    first = records = alleles = 0
    last, compared, wrong = None, 0, []
    for record in reader:
        digest.update(record.raw.encode() + b"\n")
        contigs[record.chrom] = None
        here = record.chrom, record.pos0
        if alleles >= PART_ALLELES and here != last:
            parts.append(Part(first, records, alleles))
            first, records, alleles = first + records, 0, 0
        records, alleles, last = records + 1, alleles + record.alt.count(",") + 1, here
        if compared < CHECKED_RECORDS:
            detail = _wrong_reference(record, fasta)
            compared += detail is not None
            wrong += [detail] if detail else []
    if not records:
        reader.scan()  # raises, and knows the line
    if len(wrong) >= 3 and len(wrong) > limit * compared:
        raise NexVarError(
            f"{len(wrong):,} of {compared:,} REF alleles are not what {fasta.path.name} has: " + "; ".join(wrong[:3]),
            where=reader.name,
            fix="was the VCF called on another assembly? give its FASTA, or --max-ref-mismatch 1 to score the rest",
        )
    return Survey((*parts, Part(first, records, alleles)), tuple(contigs), digest.hexdigest())


def _wrong_reference(record: Record, fasta: Fasta) -> str | None:
    """What is wrong with REF; "" if nothing is; None where there is nothing to compare it with."""
    variant = record.variant
    w = allele_windows(fasta, variant.chrom, variant.pos, variant.ref, "N", 2 * len(variant.ref) + 2)
    if w.status is Status.REF_MISMATCH:
        return f"{record.chrom}:{record.pos0 + 1} REF={variant.ref[:20]} but {w.detail}"
    return None if w.status is Status.UNKNOWN_CONTIG else ""
