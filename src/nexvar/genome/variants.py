"""Every way to name variants other than VCF: tables, HGVS g./m. strings, ``chr17:41197722T>A``, regions, BED.

All of them become the records of vcf.py, so that whatever reads a VCF reads these:

    open_variants("calls.tsv", fasta) / open_variants(["chr17:41197722T>A", …], fasta) -> header, records, scan()
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, Interval, Variant, reverse_complement
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import COLUMNS, MAX_POS, Record, Scan, VcfReader, check_sorted

MAX_SATURATED = 10_000_000  # bases of one region
_CHROM = r"(?P<chrom>[^\s:<>]+(?::[0-9,]+-[0-9,]+)?)"
_SIMPLE = re.compile(rf"{_CHROM}:(?P<pos>[0-9,]+):?(?P<ref>[A-Za-z]+)(?:>|:|/)(?P<alt>[A-Za-z]+)")
_DASHED = re.compile(r"(?P<chrom>[^\s:<>-]+)-(?P<pos>[0-9]+)-(?P<ref>[A-Za-z]+)-(?P<alt>[A-Za-z]+)")  # gnomAD's
_HGVS = re.compile(
    r"(?:(?P<chrom>[^\s:]+):)?(?P<kind>[a-z])\.(?P<start>[0-9]+)(?:_(?P<end>[0-9]+))?"
    r"(?P<change>[ACGTN]>[ACGTN]|delins[ACGTN]+|del[ACGTN]*ins[ACGTN]+|del[ACGTN]*|dup[ACGTN]*|ins[ACGTN]+|inv|=)"
)
_REGION = re.compile(rf"{_CHROM}:(?P<start>[0-9,]+)-(?P<end>[0-9,]+)")


class VariantSource(Protocol):
    """What `VcfReader` and every reader here offer."""

    name: str
    header: list[str]
    column_line: str
    samples: list[str]
    circular: set[str]

    def __iter__(self) -> Iterator[Record]: ...

    def scan(self) -> Scan: ...


def open_variants(
    source: str | Path | Sequence[str | Variant], fasta: Fasta, *, require_sorted: bool = True
) -> VariantSource:
    """The reader for ``source``: a VCF or BCF ("-": standard input), a .tsv, a .hgvs or .txt file with one variant
    per line, or a list of such strings or of ``Variant`` objects.
    """
    if not isinstance(source, str | Path):
        return VariantList("variant", fasta, lambda: enumerate(source, 1), require_sorted=require_sorted)
    ending = Path(str(source).removesuffix(".gz")).suffix
    if ending == ".tsv":
        lines = Lines(source)
        return VariantList(lines.name, fasta, lambda: _table_rows(lines), require_sorted=require_sorted)
    if ending in (".hgvs", ".txt"):
        lines = Lines(source)
        return VariantList(lines.name, fasta, lambda: _text_rows(lines), require_sorted=require_sorted)
    return VcfReader(source, require_sorted=require_sorted)


@dataclass
class VariantList:
    """Variants from anywhere as VCF records. ``rows()`` gives (line number, text or Variant) afresh at each call."""

    name: str
    fasta: Fasta
    rows: Callable[[], Iterable[tuple[int, str | Variant]]]
    require_sorted: bool = True
    header: list[str] = field(default_factory=list)
    column_line: str = "\t".join(COLUMNS)
    samples: list[str] = field(default_factory=list)
    circular: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.header = ["##fileformat=VCFv4.3"]
        if len(self.fasta.contigs) <= 10_000:
            self.header += [f"##contig=<ID={name},length={size}>" for name, size in self.fasta.contigs.items()]

    def __iter__(self) -> Iterator[Record]:
        records = self._records()
        return check_sorted(records, self.name) if self.require_sorted else records

    def _records(self) -> Iterator[Record]:
        for number, item in self.rows():
            if isinstance(item, Variant):
                variant = item
            else:
                variant = parse_variant(item, self.fasta, where=f"{self.name}:{number}")
            yield as_record(variant, number)

    def scan(self) -> Scan:
        """Read and check everything; NexVarError if there is nothing."""
        summary = Scan()
        for record in self:
            summary.add(record)
        if not summary.records:
            raise NexVarError("no variants", where=f"{self.name}:1", fix="give at least one")
        return summary


def as_record(variant: Variant, line_no: int) -> Record:
    """A VCF record for a variant that came from elsewhere."""
    alt = ",".join(variant.alts)
    info = f"END={variant.end}" if variant.end is not None else "."
    raw = "\t".join((variant.chrom, str(variant.pos0 + 1), ".", variant.ref, alt, ".", ".", info))
    return Record(line_no, variant.chrom, variant.pos0, ".", variant.ref, alt, ".", ".", info, "", raw, variant.end)


def _text_rows(lines: Lines) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _table_rows(lines: Lines) -> Iterator[tuple[int, Variant]]:
    """chrom, pos (1-based), ref, alt: by the names in the first line, or the first four columns without one."""
    where: dict[str, int] | None = None
    for number, line in lines:
        if not line.strip() or line.startswith("##"):
            continue
        fields = line.split("\t")
        if where is None:
            names = [f.strip().lstrip("#").lower() for f in fields]
            titled = {"chrom", "pos", "ref", "alt"} <= {n.replace("chromosome", "chrom") for n in names}
            if titled:
                names = [n.replace("chromosome", "chrom") for n in names]
                where = {name: names.index(name) for name in ("chrom", "pos", "ref", "alt")}
                continue
            where = {"chrom": 0, "pos": 1, "ref": 2, "alt": 3}
        if len(fields) <= max(where.values()):
            hint = "separate columns by tabs" if len(line.split()) >= 4 else "write chrom, pos, ref and alt"
            raise NexVarError(f"{len(fields)} columns", where=f"{lines.name}:{number}", fix=hint)
        chrom, pos, ref, alt = (fields[where[name]].strip() for name in ("chrom", "pos", "ref", "alt"))
        yield number, _variant(chrom, pos, ref, alt.split(","), f"{lines.name}:{number}")


def _position(text: str, where: str) -> int:
    """The 0-based position of a 1-based text."""
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 10 or not 1 <= int(digits) <= MAX_POS:
        raise NexVarError(f"position {text[:40]!r}", where=where, fix=f"write a whole number from 1 to {MAX_POS:,}")
    return int(digits) - 1


def _variant(chrom: str, pos: str, ref: str, alts: Sequence[str], where: str) -> Variant:
    if not chrom or any(c.isspace() or c in "<>" for c in chrom):
        raise NexVarError(f"contig {chrom[:40]!r}", where=where, fix="write a contig name without blanks")
    for name, allele in (("REF", ref), *(("ALT", alt) for alt in alts)):
        if not re.fullmatch("[ACGTNRYSWKMBDHVacgtnryswkmbdhv]+", allele) and not (
            name == "ALT" and allele in ("*", ".")
        ):
            raise NexVarError(f"{name} is {allele[:40]!r}", where=where, fix="write bases: A, C, G, T")
    return Variant(chrom, _position(pos, where), ref.upper(), tuple(a.upper() for a in alts))


def parse_variant(text: str, fasta: Fasta, *, where: str = "variant") -> Variant:
    """``chr17:41197722T>A``, ``17-41197722-T-A``, ``chr17:41197722:T:A`` or HGVS ``NC_000017.10:g.41197722T>A``.

    HGVS on the genome only: substitutions, del, dup, ins, delins, inv; ``m.`` is the mitochondrion. Deleted, doubled
    and inverted bases are read from ``fasta``, with the base before them as VCF does. NexVarError for anything else.
    """
    if len(text) > 1_000_000:
        raise NexVarError(f"a variant of {len(text):,} characters", where=where, fix="use a VCF")
    if match := _HGVS.fullmatch(text):
        return _hgvs(match, fasta, f"{where}: {text[:60]}")
    if match := _SIMPLE.fullmatch(text) or _DASHED.fullmatch(text):
        return _variant(match["chrom"], match["pos"], match["ref"], (match["alt"],), f"{where}: {text[:60]}")
    if re.search(r":[cnpr]\.", text):
        raise NexVarError(
            f"{text[:60]!r} is on a transcript or protein", where=where, fix="give genomic g. coordinates"
        )
    raise NexVarError(f"{text[:60]!r} is not a variant", where=where,
                      fix="write chr17:41197722T>A or NC_000017.10:g.41197722T>A")  # fmt: skip


def _hgvs(match: re.Match[str], fasta: Fasta, where: str) -> Variant:
    kind, change = match["kind"], match["change"]
    if kind not in "gm":
        raise NexVarError(
            f"{kind}. is on a transcript or protein, not the genome", where=where, fix="give g. (or m.) coordinates"
        )
    chrom = match["chrom"] or ("MT" if kind == "m" else "")
    found = fasta.resolve(chrom) if chrom else None
    if found is None:
        raise NexVarError(f"no contig {chrom!r} in {fasta.path}", where=where,
                          fix="name a contig of the FASTA, or give a synonym table")  # fmt: skip
    low, high = fasta.span(found.contig)
    start = _position(match["start"], where)
    end = _position(match["end"] or match["start"], where) + 1
    if not low <= start < end <= high:
        raise NexVarError("the range is backwards or outside of the contig", where=where,
                          fix=f"{found.contig} has {low + 1}-{high}")  # fmt: skip
    if end - start > 5_000_000:
        raise NexVarError(f"an event of {end - start:,} bases", where=where, fix="give events below 5,000,000 bases")
    genome = fasta.fetch(found.contig, start, end)
    if ">" in change:
        if end - start != 1:
            raise NexVarError("a substitution of more than one base", where=where, fix="write it as delins")
        return Variant(chrom, start, change[0], (change[2],))
    if change.startswith("ins"):
        if end - start != 2:
            raise NexVarError("an insertion needs its two neighbours", where=where, fix="write g.100_101insACG")
        return Variant(chrom, start, genome[0], (genome[0] + change[3:],))
    if change == "=":
        raise NexVarError("'=' changes nothing", where=where, fix="leave it out")
    deleted, inserted = _deleted_inserted(change, genome)
    stated = re.fullmatch(r"(?:del|dup)([ACGTN]*)(?:ins[ACGTN]+)?", change)
    if stated and stated[1] and stated[1] != genome:
        raise NexVarError(f"it names {stated[1][:20]} but the genome has {genome[:20]}", where=where,
                          fix="is this the right assembly?")  # fmt: skip
    return _anchored(fasta, chrom, found.contig, start, deleted, inserted)


def _deleted_inserted(change: str, genome: str) -> tuple[str, str]:
    if change == "inv":
        return genome, reverse_complement(genome)
    if change.startswith("dup"):
        return genome, genome + genome
    return genome, change.rpartition("ins")[2] if "ins" in change else ""


def _anchored(fasta: Fasta, chrom: str, contig: str, start: int, ref: str, alt: str) -> Variant:
    """VCF's form: an empty or one-sided allele takes the base before it, or after it at the contig's start."""
    if alt:
        return Variant(chrom, start, ref, (alt,))
    low, high = fasta.span(contig)
    if start > low:
        base = fasta.fetch(contig, start - 1, start)
        return Variant(chrom, start - 1, base + ref, (base,))
    if start + len(ref) >= high:
        raise NexVarError(f"the whole of {chrom} is deleted", where=fasta.path, fix="nothing is left to score")
    base = fasta.fetch(contig, start + len(ref), start + len(ref) + 1)
    return Variant(chrom, start, ref + base, (base,))


def parse_region(text: str, fasta: Fasta) -> Interval:
    """``chr17:41,197,000-41,198,000`` (1-based, inclusive) or a contig's name, as an interval of ``fasta``'s names."""
    found = fasta.resolve(text)
    if found is not None:
        return Interval(found.contig, *fasta.span(found.contig))
    match = _REGION.fullmatch(text)
    found = fasta.resolve(match["chrom"]) if match else None
    if match is None or found is None:
        what = f"no contig {match['chrom'][:40]!r}" if match else f"{text[:60]!r} is not a region"
        raise NexVarError(what, where="region", fix="write chr17:41,197,000-41,198,000 with a contig of the FASTA")
    start, end = _position(match["start"], f"region {text[:60]}"), _position(match["end"], f"region {text[:60]}") + 1
    low, high = fasta.span(found.contig)
    if not low <= start < end <= high:
        raise NexVarError("it is backwards or outside of the contig", where=f"region {text[:60]}",
                          fix=f"{found.contig} has {low + 1}-{high}")  # fmt: skip
    return Interval(found.contig, start, end)


def saturate(fasta: Fasta, region: Interval) -> VariantList:
    """Every SNV of a region: one record per base with its three (for N: four) ALTs."""
    if len(region) > MAX_SATURATED:
        raise NexVarError(f"a region of {len(region):,} bases", where=str(region), fix=f"at most {MAX_SATURATED:,}")

    def rows() -> Iterator[tuple[int, Variant]]:
        for chunk in range(region.start, region.end, 1 << 16):
            bases = fasta.fetch(region.chrom, chunk, min(chunk + (1 << 16), region.end))
            for pos, ref in enumerate(bases, chunk):
                alts = tuple(base for base in "ACGT" if base != ref)
                yield pos - region.start + 1, Variant(region.chrom, pos, ref, alts)

    return VariantList(str(region), fasta, rows)


class Regions:
    """Intervals of a BED file (or given), merged; ``(contig, pos) in regions`` with the FASTA's contig names."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        by_contig: dict[str, list[tuple[int, int]]] = {}
        for interval in intervals:
            by_contig.setdefault(interval.chrom, []).append((interval.start, interval.end))
        self._starts: dict[str, list[int]] = {}
        self._ends: dict[str, list[int]] = {}
        for contig, spans in by_contig.items():
            starts: list[int] = []
            ends: list[int] = []
            for start, end in sorted(spans):
                if ends and start <= ends[-1]:
                    ends[-1] = max(ends[-1], end)
                else:
                    starts.append(start)
                    ends.append(end)
            self._starts[contig], self._ends[contig] = starts, ends

    def __contains__(self, place: tuple[str, int]) -> bool:
        contig, pos = place
        index = bisect.bisect_right(self._starts.get(contig, []), pos) - 1
        return index >= 0 and pos < self._ends[contig][index]

    def digest(self) -> str:
        """A hash of the merged intervals."""
        return hashlib.sha256(repr((sorted(self._starts.items()), sorted(self._ends.items()))).encode()).hexdigest()

    def __len__(self) -> int:
        return sum(sum(self._ends[c]) - sum(self._starts[c]) for c in self._starts)


