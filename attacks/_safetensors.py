"""Safetensors files whose header lies about their bytes."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

from _sound import attack


def with_header(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    length = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + data)


def entry(begin: int, end: int, shape: Any = (4,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@attack
def header_longer_than_the_file(folder: Path, marker: Path) -> None:
    with_header(folder, b"{}", length=1 << 60)


@attack
def header_of_a_gigabyte(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 30))
    os.truncate(path, (1 << 30) + 16)  # sparse


@attack
def header_not_utf8(folder: Path, marker: Path) -> None:
    with_header(folder, b'{"\xff\xfe": 1}')


@attack
def header_not_a_table(folder: Path, marker: Path) -> None:
    with_header(folder, b"[1, 2, 3]")


@attack
def header_nested_deep(folder: Path, marker: Path) -> None:
    with_header(folder, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@attack
def header_with_a_key_twice(folder: Path, marker: Path) -> None:
    one = json.dumps(entry(0, 16))
    with_header(folder, f'{{"norm.scale": {one}, "norm.scale": {one}}}'.encode(), b"\0" * 16)


@attack
def offsets_overlap(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16), "b": entry(8, 24)}).encode(), b"\0" * 24)


@attack
def offsets_beyond_the_file(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 1 << 40, (1 << 38,))}).encode(), b"\0" * 16)


@attack
def offsets_negative(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(-16, 0)}).encode(), b"\0" * 16)


@attack
def offsets_that_are_words(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": {**entry(0, 16), "data_offsets": ["0", True]}}).encode(), b"\0" * 16)


@attack
def a_hole_in_the_data(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16), "b": entry(20, 36)}).encode(), b"\0" * 36)


@attack
def bytes_after_the_data(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"PK\x03\x04")


@attack
def shape_larger_than_the_data(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16, (1 << 62, 1 << 62))}).encode(), b"\0" * 16)


@attack
def unknown_dtype(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16, dtype="F128")}).encode(), b"\0" * 16)


@attack
def a_dtype_that_is_a_list(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16, dtype=["F32"])}).encode(), b"\0" * 16)


@attack
def safetensors_truncated(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@attack
def safetensors_of_seven_bytes(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 7)


@attack
def empty_weights(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


@attack
def header_with_a_late_key_twice(folder: Path, marker: Path) -> None:
    names = [f"n{i}" for i in range(60_000)]
    with_header(folder, ("{" + ",".join(f'"{n}":0' for n in [*names, names[-1]]) + "}").encode())


@attack
def header_with_a_number_of_a_million_digits(folder: Path, marker: Path) -> None:
    with_header(folder, b'{"a": {"dtype": "F32", "shape": [' + b"9" * 1_000_000 + b'], "data_offsets": [0, 16]}}')


@attack
def header_with_infinity(folder: Path, marker: Path) -> None:
    with_header(folder, b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, Infinity]}}', b"\0" * 16)


@attack
def shape_of_zero_times_huge(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 0, (0, 1 << 62, 1 << 62))}).encode())


@attack
def shape_of_a_hundred_thousand_dimensions(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 4, (1,) * 100_000)}).encode(), b"\0" * 4)


@attack
def a_name_that_is_a_terminal_command(folder: Path, marker: Path) -> None:
    name = "\x1b]0;owned\x07\u202ehidden\u2066"
    with_header(folder, json.dumps({name: entry(0, 12)}).encode(), b"\0" * 12)


@attack
def a_name_with_half_a_surrogate(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"\ud800": entry(0, 16)}).encode(), b"\0" * 16)


@attack
def a_safetensors_name_of_5000_characters(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"x" * 5_000: entry(0, 16)}).encode(), b"\0" * 16)
