"""Files as bytes: a private memory map of one file, or of its parts, and tensors that are views of it."""

from __future__ import annotations

import bisect
import io
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError


class Bytes(io.RawIOBase):
    """One seekable file made of one file, several parts (``x.pt.part0``, …) or a block of memory."""

    def __init__(self, parts: Sequence[Path | bytes], where: object) -> None:
        self.where = where
        self.blocks = [bytearray(p) if isinstance(p, bytes) else _map(p) for p in parts]
        self.starts = [0]
        for block in self.blocks:
            self.starts.append(self.starts[-1] + len(block))
        self.size, self.place = self.starts[-1], 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence])
        return self.place

    def readinto(self, buffer: Any) -> int:
        piece = self.at(self.place, min(len(buffer), max(0, self.size - self.place)))
        buffer[: len(piece)] = piece
        self.place += len(piece)
        return len(piece)

    def locate(self, offset: int, count: int) -> tuple[Any, int]:
        """The block that holds [offset, offset + count) and its start there; a copy if it spans parts."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise NexVarError(
                f"bytes {offset} to {offset + count} are outside the file of {self.size} bytes",
                where=self.where,
                fix="truncated? download it again",
            )
        i = min(bisect.bisect_right(self.starts, offset) - 1, len(self.blocks) - 1)
        if i < 0 or offset + count <= self.starts[i + 1]:
            return (self.blocks[i] if i >= 0 else bytearray()), offset - self.starts[i]
        joined = bytearray()
        while len(joined) < count:
            block, start = self.blocks[i], offset + len(joined) - self.starts[i]
            joined += block[start : start + count - len(joined)]
            i += 1
        return joined, 0

    def view(self, offset: int, count: int) -> memoryview:
        """``count`` bytes at ``offset``, not copied (but where they span parts)."""
        block, start = self.locate(offset, count)
        return memoryview(block)[start : start + count]

    def at(self, offset: int, count: int) -> bytes:
        return bytes(self.view(offset, count))

    def tensor(self, offset: int, count: int, dtype: torch.dtype) -> Tensor:
        """``count`` elements of ``dtype`` at byte ``offset``, a view of the mapped file if aligned."""
        if count == 0:
            return torch.empty(0, dtype=dtype)
        block, start = self.locate(offset, count * dtype.itemsize)
        if start % dtype.itemsize:
            block, start = bytearray(block[start : start + count * dtype.itemsize]), 0
        return torch.frombuffer(block, dtype=dtype, count=count, offset=start)


def _map(path: Path) -> Any:
    """A private, writable map of a file: in-place training changes memory, never the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            if size == 0:
                return bytearray()
            if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
                return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            return mmap.mmap(file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise NexVarError(f"cannot read it ({error.strerror})", where=path) from error
