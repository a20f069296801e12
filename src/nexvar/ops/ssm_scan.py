"""The selective scan of Mamba-1 (Gu & Dao 2023, arXiv:2312.00752; state-spaces/mamba ``selective_scan_ref``).

    s_t = exp(dt_t A) s_{t-1} + dt_t B_t u_t          state (E, N) per sequence, in float32
    y_t = <s_t, C_t> + D u_t

Legend: B rows (sequences, strands and directions together), L length, E channels, N state size, G groups of rows
with their own A and D (the two directions of a bidirectional model are scanned in one call: G = 2).

``ssm_scan_naive`` is the definition. ``selective_scan`` gives the same and never holds a (B, L, E, N) tensor:
it walks blocks of a few steps, for which decays and inputs are computed at once, and its backward recomputes the
states of a block from the one kept at the block's start. Three implementations do the walk, chosen at run time:
  torch   this file; any device, float32 and float64
  c       ``ssm_scan_cpu``: a compiled loop, when a C compiler is there
  triton  ``ssm_scan_triton``: forward on CUDA, when Triton is there (the backward is torch's)
The environment variable NEXVAR_SCAN (auto, torch, c, triton, naive) overrides the choice; ``backend`` tells which is
used, and ``ssm_scan_cpu.status`` and ``ssm_scan_triton.status`` why one is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nexvar.errors import NexVarError
from nexvar.ops import ssm_scan_cpu, ssm_scan_triton
from nexvar.ops.ssm_scan_naive import per_row, selective_scan_naive
from nexvar.ops.tracing import tracing

BACKENDS = ("auto", "torch", "c", "triton", "naive")
# Elements of one (steps, B, N, E) work buffer of the torch walk; two or three are alive. On a CPU they should fit
# its last-level cache; on a device only memory bounds them.
BLOCK_ELEMENTS_CPU, BLOCK_ELEMENTS_DEVICE = 1 << 19, 1 << 24


def selective_scan(
    u_BLE: Tensor,
    dt_BLE: Tensor,
    A_GEN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_GE: Tensor,
    state_BEN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan every row; returns y (B, L, E) in u's dtype and the last state (B, E, N) in float32.

    u: (B, L, E). dt: (B, L, E), positive (softplus and bias already applied). B, C: (B, L, N).
    A: (G, E, N), negative; D: (G, E); G divides B and rows ``b * G // B`` share a group.
    state: (B, E, N), the state before the first step (zeros if None): passing the returned one on continues a scan.
    Computed in float32 (float64 for float64 inputs); differentiable in every argument.
    """
    choice = backend(u_BLE)
    if choice == "c" and A_GEN.shape[2] > ssm_scan_cpu.MAX_STATE:
        choice = "torch"
    if choice == "naive":
        return selective_scan_naive(u_BLE, dt_BLE, A_GEN, B_BLN, C_BLN, D_GE, state_BEN)
    work = torch.promote_types(u_BLE.dtype, torch.float32)
    u, dt, B, C, D = (x.to(work).contiguous() for x in (u_BLE, dt_BLE, B_BLN, C_BLN, D_GE))
    A_GNE = A_GEN.to(work).transpose(1, 2).contiguous()
    if state_BEN is None:
        state_BNE = u.new_zeros(u.shape[0], A_GNE.shape[1], u.shape[2])
    else:
        state_BNE = state_BEN.to(work).transpose(1, 2).contiguous()
    y_BLE, last_BNE = _Scan.apply(u, dt, A_GNE, B, C, D, state_BNE, choice)
    return y_BLE.to(u_BLE.dtype), last_BNE.transpose(1, 2)


