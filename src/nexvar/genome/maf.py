"""MAF, the mutation annotation format of the GDC, TCGA and cBioPortal: one row a mutation, "-" for an empty allele.

    Start_Position  End_Position  Reference_Allele  Tumor_Seq_Allele1  Tumor_Seq_Allele2
    100             100           A                 A                  G                   a substitution
    100             102           ACG               ACG                -                   bases 100 to 102 are deleted
    100             101           -                 -                  TT                  TT between 100 and 101

Source: GDC MAF format v1.0.0, docs.gdc.cancer.gov/Data/File_Formats/MAF_Format
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nexvar.errors import NexVarError
from nexvar.genome.alleles import anchored, check_allele, check_chrom
from nexvar.genome.assemblies import assembly_named, assembly_of_length
from nexvar.genome.bed import parse_position
from nexvar.genome.columns import Titles, columns_of_format, table_rows
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.textio import Lines

_NEEDED = {
    "chrom": ("chromosome", "chr", "chrom"),
    "start": ("start_position", "start", "start_pos"),
    "ref": ("reference_allele", "ref_allele"),
    "allele2": ("tumor_seq_allele2", "tumor_allele2", "tumor_seq_allele"),
}
_OPTIONAL = {
    "end": ("end_position", "end", "end_pos"),
    "allele1": ("tumor_seq_allele1", "tumor_allele1"),
    "strand": ("strand",),
    "build": ("ncbi_build", "build"),
}
_MISSING = ("", ".", "na", "n/a", "nan", "null", "none", "unknown", "?")


def columns(titles: Titles) -> dict[str, int]:
    """{name: index} of the columns of a MAF; {} if it is none."""
    return columns_of_format(titles, _NEEDED, _OPTIONAL)


def rows(
    lines: Lines, after: int, columns: Mapping[str, int], fasta: Fasta, notes: list[str]
) -> Iterator[tuple[int, Variant]]:
    """(line number, variant): the alleles that differ from the reference; "." where there is none.

    ``notes`` then says how many rows have an End_Position that is not the last base of their Reference_Allele.
    """
    odd_ends: list[int] = []
    seen: set[tuple[str, str]] = set()
    for number, row in table_rows(lines, after, columns):
        where = f"{lines.name}:{number}"
        check_chrom(row["chrom"], where)
        if row.get("strand", "+") not in ("+", "1", *_MISSING):
            raise NexVarError(f"Strand is {row['strand'][:20]!r}", where=where, fix="give alleles of the + strand")
        build = row["chrom"], row.get("build", "")
        if build not in seen:
            seen.add(build)
            _check_build(*build, fasta, where)
        ref = _allele("Reference_Allele", row["ref"], where)
        alleles = [row[name] for name in ("allele1", "allele2") if row.get(name, "").lower() not in _MISSING]
        alts = [_allele("Tumor_Seq_Allele", allele, where) for allele in alleles]
        alts = [alt for alt in dict.fromkeys(alts) if alt != ref] or ["."]
        if not ref and alts == ["."]:
            raise NexVarError("no allele but '-'", where=where, fix="an insertion needs its bases in Tumor_Seq_Allele2")
        start = parse_position(row["start"], where)
        if not ref and (end := row.get("end", "").lower()) not in _MISSING:
            place = parse_position(end, where) - start
            if place not in (0, 1):
                raise NexVarError(f"an insertion from {row['start']} to {end}", where=where,
                                  fix="it stands between two bases: End_Position is Start_Position + 1")  # fmt: skip
        elif ref and row.get("end", "").lower() not in (*_MISSING, str(start + len(ref))):
            odd_ends.append(number)
        yield number, anchored(fasta, row["chrom"], start if ref else start + 1, ref, alts)
    first = f"{lines.name}:{odd_ends[0]}: End_Position is not" if odd_ends else ""
    more = f"; {len(odd_ends) - 1:,} more such rows" if len(odd_ends) > 1 else ""
    notes[:] = [f"{first} the last base of Reference_Allele: Start_Position counts{more}"] if odd_ends else []


def _allele(name: str, text: str, where: str) -> str:
    if re.fullmatch("-+", text):
        return ""
    check_allele(name, text, where)
    return text.upper()


def _check_build(chrom: str, build: str, fasta: Fasta, where: str) -> None:
    """NexVarError if NCBI_Build is not the assembly that the contig's length tells."""
    stated, match = assembly_named(build), fasta.resolve(chrom)
    if stated is None or match is None or fasta.is_slice(match.contig):
        return
    length = fasta.contigs[match.contig]
    actual = assembly_of_length(chrom, length)
    if actual is not None and assembly_named(actual) is not None and actual != stated:
        what = f"NCBI_Build is {build[:20]}, but {match.contig} of the FASTA has {length:,} bases: {actual}"
        raise NexVarError(what, where=where, fix=f"give the FASTA of {stated}")
