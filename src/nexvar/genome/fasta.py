"""The bytes of a FASTA file and an index of them that we build or check ourselves.

    file ── Source (plain | bgzip | small gzip in memory): size, read(offset, n) of the decompressed bytes
         └─ index: one Entry per record ── scan(): reads everything once, validates every byte (about 0.5 GB/s)
                                        └─ a .fai of a big file, after its geometry has been checked against the file

NOTE a stale .fai makes other readers return header text as sequence, without a word. Here a .fai never decides
what the sequence is: small files are scanned and compared with it, big ones have every record boundary checked.
"""

from __future__ import annotations

import bisect
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.files import read_text
from nexvar.genome.bytesource import MemorySource, Source

CHUNK = 1 << 22
FIRST_CHUNK = 1 << 14
STEP = 1 << 12  # bytes between checkpoints of the index: what a fetch may have to skip
TRUST_FAI_ABOVE = 1 << 28  # below this, scanning takes under a second and is the safer way
MAX_HEADER = 1 << 16
BASES = b"ACGTNRYSWKMBDHV"
BLANKS = b" \t\r\n"  # not sequence; blanks and tabs only at the end of a line, as text editors leave them
ALLOWED = BASES + BASES.lower() + BLANKS
_EACH_BLANK = (b"\n", b"\r", b" ", b"\t")
_BLANK_INSIDE = re.compile(rb"[ \t]+[^ \t\r\n]")


@dataclass
class Entry:
    """One record. ``marks``: (byte, base) pairs, ascending; ``line``: (bases, bytes) of its lines, when known."""

    name: str
    line_no: int
    start: int  # byte of the first base
    end: int = 0  # byte after the record
    length: int = 0
    line: tuple[int, int] | None = None  # set only when it holds for the whole record (a checked .fai)
    mark_bytes: array[int] = field(default_factory=lambda: array("q"))
    mark_bases: array[int] = field(default_factory=lambda: array("q"))

    def fetch(self, source: Source, start: int, end: int) -> bytes:
        """Bases [start, end) of the record, as they are in the file; fewer only if the index lies."""
        if self.line is not None:
            bases, width = self.line
            first = self.start + start // bases * width + start % bases
            last = self.start + (end - 1) // bases * width + (end - 1) % bases + 1
            return _join_lines(source.read(first, last - first))
        index = bisect.bisect_right(self.mark_bases, start) - 1
        offset, base = self.mark_bytes[index], self.mark_bases[index]
        following = bisect.bisect_left(self.mark_bases, end)
        stop = self.mark_bytes[following] if following < len(self.mark_bytes) else self.end
        return _join_lines(source.read(offset, stop - offset))[start - base : end - base]


def _join_lines(raw: bytes) -> bytes:
    joined = raw.replace(b"\n", b"")
    return joined.translate(None, BLANKS) if b"\r" in joined or b" " in joined or b"\t" in joined else joined


