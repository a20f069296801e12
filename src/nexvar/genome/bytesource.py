"""Random access to the decompressed bytes of a file (plain, bgzip, or gzip small enough for memory); a bgzip writer.

Descriptors open late and are not pickled, so that an open genome travels to worker processes.
"""

from __future__ import annotations

import bisect
import gzip
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Protocol

from nexvar.errors import NexVarError
from nexvar.files import check_regular, empty
from nexvar.genome.textio import (
    BGZF_EOF,
    count_sound_lines,
    has_bgzf_end,
    is_bgzf,
    refuse_foreign,
)

MAX_PLAIN_GZIP = 1 << 29  # decompressed bytes held in memory: gzip (unlike bgzip) has no random access


class Source(Protocol):
    """Random access to the decompressed bytes of a file."""

    size: int

    def read(self, offset: int, count: int) -> bytes: ...


@dataclass
class PlainSource:
    """An uncompressed file."""

    path: Path
    size: int
    _fd: int | None = field(default=None, repr=False)

    def read(self, offset: int, count: int) -> bytes:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY)
        return os.pread(self._fd, count, offset)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_fd": None}

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at exit, `os` may be gone
        if self._fd is not None:
            close(self._fd)


@dataclass
class MemorySource:
    """Bytes in memory."""

    data: bytes
    size: int

    def read(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]


class BgzfSource:
    """A bgzip file: independent deflate blocks of at most 64 KiB; the block list is read from the file itself."""

    def __init__(self, path: Path) -> None:
        self.path, self.raw = path, PlainSource(path, path.stat().st_size)
        self.starts: list[int] = []  # decompressed offset of each block
        self.blocks: list[tuple[int, int]] = []  # (file offset, compressed size)
        self.cache: OrderedDict[int, bytes] = OrderedDict()
        self.lock = Lock()  # of the cache: a server reads from several threads
        self.size = 0
        offset = 0
        while offset < self.raw.size:
            head = self.raw.read(offset, 18)
            if len(head) < 18 or not is_bgzf(head) or head[10:12] != b"\x06\x00":
                raise self._damaged(offset)
            length = int.from_bytes(head[16:18], "little") + 1
            tail = self.raw.read(offset + length - 4, 4) if length >= 28 else b""
            if len(tail) < 4:
                raise self._damaged(offset)
            size = int.from_bytes(tail, "little")
            if size > 1 << 16:
                raise self._damaged(offset)
            if size:
                self.starts.append(self.size)
                self.blocks.append((offset, length))
            else:
                self._inflate(offset, length)  # it is not read again: what is in it now would be lost
            self.size += size
            offset += length

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("cache", "lock")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, cache=OrderedDict(), lock=Lock())

    def _damaged(self, offset: int) -> NexVarError:
        return _damaged(self.path, f"the bgzip block at byte {offset} is damaged")

    def _block(self, index: int) -> bytes:
        with self.lock:
            if index not in self.cache:
                self.cache[index] = self._inflate(*self.blocks[index])
                if len(self.cache) > 64:
                    self.cache.popitem(last=False)
            self.cache.move_to_end(index)
            return self.cache[index]

    def _inflate(self, offset: int, length: int) -> bytes:
        """The data of one block, which is as long as the block says, has its CRC, and is all that the block holds."""
        raw = self.raw.read(offset, length)
        stream = zlib.decompressobj(-15)
        try:
            data = stream.decompress(raw[18:-8], (1 << 16) + 1)
        except zlib.error:
            raise self._damaged(offset) from None
        sums = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        if not stream.eof or stream.unused_data or sums != raw[-8:]:
            raise self._damaged(offset)
        return data

    def read(self, offset: int, count: int) -> bytes:
        index = bisect.bisect_right(self.starts, offset) - 1
        skip = offset - self.starts[index] if self.starts else 0
        parts: list[bytes] = []
        wanted = skip + count
        while wanted > 0 and 0 <= index < len(self.blocks):
            parts.append(self._block(index))
            wanted -= len(parts[-1])
            index += 1
        return b"".join(parts)[skip : skip + count]


def open_source(path: str | Path) -> Source:
    """The decompressed bytes of a FASTA file: plain, bgzip, or gzip (in memory, up to ``MAX_PLAIN_GZIP``)."""
    path = check_regular(path)
    with path.open("rb") as file:
        head = file.read(64)
    refuse_foreign(head, f"{path}:1")
    if not head.startswith(b"\x1f\x8b"):
        return PlainSource(path, path.stat().st_size)
    if not has_bgzf_end(path):
        raise _damaged(path, "the bgzip end marker is missing: the file was cut short")
    source = BgzfSource(path) if is_bgzf(head) else _read_gzip(path)
    if not source.size:
        raise empty(f"{path}:1")
    return source


def _damaged(path: Path, what: str) -> NexVarError:
    where = f"{path}:{count_sound_lines(path) + 1}"
    return NexVarError(what, where=where, fix="copy or download the file again")


def _read_gzip(path: Path) -> MemorySource:
    data = bytearray()
    try:
        with gzip.open(path) as stream:
            while chunk := stream.read(1 << 22):
                data += chunk
                if len(data) > MAX_PLAIN_GZIP:
                    raise NexVarError(
                        f"gzip data of over {MAX_PLAIN_GZIP >> 20} MB, which has no random access",
                        where=path,
                        fix=f"`gunzip {path}` or recompress it with bgzip",
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"the gzip data is cut short or damaged ({error})") from None
    return MemorySource(bytes(data), len(data))


class BgzfWriter:
    """Writes a bgzip file. Unlike htslib's writer it says why it failed, and only by an exception."""

    BLOCK = 65_280  # htslib's choice: fits in 64 KiB even when it does not compress

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb", buffering=1 << 18)
        self.pending = bytearray()

    def write(self, data: bytes) -> None:
        self.pending += data
        while len(self.pending) >= self.BLOCK:
            self._block(bytes(self.pending[: self.BLOCK]))
            del self.pending[: self.BLOCK]

    def _block(self, data: bytes) -> None:
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = squeeze.compress(data) + squeeze.flush()
        self.file.write(BGZF_EOF[:16] + (len(body) + 25).to_bytes(2, "little") + body)
        self.file.write(zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little"))

    def close(self) -> None:
        """Write the rest and the end marker."""
        with self.file:
            if self.pending:
                self._block(bytes(self.pending))
                self.pending.clear()
            self.file.write(BGZF_EOF)
