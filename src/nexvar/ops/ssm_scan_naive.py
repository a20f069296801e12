"""The definition of the selective scan, one step at a time; ``ssm_scan`` has the formula and the legend."""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan_naive(
    u_BLE: Tensor,
    dt_BLE: Tensor,
    A_GEN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_GE: Tensor,
    state_BEN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition, one step at a time over a materialised (B, L, E, N) decay; arguments as ``selective_scan``."""
    work = torch.promote_types(u_BLE.dtype, torch.float32)
    u, dt, B, C = (x.to(work) for x in (u_BLE, dt_BLE, B_BLN, C_BLN))
    A, D = per_row(A_GEN.to(work), len(u)), per_row(D_GE.to(work), len(u))
    decay_BLEN = (dt[..., None] * A[:, None]).exp()
    input_BLEN = (dt * u)[..., None] * B[:, :, None]
    state = u.new_zeros(A.shape) if state_BEN is None else state_BEN.to(work)
    ys = []
    for decay_BEN, input_BEN, C_BN in zip(decay_BLEN.unbind(1), input_BLEN.unbind(1), C.unbind(1), strict=True):
        state = decay_BEN * state + input_BEN
        ys.append((state * C_BN[:, None]).sum(-1))
    return (torch.stack(ys, 1) + D[:, None] * u).to(u_BLE.dtype), state


def per_row(x: Tensor, rows: int) -> Tensor:
    return x.repeat_interleave(rows // len(x), 0)
