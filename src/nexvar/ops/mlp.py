"""The gated MLP of NT v2, NTv3 and DNABERT-2: one projection holds gate and value, the first half is the gate."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Tokens at a time: the 2F-wide intermediate stays in a CPU's cache, and nowhere grows with the length.
ROWS = {"cpu": 1 << 10, "cuda": 1 << 16}


def gate_naive(h: Tensor, activation: str) -> Tensor:
    """(..., 2F) -> (..., F): activation(first half) * second half. activation: "silu", "gelu" or "gelu_tanh"."""
    a, b = h.chunk(2, dim=-1)
    return _ACTIVATIONS[activation](a) * b


def gate(h: Tensor, activation: str) -> Tensor:
    """``gate_naive`` with one temporary less when no gradient is recorded."""
    if torch.is_grad_enabled() and h.requires_grad:
        return gate_naive(h, activation)
    a, b = h.chunk(2, dim=-1)
    return _ACTIVATIONS[activation](a).mul_(b)


def gated_mlp(
    x: Tensor, project_in: Callable[[Tensor], Tensor], project_out: Callable[[Tensor], Tensor], activation: str
) -> Tensor:
    """project_out(gate(project_in(x))) over x (..., D); ``project_in`` yields 2F.

    Without gradients it runs over blocks of tokens, so that memory does not grow with F times the length.
    """
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and x.requires_grad):
        return project_out(gate_naive(project_in(x), activation))
    flat = x.reshape(-1, x.shape[-1])
    blocks = [project_out(gate(project_in(rows), activation)) for rows in flat.split(ROWS.get(x.device.type, 1 << 16))]
    out = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
    return out.view(*x.shape[:-1], out.shape[-1])


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": _gelu_tanh}
