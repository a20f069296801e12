"""``torch.save`` files -> plain containers, tensors as views of the file; nothing in them is executed.

    zip (torch >= 1.6): x/data.pkl + x/data/<key>, every record stored, never compressed
    legacy:             pickles of magic, version, system, object, storage keys; then the raw storages

Formats: torch/serialization.py.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.weights.checkpoint import pickles
from nexvar.weights.checkpoint.mapped import Bytes, is_sound_shape

DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "Float8_e4m3fn": torch.float8_e4m3fn,
    "Float8_e5m2": torch.float8_e5m2,
}


def read(file: Bytes) -> Any:
    """The object of a ``torch.save`` file: containers with tensors that are views, everything else inert."""
    if file.size >= 4 and file.at(0, 4) == b"PK\x03\x04":
        return _read_zip(file)
    return _read_legacy(file)


def read_bytes(content: bytes, where: str) -> Any:
    """The same for a block of memory, which may also be a bare pickle with its storages inside."""
    file = Bytes([content], where)
    if content.startswith(b"PK\x03\x04"):
        return _read_zip(file)
    value = pickles.Machine(content, where).run()
    if value == pickles.LEGACY_MAGIC:
        return _read_legacy(file)

    def span(storage: pickles.Storage) -> tuple[int, int]:
        raise NexVarError(f"refused the pickle: a storage {storage.key!r} without a file", where=where)

    return _Resolver(file, span).resolve(value)


def _read_zip(file: Bytes) -> Any:
    """The object in the archive that torch.save writes; refused if torch did not write it so."""

    def refuse(what: str) -> NexVarError:
        return NexVarError(f"refused the archive: {what}", where=file.where, fix="nothing in it was executed")

    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError, ArithmeticError, struct.error) as error:
        raise refuse(f"not a sound zip file ({error}); truncated?") from None
    records: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        if member.filename in records:
            raise refuse(f"{member.filename[:80]!r} occurs twice")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise refuse(f"{member.filename[:80]!r} is compressed, which torch never does (zip bomb?)")
        records[member.filename] = member
    if sum(member.file_size for member in members) > file.size:
        raise refuse("its records overlap: together they are longer than the file")
    programs = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise refuse(f"{len(programs)} data.pkl records instead of 1")
    prefix = programs[0].removesuffix("data.pkl")

    def span(name: str) -> tuple[int, int]:
        member = records.get(name)
        if member is None:
            raise refuse(f"no record {name[:80]!r}")
        local = file.at(member.header_offset, 30)
        if local[:4] != b"PK\x03\x04":
            raise refuse(f"no record where the directory says {name[:80]!r} is")
        names, extra = struct.unpack("<HH", local[26:30])
        return member.header_offset + 30 + names + extra, member.file_size

    if f"{prefix}byteorder" in records and file.at(*span(f"{prefix}byteorder")) != b"little":
        raise refuse("big-endian tensors")
    start, count = span(programs[0])
    value = pickles.Machine(file.view(start, count), file.where).run()
    return _Resolver(file, lambda storage: span(f"{prefix}data/{storage.key}")).resolve(value)


def _read_legacy(file: Bytes) -> Any:
    """torch.save before 1.6: pickles of magic, version, system, object, storage keys, then raw storages."""
    parts, place = pickles.legacy_parts(file.view(0, file.size), file.where)
    value, keys = parts[3], parts[4]
    records = {storage.key: storage for storage in _storages(value)}
    spans: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in records or key in spans:
            raise NexVarError("refused the pickle: its list of storages is wrong", where=file.where)
        count = struct.unpack("<q", file.at(place, 8))[0]
        dtype = records[key].dtype
        size = count * (DTYPES[dtype].itemsize if dtype else 1)
        spans[key] = (place + 8, size)
        file.locate(place + 8, size)
        place += 8 + size

    def span(storage: pickles.Storage) -> tuple[int, int]:
        if storage.key not in spans:
            raise NexVarError(f"refused the pickle: no storage {storage.key[:80]!r}", where=file.where)
        return spans[storage.key]

    return _Resolver(file, span).resolve(value)


def _storages(value: Any) -> Iterator[pickles.Storage]:
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, pickles.TensorRecord):
            yield item.storage
        elif isinstance(item, pickles.Storage):
            yield item


class _Resolver:
    """TensorRecords -> tensors. ``span(storage)`` says where a storage's bytes are.

    Each storage and each container is resolved once, however often it is named: what a file can make us hold is
    bounded by its size.
    """

    def __init__(self, file: Bytes, span: Any) -> None:
        self.file, self.span = file, span
        self.storages: dict[Any, Tensor] = {}
        self.containers: dict[int, Any] = {}

    def resolve(self, value: Any) -> Any:
        """Dicts are rebuilt two levels deep (wrapper, state dict); tensors below that are not weights."""
        if isinstance(value, dict):
            return {k: self.shallow(v) for k, v in value.items()}
        return self.shallow(value)

    def shallow(self, value: Any) -> Any:
        if isinstance(value, pickles.TensorRecord):
            return self.tensor(value)
        if not isinstance(value, dict):
            return value
        if id(value) not in self.containers:
            self.containers[id(value)] = {
                k: self.tensor(v) if isinstance(v, pickles.TensorRecord) else v for k, v in value.items()
            }
        return self.containers[id(value)]

    def tensor(self, record: pickles.TensorRecord) -> Tensor:
        dtype = DTYPES[record.dtype]

        def refuse(what: str) -> NexVarError:
            what = f"a tensor of shape {record.shape} at element {record.offset} {what}"
            return NexVarError(what, where=self.file.where, fix="truncated? download it again")

        if not is_sound_shape(record.shape, *record.stride, record.offset):
            raise refuse("is not of this world")
        elements = math.prod(record.shape)
        if not elements:
            return torch.empty(record.shape, dtype=dtype)
        data = self.storage(record.storage, dtype)
        last = record.offset + sum((n - 1) * s for n, s in zip(record.shape, record.stride, strict=True))
        # more elements than the storage holds means overlapping strides: memory out of nothing
        if last >= data.numel() or elements > data.numel():
            raise refuse(f"does not fit its storage of {data.numel()} elements")
        return data.as_strided(record.shape, record.stride, record.offset)

    def storage(self, storage: pickles.Storage, dtype: torch.dtype) -> Tensor:
        """All its elements, a view of the file; a copy, once, where it is not aligned or spans parts."""
        key = storage.key if storage.embedded is None else id(storage.embedded)
        if (key, dtype) not in self.storages:
            file = self.file
            if storage.embedded is None:
                start, size = self.span(storage)
            else:
                file, start, size = _embedded_storage(storage, storage.embedded, self.file.where)
            self.storages[key, dtype] = file.tensor(start, size // dtype.itemsize, dtype)
        return self.storages[key, dtype]


def _embedded_storage(storage: pickles.Storage, content: bytes, where: object) -> tuple[Bytes, int, int]:
    """The single storage inside a ``torch.storage._load_from_bytes`` argument (a legacy file of its own)."""
    _, place = pickles.legacy_parts(content, where, embedded=True)
    file = Bytes([content], where)
    count = struct.unpack("<q", file.at(place, 8))[0]
    return file, place + 8, count * (DTYPES[storage.dtype].itemsize if storage.dtype else 1)
