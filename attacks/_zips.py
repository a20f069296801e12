"""Torch files whose zip archive lies."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path

from _pickling import save_pt, tensor_program, touch
from _sound import attack, tensors


@attack
def zip_bomb(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("model/data/0", b"\0" * 50_000_000)


@attack
def zip_with_two_programs(folder: Path, marker: Path) -> None:
    """Readers disagree which of two equal names counts."""
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "model.pt", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("model/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("model/data.pkl", pickle.dumps(touch(marker), protocol=2))


@attack
def zip_names_that_climb(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr(f"../../../../../..{marker}", b"")
        archive.writestr("../data.pkl", pickle.dumps(touch(marker), protocol=2))


@attack
def zip_truncated(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) * 2 // 3])


@attack
def zip_directory_points_elsewhere(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = bytearray((folder / "model.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 42 : entry + 46] = struct.pack("<I", 12345)
    (folder / "model.pt").write_bytes(content)


@attack
def zip_sizes_that_lie(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = bytearray((folder / "model.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    (folder / "model.pt").write_bytes(content)


@attack
def big_endian(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("model/byteorder", b"big")


@attack
def a_missing_part(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").unlink()
    for i in (0, 2):
        (folder / f"model.pt.part{i}").write_bytes(content[i * 1000 : (i + 1) * 1000])


@attack
def zip_members_that_overlap(folder: Path, marker: Path) -> None:
    """5,000 names for one unaligned record: each would be a copy of its own."""
    save_pt(folder, tensors())
    path = folder / "model.pt"
    size = 4_000_001
    local = b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, 0, size, size, 1, 0) + b"x"
    names = [b"model/data.pkl", *(f"model/data/{i}".encode() for i in range(5_000))]
    directory = b"".join(
        b"PK\x01\x02" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 0, 0, size, size, len(n), 0, 0, 0, 0, 0, 0) + n
        for n in names
    )
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, len(names), len(names), len(directory), len(local) + size, 0)
    path.write_bytes(local + b"\0" * size + directory + end)


@attack
def zip_directory_of_a_terabyte(folder: Path, marker: Path) -> None:
    """A sparse file: a few kilobytes on the disk."""
    path, size = folder / "model.pt", 1 << 31
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(size)
        file.write(b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, size - 4, 4, 0))
