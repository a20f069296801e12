"""SPDI, NCBI's form: accession, 0-based position, deleted bases (or how many), inserted bases.

    NC_012920.1:3242:A:G    m.3243A>G        NC_012920.1:3242:1:     m.3243del
    NC_012920.1:3242::GG    GG before base 3243

NOTE ``chr17:41197722:T:A`` looks alike and is 1-based: what has an accession with its version is SPDI.
"""

from __future__ import annotations

import re
from typing import NoReturn

from nexvar.errors import NexVarError
from nexvar.genome.alleles import anchored
from nexvar.genome.hgvs import MAX_EVENT, resolved
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.vcf import MAX_POS

_REFSEQ = "[A-Z]{2}_[A-Z]{0,6}[0-9]{5,12}"  # NC_000913, NZ_CP012345
_GENBANK = "[A-Z]{1,6}[0-9]{5,12}"  # U00096, AAAA01000001
_CHANGE = r":(?P<start>[0-9,]+):(?P<deleted>[0-9]*|[A-Za-z]*):(?P<inserted>[A-Za-z]*)"
PATTERN = re.compile(rf"(?P<chrom>(?:{_REFSEQ}|{_GENBANK})\.[0-9]{{1,3}}){_CHANGE}")
WITHOUT_VERSION = re.compile(rf"(?P<chrom>{_REFSEQ}){_CHANGE}")
_BASES = "ACGTNRYSWKMBDHV"


def parse(match: re.Match[str], fasta: Fasta, where: str) -> Variant:
    """The variant of a match of ``PATTERN``."""
    deleted, inserted = match["deleted"].upper(), match["inserted"].upper()
    for allele in (deleted, inserted):
        if bad := next((c for c in allele if c not in _BASES and not c.isdigit()), ""):
            raise NexVarError(f"{bad!r} is not a base", where=where, fix="SPDI is accession:position:deleted:inserted")
    digits = match["start"].replace(",", "") or "none"
    if not digits.isdigit() or len(digits) > 10 or int(digits) >= MAX_POS:
        raise NexVarError(f"position {digits[:40]}", where=where, fix="SPDI positions are 0-based")
    chrom, start = match["chrom"], int(digits)
    contig = resolved(fasta, chrom, where)
    if len(deleted) > 10 and deleted.isdigit():
        raise NexVarError(f"{deleted[:40]} deleted bases", where=where, fix="give events below 5,000,000 bases")
    count = int(deleted) if deleted.isdigit() else len(deleted)
    if count > MAX_EVENT:
        raise NexVarError(f"an event of {count:,} bases", where=where, fix="give events below 5,000,000 bases")
    low, high = fasta.span(contig, start, start + count)
    if not low <= start <= start + count <= high:
        raise NexVarError("the range is outside of the contig", where=where,
                          fix=f"{contig} has {fasta.extent(contig)} (1-based; SPDI's first base is 0)")  # fmt: skip
    if deleted.isdigit() or not deleted:
        deleted = fasta.fetch(contig, start, start + count)
    if deleted == inserted:
        raise NexVarError("it changes nothing", where=where, fix="leave it out")
    genome = fasta.fetch(contig, start, start + count)
    if len(deleted) != len(inserted) and any(
        a != b and {a, b} <= set("ACGT") for a, b in zip(deleted, genome, strict=True)
    ):
        raise NexVarError(f"it names {deleted[:20]} but the genome has {genome[:20]}", where=where,
                          fix="SPDI positions are 0-based; is this the right assembly?")  # fmt: skip
    return anchored(fasta, chrom, start, deleted, [inserted])


def refuse_without_version(match: re.Match[str], where: str) -> NoReturn:
    """NexVarError: whether this is SPDI, 0-based, or chrom:pos:ref:alt, 1-based, cannot be told."""
    chrom = match["chrom"]
    raise NexVarError(f"{chrom} has no version: 0-based as in SPDI, or 1-based?", where=where,
                      fix=f"write {chrom}.N:position:deleted:inserted (0-based) or {chrom}:9A>C (1-based)")  # fmt: skip