class _Scan:
    """One pass over the bytes: finds the records and refuses what is not nucleotide FASTA."""

    def __init__(self, source: Source, path: Path) -> None:
        self.source, self.path = source, path
        self.lines = 1  # number of the line being read
        self.entries: list[Entry] = []
        self.first_line: dict[str, int] = {}

    def run(self) -> list[Entry]:
        offset, size = 0, self.source.size
        while offset < size:
            head = self.source.read(offset, 1)
            if head == b">":
                offset = self._header(offset)
                offset = self._sequence(offset)
            elif head in (b"\n", b"\r"):
                self.lines += head == b"\n"
                offset += 1
            else:
                kind = "a FASTQ file?" if head == b"@" else "a VCF?" if head == b"#" else "not a FASTA file?"
                raise self._error(self.lines, f"text before the first '>': {kind}", "a FASTA starts with '>name'")
        if not self.entries:
            raise self._error(1, "no FASTA record in the file", "a FASTA starts with '>name'")
        return self.entries

    def _error(self, line: int, what: str, fix: str) -> NexVarError:
        return NexVarError(what, where=f"{self.path}:{line}", fix=fix)

    def _header(self, offset: int) -> int:
        """Read the header line at ``offset`` as a new entry; returns the offset behind it."""
        raw = self.source.read(offset, 1 << 12)
        if b"\n" not in raw:
            raw = self.source.read(offset, MAX_HEADER)
        stop = raw.find(b"\n")
        if stop < 0:
            if len(raw) == MAX_HEADER:
                raise self._error(self.lines, f"a header line longer than {MAX_HEADER} bytes", "is this a FASTA file?")
            if b"\r" in raw:
                raise self._error(
                    self.lines,
                    "line ends are bare carriage returns (old Mac)",
                    f"`tr '\\r' '\\n' < {self.path} > fixed.fa`",
                )
            raise self._empty(raw[1:].split()[0].decode("utf-8", "replace") if raw[1:].split() else "", self.lines)
        header = raw[1:stop].removesuffix(b"\r")
        if b"\0" in header or b"\r" in header:
            raise self._error(self.lines, "a control character in the header", "the file is binary or damaged")
        words = header.split()
        if not words or header[:1].isspace():
            raise self._error(self.lines, "a header without a name", "write '>name' with no space after '>'")
        try:
            name = words[0].decode()
        except UnicodeDecodeError:
            raise self._error(self.lines, f"the name {words[0]!r} is not UTF-8", "use ASCII names") from None
        if name in self.first_line:
            raise self._error(
                self.lines,
                f"contig {name!r} was already on line {self.first_line[name]}",
                "names must be unique: rename or remove one",
            )
        self.first_line[name] = self.lines
        self.entries.append(Entry(name, self.lines, offset + stop + 1))
        self.lines += 1
        return offset + stop + 1

    def _empty(self, name: str, line: int) -> NexVarError:
        return self._error(line, f"record {name!r} has no sequence", "remove the record or add its sequence")

    def _sequence(self, offset: int) -> int:
        """Read to the next '>' or the end; returns its offset."""
        entry, ambiguous = self.entries[-1], 0
        at_line_start, size = True, FIRST_CHUNK  # small first: a file may hold a million short records
        while offset < self.source.size:
            chunk = self.source.read(offset, size)
            size = min(size * 4, CHUNK)
            if not chunk:
                raise self._error(self.lines, "the file ends before its size", "was it changed while being read?")
            stop = 0 if at_line_start and chunk[:1] == b">" else chunk.find(b"\n>") + 1
            at_end = stop > 0 or (at_line_start and chunk[:1] == b">")
            if at_end:
                chunk = chunk[:stop]
            elif chunk[-1:] in b" \t\r" and offset + len(chunk) < self.source.size:
                chunk = chunk.rstrip(b" \t\r") or chunk  # keep \r\n, and the blanks before it, together
            unusual = chunk.translate(None, b"ACGTNacgtn \t\r\n")
            ambiguous += len(unusual)
            self._validate(chunk, unusual)
            blanks = [blank for blank in _EACH_BLANK if blank in chunk]
            for at in range(0, len(chunk), STEP):
                entry.mark_bytes.append(offset + at)
                entry.mark_bases.append(entry.length)
                part = chunk[at : at + STEP]
                entry.length += len(part) - sum(map(part.count, blanks))
            self.lines += chunk.count(b"\n")
            at_line_start = chunk.endswith(b"\n") if chunk else at_line_start
            offset += len(chunk)
            if at_end:
                break
        entry.end = offset
        if entry.length == 0:
            raise self._empty(entry.name, entry.line_no)
        if entry.length >= 20 and ambiguous * 2 > entry.length:
            raise self._error(
                entry.line_no,
                f"record {entry.name!r} is mostly not A, C, G, T or N: a protein?",
                "give the genome's nucleotide FASTA",
            )
        return offset

    def _validate(self, chunk: bytes, unusual: bytes) -> None:
        """NexVarError for the first byte of a piece of sequence that is no letter of one, or no end of a line."""
        bad = unusual.translate(None, ALLOWED)
        if bad:
            line = self.lines + chunk.count(b"\n", 0, chunk.index(bad[:1]))
            letter = bad[:1].decode("latin-1")
            if letter in "EFILPQJOXZefilpqjoxz*":
                raise self._error(
                    line,
                    f"{letter!r} is not a nucleotide: a protein FASTA?",
                    "give the genome's nucleotide FASTA",
                )
            if letter in "Uu":
                raise self._error(line, f"{letter!r} is RNA", "write T for U")
            if letter == ">":
                raise self._error(line, "'>' inside a sequence line", "start records on a new line")
            raise self._error(line, f"{letter!r} is not a nucleotide", "sequence lines hold IUPAC letters only")
        if (b" " in chunk or b"\t" in chunk) and (blank := _BLANK_INSIDE.search(chunk)):
            raise self._error(
                self.lines + chunk.count(b"\n", 0, blank.start()),
                f"{chr(chunk[blank.start()])!r} inside a line",
                "sequence lines hold IUPAC letters only",
            )
        if b"\r" in chunk and chunk.count(b"\r") != chunk.count(b"\r\n"):
            stray = next(i for i in range(len(chunk)) if chunk[i] == 13 and chunk[i + 1 : i + 2] != b"\n")
            if stray + 1 < len(chunk):  # the file's last byte may be one
                raise self._error(
                    self.lines + chunk.count(b"\n", 0, stray),
                    "a carriage return inside a line",
                    f"`tr -d '\\r' < {self.path} > fixed.fa`",
                )


def scan(source: Source, path: Path) -> list[Entry]:
    """The index of a FASTA, every byte checked; NexVarError with file:line where it is not nucleotide FASTA."""
    return _Scan(source, path).run()


def _fai_rows(path: Path) -> Iterator[tuple[int, Entry]]:
    try:
        lines = read_text(path, limit=1 << 30).splitlines()
    except NexVarError as error:
        raise NexVarError(f"the index cannot be read ({error.what})", where=f"{path}:1", fix="delete it") from None
    for number, text in enumerate(lines, 1):
        fields = text.split("\t")
        try:
            length, offset, bases, width = (int(f) for f in fields[1:5])
            if len(fields) != 5 or not fields[0] or min(length, offset, bases) <= 0 or width <= bases:
                raise ValueError
        except ValueError:
            raise NexVarError(
                "not a .fai line", where=f"{path}:{number}", fix="delete it or run `samtools faidx` again"
            ) from None
        line = (bases, width)
        end = offset + (length - 1) // bases * width + (length - 1) % bases + 1
        yield number, Entry(fields[0], number, offset, end, length, line)


