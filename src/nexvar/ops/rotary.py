"""Rotary position embedding, NeoX style: the two halves of a head are rotated against each other.

Su et al. 2021, arXiv:2104.09864. Which ``inv_freq`` is right differs by family: see each model's file.
"""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_frequencies(head_dim: int, base: float) -> Tensor:
    """(head_dim / 2,) float32: ``base ** (-2 i / head_dim)``."""
    return 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def rotary_tables(inv_freq: Tensor, start: int, length: int, *, interpolation: float = 1.0) -> tuple[Tensor, Tensor]:
    """cos and sin, each (length, head_dim / 2) float32, of positions ``start .. start + length``.

    interpolation: positions are divided by it (linear position interpolation).
    """
    positions = torch.arange(start, start + length, dtype=torch.float32, device=inv_freq.device)
    angles = torch.outer(positions / interpolation, inv_freq.float())
    return angles.cos(), angles.sin()


def apply_rotary(x_BLHd: Tensor, cos_Lh: Tensor, sin_Lh: Tensor) -> Tensor:
    """Rotate every head of x (B, L, H, d); computed in float32, returned in x's dtype."""
    a, b = x_BLHd.float().chunk(2, dim=-1)
    cos, sin = cos_Lh.float()[:, None], sin_Lh.float()[:, None]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x_BLHd.dtype)