def selective_scan_step(
    u_BE: Tensor, dt_BE: Tensor, A_GEN: Tensor, B_BN: Tensor, C_BN: Tensor, D_GE: Tensor, state_BEN: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of the recurrence for cached use: y (B, E) and the new state; arguments as ``selective_scan``."""
    u, dt, B, C = (x[:, None] for x in (u_BE, dt_BE, B_BN, C_BN))
    y_BLE, state_BEN = selective_scan_naive(u, dt, A_GEN, B, C, D_GE, state_BEN)
    return y_BLE[:, 0], state_BEN


def backend(x: Tensor) -> str:
    """Which implementation scans tensors like ``x``: "torch", "c", "triton" or "naive"."""
    choice = os.environ.get("NEXVAR_SCAN", "auto")
    if choice not in BACKENDS:
        raise NexVarError(f"NEXVAR_SCAN={choice!r}", where="environment", fix=f"one of {', '.join(BACKENDS)}")
    if choice in ("naive", "torch") or x.dtype == torch.float64 or tracing():
        return "naive" if choice == "naive" else "torch"
    if x.device.type == "cpu" and choice != "triton" and ssm_scan_cpu.available():
        return "c"
    if x.device.type == "cuda" and choice != "c" and ssm_scan_triton.available():
        return "triton"
    return "torch"


class _Scan(torch.autograd.Function):
    """The walk over blocks. Keeps the inputs and one state per block; backward recomputes the others."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        dt: Tensor,
        A_GNE: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        state_BNE: Tensor,
        choice: str,
    ) -> tuple[Tensor, Tensor]:
        keep = any(ctx.needs_input_grad)
        walks: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]]
        walks = {"c": ssm_scan_cpu.forward, "triton": ssm_scan_triton.forward, "torch": walk_forward}
        size = ssm_scan_cpu.BLOCK if choice == "c" else _block_size(u, A_GNE.shape[1])
        y, last, kept = walks[choice](u, dt, A_GNE, B, C, D, state_BNE, size, keep)
        if keep:
            ctx.save_for_backward(u, dt, A_GNE, B, C, D, kept)
            ctx.choice, ctx.size = choice, size
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        walk: Callable[..., tuple[Tensor, ...]] = ssm_scan_cpu.backward if ctx.choice == "c" else walk_backward
        return *walk(*ctx.saved_tensors, ctx.size, grad_y.contiguous(), grad_last.contiguous()), None


