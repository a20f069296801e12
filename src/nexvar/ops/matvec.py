"""Products of a few rows with a large weight, bound by reading it: bfloat16, int8 and int4 weights, on CPUs.

    x (n, I) float32, n <= 4      w (O, I)  bfloat16   two bytes a weight
                                            int8       one, and a scale per output
                                            int4       half of one, and a scale and an offset per group of inputs

Each weight is read once, raised to float32 in a register and multiplied there (``matvec.c``, compiled at run time where
there is a compiler: AVX2, AVX-512, NEON). Without one, ``available`` is False and callers do the same in plain torch;
``matvec_*_naive`` are the definitions.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nexvar.ops import compiled

SOURCE = Path(__file__).with_name("matvec.c")
MOST_ROWS = 4  # ROWS of matvec.c
GROUP_MULTIPLE = 32  # of the inputs that share a scale in int4
SHARE = 1 << 20  # bytes of weights that are worth a thread


def available() -> bool:
    """True if the compiled products can be used; compiles them on the first call."""
    return isinstance(_library(), ctypes.CDLL)


def status() -> str:
    """One line: the library's path, or why there is none."""
    library = _library()
    return library._name if isinstance(library, ctypes.CDLL) else library


def matvec_bfloat16_naive(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return x_NI @ weight_OI.float().T


def matvec_bfloat16(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """x (N, I) float32, weight (O, I) bfloat16, contiguous, N up to ``MOST_ROWS`` -> (N, O) float32."""
    x_NI = x_NI.contiguous()
    y_NO = x_NI.new_empty(len(x_NI), len(weight_OI))

    def job(start: int, stop: int) -> None:
        _call("matvec_bfloat16", x_NI, len(x_NI), weight_OI, y_NO, *_sizes(weight_OI), start, stop)

    _over_outputs(job, len(weight_OI), weight_OI.nbytes)
    return y_NO


def matvec_int8_naive(x_NI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return (x_NI @ codes_OI.float().T) * scale_O


def matvec_int8(x_NI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> Tensor:
    """x (N, I) float32, codes (O, I) int8, scale (O,) float32: weight = scale * code -> (N, O) float32."""
    x_NI = x_NI.contiguous()
    y_NO = x_NI.new_empty(len(x_NI), len(codes_OI))

    def job(start: int, stop: int) -> None:
        _call("matvec_int8", x_NI, len(x_NI), codes_OI, scale_O, y_NO, *_sizes(codes_OI), start, stop)

    _over_outputs(job, len(codes_OI), codes_OI.nbytes)
    return y_NO


def matvec_int4_naive(x_NI: Tensor, packed_OJ: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return x_NI @ unpack_int4(packed_OJ, scale_OG, offset_OG).T


def matvec_int4(x_NI: Tensor, packed_OJ: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """x (N, I) float32, packed (O, I / 2) uint8 (see ``pack_int4``), scale and offset (O, groups) float32:
    weight = scale * code + offset -> (N, O) float32."""
    outputs, groups = scale_OG.shape
    x_NI, inputs = x_NI.contiguous(), x_NI.shape[1]
    sums_NG = x_NI.view(len(x_NI), groups, -1).sum(-1)
    y_NO = x_NI.new_empty(len(x_NI), outputs)

    def job(start: int, stop: int) -> None:
        tensors = (packed_OJ, scale_OG, offset_OG, y_NO)
        _call("matvec_int4", x_NI, sums_NG, len(x_NI), *tensors, inputs, outputs, inputs // groups, start, stop)

    _over_outputs(job, outputs, packed_OJ.nbytes)
    return y_NO


def pack_int4(codes_OI: Tensor, group: int) -> Tensor:
    """Codes 0 to 15, (O, I) uint8 -> (O, I / 2): in each group, byte j holds input j below and j + group / 2 above."""
    codes = codes_OI.unflatten(1, (-1, 2, group // 2))
    return (codes[:, :, 0] | (codes[:, :, 1] << 4)).flatten(1)


def unpack_int4(packed_OJ: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """The weights (O, I) float32 that ``pack_int4`` and its scales stand for."""
    bytes_OGj = packed_OJ.unflatten(1, (scale_OG.shape[1], -1))
    codes = torch.cat([bytes_OGj & 15, bytes_OGj >> 4], -1).float()
    return (codes * scale_OG[..., None] + offset_OG[..., None]).flatten(1)


def _sizes(weight_OI: Tensor) -> tuple[int, int]:
    return weight_OI.shape[1], weight_OI.shape[0]


def _over_outputs(job: Callable[[int, int], None], outputs: int, nbytes: int) -> None:
    """``job(start, stop)`` over all outputs, in as many threads as the reading is worth."""
    parts = max(1, min(torch.get_num_threads(), nbytes // SHARE))
    bounds = [outputs * i // parts for i in range(parts + 1)]
    compiled.in_threads(job, list(zip(bounds, bounds[1:], strict=False)))


def _call(name: str, *arguments: Tensor | int) -> None:
    """NOTE the C code reads memory from the first element on: whatever is not contiguous is another matrix to it."""
    library = _library()
    assert isinstance(library, ctypes.CDLL)
    getattr(library, name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


@functools.cache
def _library() -> ctypes.CDLL | str:
    library = compiled.library(SOURCE)
    if isinstance(library, str):
        return library
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.matvec_bfloat16.argtypes = [pointer, number, pointer, pointer, long, long, long, long]
    library.matvec_int8.argtypes = [pointer, number, pointer, pointer, pointer, long, long, long, long]
    library.matvec_int4.argtypes = [pointer, pointer, number, *[pointer] * 4, long, long, long, long, long]
    library.matvec_bfloat16.restype = library.matvec_int8.restype = library.matvec_int4.restype = None
    return library
