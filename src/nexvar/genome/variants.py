"""Variants from wherever people have them, as the records of vcf.py, so that whatever reads a VCF reads these.

open_variants("calls.tsv", fasta) / open_variants(["chr17:41197722T>A", …], fasta) -> header, records, scan()

VCF, BCF        vcf.py, bcf.py, events.py        one per line    strings.py, hgvs.py, spdi.py
tables          tables.py, maf.py, clinvar.py    regions         bed.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Protocol

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.genome.bcf import is_bcf
from nexvar.genome.columns import first_row
from nexvar.genome.reference import Fasta, Interval, Variant
from nexvar.genome.strings import parse_variant
from nexvar.genome.tables import open_table
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import COLUMNS, Record, Scan, VcfReader, can_name

MAX_SATURATED = 10_000_000  # bases of one region
_LISTS = (".tsv", ".txt", ".hgvs", ".maf", ".spdi")


class VariantSource(Protocol):
    """What `VcfReader` and every reader here offer.

    contigs: {name: length or None} as the file declares them. newline: of the header. notes: what a person should know
    of the file, complete once it has been read to its end.
    """

    name: str
    header: list[str]
    column_line: str
    samples: list[str]
    contigs: dict[str, int | None]
    circular: set[str]
    newline: str

    @property
    def notes(self) -> list[str]: ...

    def __iter__(self) -> Iterator[Record]: ...

    def scan(self) -> Scan: ...


def open_variants(
    source: str | Path | Sequence[str | Variant], fasta: Fasta, *, require_sorted: bool = True
) -> VariantSource:
    """The reader for ``source``: a VCF or BCF ("-": standard input), a .tsv, .txt, .hgvs or .maf file, or a list of
    variants as text or as ``Variant`` objects.

    What a text file holds decides how it is read: a VCF, a table (tables.py), or one variant per line (strings.py).
    require_sorted: of a VCF; lists are read in the order they are given.
    """
    if not isinstance(source, str | PathLike):
        rows = arguments.a_list(source, "variants", "strings or Variant objects, or a path")
        return VariantList("variant", fasta, lambda: enumerate(rows, 1))
    arguments.path(source, "variants")
    if Path(str(source).removesuffix(".gz").removesuffix(".bgz")).suffix.lower() not in _LISTS:
        return VcfReader(source, require_sorted=require_sorted)
    lines = Lines(source, binary_ok=is_bcf)
    if lines.is_binary or next(iter(lines), (0, ""))[1].startswith("##fileformat=VCF"):
        lines.close()
        return VcfReader(source, require_sorted=require_sorted)
    if len(first_row(lines)[1]) > 1 or ".tsv" in Path(source).suffixes:
        table = open_table(lines, fasta)
        return VariantList(lines.name, fasta, table.rows, empty_ok=table.titled, notes=table.notes)
    return VariantList(lines.name, fasta, lambda: _text_rows(lines))


@dataclass
class VariantList:
    """Variants from anywhere as VCF records, in their order. ``rows()`` gives (line number, text or Variant) afresh at
    each call. empty_ok: none at all is right, too."""

    name: str
    fasta: Fasta
    rows: Callable[[], Iterable[tuple[int, str | Variant]]]
    header: list[str] = field(default_factory=list)
    column_line: str = "\t".join(COLUMNS)
    samples: list[str] = field(default_factory=list)
    contigs: dict[str, int | None] = field(default_factory=dict)
    circular: set[str] = field(default_factory=set)
    newline: str = "\n"
    notes: list[str] = field(default_factory=list)
    empty_ok: bool = False

    def __post_init__(self) -> None:
        self.header = ["##fileformat=VCFv4.3"]
        if len(self.fasta.contigs) <= 10_000:
            sizes = ((name, size) for name, size in self.fasta.contigs.items() if can_name(name))
            self.header += [f"##contig=<ID={name},length={size}>" for name, size in sizes]

    def __iter__(self) -> Iterator[Record]:
        for number, item in self.rows():
            if isinstance(item, Variant):
                variant = item
            else:
                what = arguments.text(item, f"{self.name}:{number}", "give a string or a Variant")
                variant = parse_variant(what, self.fasta, where=f"{self.name}:{number}")
            yield as_record(variant, number)

    def scan(self) -> Scan:
        """Read and check everything; NexVarError if there is nothing, and no line of titles either."""
        summary = Scan()
        for record in self:
            summary.add(record)
        if not summary.records and not self.empty_ok:
            raise NexVarError("no variants", where=f"{self.name}:1", fix="give at least one")
        return summary


def as_record(variant: Variant, line_no: int) -> Record:
    """A VCF record for a variant that came from elsewhere."""
    v, alt = variant, ",".join(variant.alts)
    info = "."
    if any(v.ends):  # one END, or as many lengths as there are ALTs
        lengths = ["." if end is None else str(end - v.pos0 - 1) for end in v.ends]
        info = f"END={v.ends[0]}" if len(v.ends) == 1 else f"SVLEN={','.join(lengths)}"
    raw = "\t".join((v.chrom, str(v.pos0 + 1), ".", v.ref, alt, ".", ".", info))
    return Record(line_no, v.chrom, v.pos0, ".", v.ref, alt, ".", ".", info, "", raw, v.ends)


def _text_rows(lines: Lines) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def saturate(fasta: Fasta, region: Interval) -> VariantList:
    """Every SNV of a region: one record per base with its three (for N: four) ALTs."""
    if len(region) > MAX_SATURATED:
        raise NexVarError(f"a region of {len(region):,} bases", where=str(region), fix=f"at most {MAX_SATURATED:,}")

    def rows() -> Iterator[tuple[int, Variant]]:
        for chunk in range(region.start, region.end, 1 << 16):
            bases = fasta.fetch(region.chrom, chunk, min(chunk + (1 << 16), region.end))
            for pos0, ref in enumerate(bases, chunk):
                alts = tuple(base for base in "ACGT" if base != ref)
                yield pos0 - region.start + 1, Variant(region.chrom, pos0, ref, alts)

    return VariantList(str(region), fasta, rows)
