"""RMSNorm as the StripedHyena family writes it: eps is added to the root mean square, outside the root."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm_naive(x_BLD: Tensor, scale_D: Tensor, eps: float) -> Tensor:
    """The definition: ``scale * x / (|x| / sqrt(D) + eps)``, every step in x's dtype."""
    root = x_BLD.norm(2, dim=-1, keepdim=True) * x_BLD.shape[-1] ** -0.5
    return scale_D * (x_BLD / (root + eps))


def rms_norm(x_BLD: Tensor, scale_D: Tensor, eps: float) -> Tensor:
    """``rms_norm_naive`` in float32 inside, rounded once to x's dtype."""
    x = x_BLD.float()  # once: operations on mixed dtypes would convert at every step
    root = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
    return (x * (root + eps).reciprocal() * scale_D.float()).to(x_BLD.dtype)
