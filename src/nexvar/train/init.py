"""Fresh parameters for training from scratch, chosen by parameter name and shape.

Checkpoints never pass through here; ``load.py`` assigns theirs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_ZERO_AT_START = ("out_filter_dense.weight", "inner_mha_cls.out_proj.weight", "mlp.l3.weight")


@torch.no_grad()
def initialize(model: nn.Module, seed: int) -> None:
    """Fill every parameter of ``model`` (already on its device) and its buffers; the same seed gives the same bits.

    The last matrix of every residual branch starts at zero, so that the network starts as its embedding.
    """
    rng = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        p.copy_(_fresh(name, p.shape, rng))
    model.reset_buffers()  # type: ignore[operator]


def _fresh(name: str, shape: torch.Size, rng: torch.Generator) -> Tensor:
    def normal(std: float) -> Tensor:
        return torch.randn(shape, generator=rng) * std

    leaf = name.rsplit(".", 1)[-1]
    if name.endswith(_ZERO_AT_START):
        return torch.zeros(shape)
    if leaf == "log_poles":  # time constants from one base to 4,000, log-spaced, the same set in every channel
        rates = torch.logspace(0, -math.log10(4000.0), shape[1])
        return -rates[None, :, None].expand(shape)
    if leaf == "residues":
        return normal(0.1 / math.sqrt(shape[1]))
    if leaf == "h":  # Hyena filters: unit energy; the long ones under envelopes of 4 .. 64 bases, one per group
        taps = torch.arange(shape[-1], dtype=torch.float32)
        if shape[-1] <= 16:
            return normal(shape[-1] ** -0.5)
        scale = torch.logspace(2, 6, shape[0], base=2.0)[:, None]
        envelope = torch.exp(-taps / scale)
        return normal(1.0) * (envelope / envelope.norm(dim=-1, keepdim=True))[:, None]
    if leaf == "short_filter_weight":
        return normal(shape[-1] ** -0.5)
    if leaf == "D" or (p_is_scale := leaf == "scale" or ("norm" in name and leaf == "weight")):
        return torch.ones(shape)
    if leaf == "bias":
        return torch.zeros(shape)
    if "embedding" in name or "embed" in name:
        return normal(0.02)
    if len(shape) >= 2:
        return normal(math.prod(shape[1:]) ** -0.5)
    raise ValueError(f"no initialisation for {name} {tuple(shape)}")
