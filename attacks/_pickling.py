"""Pickle programs and torch files written by hand."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch


class Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


def touch(marker: Path) -> Call:
    return Call(os.system, f"touch {marker}")


def save_pt(folder: Path, value: Any, name: str = "model.pt", **options: Any) -> None:
    torch.save(value, folder / name, **options)


def with_pickle(folder: Path, program: bytes, name: str = "model.pt") -> None:
    """A zip file as torch writes it, with this program as its data.pkl and no storages."""
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", program)
        archive.writestr("model/byteorder", b"little")


def tensor_program(offset: int, shape: tuple[int, ...], stride: tuple[int, ...], key: str = "0") -> bytes:
    """A pickle of {"norm.scale": a float32 view of storage ``key``}."""

    def integer(n: int) -> bytes:
        raw = n.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def integers(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(integer, numbers)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + integer(4) + b"tQ"
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(offset) + integers(shape) + integers(stride)
    return b"\x80\x02}" + text("norm.scale") + view + b"\x89NtRs."


def with_storage(folder: Path, program: bytes, content: bytes = b"\0" * 16, name: str = "model/data/0") -> None:
    with_pickle(folder, program)
    with zipfile.ZipFile(folder / "model.pt", "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, content)
