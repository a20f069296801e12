"""LoRA: low-rank updates to frozen projections, W + 2 B A (Hu et al. 2021, arXiv:2106.09685; alpha = 2 r).

The updates are parameters of the projections themselves, so that nothing is renamed, and what a run writes has them
added to the weights: an ordinary checkpoint; beside it, ``adapter/`` holds them alone, in PEFT's layout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.train.recipe import ModelPart
from nexvar.train.weights import blocks_of
from nexvar.weights import adapter

SCALE = 2.0


def add(model: nn.Module, architecture: str, rank: int, seed: int) -> int:
    """Freeze ``model`` and give every projection of its blocks an update of ``rank``; returns how many there are.

    Projections are the architecture's LORA_TARGETS, else all linear layers but routers and those inside of filters.
    """
    if rank < 1:
        raise NexVarError(f"lora is {rank}", where="model.lora", fix="a rank, such as 8; 0 for none")
    model.requires_grad_(False)
    targets = models.get(architecture).LORA_TARGETS
    rng, count = torch.Generator().manual_seed(seed), 0
    for block in blocks_of(model):
        for name, module in block.named_modules():
            leaf = name.rpartition(".")[2]
            wanted = leaf in targets if targets else not re.search(r"filter_fn|(^|\.)gate$", name)
            if isinstance(module, nn.Linear) and wanted and min(module.weight.shape) > rank:
                a = torch.randn(rank, module.in_features, generator=rng) / math.sqrt(module.in_features)
                module.lora_a = nn.Parameter(a.to(module.weight.device))
                module.lora_b = nn.Parameter(module.weight.new_zeros(module.out_features, rank))
                cast(Any, module).forward = _updated(module, module.forward)
                count += 1
    if not count:
        raise NexVarError(f"no projection is wider than {rank}", where="model.lora", fix="a smaller rank")
    return count


def _updated(module: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def updated(x: Tensor) -> Tensor:
        update = F.linear(F.linear(x, module.lora_a), module.lora_b)  # type: ignore[arg-type]
        return forward(x) + SCALE * update

    return updated


def merged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with their updates added, and nothing else."""
    result = {name: t for name, t in state.items() if not name.endswith((".lora_a", ".lora_b"))}
    for name, a in state.items():
        if name.endswith(".lora_a"):
            weight = name.removesuffix("lora_a") + "weight"
            result[weight] = state[weight] + SCALE * (state[name.removesuffix("a") + "b"] @ a)
    return result


def write(folder: Path, state: Mapping[str, Tensor], architecture: str, config: Any, part: ModelPart) -> None:
    """The updates alone, in PEFT's layout; they go on the checkpoint that the recipe's ``init`` names."""
    layers = [name.removesuffix(".lora_a") for name in state if name.endswith(".lora_a")]
    updates = {n.removeprefix("trunk."): (state[f"{n}.lora_a"], state[f"{n}.lora_b"]) for n in layers}
    adapter.write(folder, updates, SCALE * part.lora, models.get(architecture), config, base=str(part.init))
