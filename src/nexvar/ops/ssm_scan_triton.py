"""The forward of the selective scan as a Triton kernel, for CUDA where Triton is installed. Nothing needs it.

NOTE: its numbers were checked with Triton's interpreter and it was compiled for sm_80 and sm_90, but it never ran on a
GPU. ``available`` therefore compares it
with the definition on a small problem when it is first asked for, and says no if they differ; ``status`` tells why.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from nexvar.ops.ssm_scan_naive import selective_scan_naive

WIDTH = 32  # channels of a program


def available() -> bool:
    """True if Triton is there, compiles the kernel and gives the right numbers on this GPU."""
    return status() == "ok"


@functools.cache
def status() -> str:
    """ "ok", or why the kernel is not used."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    try:
        worst = self_check("cuda")
    except (ImportError, RuntimeError, ValueError, TypeError, AttributeError, OSError) as error:
        return f"the kernel failed: {type(error).__name__}: {error}"[:300]
    return "ok" if worst < 1e-4 else f"the kernel is off by {worst:.1e} of the largest value on this GPU"


def self_check(device: str) -> float:
    """Largest difference of y and the last state from the definition, relative to their largest value."""
    draw = torch.Generator().manual_seed(0)
    rows, length, channels, states = 4, 75, 40, 6
    u, B, C = (torch.randn(rows, length, n, generator=draw) for n in (channels, states, states))
    dt = torch.rand(rows, length, channels, generator=draw)
    A = -4 * torch.rand(2, channels, states, generator=draw)
    D, state = torch.randn(2, channels, generator=draw), torch.randn(rows, channels, states, generator=draw)
    arguments: Any = (*(x.to(device).contiguous() for x in (u, dt, A.mT, B, C, D, state.mT)), 16, True)
    y, last, kept = forward(*arguments)
    expected = selective_scan_naive(u, dt, A, B, C, D, state)
    computed = y.cpu(), last.mT.cpu()
    half = selective_scan_naive(u[:, :32], dt[:, :32], A, B[:, :32], C[:, :32], D, state)[1]
    pairs = (*zip(computed, expected, strict=True), (kept[2].mT.cpu(), half))
    return max(float((x - r).abs().max() / r.abs().max()) for x, r in pairs)


def forward(
    u: Tensor, dt: Tensor, A_GNE: Tensor, B: Tensor, C: Tensor, D: Tensor, state_BNE: Tensor, size: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``ssm_scan.walk_forward``; contiguous float32 tensors on a CUDA device, ``size`` a power of two."""
    rows, length, channels = u.shape
    groups, states = A_GNE.shape[:2]
    y, last = torch.empty_like(u), torch.empty_like(state_BNE)
    kept = last.new_empty(-(-length // size) if keep else 0, *last.shape)
    grid = rows, -(-channels // WIDTH)
    padded = 1 << (states - 1).bit_length()
    from nexvar.ops.ssm_scan_kernel import scan  # needs triton

    scan[grid](
        u, dt, A_GNE, B, C, D, state_BNE, y, last, kept if keep else last, length, channels, rows // groups,
        last.numel(), keep, states, padded, size, WIDTH,
    )  # fmt: skip
    return y, last, kept
