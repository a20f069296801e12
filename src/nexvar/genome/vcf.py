"""Reading VCF strictly: every record is checked as text before anybody computes with it, and kept as it was.

What makes a *file* wrong (NexVarError with file:line) and what makes an *allele* unscorable (a status in the output,
see windows.py) are different things: a typo in a column stops the run, a REF that is not the genome's does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.genome.bcf import bcf_lines, is_bcf
from nexvar.genome.reference import Variant
from nexvar.genome.textio import Lines

COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
MAX_POS = 2**31 - 1  # BCF's and tabix's limit; the longest chromosome known has 1.7e9 bases
MAX_ALLELE = 5_000_000
_BASES = "ACGTNRYSWKMBDHVacgtnryswkmbdhv"
_CHROM = re.compile(r"[0-9A-Za-z!#$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*|<[^<>\s]+>")
_REF = re.compile(f"[{_BASES}]+")
_MATE = r"(?:<[^<>\s]+>|[^\[\]\s<>]+):\d+"
_ALT = re.compile(
    rf"[{_BASES}]+|\*|\.|<[^<>\s,]+>|[{_BASES}.]*[\[\]]{_MATE}[\[\]][{_BASES}.]*|\.[{_BASES}]+|[{_BASES}]+\."
)
# What nearly every line looks like, in one match; what does not match is taken apart field by field.
_USUAL = re.compile(
    r"([0-9A-Za-z_.]+)\t([1-9][0-9]{0,8})\t([^\t ]+)\t([ACGT]+)\t([ACGT]+(?:,[ACGT]+)*)\t"
    r"(\.|[0-9]+(?:\.[0-9]+)?)\t([^\t ]+)\t([^\t]+)(?:\t(.+))?"
)
_QUAL = re.compile(r"\.|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_END = re.compile(r"(?:^|;)END=([^;]*)")
_SVLEN = re.compile(r"(?:^|;)SVLEN=([^;]*)")
_STRUCTURED = re.compile(r"##(INFO|FORMAT|FILTER|contig|ALT)=")
_ID = re.compile(r"[<,]ID=([^,>]+)")


@dataclass(slots=True)
class Record:
    """One line of a VCF. ``pos0`` is 0-based; the other fields are the file's own text, ``raw`` the whole line."""

    line_no: int
    chrom: str
    pos0: int
    id: str
    ref: str
    alt: str
    qual: str
    filter: str
    info: str
    rest: str  # FORMAT and the samples, with their tabs; "" without samples
    raw: str
    end: int | None = None  # 0-based exclusive end of a symbolic allele, from END or SVLEN

    @property
    def alts(self) -> tuple[str, ...]:
        """The ALT alleles as written; ('.',) if there is none."""
        return tuple(self.alt.split(","))

    @property
    def variant(self) -> Variant:
        """The alleles with upper-case bases."""
        alts = tuple(a.upper() if a.isalpha() else a for a in self.alts)
        return Variant(self.chrom, self.pos0, self.ref.upper(), alts, self.end)


@dataclass
class Scan:
    """What a first pass over a file found: how much work there is, and where."""

    records: int = 0
    alleles: int = 0  # one per ALT, and one for a record without ALT
    contigs: dict[str, int] = field(default_factory=dict)  # records by CHROM, in order of appearance

    def add(self, record: Record) -> None:
        """Count one more record."""
        self.records += 1
        self.alleles += record.alt.count(",") + 1
        self.contigs[record.chrom] = self.contigs.get(record.chrom, 0) + 1


def check_sorted(records: Iterable[Record], name: str) -> Iterator[Record]:
    """``records``, as long as contigs stay together and positions ascend; NexVarError at the first that does not."""
    seen: set[str] = set()
    chrom, last = "", -1
    for record in records:
        if record.chrom != chrom:
            what = f"{record.chrom} appears again after other contigs" if record.chrom in seen else ""
            seen.add(record.chrom)
            chrom = record.chrom
        else:
            what = f"position {record.pos0 + 1} follows {last + 1} on {chrom}" if record.pos0 < last else ""
        if what:
            raise NexVarError(f"not sorted: {what}", where=f"{name}:{record.line_no}", fix="`bcftools sort` it first")
        last = record.pos0
        yield record


