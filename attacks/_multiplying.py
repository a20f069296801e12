"""Small files that ask for the same thing thousands of times, and numbers that no tensor has."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import torch

from _pickling import save_pt, tensor_program, with_pickle, with_storage
from _sound import attack, tensors


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(n: int) -> bytes:
    raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(raw)) + raw


def keyed(items: list[bytes]) -> bytes:
    """A dict of these values under different names."""
    return b"}(" + b"".join(text(f"n{i}") + item for i, item in enumerate(items)) + b"u."


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"M\x04\x00tQ"
VIEW = b"ctorch._utils\n_rebuild_tensor_v2\n"
DOUBLED = b"K\x01" + b"2\x86" * 200  # a tuple of two tuples of two …: 2^200 when walked


@attack
def global_named_by_nested_tuples(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x04" + text("os") + DOUBLED + b"\x93.")


@attack
def global_of_a_module_of_nested_tuples(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x04" + DOUBLED + text("system") + b"\x93.")


@attack
def global_with_a_name_of_megabytes(folder: Path, marker: Path) -> None:
    name = text("typing") + b"q\x00" + text("x" * 2_000_000) + b"q\x01\x93"
    with_pickle(folder, b"\x80\x04](" + name + b"h\x00h\x01\x93" * 5_000 + b"e.")


@attack
def storage_key_of_nested_tuples(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02}" + text("norm.scale") + b"(" + text("storage") + DOUBLED + b"tQs.")


@attack
def a_view_of_every_name(folder: Path, marker: Path) -> None:
    """5,000 views of one record; each would be copied where the model wants another dtype."""
    view = VIEW + b"(" + STORAGE + b"K\x00M\x10'\x85q\x01K\x01\x85q\x02\x89NtRq\x03"
    with_storage(folder, b"\x80\x02" + keyed([view, *[b"h\x03"] * 5_000]), b"\0" * 40_000)


@attack
def views_of_an_unaligned_record(folder: Path, marker: Path) -> None:
    """Each would be a copy of its own: 5,000 times 4 MB."""
    numbers = b"K\x00" + integer(1_000_000) + b"\x85K\x01\x85\x89NtR"
    views = [VIEW + b"(" + STORAGE.replace(b"M\x04\x00", integer(1_000_000)) + numbers for _ in range(5_000)]
    program = b"\x80\x02" + keyed(views)
    with_storage(folder, program + b"\0" * (len(program) % 2), b"\0" * 4_000_001)


@attack
def one_embedded_storage_5000_times(folder: Path, marker: Path) -> None:
    buffer = io.BytesIO()
    torch.save(torch.zeros(250_000).untyped_storage(), buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    load = b"ctorch.storage\n_load_from_bytes\n"
    first = load + b"C" if len(content) < 256 else load + b"B" + struct.pack("<I", len(content))
    dtype = b"ctorch\nfloat32\n"
    view = b"ctorch._utils\n_rebuild_tensor_v3\n("
    rest = b"K\x00" + integer(250_000) + b"\x85K\x01\x85\x89N" + dtype + b"tR"
    views = [view + first + content + b"q\x05\x85R" + rest, *[view + load + b"h\x05\x85R" + rest] * 5_000]
    with_pickle(folder, b"\x80\x03" + keyed(views))


@attack
def storages_in_storages(folder: Path, marker: Path) -> None:
    """One inside the other, a thousand deep."""
    load = b"ctorch.storage\n_load_from_bytes\n"
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
    content = b"x"
    for _ in range(1_000):
        content = magic + b"\x80\x03" + load + b"B" + struct.pack("<I", len(content)) + content + b"\x85R."
    with_pickle(folder, b"\x80\x03" + load + b"B" + struct.pack("<I", len(content)) + content + b"\x85R.")


@attack
def one_state_dict_5000_times(folder: Path, marker: Path) -> None:
    """Wrappers around one table of 5,000 tensors: 25 million views."""
    view = VIEW + b"(" + STORAGE + b"K\x00K\x04\x85K\x01\x85\x89NtRq\x03"
    table = keyed([view, *[b"h\x03"] * 5_000])[:-1] + b"q\x04"
    with_storage(folder, b"\x80\x02" + keyed([table, *[b"h\x04"] * 5_000]))


@attack
def one_list_of_pairs_5000_times(folder: Path, marker: Path) -> None:
    pairs = b"](" + b"".join(text(f"n{i}") + b"K\x01\x86" for i in range(20_000)) + b"eq\x01"
    table = b"ccollections\nOrderedDict\nh\x01\x85R"
    with_pickle(folder, b"\x80\x02](" + pairs + table * 5_000 + b"e.")


@attack
def one_tuple_of_arguments_5000_times(folder: Path, marker: Path) -> None:
    arguments = b"(" + b"K\x01" * 500_000 + b"tq\x01"
    with_pickle(folder, b"\x80\x02](" + arguments + b"c_io\nBytesIO\nh\x01R" * 5_000 + b"e.")


@attack
def one_shape_of_half_a_million_dimensions(folder: Path, marker: Path) -> None:
    shape = b"(" + b"K\x01" * 500_000 + b"tq\x01"
    views = [VIEW + b"(" + STORAGE + b"K\x00h\x01h\x01\x89NtR" for _ in range(2_000)]
    with_storage(folder, b"\x80\x02](" + shape + b"e0" + keyed(views))


@attack
def keys_that_collide(folder: Path, marker: Path) -> None:
    """Multiples of 2^61 - 1 all have the hash 0."""
    items = b"".join(integer(i * ((1 << 61) - 1)) + b"K\x01" for i in range(1, 40_000))
    with_pickle(folder, b"\x80\x02}(" + items + b"u.")


@attack
def an_integer_of_megabytes(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02}" + text("a") + b"\x8b" + struct.pack("<I", 8_000_000) + b"\x7f" * 8_000_000 + b"s.")


@attack
def zero_times_huge(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (0, 1 << 62, 1 << 62), (1, 1, 1)))


@attack
def strides_beyond_64_bits(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (1, 4), (1 << 66, 1)))


@attack
def offset_beyond_64_bits_of_an_empty_tensor(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(1 << 66, (0,), (1,)))


@attack
def a_name_of_5000_characters(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "x" * 5_000: torch.zeros(1)})


@attack
def one_state_of_transformer_engine_5000_times(folder: Path, marker: Path) -> None:
    """Each would be parsed again."""
    state = b"\x80\x02](" + b"K\x01" * 200_000 + b"e."
    first = b"c_io\nBytesIO\n(B" + struct.pack("<I", len(state)) + state + b"tRq\x01"
    names = [text(f"blocks.{i}.projections._extra_state") for i in range(5_000)]
    items = names[0] + first + b"".join(name + b"h\x01" for name in names[1:])
    with_pickle(folder, b"\x80\x03}(" + items + b"u.")
