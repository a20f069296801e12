"""The safetensors format, read and written: 8 bytes of header length, a JSON header, the tensors' bytes.

Every claim of a header is checked against the file before a tensor is made; each refusal is one line.
Writing streams tensor by tensor (a 40B model needs no second copy) and replaces the target atomically.
Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.files import MAX_JSON, parse_json, write_atomically
from nexvar.weights.checkpoint.mapped import Bytes, is_sound_shape

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


Header = dict[str, tuple[torch.dtype, tuple[int, ...], int]]  # name -> dtype, shape, byte offset in the file


def header(file: Bytes) -> tuple[Header, dict[str, str]]:
    """(tensors, metadata) of a safetensors file; NexVarError for any claim it does not bear out."""

    def refuse(what: str) -> NexVarError:
        return NexVarError(what, where=file.where, fix="not a sound safetensors file; download it again")

    if file.size < 8:
        raise refuse(f"{file.size} bytes are too few for a header")
    length = struct.unpack("<Q", file.at(0, 8))[0]
    if length > MAX_JSON or 8 + length > file.size:
        raise refuse(f"the header claims {length} bytes of a file of {file.size}")
    table = parse_json(file.at(8, length), file.where)
    if not isinstance(table, dict):
        raise refuse("the header is not a table of tensors")
    metadata = table.pop("__metadata__", {})
    metadata = {k: v for k, v in metadata.items() if isinstance(v, str)} if isinstance(metadata, dict) else {}
    entries, ranges = {}, []
    for name, entry in table.items():
        try:
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            begin, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise refuse(f"{name[:80]}: dtype, shape or offsets are missing or of an unknown kind") from None
        if not is_sound_shape(shape, begin, end):
            raise refuse(f"{name[:80]}: shape {shape} or offsets ({begin}, {end}) are not counts of this world")
        if end - begin != math.prod(shape) * dtype.itemsize or 8 + length + end > file.size:
            raise refuse(
                f"{name[:80]}: {entry['dtype']} of shape {shape} does not fit bytes {begin} to {end} "
                f"of a file of {file.size} bytes"
            )
        entries[name] = (dtype, shape, 8 + length + begin)
        ranges.append((begin, end, name))
    place = 0
    for begin, end, name in sorted(ranges):
        if begin != place:
            raise refuse(f"{name[:80]}: the data has {'an overlap' if begin < place else 'a hole'} at byte {begin}")
        place = end
    if 8 + length + place != file.size:
        raise refuse(f"{file.size - 8 - length - place} bytes follow the last tensor")
    return entries, metadata


def read(file: Bytes) -> dict[str, Tensor]:
    """{name: tensor}, views of the file."""
    entries, _ = header(file)
    return {
        name: file.tensor(offset, math.prod(shape), dtype).view(shape)
        for name, (dtype, shape, offset) in entries.items()
    }


def write(
    state: dict[str, Tensor],
    path: Path,
    metadata: dict[str, str] | None = None,
    progress: Callable[[int], Any] = lambda size: None,
) -> None:
    """Write ``state`` to ``path``, one tensor at a time; it appears under its name only when it is whole."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    # widest first, as the safetensors library does: every tensor stays aligned to its element size
    order = sorted(state, key=lambda name: (-state[name].dtype.itemsize, name))
    place = 0
    for name in order:
        tensor = state[name]
        if tensor.dtype not in names:
            raise NexVarError(f"{name} has dtype {tensor.dtype}, which safetensors cannot hold", where=path)
        size = tensor.numel() * tensor.dtype.itemsize
        table[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    head = json.dumps(table, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name in order:
            tensor = state[name].detach().to("cpu").contiguous()
            progress(file.write(tensor.reshape(-1).view(torch.uint8).numpy().data))