def walk_forward(
    u: Tensor, dt: Tensor, A_GNE: Tensor, B: Tensor, C: Tensor, D: Tensor, state_BNE: Tensor, size: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, L, E), the last state (B, N, E) and, if ``keep``, the states before each block (blocks, B, N, E)."""
    work = _Work(u, A_GNE, size, buffers=2)
    y, last = torch.empty_like(u), state_BNE.clone()
    starts = range(0, u.shape[1], size)
    kept = last.new_empty(len(starts) if keep else 0, *last.shape)
    for i, start in enumerate(starts):
        if keep:
            kept[i] = last
        _, state = work.recompute(start, u, dt, B, last)
        y[:, start : start + size] = (_steps(C, start, size)[:, :, None] @ state)[:, :, 0].transpose(0, 1)
        last.copy_(state[-1])
    y.addcmul_(u, per_row(D, len(u))[:, None])
    return y, last, kept


def walk_backward(
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
    """Gradients of u, dt, A (G, N, E), B, C, D and the first state (B, N, E)."""
    work = _Work(u, A_GNE, size, buffers=3)
    grad_u, grad_dt, grad_B, grad_C = (torch.empty_like(x) for x in (u, dt, B, C))
    grad_A_BNE = torch.zeros_like(grad_last)
    carry = grad_last.clone()  # gradient of the state after the block at hand
    for i in reversed(range(len(kept))):
        start, at = i * size, slice(i * size, (i + 1) * size)
        decay, state = work.recompute(start, u, dt, B, kept[i])
        dt_TBE, u_TBE, gy_TBE, B_TBN, C_TBN = (_steps(x, start, size) for x in (dt, u, grad_y, B, C))
        # grad: gradient of every state of the block; grad_t = C_t gy_t + decay_{t+1} grad_{t+1}
        grad = torch.mul(gy_TBE[:, :, None], C_TBN[..., None], out=work.buffers[2][: len(dt_TBE)])
        grad[-1].add_(carry)
        decays, grads = work.steps[0], work.steps[2]
        for t in reversed(range(len(grad) - 1)):
            grads[t].addcmul_(decays[t + 1], grads[t + 1])
        torch.mul(decays[0], grads[0], out=carry)

        # NOTE: row vector times transposed matrix: the same product as matrix times column is 8 times slower on a CPU
        grad_C[:, at] = (gy_TBE[:, :, None] @ state.mT)[:, :, 0].transpose(0, 1)
        grad_B[:, at] = ((dt_TBE * u_TBE)[:, :, None] @ grad.mT)[:, :, 0].transpose(0, 1)
        grad_input_TBE = (B_TBN[:, :, None] @ grad)[:, :, 0]

        grad[1:].mul_(state[:-1])  # from here on: gradient of dt_t A
        grad[0].mul_(kept[i])
        grad.mul_(decay)
        grad_A_BNE += torch.mul(grad, dt_TBE[:, :, None], out=state).sum(0)
        grad_dt_TBE = torch.mul(grad, work.A_1BNE, out=state).sum(2)
        grad_dt[:, at] = grad_dt_TBE.addcmul_(grad_input_TBE, u_TBE).transpose(0, 1)
        grad_u[:, at] = (grad_input_TBE * dt_TBE).transpose(0, 1)
    grad_u.addcmul_(grad_y, per_row(D, len(u))[:, None])
    grad_D = _per_group((grad_y * u).sum(1), len(D))
    return grad_u, grad_dt, _per_group(grad_A_BNE, len(D)), grad_B, grad_C, grad_D, carry


class _Work:
    """Buffers (T, B, N, E) of the torch walk and their views step by step, made once and used for every block."""

    def __init__(self, u_BLE: Tensor, A_GNE: Tensor, size: int, buffers: int) -> None:
        shape = (size, len(u_BLE), *A_GNE.shape[1:])
        self.buffers = [u_BLE.new_empty(shape) for _ in range(buffers)]
        self.steps = [buffer.unbind(0) for buffer in self.buffers]
        self.A_1BNE = per_row(A_GNE, len(u_BLE))[None]
        self.size = size

    def recompute(self, start: int, u: Tensor, dt: Tensor, B: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Decays and states of the block at ``start``, in buffers 0 and 1, from the state before it."""
        dt_TBE = _steps(dt, start, self.size)
        decay, state = (buffer[: len(dt_TBE)] for buffer in self.buffers[:2])
        torch.mul(dt_TBE[:, :, None], self.A_1BNE, out=decay).exp_()
        input_TBE = dt_TBE * _steps(u, start, self.size)
        torch.mul(input_TBE[:, :, None], _steps(B, start, self.size)[..., None], out=state)
        for factor, now in zip(self.steps[0], self.steps[1][: len(dt_TBE)], strict=False):
            before = now.addcmul_(factor, before)
        return decay, state


def _block_size(u_BLE: Tensor, state_size: int) -> int:
    """Steps of a block: a power of two, 4 to 64."""
    room = BLOCK_ELEMENTS_CPU if u_BLE.device.type == "cpu" else BLOCK_ELEMENTS_DEVICE
    steps = min(u_BLE.shape[1], room // (len(u_BLE) * u_BLE.shape[2] * state_size))
    return 1 << min(6, max(2, steps.bit_length() - 1))


def _steps(x_BLE: Tensor, start: int, size: int) -> Tensor:
    """Block ``start .. start + size`` of x, step-major: (T, B, E)."""
    return x_BLE[:, start : start + size].transpose(0, 1)


def _per_group(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(0, (groups, -1)).sum(1)
