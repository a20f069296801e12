"""Alleles of other formats in VCF's form: bases, and never an empty allele."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexvar.errors import NexVarError
from nexvar.genome.bed import parse_position
from nexvar.genome.reference import Fasta, Variant

_BASES = re.compile("[ACGTNRYSWKMBDHVacgtnryswkmbdhv]+")


def checked_variant(chrom: str, pos: str, ref: str, alts: Sequence[str], where: str) -> Variant:
    """The variant of four texts, ``pos`` 1-based; NexVarError where one of them is not what it should be."""
    check_chrom(chrom, where)
    check_allele("REF", ref, where)
    for alt in alts:
        if alt not in ("*", "."):
            check_allele("ALT", alt, where)
    return Variant(chrom, parse_position(pos, where), ref.upper(), tuple(a.upper() for a in alts))


def check_chrom(chrom: str, where: str) -> None:
    """NexVarError for what names no contig. Some names are good in a table and not in a VCF: ``vcf.can_name``."""
    if not chrom or not chrom.isprintable() or any(c.isspace() or c in "<>" for c in chrom):
        what = f"contig {chrom[:40]!r}"
        raise NexVarError(what, where=where, fix="write a contig name without blanks and control characters")


def is_allele(text: str) -> bool:
    """Whether these are bases, or - for none."""
    return text.strip() == "-" or _BASES.fullmatch(text.strip()) is not None


def check_allele(name: str, allele: str, where: str) -> None:
    """NexVarError unless these are bases, at least one."""
    if not _BASES.fullmatch(allele):
        raise NexVarError(f"{name} is {allele[:40]!r}", where=where, fix="write bases: A, C, G, T")


def anchored(fasta: Fasta, chrom: str, start: int, ref: str, alts: Sequence[str]) -> Variant:
    """VCF's form of ``ref`` at ``start`` (0-based) -> ``alts``, any of which may be empty.

    Where one is, all take the base before them, or after them at the contig's start; N where the FASTA has no such
    base, so that the variant gets the status that says why.
    """
    if ref and all(alts):
        return Variant(chrom, start, ref, tuple(alts))
    resolved = fasta.resolve(chrom)
    end = start + len(ref)
    low, high = fasta.span(resolved.contig, start, end) if resolved else (0, 0)
    base = "N"
    if start > low or not resolved:
        if resolved and start <= high:
            base = fasta.fetch(resolved.contig, start - 1, start)
        return Variant(chrom, start - 1, base + ref, tuple(a if a in ("*", ".") else base + a for a in alts))
    if end >= high and "" in alts and start == low:
        raise NexVarError(f"the whole of {chrom} is deleted", where=fasta.path, fix="nothing is left to score")
    if low <= end < high:
        base = fasta.fetch(resolved.contig, end, end + 1)
    return Variant(chrom, start, ref + base, tuple(a if a in ("*", ".") else a + base for a in alts))
