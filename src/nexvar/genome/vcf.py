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
from nexvar.genome.events import event_ends
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
    rf"|[{_BASES}]+<[^<>\s,]+>|<[^<>\s,]+>[{_BASES}]+"  # a large insertion from the assembly file
)
# What nearly every line looks like, in one match; what does not match is taken apart field by field.
_USUAL = re.compile(
    r"([0-9A-Za-z_.]+)\t([1-9][0-9]{0,8})\t([^\t ]+)\t([ACGT]+)\t([ACGT]+(?:,[ACGT]+)*)\t"
    r"(\.|[0-9]+(?:\.[0-9]+)?)\t([^\t ]+)\t([^\t]+)(?:\t(.+))?"
)
_QUAL = re.compile(r"\.|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_VERSION = re.compile(r"##fileformat=VCF([vV]?)4(?:\.([0-9]{1,2}))?")
_STRUCTURED = re.compile(r"##(INFO|FORMAT|FILTER|contig|ALT)=")
_ID = re.compile(r"[<,] *ID=([^,>]+)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*[,<>=](?:[^"\\]|\\.)*"')
MAX_NOTES = 5


def can_name(contig: str) -> bool:
    """Whether VCF allows a contig of this name."""
    return _CHROM.fullmatch(contig) is not None


@dataclass(slots=True)
class Record:
    """One line of a VCF. ``pos0`` is 0-based (-1: the telomere before the first base); the other fields are the file's
    own text, ``raw`` the whole line, with the carriage return of a line that ends in CR+LF."""

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
    ends: tuple[int | None, ...] = ()  # of symbolic alleles: the 0-based exclusive end of each ALT; () without any

    @property
    def alts(self) -> tuple[str, ...]:
        """The ALT alleles as written; ('.',) if there is none."""
        return tuple(self.alt.split(","))

    @property
    def variant(self) -> Variant:
        """The alleles with upper-case bases."""
        alts = tuple(a.upper() if a.isalpha() else a for a in self.alts)
        return Variant(self.chrom, self.pos0, self.ref.upper(), alts, self.ends)


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
    newline: of the header, LF or CR+LF; records keep their own.
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
        self.newline = "\n"
        self._warnings: list[str] = []
        self._by_length = False  # VCF 4.4 and later: SVLEN counts, not END
        self._read_header()

    @property
    def notes(self) -> list[str]:
        """Warnings about header lines, as bcftools has them: they were skipped, or read in the only way possible."""
        more = len(self._warnings) - MAX_NOTES
        return self._warnings[:MAX_NOTES] + ([f"{self.name}: {more} more such header lines"] if more > 0 else [])

    def _open(self) -> Iterator[tuple[int, str]]:
        return bcf_lines(self._lines) if self._lines.is_binary else self._lines.with_returns()

    def _error(self, line_no: int, what: str, fix: str) -> NexVarError:
        return NexVarError(what, where=f"{self.name}:{line_no}", fix=fix)

    def _warn(self, number: int, what: str) -> None:
        self._warnings.append(f"{self.name}:{number}: {what}")

    def _read_header(self) -> None:
        number = 0
        for number, raw in self._open():
            line = raw.removesuffix("\r")
            if number == 1:
                self.newline = "\n" if line == raw else "\r\n"
                self._version(line)
            if line.startswith("##") or not line:  # htslib skips empty lines of the header
                self.header.append(line)
                self._meta(number, line)
            elif line.startswith("#"):
                self.column_line = line
                self._columns(number, line)
                return
            else:
                raise self._error(number, "no #CHROM line before the records", f"add it: {' '.join(COLUMNS)} (tabs)")
        raise self._error(number, "the header ends without a #CHROM line", "was the file cut short?")

    def _version(self, line: str) -> None:
        match = _VERSION.match(line)
        if match is None and line.startswith("##fileformat=VCF"):
            raise self._error(1, f"{line[13:40]!r} is not VCF 4", "convert it to VCFv4.2 or later")
        if match is None:
            kind = "a FASTA file?" if line.startswith(">") else "not a VCF?"
            if "\t" in line or line.count(",") > 2:
                kind = "a table? name it .tsv" + ("" if "\t" in line else ", with tabs for commas")
            raise self._error(
                1,
                f"{line[:40]!r} where '##fileformat=VCFv4.x' belongs: {kind}",
                "a VCF starts with its fileformat line",
            )
        self._by_length = int(match[2] or 2) >= 4
        if match[1] != "v" or match[2] is None or match.end() != len(line):
            self._warn(1, f"{line[13:40]!r} is read as VCFv4.{match[2] or 2}")

    def _meta(self, number: int, line: str) -> None:
        """What we need of a header line are contigs; whatever else bcftools warns of and reads on, we do."""
        if "=" not in line:
            if line:
                self._warn(number, f"header line {line[:40]!r} has no '=': skipped")
            return
        match = _STRUCTURED.match(line)
        if match is None:
            return
        body = line[match.end() :].rstrip()
        name = _ID.search(_QUOTED.sub('""', body))
        if name is None:
            self._warn(number, f"##{match[1]} line without an ID: skipped")
            return
        if match[1] == "contig":
            self._contig(number, name[1], body)
        if not (body.startswith("<") and body.endswith(">")):
            self._warn(number, f"##{match[1]} line of {name[1]!r} is not <…>")
        elif body.replace("\\\\", "").replace('\\"', "").count('"') % 2:
            self._warn(number, f"a quote is not closed in ##{match[1]} of {name[1]!r}")
        elif match[1] in ("INFO", "FORMAT") and not ("Number=" in body and "Type=" in body):
            self._warn(number, f"##{match[1]} of {name[1]!r} lacks Number or Type")

    def _contig(self, number: int, name: str, body: str) -> None:
        text = re.search(r"[<,] *length=([^,>]*)", _QUOTED.sub('""', body))
        length = int(text[1].strip('" ')) if text and re.fullmatch(r'"?[0-9]{1,12}"? *', text[1]) else None
        if text and length is None:
            self._warn(number, f"contig {name!r} has length {text[1][:40]!r}: not a number of bases, ignored")
        known = self.contigs.get(name)
        if name in self.contigs:
            if None not in (known, length) and known != length:
                raise self._error(
                    number, f"contig {name!r} is declared twice, with {known:,} and {length:,} bases", "remove one line"
                )
            self._warn(number, f"contig {name!r} is declared twice")
        self.contigs[name] = known if length is None else length
        if re.search(r"[<,](?:circular=(?:true|yes|1)|topology=\"?circular\"?|circular)[,>]", body, re.IGNORECASE):
            self.circular.add(name)

    def _columns(self, number: int, line: str) -> None:
        fields = line.split("\t")
        if tuple(fields[:8]) != COLUMNS:
            if tuple(line.split()[:8]) == COLUMNS:
                raise self._error(number, "spaces where tabs belong in the #CHROM line", "separate columns by tabs")
            wrong = next((i for i, name in enumerate(COLUMNS) if fields[i : i + 1] != [name]), 0)
            title = fields[wrong] if wrong < len(fields) else ""
            raise self._error(
                number,
                f"column {wrong + 1} is {title[:40]!r}, not {COLUMNS[wrong]!r}",
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
            if not line or line == "\r":
                blank = blank or number
                continue
            if blank:
                raise self._error(blank, "an empty line between records", "remove it")
            yield self._record(number, line)

    def _record(self, number: int, raw: str) -> Record:
        line = raw if raw[-1] != "\r" else raw[:-1]
        if (usual := _USUAL.fullmatch(line)) and line.count("\t") + 1 == self._width:
            chrom, pos, id_, ref, alt, qual, filter_, info, rest = usual.groups("")
            if len(ref) + len(alt) <= MAX_ALLELE:
                return Record(number, chrom, int(pos) - 1, id_, ref, alt, qual, filter_, info, rest, raw)
        return self._unusual_record(number, line, raw)

    def _unusual_record(self, number: int, line: str, raw: str) -> Record:
        """A record that ``_USUAL`` does not match, field by field: what is wrong is named, what is rare is read."""
        fields = line.split("\t", 8)
        if len(fields) < 8 or line.count("\t") + 1 != self._width:
            raise self._wrong_width(number, line)
        chrom, pos, id_, ref, alt, qual, filter_, info = fields[:8]
        if not _CHROM.fullmatch(chrom):
            raise self._wrong_chrom(number, chrom)
        if not (pos.isascii() and pos.isdigit()):
            raise self._error(number, f"POS is {pos[:40]!r}", "write a whole number: 1 or more, 0 for the telomere")
        if len(pos) > 10 or int(pos) > MAX_POS:
            raise self._error(
                number, f"POS {pos[:40]} is beyond {MAX_POS:,}", "positions count from 1 to the contig's end"
            )
        self._check_alleles(number, ref, alt)
        if not _QUAL.fullmatch(qual):
            raise self._error(number, f"QUAL is {qual[:40]!r}", "write a number or .")
        for name, value in (("ID", id_), ("FILTER", filter_)):
            if not value or " " in value:
                raise self._error(number, f"{name} is {value[:40]!r}", "write . for nothing, and no blanks")
        if not info:
            raise self._error(number, "INFO is empty", "write . for nothing")
        where = f"{self.name}:{number}"
        ends = event_ends(int(pos), alt.split(","), info, where, by_length=self._by_length) if "<" in alt else ()
        rest = fields[8] if len(fields) == 9 else ""
        return Record(number, chrom, int(pos) - 1, id_, ref, alt, qual, filter_, info, rest, raw, ends)

    def _wrong_chrom(self, number: int, chrom: str) -> NexVarError:
        bad = next((c for c in chrom if not _CHROM.fullmatch("x" + c)), chrom[:1])
        what = f"{bad!r} in CHROM {chrom[:40]!r}" if chrom else "CHROM is empty"
        return self._error(
            number, what, "VCF allows no blanks, commas, quotes, brackets or backslashes in a contig's name: rename it"
        )

    def _wrong_width(self, number: int, line: str) -> NexVarError:
        if line.startswith("#"):
            return self._error(
                number,
                f"a header line after the records: {line[:40]!r}",
                "two files glued together? join them with `bcftools concat`",
            )
        columns = line.count("\t") + 1
        if columns < 8 and len(line.split()) >= 8:
            return self._error(number, "spaces where tabs belong", "separate columns by tabs")
        return self._error(
            number,
            f"{columns} columns, the header has {self._width}",
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

    def scan(self) -> Scan:
        """Read and check the whole file: fails early, before a model is loaded."""
        summary = Scan()
        for record in self:
            summary.add(record)
        return summary


def read_vcf(path: str | Path, *, require_sorted: bool = True) -> VcfReader:
    """A reader of a VCF (plain, gzip, bgzip, "-" for standard input) or BCF; the header is checked at once."""
    return VcfReader(path, require_sorted=require_sorted)