def compare_fai(source: Source, fai: Path, entries: list[Entry]) -> None:
    """Refuse a .fai that does not describe the FASTA: other tools would read wrong sequence from it, silently."""
    listed = {entry.name: (number, entry) for number, entry in _fai_rows(fai)}
    for entry in entries:
        number, other = listed.get(entry.name, (1, None))
        if other is None or (other.length, other.start) != (entry.length, entry.start) or not _fits(source, other):
            raise _stale(fai, number, entry.name)
    if len(listed) != len(entries):
        extra = next(name for name in listed if name not in {e.name for e in entries})
        raise _stale(fai, listed[extra][0], extra)


def _fits(source: Source, entry: Entry) -> bool:
    """Whether every line of the record is as long as its .fai says: bases, and bytes with the line's end."""
    assert entry.line is not None
    bases, width = entry.line
    full, rest = divmod(entry.length, bases)
    if not rest:
        full, rest = full - 1, bases
    if not full and rest != bases:  # samtools gives the only line of a record its own length
        return False
    batch = max(1, CHUNK // width)
    for first in range(0, full, batch):
        lines = min(batch, full - first)
        text = source.read(entry.start + first * width, lines * width)
        blank = lines * (width - bases)
        if text[width - 1 :: width] != b"\n" * lines or len(text.translate(None, BLANKS)) != len(text) - blank:
            return False
        if any(text[i::width].strip(BLANKS) for i in range(bases, width)):
            return False
    last = source.read(entry.start + full * width, rest + 1 if full else width)
    end = last[rest:]
    return last[:rest].isalpha() and end.strip(BLANKS) == b"" and (full > 0 or end[-1:] in (b"", b"\n"))


def _stale(fai: Path, number: int, name: str) -> NexVarError:
    return NexVarError(
        f"stale index: the FASTA has changed, {name!r} does not fit",
        where=f"{fai}:{number}",
        fix=f"run `samtools faidx {str(fai).removesuffix('.fai')}` again or delete the .fai",
    )


def entries_from_fai(source: Source, fai: Path) -> list[Entry]:
    """The index in ``fai``, after checking against the file that its records follow each other without a gap, that
    each has its header where it should be, and that lines break where it says (first, last and 16 between)."""
    entries: list[Entry] = []
    position = 0  # where the next header must start
    for number, entry in _fai_rows(fai):
        head = source.read(position, entry.start - position) if 0 < entry.start - position < MAX_HEADER else b""
        text = head.lstrip(BLANKS)
        words = text[1:].split()
        assert entry.line is not None
        bases, width = entry.line
        good = text[:1] == b">" and text.endswith(b"\n") and text.count(b"\n") == 1 and bool(words)
        good = good and words[0].decode("utf-8", "replace") == entry.name and entry.end <= source.size
        full = (entry.length - 1) // bases  # complete lines before the last one
        for i in sorted({*range(0, full, max(1, full // 16)), *((full - 1,) if full else ())}):
            at = entry.start + i * width + bases
            text = source.read(at - 1, width - bases + 2)
            good = good and text[:1].isalpha() and text[-1:].isalpha() and text.count(b"\n") == 1
            good = good and not text[1:-1].strip(BLANKS) and text[-2:-1] == b"\n"
        ending = source.read(entry.end - 1, 4)
        good = good and ending[:1].isalpha() and ending[1:2] in (b"", *_EACH_BLANK)
        if full == 0:  # samtools gives an only line its own length, and the bytes to its end
            rest = source.read(entry.start + bases, width - bases)
            good = good and bases == entry.length and not rest.strip(BLANKS) and rest[-1:] in (b"", b"\n")
        sample = entry.fetch(source, 0, min(entry.length, 2000)) if good else b""
        if not good or sample.translate(None, ALLOWED):
            raise _stale(fai, number, entry.name)
        entries.append(entry)
        position = entry.end
    if not entries or source.read(position, 1 << 16).strip(BLANKS):
        raise _stale(fai, len(entries) or 1, entries[-1].name if entries else "")
    if len({entry.name for entry in entries}) != len(entries):
        raise NexVarError("a contig is listed twice", where=fai, fix="names must be unique: rename one in the FASTA")
    return entries


def build_index(source: Source, path: Path) -> list[Entry]:
    """The records of the FASTA at ``path``: scanned, or for big files taken from a checked ``path``.fai."""
    fai = Path(f"{path}.fai")
    has_fai = fai.is_file() and not isinstance(source, MemorySource)
    if has_fai and source.size > TRUST_FAI_ABOVE:
        return entries_from_fai(source, fai)
    entries = scan(source, path)
    if has_fai:
        compare_fai(source, fai, entries)
    return entries
