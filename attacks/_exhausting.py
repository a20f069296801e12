"""Pickles that hang, exhaust the memory, or read outside their storages."""

from __future__ import annotations

import struct
from pathlib import Path

from _pickling import tensor_program, with_pickle, with_storage
from _sound import attack


@attack
def nested_tuple_as_key(folder: Path, marker: Path) -> None:
    """Hashing it takes 2^200 steps."""
    with_pickle(folder, b"\x80\x02}K\x01" + b"2\x86" * 200 + b"K\x01s.")


@attack
def text_encoded_for_ever(folder: Path, marker: Path) -> None:
    text = b"a" * 1_000_000
    program = b"\x80\x02](X" + struct.pack("<I", len(text)) + text + b"q\x000"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    with_pickle(folder, program + again * 30_000 + b"e.")


@attack
def length_beyond_the_end(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.")


@attack
def stack_underflow(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02\x87\x86R0b.")


@attack
def extension_opcode(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02\x82\x01.")


@attack
def key_given_twice(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u.")


@attack
def strides_of_zero(folder: Path, marker: Path) -> None:
    """A terabyte out of four bytes."""
    with_storage(folder, tensor_program(0, (1 << 20, 1 << 20), (0, 0)))


@attack
def offset_outside_the_storage(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(1 << 40, (4,), (1,)))


@attack
def negative_offset(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(-4, (4,), (1,)))


@attack
def negative_stride(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(3, (4,), (-1,)))


@attack
def stride_outside_the_storage(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (2, 2), (1 << 50, 1)))


@attack
def storage_key_with_a_path(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (4,), (1,), key="../../../../etc/passwd"))


@attack
def record_shorter_than_the_tensor(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (4,), (1,)), content=b"\0" * 8)