class VcfReader:
    """The header, then ``for record in reader``, as often as wanted; every record is validated.

    name: what errors call the file.
    header: the ## lines, verbatim; column_line: the #CHROM line.
    samples: sample names.
    contigs: {name: length or None} from ##contig lines.
    circular: names of contigs whose ##contig line says circular (``circular=true`` or ``topology=circular``).
    """

    def __init__(self, path: str | Path, *, require_sorted: bool = True) -> None:
        self._lines = Lines(path, binary_ok=is_bcf)
        self.name = self._lines.name
        self.require_sorted = require_sorted
        self.header: list[str] = []
        self.column_line = ""
        self.samples: list[str] = []
        self.contigs: dict[str, int | None] = {}
        self.circular: set[str] = set()
        self._read_header()

    def _open(self) -> Iterator[tuple[int, str]]:
        return bcf_lines(self._lines) if self._lines.is_binary else iter(self._lines)

    def _error(self, line_no: int, what: str, fix: str) -> NexVarError:
        return NexVarError(what, where=f"{self.name}:{line_no}", fix=fix)

    def _read_header(self) -> None:
        number = 0
        for number, line in self._open():
            if number == 1 and not line.startswith("##fileformat=VCFv4."):
                raise self._not_vcf(line)
            if line.startswith("##"):
                self.header.append(line)
                self._meta(number, line)
            elif line.startswith("#"):
                self.column_line = line
                self._columns(number, line)
                return
            else:
                raise self._error(number, "no #CHROM line before the records", f"add it: {' '.join(COLUMNS)} (tabs)")
        raise self._error(number, "the header ends without a #CHROM line", "was the file cut short?")

    def _not_vcf(self, line: str) -> NexVarError:
        if line.startswith("##fileformat=VCF"):
            return self._error(1, f"version {line[17:40]!r} is not 4.x", "convert it to VCF 4.2 or later")
        kind = "a FASTA file?" if line.startswith(">") else "a table? name it .tsv" if "\t" in line else "not a VCF?"
        return self._error(
            1,
            f"{line[:40]!r} where '##fileformat=VCFv4.x' belongs: {kind}",
            "a VCF starts with its fileformat line",
        )

    def _meta(self, number: int, line: str) -> None:
        if "=" not in line:
            raise self._error(number, f"header line {line[:40]!r} has no '='", "write ##key=value")
        match = _STRUCTURED.match(line)
        if match is None:
            return
        body = line[match.end() :]
        name = _ID.search(body)
        if not (body.startswith("<") and body.rstrip().endswith(">")) or name is None:
            raise self._error(number, f"broken ##{match[1]} line", f"write ##{match[1]}=<ID=…,…>")
        quotes = body.replace("\\\\", "").replace('\\"', "").count('"')
        if quotes % 2 and match[1] in ("INFO", "FORMAT"):
            raise self._error(number, f"a quote is not closed in ##{match[1]}", 'write Description="…"')
        if match[1] in ("INFO", "FORMAT") and not ("Number=" in body and "Type=" in body):
            raise self._error(number, f"##{match[1]} {name[1]!r} lacks Number or Type", "write <ID=,Number=,Type=,…>")
        if match[1] == "contig":
            self._contig(number, name[1], body)

    def _contig(self, number: int, name: str, body: str) -> None:
        if name in self.contigs:
            raise self._error(number, f"contig {name!r} is declared twice", "remove one ##contig line")
        length = re.search(r"[<,]length=([^,>]*)", body)
        if length and not re.fullmatch(r"[0-9]{1,12}", length[1]):
            raise self._error(number, f"contig {name!r} has length {length[1]!r}", "write a number of bases")
        self.contigs[name] = int(length[1]) if length else None
        if re.search(r"[<,](?:circular=(?:true|yes|1)|topology=\"?circular\"?|circular)[,>]", body, re.IGNORECASE):
            self.circular.add(name)

    def _columns(self, number: int, line: str) -> None:
        fields = line.split("\t")
        if tuple(fields[:8]) != COLUMNS:
            if tuple(line.split()[:8]) == COLUMNS:
                raise self._error(number, "spaces where tabs belong in the #CHROM line", "separate columns by tabs")
            wrong = next((i for i, name in enumerate(COLUMNS) if fields[i : i + 1] != [name]), 0)
            found = fields[wrong] if wrong < len(fields) else ""
            raise self._error(
                number,
                f"column {wrong + 1} is {found[:40]!r}, not {COLUMNS[wrong]!r}",
                f"the columns are {' '.join(COLUMNS)}",
            )
        if len(fields) > 8 and fields[8] != "FORMAT":
            raise self._error(number, f"column 9 is {fields[8][:40]!r}, not 'FORMAT'", "samples follow FORMAT")
        self.samples = fields[9:]
        if len(set(self.samples)) != len(self.samples):
            twice = next(s for s in self.samples if self.samples.count(s) > 1)
            raise self._error(number, f"sample {twice!r} appears twice", "rename one")
        if "" in self.samples:
            raise self._error(number, "a sample without a name", "name it, or remove the trailing tab")
        self._width = len(fields)

    def __iter__(self) -> Iterator[Record]:
        records = self._records()
        return check_sorted(records, self.name) if self.require_sorted else records

    def _records(self) -> Iterator[Record]:
        blank = 0
        first = len(self.header) + 2
        for number, line in self._open():
            if number < first:
                continue
            if not line:
                blank = blank or number
                continue
            if blank:
                raise self._error(blank, "an empty line between records", "remove it")
            yield self._record(number, line)

    def _record(self, number: int, line: str) -> Record:
        if (usual := _USUAL.fullmatch(line)) and line.count("\t") + 1 == self._width:
            chrom, pos, id_, ref, alt, qual, filter_, info, rest = usual.groups("")
            if (chrom in self.contigs or not self.contigs) and len(ref) + len(alt) <= MAX_ALLELE:
                return Record(number, chrom, int(pos) - 1, id_, ref, alt, qual, filter_, info, rest, line)
        return self._unusual_record(number, line)

    def _unusual_record(self, number: int, line: str) -> Record:
        fields = line.split("\t", 8)
        if len(fields) < 8 or line.count("\t") + 1 != self._width:
            raise self._wrong_width(number, line)
        chrom, pos, id_, ref, alt, qual, filter_, info = fields[:8]
        if not _CHROM.fullmatch(chrom):
            raise self._error(number, f"CHROM is {chrom[:40]!r}", "write a contig name without blanks")
        if self.contigs and chrom not in self.contigs:
            raise self._error(
                number,
                f"contig {chrom!r} is not among the header's ##contig lines",
                "add its line: `bcftools reheader --fai ref.fa.fai`",
            )
        if not (pos.isascii() and pos.isdigit()):
            raise self._error(number, f"POS is {pos[:40]!r}", "write a whole number, 1 or more")
        if len(pos) > 10 or not 1 <= int(pos) <= MAX_POS:
            what = "POS is 0" if not pos.strip("0") else f"POS {pos[:40]} is beyond {MAX_POS:,}"
            raise self._error(number, what, "positions count from 1 to the contig's end")
        self._check_alleles(number, ref, alt)
        if not _QUAL.fullmatch(qual):
            raise self._error(number, f"QUAL is {qual[:40]!r}", "write a number or .")
        for name, value in (("ID", id_), ("FILTER", filter_)):
            if not value or " " in value:
                raise self._error(number, f"{name} is {value[:40]!r}", "write . for nothing, and no blanks")
        if not info:
            raise self._error(number, "INFO is empty", "write . for nothing")
        end = self._end(number, int(pos), info) if "<" in alt else None
        rest = fields[8] if len(fields) == 9 else ""
        return Record(number, chrom, int(pos) - 1, id_, ref, alt, qual, filter_, info, rest, line, end)

    def _wrong_width(self, number: int, line: str) -> NexVarError:
        if line.startswith("#"):
            return self._error(
                number,
                f"a header line after the records: {line[:40]!r}",
                "two files glued together? join them with `bcftools concat`",
            )
        found = line.count("\t") + 1
        if found < 8 and len(line.split()) >= 8:
            return self._error(number, "spaces where tabs belong", "separate columns by tabs")
        return self._error(
            number,
            f"{found} columns, the header has {self._width}",
            "every record needs all columns; was the file cut short?",
        )

    def _check_alleles(self, number: int, ref: str, alt: str) -> None:
        if not _REF.fullmatch(ref):
            bad = next((c for c in ref if c not in _BASES), "")
            shown = f"{bad!r} in REF is not a base" if bad else "REF is empty"
            raise self._error(number, shown, "REF holds A, C, G, T, N or IUPAC codes; T for RNA's U")
        if len(ref) > MAX_ALLELE:
            raise self._too_long(number, "REF", len(ref))
        for allele in alt.split(","):
            if not _ALT.fullmatch(allele):
                shown = allele[:40] if allele else "an empty allele"
                raise self._error(
                    number, f"ALT {shown!r} is not bases, <ID>, *, . or a breakend", "check the ALT column"
                )
            if len(allele) > MAX_ALLELE:
                raise self._too_long(number, "ALT", len(allele))

    def _too_long(self, number: int, column: str, length: int) -> NexVarError:
        return self._error(
            number,
            f"{column} of {length:,} bases, more than {MAX_ALLELE:,}",
            "write it as <DEL>, <DUP> or <INS>, or remove it with `bcftools view`",
        )

    def _end(self, number: int, pos: int, info: str) -> int | None:
        """END (or POS + SVLEN) as the 0-based exclusive end; None when there is none or it precedes POS."""
        if match := _END.search(info):
            if not re.fullmatch(r"[0-9]{1,10}|\.", match[1]):
                raise self._error(number, f"END is {match[1][:40]!r}", "write the last position of the event")
            return int(match[1]) if match[1] != "." and int(match[1]) > pos else None
        if match := _SVLEN.search(info):
            first = match[1].split(",")[0]
            if not re.fullmatch(r"-?[0-9]{1,10}|\.", first):
                raise self._error(number, f"SVLEN is {first[:40]!r}", "write the length of the event")
            return pos + abs(int(first)) if first != "." and int(first) else None
        return None

    def scan(self) -> Scan:
        """Read and check the whole file: fails early, before a model is loaded; NexVarError if there is no record."""
        summary = Scan()
        for record in self:
            summary.add(record)
        if not summary.records:
            raise self._error(len(self.header) + 1, "a header but no records", "give a VCF with variants")
        return summary


def read_vcf(path: str | Path, *, require_sorted: bool = True) -> VcfReader:
    """A reader of a VCF (plain, gzip, bgzip, "-" for standard input) or BCF; the header is checked at once."""
    return VcfReader(path, require_sorted=require_sorted)
