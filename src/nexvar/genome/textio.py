"""Text files that people hand us, line by line: plain, gzip or bgzip, never trusted.

Everything that reads VCF, TSV, BED or a synonym table goes through ``Lines``; it turns every way in which a file
can be broken below the level of its format (missing, truncated, binary, wrong encoding, endless line) into a
``NexVarError`` with the file and the line.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nexvar.errors import NexVarError, note
from nexvar.files import check_regular, empty

MAX_LINE = 1 << 28  # biobank VCFs have lines of tens of megabytes; a gzip bomb has longer ones
SILENCE = 3.0  # seconds after which a person hears that a pipe has no writer yet
BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

FOREIGN = {  # first bytes of what people pass by mistake
    b"PK\x03\x04": ("a zip archive", "unpack it first"),
    b"\xfd7zXZ": ("an xz file", "unpack it with `xz -d`"),
    b"BZh": ("a bzip2 file", "unpack it with `bunzip2`"),
    b"(\xb5/\xfd": ("a zstd file", "unpack it with `zstd -d`"),
    b"\xff\xfe": ("UTF-16 text", "convert it with `iconv -f utf16 -t utf8`"),
    b"\xfe\xff": ("UTF-16 text", "convert it with `iconv -f utf16 -t utf8`"),
    b"\xef\xbb\xbf": ("text with a byte-order mark", "save it as UTF-8 without BOM"),
    b"CRAM": ("a CRAM file", "reads are not input here"),
    b"BCF": ("a BCF of version 1, or a damaged one", "write it again with `bcftools view`"),
    b"BAM\x01": ("a BAM file", "reads are not input here"),
    b"\x43\x27\x41\x1a": ("a 2bit file", "convert it with `twoBitToFa`"),
    b"PAR1": ("a Parquet file", "give the original text file"),
}


def refuse_foreign(head: bytes, where: object) -> None:
    """Raise NexVarError if ``head`` starts like another kind of file."""
    for magic, (what, fix) in FOREIGN.items():
        if head.startswith(magic):
            raise NexVarError(f"this is {what}", where=where, fix=fix)


def is_bgzf(head: bytes) -> bool:
    """Whether ``head`` (18 bytes or more) starts a block-gzip file."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


def has_bgzf_end(path: Path) -> bool:
    """False for a bgzip file without the empty block at its end: it was cut, and gzip would not notice."""
    with path.open("rb") as file:
        if not is_bgzf(file.read(18)):
            return True
        file.seek(-min(len(BGZF_EOF), path.stat().st_size), io.SEEK_END)
        return file.read() == BGZF_EOF


def count_sound_lines(path: Path) -> int:
    """How many complete lines a damaged gzip file gives before the damage."""
    lines = 0
    with path.open("rb") as file:
        stream, raw = zlib.decompressobj(31), file.read(1 << 12)
        try:
            while raw:
                lines += stream.decompress(raw).count(b"\n")
                raw = stream.unused_data
                if stream.eof:
                    stream = zlib.decompressobj(31)
                raw = raw or file.read(1 << 12)
        except zlib.error:
            pass
    return lines


def spool(stream: IO[bytes], name: str) -> Path:
    """A pipe as a temporary file, since it is read twice (checked, then scored). The caller deletes it."""
    try:
        with tempfile.NamedTemporaryFile(prefix="nexvar-stdin-", delete=False) as file:
            shutil.copyfileobj(stream, file)
            return Path(file.name)
    except OSError as error:
        raise NexVarError(
            f"cannot be read into a temporary file ({error.strerror})", where=name, fix="is the disk full?"
        ) from None


def _open_pipe(path: str | Path) -> tuple[Path, str] | None:
    """(spooled copy, name for errors) if ``path`` is "-" or a pipe such as ``<(bcftools view …)``."""
    if str(path) == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise NexVarError("standard input is a terminal", where="-", fix="pipe a file into it")
        return spool(sys.stdin.buffer, "<stdin>"), "<stdin>"
    path = check_regular(path, pipe_ok=True)
    if path.is_file():
        return None
    waiting = threading.Timer(SILENCE, note, (f"{path} is a pipe: waiting for somebody to write into it",))
    waiting.daemon = True
    waiting.start()
    try:
        stream = path.open("rb")
    finally:
        waiting.cancel()
    with stream:
        return spool(stream, str(path)), str(path)


