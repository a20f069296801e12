"""Toy mixer: causal depthwise filters between gates. An example of an architecture from outside.

    ids ─ embed ─ x ┬───────────────────────────────────────── + ─ x … norm ─ embed^T
                    └ norm ─ down(silu(gate(n)) * fir(up(n))) ─┘

Legend: B batch, L length, D width, K coefficients of a filter, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import GenomicModel, Output, check_taps, given_input, look_up
from nexvar.ops.fir import fir, last_inputs

KEEP_FLOAT32 = ("*.kernel",)
QUANTIZED = ("blocks.*.gate.weight", "blocks.*.up.weight", "blocks.*.down.weight")


@dataclass(frozen=True)
class Config:
    """Every value that a card may set, and what NexVar asks of every config."""

    hidden_size: int
    layers: int
    kernel_size: int = 4
    vocab_size: int = 128

    mlp_width = 0
    tokenizer = context = None  # the cards say it

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.layers, self.kernel_size - 1, self.vocab_size) < 1:
            raise NexVarError("sizes are 1 or more, kernel_size 2 or more", where="config")

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def vocabulary(self) -> int:
        return self.vocab_size


def matches(official: dict[str, Any]) -> bool:
    """Is this config.json one of ours?"""
    return official.get("model_type") == "toy_mixer"


def from_official(official: dict[str, Any]) -> Config:
    """From a config.json, which says hidden_size and num_layers."""
    return Config(hidden_size=official["hidden_size"], layers=official["num_layers"])


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """There is one layout."""
    return state


@dataclass
class Cache:
    """pasts: what each filter remembers, (B, K - 1, D) or None before the first token."""

    pasts: list[Tensor | None]
    length: int = 0

    def select(self, rows: Tensor) -> Cache:
        return Cache([None if past is None else past.index_select(0, rows) for past in self.pasts], self.length)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.hidden_size
        self.norm = nn.LayerNorm(D)
        self.gate, self.up, self.down = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.kernel = nn.Parameter(torch.empty(D, config.kernel_size))
        nn.init.normal_(self.kernel, std=0.5)

    def forward(self, x_BLD: Tensor, past_BPD: Tensor | None) -> tuple[Tensor, Tensor]:
        n_BLD = self.norm(x_BLD)
        u_BLD = self.up(n_BLD)
        mixed_BLD = F.silu(self.gate(n_BLD)) * fir(u_BLD, self.kernel, past_BPD)
        return x_BLD + self.down(mixed_BLD), last_inputs(past_BPD, u_BLD, self.kernel.shape[1] - 1)


class Model(GenomicModel):
    config: Config
    causal = True
    pads_safely = True
    rc_equivariant = False
    last_hidden = "norm"
    token_embedding = "embed"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.tap_names = ("embed", *(f"blocks.{i}" for i in range(config.layers)), "norm")

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: Any | None = None,
        logits: bool | slice = True,
    ) -> Output:
        check_taps(taps, self.tap_names)
        given_input(ids_BL, embeds_BLD, self.config.hidden_size)
        x_BLD = look_up(self.embed, ids_BL, embeds_BLD)
        kept = {"embed": x_BLD}
        for i, block in enumerate(self.blocks):
            x_BLD, past = block(x_BLD, None if cache is None else cache.pasts[i])
            kept[f"blocks.{i}"] = x_BLD
            if cache is not None:
                cache.pasts[i] = past
        if cache is not None:
            cache.length += x_BLD.shape[1]
        x_BLD = kept["norm"] = self.norm(x_BLD)
        scores = None
        if logits is not False:
            scores = F.linear(x_BLD if logits is True else x_BLD[:, logits], self.embed.weight)
        return Output(scores, {name: kept[name] for name in taps}, {})

    def new_cache(self, batch_size: int, max_length: int) -> Cache:
        return Cache([None] * self.config.layers)

    def reset_buffers(self) -> None:
        """There are none."""
