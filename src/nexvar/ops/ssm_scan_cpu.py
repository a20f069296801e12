"""The selective scan as a compiled CPU loop: ``ssm_scan.c``, built once per machine when a C compiler is there.

Nothing needs it. ``available`` compiles on first use (a second or two), keeps the library in the user's cache folder
and says no if anything is missing; ``status`` tells why.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.ops import compiled

BLOCK = 32  # steps between two states that the forward keeps for the backward
WIDTH, MAX_STATE = 16, 256  # the largest W, and MAX_STATE, of ssm_scan.c
SOURCE = Path(__file__).with_name("ssm_scan.c")


def available() -> bool:
    """True if the compiled scan can be used; compiles it on the first call."""
    return isinstance(_library(), ctypes.CDLL)


def status() -> str:
    """One line: the library's path, or why there is none."""
    library = _library()
    return library._name if isinstance(library, ctypes.CDLL) else library


def forward(
    u: Tensor, dt: Tensor, A_GNE: Tensor, B: Tensor, C: Tensor, D: Tensor, state_BNE: Tensor, size: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``ssm_scan.walk_forward``; contiguous float32 tensors on the CPU."""
    rows, length, channels = u.shape
    y, last = torch.empty_like(u), state_BNE.clone()
    kept = last.new_empty(-(-length // size) if keep else 0, *last.shape)

    def job(row: int, _: int, start: int, stop: int) -> None:
        group = row * len(A_GNE) // rows
        tensors = (u[row], dt[row], A_GNE[group], B[row], C[row], D[group], last[row], y[row])
        numbers = (kept.stride(0), length, channels, A_GNE.shape[1], size, start, stop)
        _library_or_raise().scan_forward(*_pointers(*tensors, kept[0, row] if keep else None), *numbers)

    _run(job, rows, _channel_ranges(rows, channels))
    return y, last, kept


def backward(
    u: Tensor,
    dt: Tensor,
    A_GNE: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    kept: Tensor,
    size: int,
    grad_y: Tensor,
    grad_last: Tensor,
) -> tuple[Tensor, ...]:
    """As ``ssm_scan.walk_backward``; contiguous float32 tensors on the CPU."""
    rows, length, channels = u.shape
    groups, state_size = A_GNE.shape[:2]
    ranges = _channel_ranges(rows, channels)
    grad_u, grad_dt, grad_A, grad_state = (torch.empty_like(x) for x in (u, dt, grad_last, grad_last))
    grad_state.copy_(grad_last)
    grad_D = u.new_empty(rows, channels)
    # B and C are shared by all channels: every range adds into its own copy
    grad_B, grad_C = (x.new_zeros(len(ranges), *x.shape) for x in (B, C))

    def job(row: int, part: int, start: int, stop: int) -> None:
        group = row * groups // rows
        work = u.new_empty((2 * size + 1) * state_size * WIDTH)
        inputs = (u[row], dt[row], A_GNE[group], B[row], C[row], D[group], kept[0, row])
        grads = (grad_u[row], grad_dt[row], grad_A[row], grad_B[part, row], grad_C[part, row], grad_D[row])
        numbers = (length, channels, state_size, size, start, stop)
        _library_or_raise().scan_backward(
            *_pointers(*inputs),
            kept.stride(0),
            *_pointers(grad_y[row], *grads, grad_state[row]),
            *numbers,
            *_pointers(work),
        )

    _run(job, rows, ranges)
    per_group = (x.unflatten(0, (groups, -1)).sum(1) for x in (grad_A, grad_D))
    grad_A_GNE, grad_D_GE = per_group
    return grad_u, grad_dt, grad_A_GNE, grad_B.sum(0), grad_C.sum(0), grad_D_GE, grad_state


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if x is None else x.data_ptr() for x in tensors]


def _channel_ranges(rows: int, channels: int) -> list[tuple[int, int]]:
    """Channel ranges such that rows x ranges keep torch's number of threads busy."""
    groups = -(-channels // WIDTH)
    parts = min(groups, -(-torch.get_num_threads() // rows))
    bounds = [WIDTH * (groups * i // parts) for i in range(parts)] + [channels]
    return list(zip(bounds, bounds[1:], strict=False))


def _run(job: Callable[[int, int, int, int], None], rows: int, ranges: list[tuple[int, int]]) -> None:
    """``job(row, part, start, stop)`` for every row and range."""
    compiled.in_threads(job, [(row, part, *bounds) for row in range(rows) for part, bounds in enumerate(ranges)])


def _library_or_raise() -> ctypes.CDLL:
    library = _library()
    if not isinstance(library, ctypes.CDLL):
        raise NexVarError(f"no compiled scan: {library}", where="NEXVAR_SCAN", fix="use the torch scan")
    return library


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The compiled library, or why there is none."""
    library = compiled.library(SOURCE)
    if isinstance(library, str):
        return library
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.scan_forward.argtypes = [pointer] * 9 + [ctypes.c_int64] + [number] * 6
    library.scan_backward.argtypes = [pointer] * 7 + [ctypes.c_int64] + [pointer] * 8 + [number] * 6 + [pointer]
    library.scan_forward.restype = library.scan_backward.restype = None
    return library
