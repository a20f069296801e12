"""A small causal network that follows the model contract, for tests of what runs on top of a model."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from nexvar.cards import Card
from nexvar.models import GenomicModel, Output
from nexvar.tokenizers import ByteTokenizer
from nexvar.weights.load import Loaded


@dataclass
class TinyCache:
    length: int
    hidden: Tensor  # (1, B, D)

    def select(self, rows: Tensor) -> TinyCache:
        return TinyCache(self.length, self.hidden[:, rows])


class TinyCausal(GenomicModel):
    """A GRU over bytes."""

    last_hidden = "gru"
    tap_names = ("gru",)
    causal = True
    pads_safely = True
    rc_equivariant = False

    def __init__(self, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config = SimpleNamespace(width=width, vocabulary=512)
        self.embed = nn.Embedding(512, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 512)
        self.tokens = 0  # forwarded so far, padding included

    def new_cache(self, batch_size: int, max_length: int) -> TinyCache:
        return TinyCache(0, torch.zeros(1, batch_size, self.gru.hidden_size))

    def forward(self, ids_BL, *, mask_BL=None, taps=(), cache=None, logits=True):
        self.tokens += ids_BL.numel()
        hidden, state = self.gru(self.embed(ids_BL), None if cache is None else cache.hidden)
        if cache is not None:
            cache.length, cache.hidden = cache.length + ids_BL.shape[1], state
        kept = hidden[:, logits] if isinstance(logits, slice) else hidden
        return Output(self.head(kept), {"gru": hidden} if taps else {}, {})

    def reset_buffers(self) -> None:
        pass


def tiny_card(**changes) -> Card:
    values = dict(
        name="tiny", architecture="striped_hyena2", tokenizer="byte", objective="causal", context=8192, parameters=1,
        licence="Apache-2.0", citation="-", parity="-", parity_note="-", config={},
    )  # fmt: skip
    return Card(**{**values, **changes})


def tiny_loaded(seed: int = 0, **card) -> Loaded:
    return Loaded(TinyCausal(seed=seed), ByteTokenizer(), tiny_card(**card), torch.device("cpu"), torch.float32)
