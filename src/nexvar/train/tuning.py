"""What of a checkpoint is trained: all of it, a head alone, or small updates of frozen projections.

    LoRA    W + alpha / rank * B A                          Hu et al. 2021, arXiv:2106.09685
    (IA)3   keys, values and the feed-forward part's inner activations, times a learned vector
                                                            Liu et al. 2022, arXiv:2205.05638

Updates are parameters of the projections themselves, so that nothing is renamed. What a run writes has them in the
weights: an ordinary checkpoint. Beside it, ``adapter/`` holds them alone, in PEFT's layout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.models import Architecture
from nexvar.train.recipe import TunePart
from nexvar.train.weights import blocks_of
from nexvar.weights import adapter

LORA, IA3 = "lora", "ia3"
OUTPUT, INPUT = ".ia3_output", ".ia3_input"  # parameters: (out,) and (in,)


def add(model: nn.Module, architecture: str, part: TunePart, seed: int) -> str:
    """Freeze ``model`` and give its projections their updates; a line for people that says which."""
    arch = models.get(architecture)
    model.requires_grad_(False)
    linear = [(name, m) for block in blocks_of(model) for name, m in block.named_modules() if isinstance(m, nn.Linear)]
    if part.weights == IA3:
        chosen = _scale(linear, arch)
        return f"(IA)3 scales {_listed(chosen)}, {len(chosen)} in all"
    chosen = _chosen(linear, arch, part)
    rng = torch.Generator().manual_seed(seed)
    for _, module in chosen:
        _update(module, part, rng)
    return f"LoRA of rank {part.rank} updates {_listed(chosen)}, {len(chosen)} in all"


def _listed(chosen: Sequence[tuple[str, nn.Module]]) -> str:
    ends = dict.fromkeys(re.sub(r"\d+\.", "", name) for name, _ in chosen)
    return ", ".join(ends)


Named = list[tuple[str, nn.Linear]]  # name inside its block, layer


def _chosen(linear: Named, arch: Architecture, part: TunePart) -> Named:
    """The layers that ``targets`` means, in the architecture's own names or in the public benchmarks'."""
    if part.targets:
        ends = [end for target in part.targets for end in arch.LORA_NAMES.get(target, (target,))]
        for target in part.targets:
            if not any(_ends(name, arch.LORA_NAMES.get(target, (target,))) for name, _ in linear):
                own = dict.fromkeys(name.rpartition(".")[2] for name, _ in linear)
                fix = f"some of {', '.join([*arch.LORA_NAMES, *own][:20])}"
                raise NexVarError(f"no layer {target!r} in {arch.name}", where="tune.targets", fix=fix)
        wanted = [(name, m) for name, m in linear if _ends(name, ends)]
    elif arch.LORA_TARGETS:
        wanted = [(name, m) for name, m in linear if _ends(name, arch.LORA_TARGETS)]
    else:  # all but routers and what stands inside of filters
        wanted = [(name, m) for name, m in linear if not re.search(r"filter_fn|(^|\.)gate$", name)]
    wide = [(name, m) for name, m in wanted if min(m.weight.shape) > part.rank]
    if not wide:
        raise NexVarError(f"no projection is wider than {part.rank}", where="tune.rank", fix="a smaller rank")
    return wide


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in ends)


def _update(module: nn.Linear, part: TunePart, rng: torch.Generator) -> None:
    """Low-rank: B starts as zeros, so that nothing changes at first."""
    a = torch.randn(part.rank, module.in_features, generator=rng) / math.sqrt(module.in_features)
    module.lora_a = nn.Parameter(a.to(module.weight.device))
    module.lora_b = nn.Parameter(module.weight.new_zeros(module.out_features, part.rank))
    scale, forward = part.scale, module.forward

    def updated(x: Tensor) -> Tensor:
        inner = F.dropout(x, part.dropout, module.training)
        update = F.linear(F.linear(inner, cast(Tensor, module.lora_a)), cast(Tensor, module.lora_b))
        return forward(x) + scale * update

    cast(Any, module).forward = updated


def _scale(linear: Named, arch: Architecture) -> Named:
    """Vectors of ones at first."""
    which = arch.IA3
    if which is None:
        fix = 'weights = "lora"'
        raise NexVarError(f"(IA)3 is of attention, which {arch.name} has none of", where="tune.weights", fix=fix)
    chosen = []
    for name, module in linear:
        matched = [kind for kind in ("outputs", "fused", "inputs")
                   if any(re.fullmatch(pattern, name) for pattern in getattr(which, kind))]  # fmt: skip
        if not matched:
            continue
        chosen.append((name, module))
        cast(Any, module).forward = _scaled(module, module.forward, matched[0])
    return chosen


def _scaled(module: nn.Linear, forward: Callable[[Tensor], Tensor], kind: str) -> Callable[[Tensor], Tensor]:
    if kind == "inputs":
        module.ia3_input = nn.Parameter(module.weight.new_ones(module.in_features))
        return lambda x: forward(x * cast(Tensor, module.ia3_input))
    fused = kind == "fused"
    rows = module.out_features * 2 // 3 if fused else module.out_features
    module.ia3_output = nn.Parameter(module.weight.new_ones(rows))
    return lambda x: forward(x) * _of_rows(cast(Tensor, module.ia3_output), module.out_features)


def _of_rows(scale: Tensor, rows: int) -> Tensor:
    """Ones for the queries of a fused layer, which come first."""
    return scale if len(scale) == rows else torch.cat([scale.new_ones(rows - len(scale)), scale])


# -- what a run writes


def merged(state: Mapping[str, Tensor], part: TunePart) -> dict[str, Tensor]:
    """The weights with their updates in them, and nothing else."""
    ends = (".lora_a", ".lora_b", OUTPUT, INPUT)
    result = {name: t for name, t in state.items() if not name.endswith(ends)}
    for name, t in state.items():
        layer = name.rpartition(".")[0]
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        if name.endswith(".lora_a"):
            result[weight] = state[weight] + part.scale * (state[f"{layer}.lora_b"] @ t)
        elif name.endswith(INPUT):
            result[weight] = state[weight] * t
        elif name.endswith(OUTPUT):
            scale = _of_rows(t, len(state[weight]))
            result[weight] = state[weight] * scale[:, None]
            if bias in state:
                result[bias] = state[bias] * scale
    return result


def write(folder: Path, state: Mapping[str, Tensor], architecture: str, config: Any, part: TunePart, base: str) -> None:
    """The updates alone, in PEFT's layout; they go on the checkpoint ``base``."""
    arch, place = models.get(architecture), {name.removeprefix("trunk."): t for name, t in state.items()}
    if part.weights == LORA:
        layers = [name.removesuffix(".lora_a") for name in place if name.endswith(".lora_a")]
        updates = {n: (place[f"{n}.lora_a"], place[f"{n}.lora_b"]) for n in layers}
        adapter.write(folder, updates, part.scale * part.rank, arch, config, base=base, dropout=part.dropout)
        return
    outputs = {n.removesuffix(OUTPUT): t for n, t in place.items() if n.endswith(OUTPUT)}
    whole = {n: _of_rows(t, len(place[f"{n}.weight"])) for n, t in outputs.items()}
    inputs = {n.removesuffix(INPUT): t for n, t in place.items() if n.endswith(INPUT)}
    shapes = {n: place[f"{n}.weight"].shape for n in (*whole, *inputs)}
    adapter.write_scales(folder, whole, inputs, shapes, arch, config, base=base)
