"""ClinVar's variant_summary.txt: one row for each variant and assembly.

What counts are Assembly, ChromosomeAccession, Chromosome, PositionVCF, ReferenceAlleleVCF and AlternateAlleleVCF. A row
is read if its accession is a contig of the FASTA, which the contig's length decides; rows of other assemblies, and rows
without alleles (``na``: large or complex events), are left out and counted.

Source: ftp.ncbi.nlm.nih.gov/pub/clinvar/tab_delimited/README
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from nexvar.errors import NexVarError
from nexvar.genome.alleles import checked_variant
from nexvar.genome.assemblies import ACCESSIONS, CHROMOSOMES, MITO_NAMES, accession_of, assembly_named
from nexvar.genome.columns import Titles, columns_of_format, table_rows
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.textio import Lines

_NEEDED = {
    "assembly": ("assembly",),
    "chrom": ("chromosome",),
    "pos": ("positionvcf",),
    "ref": ("referenceallelevcf",),
    "alt": ("alternateallelevcf",),
}
_OPTIONAL = {"accession": ("chromosomeaccession",)}
_MISSING = ("", "na", "-", "-1", ".")


def columns(titles: Titles) -> dict[str, int]:
    """{name: index} of the columns of a variant_summary; {} if it is none."""
    return columns_of_format(titles, _NEEDED, _OPTIONAL)


def rows(
    lines: Lines, after: int, columns: Mapping[str, int], fasta: Fasta, notes: list[str]
) -> Iterator[tuple[int, Variant]]:
    """(line number, variant) of the rows of the FASTA's assembly; ``notes`` then says what was left out."""
    left_out: Counter[str] = Counter()
    slices: dict[str, str] = {}  # the accession of contigs whose length does not tell
    mitochondrial: dict[tuple[str, str, str], str] = {}  # the assembly of each variant: both have it
    read = 0
    for number, row in table_rows(lines, after, columns):
        where = f"{lines.name}:{number}"
        accession = _accession(row)
        resolved = fasta.resolve(accession) if accession else None
        if resolved is None:
            left_out["of other assemblies or contigs"] += 1
        elif any(row[name].lower() in _MISSING for name in ("pos", "ref", "alt")):
            left_out["without VCF alleles (na)"] += 1
        else:
            if ACCESSIONS[accession].chromosome == "MT":
                place = row["pos"], row["ref"], row["alt"]
                if mitochondrial.setdefault(place, row["assembly"]) != row["assembly"]:
                    left_out["of other assemblies or contigs"] += 1
                    continue
            elif fasta.is_slice(resolved.contig):
                first = slices.setdefault(resolved.contig, accession)
                if first != accession:
                    raise NexVarError(f"rows of {first} and {accession}, and the FASTA has only a part of it",
                                      where=where, fix="keep the rows of its Assembly")  # fmt: skip
            short = fasta.resolve(row["chrom"])
            chrom = row["chrom"] if short and short.contig == resolved.contig else accession
            read += 1
            yield number, checked_variant(chrom, row["pos"], row["ref"], row["alt"].split(","), where)
    if left_out and not read:
        seen = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        raise NexVarError(f"no row is of {fasta.path.name}: {seen}", where=f"{lines.name}:{after}",
                          fix="give the FASTA of GRCh37 or GRCh38")  # fmt: skip
    notes[:] = [f"{lines.name}: {count:,} rows {why} left out" for why, count in left_out.items()]


def _accession(row: Mapping[str, str]) -> str:
    """The accession of a row's contig; "" for one that is not known."""
    stated = row.get("accession", "")
    if stated in ACCESSIONS:
        return stated
    assembly = assembly_named(row["assembly"])
    if stated.lower() not in _MISSING or assembly is None:
        return ""
    chrom = row["chrom"].removeprefix("chr")
    if chrom in MITO_NAMES:
        return "NC_012920.1"
    return accession_of(chrom, assembly) if chrom in CHROMOSOMES else ""
