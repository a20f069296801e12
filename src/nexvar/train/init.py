"""Fresh parameters for training from scratch. Checkpoints never pass through here; ``load.py`` assigns theirs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nexvar import models

_WRITES_RESIDUAL = ("out_filter_dense.weight", "inner_mha_cls.out_proj.weight", "mlp.l3.weight")


def fresh(architecture: str, config: Any, seed: int, std: float = 0.0) -> nn.Module:
    """A model to train from scratch, on the CPU; the same seed gives the same bits.

    std: when above 0, every matrix and embedding is drawn with it (Genos: 0.01). Otherwise StripedHyena 2 follows
    the rules below and every other architecture its own constructor.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = models.get(architecture).Model(config)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if std > 0:
                if p.ndim == 2:
                    p.normal_(std=std, generator=rng)
            elif architecture == "striped_hyena2":
                p.copy_(_striped_hyena2(name, p.shape, rng))
    model.reset_buffers()  # type: ignore[operator]
    return model


def _striped_hyena2(name: str, shape: torch.Size, rng: torch.Generator) -> Tensor:
    """What writes into the residual stream starts at zero (the network starts as its embedding: Muon likes that),
    every other matrix keeps variance, filters have unit energy and memories from one base to 4,000."""

    def normal(std: float) -> Tensor:
        return torch.randn(shape, generator=rng) * std

    leaf = name.rsplit(".", 1)[-1]
    if name.endswith(_WRITES_RESIDUAL) or leaf.endswith("bias"):
        return torch.zeros(shape)
    if leaf in ("scale", "D"):
        return torch.ones(shape)
    if leaf == "log_poles":
        rates = torch.logspace(0, -math.log10(4000.0), shape[1])
        return -rates[None, :, None].expand(shape)
    if leaf == "residues":
        return normal(0.1 / math.sqrt(shape[1]))
    if leaf == "h" and shape[-1] > 16:  # one envelope per group, of 4 to 64 bases
        spans = torch.logspace(2, 6, shape[0], base=2.0)[:, None]
        envelope = torch.exp(-torch.arange(shape[-1], dtype=torch.float32) / spans)
        return normal(1.0) * (envelope / envelope.norm(dim=-1, keepdim=True))[:, None]
    if leaf in ("h", "short_filter_weight"):
        return normal(shape[-1] ** -0.5)
    if name in ("embedding_layer.weight", "unembed.weight"):
        return normal(0.02)
    return normal(math.prod(shape[1:]) ** -0.5)