def read_bed(path: str | Path, fasta: Fasta) -> Regions:
    """The regions of a BED file (0-based half-open, tab-separated), names resolved like those of a VCF."""
    intervals = []
    for interval, _ in bed_rows(path, fasta):
        low, _ = fasta.span(interval.chrom)
        if interval.end > low:
            intervals.append(Interval(interval.chrom, max(interval.start, low), interval.end))
    if not intervals:
        raise NexVarError("no regions in the file", where=f"{path}:1", fix="BED has chrom, start and end, by tabs")
    return Regions(intervals)


def bed_rows(path: str | Path, fasta: Fasta) -> Iterator[tuple[Interval, list[str]]]:
    """The rows of a BED file in order: the region, with the FASTA's contig name, and the fields as they are."""
    lines = Lines(path)
    for number, line in lines:
        where = f"{lines.name}:{number}"
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        if len(fields) < 3:
            hint = "separate columns by tabs" if len(line.split()) >= 3 else "BED has chrom, start and end"
            raise NexVarError(f"{len(fields)} columns", where=where, fix=hint)
        if not all(re.fullmatch("[0-9]{1,10}", f) for f in fields[1:3]):
            raise NexVarError(
                f"start {fields[1][:20]!r}, end {fields[2][:20]!r}", where=where, fix="write whole numbers"
            )
        start, end = int(fields[1]), int(fields[2])
        found = fasta.resolve(fields[0])
        if found is None:
            raise NexVarError(f"contig {fields[0][:40]!r} is not in {fasta.path}", where=where,
                              fix="is this BED of the same assembly?")  # fmt: skip
        _, high = fasta.span(found.contig)
        if not start < end or end > high:
            raise NexVarError(f"{fields[0][:40]}:{start}-{end} is empty or beyond the end ({high})", where=where,
                              fix="BED is 0-based, end exclusive")  # fmt: skip
        yield Interval(found.contig, start, end), fields
