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
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from nexvar import models
from nexvar.cards import Card, all_cards
from nexvar.weights import machine, offload
from nexvar.weights.assemble import build, make_config
from nexvar.weights.quantize import is_quantized, weight_bytes

SHORT = 8  # tokens that make every state of a cache
SHARE = 0.9  # of the free memory: the rest is for what torch itself takes


@dataclass(frozen=True)
class Live:
    """Values that a forward of L tokens holds at its peak: L * (width * D + mlp * F + V) + min(L, rows) * block
    * F; D width, F MLP width, V vocabulary. fixed: float32 values besides."""

    width: float
    mlp: float = 0.0
    rows: int = 0  # tokens that go through the MLP at once
    block: float = 0.0
    fixed: float = 0.0


LIVE = {
    "striped_hyena2": Live(12, rows=2048, block=3.3),
    "striped_hyena": Live(12, rows=2048, block=4.9),
    "genos": Live(12, mlp=7),  # at worst every token goes to the same experts
    "hyenadna": Live(13, rows=2048, block=2.4),  # its kept filters are part of the cache
    "caduceus": Live(11, fixed=17e6),  # twice the width where both strands run
    "dnabert2": Live(25, fixed=32e6),
    "nucleotide_transformer": Live(6.3, rows=1024, block=4.5),
    "ntv3": Live(8, fixed=2.8e6),
}


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
    config = make_config(card.architecture, card.config, card.name)
    module = build(card.architecture, config, card.name)
    tokens = tokens_of(card, config, min(length or card.window, card.context))
    sizes = parameter_bytes(card.architecture, module, machine.BYTES[dtype], quantize)
    units = {unit: 0.0 for unit in offload.units(module)}
    for name, size in sizes.items():
        unit = max((u for u in units if name.startswith(f"{u}.")), key=len, default=None)
        if unit is not None:
            units[unit] += size
    kept = 0
    if hasattr(module, "new_cache"):
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
    return bases // 4 if card.architecture == "dnabert2" else bases


def parameter_bytes(architecture: str, module: nn.Module, itemsize: int, quantize: str | None) -> dict[str, float]:
    """{parameter: bytes as it will be stored}; persistent buffers too."""
    arch = models.get(architecture)
    found: dict[str, float] = {}
    tensors = {name: p for name, p in module.named_parameters()} | {
        name: b for name, b in module.named_buffers() if name in module.state_dict()
    }
    for name, tensor in tensors.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in arch.KEEP_FLOAT32):
            found[name] = 4.0 * tensor.numel()
        elif quantize is not None and is_quantized(module, name, arch.QUANTIZED):
            found[name] = weight_bytes(tensor.shape[0], tensor.shape[1], quantize, itemsize)
        else:
            found[name] = float((itemsize if tensor.is_floating_point() else tensor.element_size()) * tensor.numel())
    return found


def fp8_bytes(module: nn.Module) -> int:
    """What FP8 projections keep beside their weights: their codes, in float32 where there is no FP8 product."""
    native = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)
    layers = (m for m in module.modules() if isinstance(m, nn.Linear) and getattr(m, "fp8", False))
    return sum(layer.weight.numel() for layer in layers) * (1 if native else 4)


@cache
def cache_bytes(architecture: str, config: Any, length: int, dtype: torch.dtype, batch: int = 1) -> int:
    """Bytes of a full cache of ``length`` tokens: what one layer of each kind keeps, times how many there are."""
    if hasattr(config, "pattern"):  # fp8: the shapes are the same, and its product does not run on the meta device
        singles = {letter: {"pattern": letter, "fp8_projections": False} for letter in set(config.pattern)}
        return sum(
            config.pattern.count(letter) * _one_layer(architecture, replace(config, **one), length, dtype, batch)
            for letter, one in singles.items()
        )
    depth = "num_hidden_layers" if hasattr(config, "num_hidden_layers") else "n_layer"
    single = replace(config, **{depth: 1})
    return int(getattr(config, depth) * _one_layer(architecture, single, length, dtype, batch))


@torch.no_grad()
def _one_layer(architecture: str, config: Any, length: int, dtype: torch.dtype, batch: int) -> int:
    module: Any = build(architecture, config).eval()
    keep = models.get(architecture).KEEP_FLOAT32
    for name, parameter in module.named_parameters():
        exact = any(fnmatch.fnmatch(name, pattern) for pattern in keep)
        parameter.data = parameter.data.to(torch.float32 if exact else dtype)
    module.to("meta").reset_buffers()
    states = module.new_cache(batch, length)
    if not hasattr(config, "num_local_experts"):  # routing needs real values, and that cache is whole from the start
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
    live = LIVE[architecture]
    width = _first(config, "hidden_size", "d_model", "embed_dim") * (2 if getattr(config, "rcps", False) else 1)
    mlp = _first(config, "inner_mlp_size", "intermediate_size", "d_inner", "ffn_embed_dim")
    values = tokens * (live.width * width + live.mlp * mlp + _first(config, "vocab_size", "alphabet_size"))
    values += min(tokens, live.rows) * live.block * mlp
    return itemsize * values + 4 * live.fixed


def _first(config: Any, *names: str) -> int:
    return next((int(getattr(config, name)) for name in names if hasattr(config, name)), 0)


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
    """Cards of all of biology that fit and are right on this machine without any option, largest first."""
    found = [
        card
        for card in all_cards().values()
        if card.species is None
        and card.objective == objective
        and hindrance(card) is None
        and next(settings(card)).bytes <= _budget()
    ]
    return sorted(found, key=machine.weight_bytes, reverse=True)


def _budget() -> float:
    return SHARE * machine.free_memory()


def hindrance(card: Card) -> str | None:
    """Why the card's numbers would be wrong on this machine, however much memory it has; None if they are right."""
    capable = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
    return "its FP8 arithmetic needs a Hopper GPU (H100, H200)" if card.fp8 == "hopper" and not capable else None
