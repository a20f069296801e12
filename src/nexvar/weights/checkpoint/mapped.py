"""Files as bytes: a private memory map of one file, or of its parts, and tensors that are views of it."""

from __future__ import annotations

import bisect
import io
import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.files import open_regular

MAX_READ = 1 << 28  # bytes that one read may copy; tensors are views
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 48


def is_sound_shape(shape: Sequence[Any], *numbers: Any) -> bool:
    """Whether a tensor may have this shape, and these strides and offsets: few counts, no overflow in any product.

    A zero among them does not excuse the others: libraries multiply in their own order.
    """
    if len(shape) > MAX_DIMENSIONS or len(numbers) > MAX_DIMENSIONS + 1:
        return False
    if any(type(n) is not int or not 0 <= n <= MAX_ELEMENTS for n in (*shape, *numbers)):
        return False
    return math.prod(max(n, 1) for n in shape) <= MAX_ELEMENTS


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
        if len(buffer) > MAX_READ:
            raise NexVarError(f"a table of {len(buffer)} bytes where tensors should be", where=self.where)
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
        with open_regular(path, empty_ok=True) as file:
            size = file.seek(0, io.SEEK_END)
            if size == 0:
                return bytearray()
            if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
                return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            return mmap.mmap(file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError, OverflowError) as error:  # it shrank meanwhile; it claims more than can be addressed
        raise NexVarError(f"cannot be mapped ({getattr(error, 'strerror', None) or error})", where=path) from error
