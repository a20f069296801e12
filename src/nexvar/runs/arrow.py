"""Arrow arrays of a part's columns.

NOTE ``pa.array`` imports pandas wherever it is installed: a short run spends more on that than on its model.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """``pa.array(values, kind)`` of numbers or texts; None is null."""
    import pyarrow as pa

    present = np.array([value is not None for value in values], dtype=bool)
    if not pa.types.is_string(kind):
        letter = "f" if pa.types.is_floating(kind) else "u" if pa.types.is_unsigned_integer(kind) else "i"
        dtype = f"{letter}{kind.bit_width // 8}"  # NOTE older pyarrow asks pandas for it
        return numbers(np.array([0 if v is None else v for v in values], dtype=dtype), present)
    encoded = [b"" if value is None else value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)])
    if ends[-1] >= 1 << 31:
        return pa.array(values, kind)  # in chunks
    contents = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(kind, len(values), [_bits(present), *contents])


def numbers(values: np.ndarray, present: np.ndarray | None = None) -> pa.Array:
    """``pa.array(values)`` of numbers; null where ``present`` is False."""
    import pyarrow as pa

    contents = pa.py_buffer(np.ascontiguousarray(values))
    validity = None if present is None else _bits(present)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [validity, contents])


def parquet(table: pa.Table, **settings: Any) -> bytes:
    """The bytes of a Parquet file. settings: of ``pyarrow.parquet.write_table``."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, **settings)
    return buffer.getvalue()


def _bits(present: np.ndarray) -> pa.Buffer:
    import pyarrow as pa

    return pa.py_buffer(np.packbits(present, bitorder="little"))
