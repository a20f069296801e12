"""One variant as text: ``chr17:41197722T>A``, ``17-41197722-T-A``, HGVS, SPDI."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.genome import hgvs, spdi
from nexvar.genome.alleles import checked_variant
from nexvar.genome.reference import Fasta, Variant

# NOTE names of contigs hold colons and dashes (HLA-A*01:01:01:01): the last one separates
_SIMPLE = re.compile(r"(?P<chrom>[^\s<>]+):(?P<pos>[0-9,]+):?(?P<ref>[A-Za-z]+)(?:>|:|/)(?P<alt>[A-Za-z]+)")
_DASHED = re.compile(r"(?P<chrom>[^\s<>]+)-(?P<pos>[0-9]+)-(?P<ref>[A-Za-z]+)-(?P<alt>[A-Za-z]+)")  # gnomAD's
_NUMBER = re.compile(r"(?:rs|ss|esv|nsv|COS[VMN]|RCV|SCV|VCV|CA)[0-9]+(?:\.[0-9]+)?", re.IGNORECASE)
_FILE = (".vcf", ".gz", ".bgz", ".bcf", ".tsv", ".csv", ".txt", ".hgvs", ".maf", ".bed", ".fa", ".fasta")


def parse_variant(text: str, fasta: Fasta, *, where: str = "variant") -> Variant:
    """``chr17:41197722T>A``, ``17-41197722-T-A``, ``chr17:41197722:T:A``, HGVS ``NC_000017.10:g.41197722T>A``, or SPDI
    ``NC_000017.10:41197721:T:A``.

    HGVS on the genome only: substitutions, del, dup, ins, delins, inv; ``m.`` is the mitochondrion. Deleted, doubled
    and inverted bases are read from ``fasta``, with the base before them as VCF does. NexVarError for anything else.
    """
    if len(text) > 1_000_000:
        raise NexVarError(f"a variant of {len(text):,} characters", where=where, fix="use a VCF")
    here = f"{where}: {text[:60]}"
    if match := spdi.PATTERN.fullmatch(text):
        return spdi.parse(match, fasta, here)
    if match := spdi.WITHOUT_VERSION.fullmatch(text):
        spdi.refuse_without_version(match, here)
    if match := hgvs.PATTERN.fullmatch(text):
        return hgvs.parse(match, fasta, here)
    if match := _SIMPLE.fullmatch(text) or _DASHED.fullmatch(text):
        return checked_variant(match["chrom"], match["pos"], match["ref"], (match["alt"],), here)
    raise _unreadable(text, where)


def _unreadable(text: str, where: str) -> NexVarError:
    """What is wrong with a text that is no variant."""
    if re.search(r":[cnpr]\.", text):
        what, fix = f"{text[:60]!r} is on a transcript or protein", "give genomic g. coordinates"
    elif _NUMBER.fullmatch(text):
        what = f"{text[:60]!r} is a number in a database, which says neither place nor bases"
        fix = "look it up there, and give its VCF or its genomic HGVS"
    elif text.lower().endswith(_FILE) or (os.sep in text and Path(text[:4000]).exists()):
        what, fix = f"{text[:60]!r} is a file, not a variant", "give it with --vcf"
    else:
        what, fix = f"{text[:60]!r} is not a variant", "write chr17:41197722T>A or NC_000017.10:g.41197722T>A"
    return NexVarError(what, where=where, fix=fix)
