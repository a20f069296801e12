"""Products of a few rows with a large weight, bound by reading it: bfloat16, FP8, int8 and int4 weights, on CPUs.

    x (n, I) float32, few rows    w (O, I)  bfloat16   two bytes a weight
                                            float8     one (E4M3)
                                            int8       one, and a scale per output
                                            int4       half of one, and a scale and an offset per group of inputs

Each weight is read once and raised in a register (``matvec.c``, compiled at run time where there is a compiler: AVX2,
AVX-512, NEON). Floating-point weights are multiplied in float32. Codes are multiplied as integers: x is rounded to 16
bits, with a scale per 256 inputs or per group, and the sums of a block are exact. Without a compiler ``available`` is
False and callers do the same in plain torch; ``matvec_*_naive`` are the definitions.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar.ops import compiled
from nexvar.threads import product_threads

SOURCE = Path(__file__).with_name("matvec.c")
MOST_ROWS = 4  # of bfloat16: beyond them a product of matrices is faster
SHARE = 1 << 20  # bytes of weights that are worth a thread


def available() -> bool:
    """True if the compiled products can be used; compiles them on the first call."""
    return isinstance(_library(), ctypes.CDLL)


def serves(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether all large products of a few rows of that dtype are computed here."""
    return dtype == torch.bfloat16 and device.type == "cpu" and available()


def status() -> str:
    """One line: the library's path, or why there is none."""
    library = _library()
    return library._name if isinstance(library, ctypes.CDLL) else library


def matvec_bfloat16_naive(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return x_NI @ weight_OI.float().T


def matvec_bfloat16(x_NI: Tensor, weight_OI: Tensor) -> Tensor:
    """x (N, I) float32, weight (O, I) bfloat16, contiguous -> (N, O) float32."""
    return _product("matvec_bfloat16", x_NI, weight_OI)


def matvec_float8_naive(x_NI: Tensor, codes_OI: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return x_NI @ codes_OI.float().T


def matvec_float8(x_NI: Tensor, codes_OI: Tensor) -> Tensor:
    """x (N, I) float32, codes (O, I) float8_e4m3fn, all finite -> (N, O) float32."""
    return _product("matvec_float8", x_NI, codes_OI)


def matvec_int8_naive(x_NI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return (x_NI @ codes_OI.float().T) * scale_O


def matvec_int8(x_NI: Tensor, codes_OI: Tensor, scale_O: Tensor) -> Tensor:
    """x (N, I) float32, codes (O, I) int8, scale (O,) float32: weight = scale * code -> (N, O) float32."""
    return _product("matvec_int8", x_NI, codes_OI, scale_O)


def matvec_int4_naive(x_NI: Tensor, packed_OJ: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """The definition: (N, O) float32."""
    return x_NI @ unpack_int4(packed_OJ, scale_OG.float(), offset_OG.float()).T


def matvec_int4(x_NI: Tensor, packed_OJ: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """x (N, I) float32, packed (O, I / 2) uint8 (see ``pack_int4``), scale and offset (O, groups) bfloat16 or float32:
    weight = scale * code + offset -> (N, O) float32."""
    groups = (scale_OG.shape[1], int(scale_OG.dtype == torch.bfloat16))
    return _product("matvec_int4", x_NI, packed_OJ, scale_OG, offset_OG, *groups)


def attention_step_naive(q_BHd: Tensor, k_BMKd: Tensor, v_BMKd: Tensor) -> Tensor:
    """The definition: softmax(q k^T / sqrt(d)) v of one query per sequence and head, (B, H, d) float32."""
    groups = q_BHd.shape[1] // k_BMKd.shape[2]
    k_BHMd, v_BHMd = (x.float().transpose(1, 2).repeat_interleave(groups, 1) for x in (k_BMKd, v_BMKd))
    scores_BHM = (k_BHMd @ q_BHd[..., None]).squeeze(-1) * q_BHd.shape[-1] ** -0.5
    return (scores_BHM.softmax(-1)[:, :, None] @ v_BHMd).squeeze(2)


def attention_step(q_BHd: Tensor, k_BMKd: Tensor, v_BMKd: Tensor) -> Tensor:
    """q (B, H, d) float32; k, v (B, M, K, d) bfloat16, d a multiple of 16 whose numbers are neighbours, H / K up to
    ``MOST_ROWS`` -> (B, H, d) float32. Keys and values are read once, as they are stored."""
    B, H, d = q_BHd.shape
    _, M, K, _ = k_BMKd.shape
    q_BKGd = (q_BHd * d**-0.5).view(B, K, H // K, d)
    weights = _attended("attention_scores", q_BKGd, k_BMKd, M).softmax(-1)
    return _attended("attention_values", weights, v_BMKd, d).view(B, H, d)


def _attended(name: str, x_BKGx: Tensor, stored_BMKd: Tensor, size: int) -> Tensor:
    B, M, K, d = stored_BMKd.shape
    groups = x_BKGx.shape[2]
    y = x_BKGx.new_empty(B, K, groups, size)
    sequence, token, head, _ = stored_BMKd.stride()
    places = (stored_BMKd.data_ptr(), sequence, head, token, threads(2 * B * M * K * d))
    getattr(_library(), name)(x_BKGx.data_ptr(), groups, y.data_ptr(), d, M, B, K, *places)
    return y


def pack_int4(codes_OI: Tensor, group: int) -> Tensor:
    """Codes 0 to 15, (O, I) uint8 -> (O, I / 2): in each group, byte j holds input j below and j + group / 2 above."""
    codes = codes_OI.unflatten(1, (-1, 2, group // 2))
    return (codes[:, :, 0] | (codes[:, :, 1] << 4)).flatten(1)


def unpack_int4(packed_OJ: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """The weights (O, I) float32 that ``pack_int4`` and its scales stand for."""
    bytes_OGj = packed_OJ.unflatten(1, (scale_OG.shape[1], -1))
    codes = torch.cat([bytes_OGj & 15, bytes_OGj >> 4], -1).float()
    return (codes * scale_OG[..., None] + offset_OG[..., None]).flatten(1)


def threads(nbytes: int) -> int:
    """Threads for a product that reads so many bytes."""
    return max(1, min(product_threads(), nbytes // SHARE))


def _product(name: str, x_NI: Tensor, weight: Tensor, *others: Tensor | int) -> Tensor:
    """NOTE the C code reads memory from the first element on: whatever is not contiguous is another matrix to it."""
    library = _library()
    assert isinstance(library, ctypes.CDLL)
    x_NI = x_NI.contiguous()
    (rows, inputs), outputs = x_NI.shape, len(weight)
    y_NO = x_NI.new_empty(rows, outputs)
    sizes = (inputs, outputs, threads(weight.nbytes))
    given = (a.data_ptr() if isinstance(a, Tensor) else a for a in (weight, *others))
    if getattr(library, name)(x_NI.data_ptr(), rows, y_NO.data_ptr(), *sizes, *given):
        raise MemoryError(name)
    return y_NO


@functools.cache
def _library() -> ctypes.CDLL | str:
    library = compiled.library(SOURCE)
    if isinstance(library, str):
        return library
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    int4: list[Any] = [pointer, pointer, pointer, long, number]
    for kind, weights in {"bfloat16": int4[:1], "float8": int4[:1], "int8": int4[:2], "int4": int4}.items():
        getattr(library, f"matvec_{kind}").argtypes = [pointer, number, pointer, long, long, number, *weights]
    for name in ("attention_scores", "attention_values"):
        getattr(library, name).argtypes = [pointer, number, pointer, *[long] * 4, pointer, *[long] * 3, number]
        getattr(library, name).restype = None
    return library
