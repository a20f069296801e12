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

    std: when above 0, every matrix and embedding is drawn with it (Genos: 0.01). Otherwise StripedHyena 2, HyenaDNA
    and Caduceus follow the rules below and every other architecture its own constructor.
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
            elif architecture == "hyenadna":
                _hyenadna(name, p, config, rng)
            elif architecture == "caduceus":
                _caduceus(name, p, config, rng)
        if architecture == "hyenadna":
            _hyenadna_buffers(model, config)
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


def _hyenadna(name: str, p: Tensor, config: Any, rng: torch.Generator) -> None:
    """GPT-2's, as the original trained: 0.02, less for what writes into the residual stream; sines of frequency 10."""
    if name.endswith("freq"):
        p.fill_(10.0)
    elif name.endswith("filter_fn.bias"):
        p.normal_(generator=rng)
    elif "filter" not in name and name.endswith("bias"):
        p.zero_()
    elif "filter" not in name and p.ndim == 2:
        depth = 2 * config.n_layer if name.endswith(("out_proj.weight", "fc2.weight")) else 1
        p.normal_(std=0.02 / math.sqrt(depth), generator=rng)


def _hyenadna_buffers(model: nn.Module, config: Any) -> None:
    """Positions and decay rates of the implicit filters: buffers that a checkpoint brings and a fresh model needs."""
    S, bands = config.max_seq_len, (config.emb_dim - 1) // 2
    t_S1 = torch.linspace(0, 1, S)[:, None]
    angles = torch.linspace(1e-4, bands - 1, bands) * (2 * math.pi * torch.arange(S)[:, None] / S)
    deltas = torch.linspace(math.log(0.01) / 1.5, math.log(0.01) / 0.3, config.d_model)
    values = {"t": t_S1, "z": torch.cat([t_S1, angles.cos(), -angles.sin()], dim=1), "deltas": deltas[None]}
    for name, buffer in model.named_buffers():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in values:
            buffer.copy_(values[leaf][None])


def _caduceus(name: str, p: Tensor, config: Any, rng: torch.Generator) -> None:
    """Mamba's: time steps log-uniform in 0.001 .. 0.1, small embeddings, less for what feeds the residual."""
    if name.endswith("word_embeddings.weight"):
        p.normal_(std=0.02, generator=rng)
    elif name.endswith("dt_proj.weight"):
        p.uniform_(-(config.rank**-0.5), config.rank**-0.5, generator=rng)
    elif name.endswith("dt_proj.bias"):
        dt = torch.exp(torch.empty_like(p).uniform_(math.log(1e-3), math.log(0.1), generator=rng))
        p.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt
    elif name.endswith("out_proj.weight"):
        p.div_(math.sqrt(config.n_layer))
