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