class Lines:
    """The lines of a text file: ``for number, line in Lines(path)``, 1-based, without the newline (LF or CR+LF).

    ``name`` is what errors call the file. Iterating again starts again. "-" reads standard input (spooled to a
    temporary file, deleted with this object).
    """

    def __init__(self, path: str | Path, *, binary_ok: Callable[[bytes], bool] = lambda head: False) -> None:
        self._spooled: Path | None = None
        self._checked = False
        self.path, self.name = Path(path), str(path)
        if pipe := _open_pipe(path):
            self._spooled, self.name = pipe
            self.path = self._spooled
        with self.path.open("rb") as file:
            head = file.read(64)
        if not head:
            raise empty(f"{self.name}:1")
        refuse_foreign(head, f"{self.name}:1")
        self.is_gzip = head.startswith(b"\x1f\x8b")
        if not has_bgzf_end(self.path):
            raise NexVarError(
                "the bgzip end marker is missing: the file was cut short",
                where=f"{self.name}:{count_sound_lines(self.path) + 1}",
                fix="copy or download it again",
            )
        with self._guard(), self.open() as stream:
            start = stream.read(64)
        if not start:
            raise empty(f"{self.name}:1")
        self.is_binary = binary_ok(start)
        if not self.is_binary:
            refuse_foreign(start, f"{self.name}:1")

    def close(self) -> None:
        """Delete the spooled copy of standard input, if there is one."""
        if self._spooled is not None:
            self._spooled.unlink(missing_ok=True)
            self._spooled = None

    def __del__(self) -> None:
        if getattr(self, "_spooled", None) is not None:
            self.close()

    def open(self) -> IO[bytes]:
        """The decompressed bytes."""
        if self.is_gzip:
            return io.BufferedReader(gzip.GzipFile(self.path, "rb"), 1 << 20)
        return self.path.open("rb")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            early = isinstance(error, EOFError)
            raise NexVarError(
                "the gzip data ends too early" if early else f"the gzip data is damaged ({error})",
                where=f"{self.name}:{count_sound_lines(self.path) + 1}",
                fix="the file was cut short: copy or download it again" if early else "copy or download it again",
            ) from None
        except OSError as error:
            raise NexVarError(f"cannot be read ({error.strerror})", where=self.name, fix="is the disk well?") from None

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return ((number, line.removesuffix("\r")) for number, line in self.with_returns())

    def with_returns(self) -> Iterator[tuple[int, str]]:
        """The lines, where a line ends in CR+LF with its carriage return."""
        number = 0
        rest: list[bytes] = []  # the beginning of a line whose end has not been read
        with self._guard(), self.open() as file:
            while chunk := file.read(1 << 20):
                cut = chunk.rfind(b"\n") + 1
                if not cut:
                    rest.append(chunk)
                    if len(rest) << 20 > MAX_LINE:
                        what = f"a line longer than {MAX_LINE:,} bytes"
                        raise NexVarError(what, where=f"{self.name}:{number + 1}", fix="is this the right file?")
                    continue
                lines = self._texts(b"".join((*rest, chunk[: cut - 1])), number)
                rest = [chunk[cut:]] if cut < len(chunk) else []
                yield from enumerate(lines, number + 1)
                number += len(lines)
            if rest:
                yield from enumerate(self._texts(b"".join(rest), number), number + 1)

    def _texts(self, block: bytes, number: int) -> list[str]:
        """The lines of a block that starts after line ``number``; checked as a whole, which is ten times faster."""
        returns = block.count(b"\r")
        if b"\0" not in block and returns == block.count(b"\r\n") + block.endswith(b"\r"):
            with suppress(UnicodeDecodeError):
                return block.decode().split("\n")
        return [self._text(raw, i) for i, raw in enumerate(block.split(b"\n"), number + 1)]

    def checked(self, check: Callable[[Lines], None]) -> None:
        """Run ``check`` on this file, once; errors of the compression become NexVarError."""
        if not self._checked:
            with self._guard():
                check(self)
            self._checked = True

    def _text(self, raw: bytes, number: int) -> str:
        """A line as text; NexVarError with line and column for NUL, a lone carriage return and what is not UTF-8."""
        where = f"{self.name}:{number}"
        if b"\0" in raw:
            raise NexVarError(
                f"a NUL byte in column {raw.index(0) + 1}",
                where=where,
                fix="the file is binary or damaged: copy or download it again",
            )
        if b"\r" in raw[:-1]:
            read = f"gzip -dc {self.name}" if self.is_gzip else f"cat {self.name}"
            column = raw.index(b"\r") + 1
            raise NexVarError(
                f"a carriage return in column {column}, without a newline (an old Mac's line end?)",
                where=where,
                fix=f"`{read} | tr '\\r' '\\n' > fixed` makes newlines of them",
            )
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise NexVarError(
                f"byte {raw[error.start]:#04x} in column {error.start + 1} is not UTF-8",
                where=where,
                fix="convert the file with `iconv -f latin1 -t utf8`",
            ) from None
