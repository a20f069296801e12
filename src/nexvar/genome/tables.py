"""Tables of variants: columns by their titles, in any order, or chrom, pos, ref, alt without titles.

    chrom pos ref alt                  1-based, as in VCF; other spellings below
    chrom pos id ref alt               the same without titles, as in a VCF without its header
    chrom start end ref alt            1-based and inclusive (ANNOVAR), or 0-based (BED): the length of REF tells which
    Hugo_Symbol Chromosome …           a MAF: maf.py
    #AlleleID … Assembly …             ClinVar's variant_summary.txt: clinvar.py

An empty allele may be written "-": the position of a deletion is its first base, that of an insertion the base before
it, as in MAF and ANNOVAR; an end before the start (VEP) says that it is the base behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from nexvar.errors import NexVarError
from nexvar.genome import clinvar, maf
from nexvar.genome.alleles import anchored, check_allele, check_chrom, checked_variant, is_allele
from nexvar.genome.bed import parse_position
from nexvar.genome.columns import find_columns, first_row, table_rows, titles_of
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.textio import Lines

TITLES = {
    "chrom": ("chrom", "chr", "chromosome", "contig", "seqname", "seqnames", "seqid"),
    "pos": ("pos", "position", "pos(1-based)", "pos_1_based", "start_position"),
    "ref": ("ref", "reference", "ref_allele", "reference_allele", "refallele"),
    "alt": ("alt", "alternate", "alternative", "alt_allele", "alternate_allele", "alternative_allele", "altallele"),
}
_INTERVAL = {"start": ("start", "chromstart"), "end": ("end", "stop", "chromend", "end_position")}


@dataclass(frozen=True)
class Table:
    """What a file of rows turned out to be.

    rows: gives (line number, variant) afresh at each call, and at its end replaces ``notes``. titled: it has a line of
    titles, so that it may be empty.
    """

    rows: Callable[[], Iterator[tuple[int, Variant]]]
    notes: list[str]
    titled: bool


def open_table(lines: Lines, fasta: Fasta) -> Table:
    """Which kind of table this is, by its titles; NexVarError that names what is missing."""
    number, fields = first_row(lines)
    titles = titles_of(fields)
    notes: list[str] = []
    if columns := maf.columns(titles):
        return Table(lambda: maf.rows(lines, number, columns, fasta, notes), notes, True)
    if columns := clinvar.columns(titles):
        return Table(lambda: clinvar.rows(lines, number, columns, fasta, notes), notes, True)
    columns = find_columns(titles, TITLES)
    interval = find_columns(titles, _INTERVAL)
    if "pos" not in columns and len(interval) == 2:
        columns |= interval
    if {"chrom", "ref", "alt"} <= set(columns) and ("pos" in columns or "start" in columns):
        return Table(lambda: _rows(lines, number, columns, fasta), notes, True)
    numbered = len(fields) > 1 and re.fullmatch(r"[0-9,]+", fields[1].strip())
    if (columns or fields[0].startswith("#")) and not numbered:
        raise _untitled(f"{lines.name}:{number}", fields, set(columns))
    has_id = len(fields) > 4 and not is_allele(fields[2]) and is_allele(fields[3]) and is_allele(fields[4])
    columns = dict(zip(TITLES, (0, 1, 3, 4) if has_id else (0, 1, 2, 3), strict=True))  # VCF's columns have an ID
    return Table(lambda: _rows(lines, 0, columns, fasta), notes, False)


def _untitled(where: str, fields: list[str], known: set[str]) -> NexVarError:
    missing = [name for name in TITLES if name not in known]
    shown = ", ".join(field.strip()[:20] for field in fields[:10]) + (", …" if len(fields) > 10 else "")
    spellings = "; ".join(" or ".join(TITLES[name][:3]) for name in missing)
    what = f"no column for {', '.join(missing)} among the titles {shown}"
    return NexVarError(what, where=where, fix=f"name it: {spellings}; MAF and ClinVar's variant_summary are known")


def _rows(lines: Lines, after: int, columns: Mapping[str, int], fasta: Fasta) -> Iterator[tuple[int, Variant]]:
    for number, row in table_rows(lines, after, columns):
        where = f"{lines.name}:{number}"
        alts = row["alt"].split(",")
        if "start" not in row and row["ref"] != "-" and "-" not in alts:
            yield number, checked_variant(row["chrom"], row["pos"], row["ref"], alts, where)
            continue
        check_chrom(row["chrom"], where)
        ref, *bases = ("" if allele == "-" else allele.upper() for allele in (row["ref"], *alts))
        for name, allele in (("REF", ref), *(("ALT", one) for one in bases)):
            if allele not in ("", "*", "."):
                check_allele(name, allele, where)
        if ref in ("*", ".") or not (ref or any(bases)):
            raise NexVarError(f"REF is {row['ref']!r}, ALT {row['alt'][:40]!r}", where=where, fix="write bases")
        start = _start(row, len(ref), where)
        yield number, anchored(fasta, row["chrom"], start, ref, bases)


def _start(row: Mapping[str, str], length: int, where: str) -> int:
    """The 0-based start of a REF of ``length`` bases (0: an insertion, before this base)."""
    if "pos" in row:
        return parse_position(row["pos"], where) + (length == 0)
    if not all(re.fullmatch("[0-9]{1,10}", row[name]) for name in ("start", "end")):
        raise NexVarError(
            f"start {row['start'][:20]!r}, end {row['end'][:20]!r}", where=where, fix="write whole numbers"
        )
    start, end = int(row["start"]), int(row["end"])
    if length == 0 and start <= end <= start + 1:
        return start
    if end - start == length - 1 and start:  # 1-based, inclusive; of an insertion, VEP's
        return start - 1
    if end - start == length and length:  # 0-based, half-open
        return start
    what = f"{start}-{end} is not the place of a REF of {length} bases"
    raise NexVarError(what, where=where, fix="1-based and inclusive, or 0-based as in BED; or one column pos")
