"""How much memory a checkpoint takes, from its card alone, and with what setting it fits this machine.

    weights      exact: the architecture's parameters on the meta device, each in the dtype it will have
    cache        exact: a cache of that length made on the meta device (causal models)
    activations  measured: values that one forward holds, per token and column (benchmarks/memory.py, CPU)

Nothing is downloaded and no weight is allocated.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from nexvar import models
from nexvar.cards import Card, own_cards
from nexvar.weights import machine, offload
from nexvar.weights.assemble import build, make_config
from nexvar.weights.quantize import is_quantized, weight_bytes

SHORT = 8  # tokens that make every state of a cache
SHARE = 0.9  # of the free memory: the rest is for what torch itself takes


@dataclass(frozen=True)
class Footprint:
    """Bytes. layer: the weights of the largest layer, rest: those outside of layers (embeddings, heads)."""

    weights: float
    cache: float
    activations: float
    layer: float
    rest: float

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.activations

    @property
    def offloaded(self) -> float:
        """With every layer on disk."""
        return self.rest + 2 * self.layer + self.cache + self.activations


@dataclass(frozen=True)
class Setting:
    """One way to load a checkpoint: the arguments of ``NexVar`` and what they take."""

    options: dict[str, str]
    bytes: float

    def __str__(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.options.items()) or "as it is"


def footprint(
    card: Card, length: int | None = None, *, dtype: str | None = None, quantize: str | None = None
) -> Footprint:
    """For one sequence of ``length`` bases (default: the card's window), cache included for causal models."""
    dtype = dtype or card.dtype
    config = make_config(card.architecture, card.config, card.label)
    module = build(card.architecture, config, card.label)
    tokens = tokens_of(card, config, min(length or card.window, card.context))
    sizes = parameter_bytes(card.architecture, module, machine.BYTES[dtype], quantize)
    units = {unit: 0.0 for unit in offload.units(module)}
    for name, size in sizes.items():
        unit = max((u for u in units if name.startswith(f"{u}.")), key=len, default=None)
        if unit is not None:
            units[unit] += size
    kept = 0
    if module.causal:
        kept = cache_bytes(card.architecture, config, tokens, getattr(torch, dtype))
    return Footprint(
        weights=sum(sizes.values()) + fp8_bytes(module),
        cache=kept,
        activations=activation_bytes(card.architecture, config, tokens, machine.BYTES[dtype]),
        layer=max(units.values(), default=0.0),
        rest=sum(sizes.values()) - sum(units.values()),
    )


def tokens_of(card: Card, config: Any, bases: int) -> int:
    """Tokens of a sequence of so many bases."""
    if card.tokenizer.startswith("kmer"):
        return bases // (config.kmer or (1, ""))[0] + 1
    return bases // 4 if card.tokenizer == "bpe" else bases


def parameter_bytes(architecture: str, module: nn.Module, itemsize: int, quantize: str | None) -> dict[str, float]:
    """{parameter: bytes as it will be stored}; persistent buffers too."""
    arch = models.get(architecture)
    sizes: dict[str, float] = {}
    tensors = {name: p for name, p in module.named_parameters()} | {
        name: b for name, b in module.named_buffers() if name in module.state_dict()
    }
    for name, tensor in tensors.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in arch.KEEP_FLOAT32):
            sizes[name] = 4.0 * tensor.numel()
        elif quantize is not None and is_quantized(module, name, arch.QUANTIZED):
            sizes[name] = weight_bytes(tensor.shape[0], tensor.shape[1], quantize, itemsize)
        else:
            sizes[name] = float((itemsize if tensor.is_floating_point() else tensor.element_size()) * tensor.numel())
    return sizes


def fp8_bytes(module: nn.Module) -> int:
    """What FP8 projections keep beside their weights: their codes, in float32 where there is no FP8 product."""
    native = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)
    layers = (m for m in module.modules() if isinstance(m, nn.Linear) and getattr(m, "fp8", False))
    return sum(layer.weight.numel() for layer in layers) * (1 if native else 4)


