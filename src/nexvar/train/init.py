"""Fresh parameters for training from scratch. Checkpoints never pass through here; ``load.py`` assigns theirs."""

from __future__ import annotations

from typing import Any

import torch

from nexvar import models
from nexvar.models import GenomicModel


def fresh(architecture: str, config: Any, seed: int, std: float = 0.0) -> GenomicModel:
    """A model to train from scratch, on the CPU; the same seed gives the same bits.

    std: when above 0, every matrix and embedding is drawn with it (Genos: 0.01). Otherwise the architecture's
    ``init_parameter`` says what each is; where it has none, its constructor.
    """
    arch = models.get(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = arch.Model(config)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if std > 0:
                if p.ndim == 2:
                    p.normal_(std=std, generator=rng)
            elif arch.init_parameter is not None:
                arch.init_parameter(name, p, config, rng)
        if arch.init_buffers is not None:
            arch.init_buffers(model)
    model.reset_buffers()
    return model