@cache
def cache_bytes(architecture: str, config: Any, length: int, dtype: torch.dtype, batch: int = 1) -> int:
    """Bytes of a full cache of ``length`` tokens: what one layer of each kind keeps, times how many there are."""
    parts = models.get(architecture).Model.layers_by_kind(config)
    return sum(count * _one_layer(architecture, one, length, dtype, batch) for count, one in parts)


@torch.no_grad()
def _one_layer(architecture: str, config: Any, length: int, dtype: torch.dtype, batch: int) -> int:
    module, arch = build(architecture, config).eval(), models.get(architecture)
    for name, parameter in module.named_parameters():
        exact = any(fnmatch.fnmatch(name, pattern) for pattern in arch.KEEP_FLOAT32)
        parameter.data = parameter.data.to(torch.float32 if exact else dtype)
    module.to("meta").reset_buffers()
    states = module.new_cache(batch, length)
    if arch.MEMORY.cache_grows:
        with torch.device("meta"):
            module(torch.zeros(batch, min(SHORT, length), dtype=torch.long), cache=states, logits=False)
    return held_bytes(states, {p.untyped_storage()._cdata for p in module.parameters()})


def held_bytes(holder: Any, known: set[int] | None = None) -> int:
    """Bytes of all tensors in it, however nested, each storage once; ``known`` storages do not count."""
    seen = set(known or ())
    total = 0
    for tensor in _tensors(holder):
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            total += storage.nbytes()
    return total


def _tensors(holder: Any) -> Iterator[Tensor]:
    if isinstance(holder, Tensor):
        yield holder
    elif isinstance(holder, (list, tuple)):
        for item in holder:
            yield from _tensors(item)
    elif isinstance(holder, dict):
        yield from _tensors(list(holder.values()))
    elif dataclasses.is_dataclass(holder):
        yield from _tensors([getattr(holder, f.name) for f in dataclasses.fields(holder)])
    elif hasattr(holder, "__dict__") and not isinstance(holder, (nn.Module, type)):
        yield from _tensors(list(vars(holder).values()))


def activation_bytes(architecture: str, config: Any, tokens: int, itemsize: int = 4) -> float:
    """What one forward of so many tokens holds beside weights and cache."""
    memory = models.get(architecture).MEMORY
    values = tokens * (memory.width * config.width + memory.mlp * config.mlp_width + config.vocabulary)
    values += min(tokens, memory.rows) * memory.block * config.mlp_width
    return itemsize * values + 4 * memory.fixed


def settings(card: Card, length: int | None = None) -> Iterator[Setting]:
    """Ways to load the card, best first: as it is, bfloat16, int8, int4, layers on disk."""
    plain = footprint(card, length)
    yield Setting({}, plain.total)
    smaller = plain
    options = {}
    if card.dtype == "float32":
        options = {"dtype": "bfloat16"}
        smaller = footprint(card, length, dtype="bfloat16")
        yield Setting(options, smaller.total)
    for method in ("int8", "int4"):
        quantised = footprint(card, length, dtype=options.get("dtype"), quantize=method)
        yield Setting({**options, "quantize": method}, quantised.total)
    yield Setting({**options, "device_map": "auto"}, smaller.offloaded)


def best(card: Card, length: int | None = None) -> Setting | None:
    """The first setting that fits the free memory of this machine's largest GPU, or of its RAM; None if none does."""
    return next((setting for setting in settings(card, length) if setting.bytes <= _budget()), None)


def as_they_are(objective: str) -> list[Card]:
    """NexVar's own cards of all of biology that fit and are right on this machine as they are, largest first."""
    fitting = [
        card
        for card in own_cards().values()
        if card.species is None
        and card.objective == objective
        and hindrance(card) is None
        and next(settings(card)).bytes <= _budget()
    ]
    return sorted(fitting, key=machine.weight_bytes, reverse=True)


def _budget() -> float:
    return SHARE * machine.free_memory()


def hindrance(card: Card) -> str | None:
    """Why the card's numbers would be wrong on this machine, however much memory it has; None if they are right."""
    capable = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
    return "its FP8 arithmetic needs a Hopper GPU (H100, H200)" if card.fp8 == "hopper" and not capable else None
