"""A small masked network that follows the model contract, for tests of what runs on top of a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from nexvar.models import GenomicModel, Output
from nexvar.tokenizers import BpeTokenizer, KmerTokenizer, Ntv3Tokenizer
from nexvar.weights.load import Loaded
from tiny import tiny_card


class TinyMasked(GenomicModel):
    """Two convolutions over tokens: every token sees 8 on each side."""

    last_hidden = "conv2"
    tap_names = ("conv1", "conv2")
    causal = False
    pads_safely = True
    rc_equivariant = False

    def __init__(self, vocab: int, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config = SimpleNamespace(width=width, vocabulary=vocab)
        self.embed = nn.Embedding(vocab, width)
        self.conv1 = nn.Conv1d(width, width, 9, padding=4)
        self.conv2 = nn.Conv1d(width, width, 9, padding=4)
        self.head = nn.Linear(width, vocab)
        self.rows: list[int] = []  # sequences in each forward so far
        self.tokens = 0

    def forward(self, ids_BL, *, mask_BL=None, taps=(), cache=None, logits=True):
        self.tokens += ids_BL.numel()
        self.rows.append(len(ids_BL))
        real = 1.0 if mask_BL is None else mask_BL[:, None].float()
        x = self.embed(ids_BL).transpose(1, 2) * real
        first = torch.tanh(self.conv1(x)) * real
        second = torch.tanh(self.conv2(first)) * real
        hidden = {"conv1": first.transpose(1, 2), "conv2": second.transpose(1, 2)}
        return Output(self.head(hidden["conv2"]) if logits else None, {name: hidden[name] for name in taps}, {})

    def reset_buffers(self) -> None:
        pass


BPE = Path(__file__).parent / "golden" / "dnabert2_tiny" / "tokenizer.json"


def tiny_masked(tokenizer: str = "base", **card: Any) -> Loaded:
    """tokenizer: "base" (a token for each base), "kmer" (6-mers behind <cls>) or "bpe" (between [CLS] and [SEP])."""
    chosen = {"base": Ntv3Tokenizer, "kmer": KmerTokenizer, "bpe": lambda: BpeTokenizer(BPE)}[tokenizer]()
    special = tokenizer != "base"
    values = dict(name="tiny_masked", objective="masked", readout="masked_llr", special_tokens=special, **card)
    module = TinyMasked(chosen.vocab_size)
    return Loaded(module, chosen, tiny_card(**{"context": 200_000, **values}), torch.device("cpu"), torch.float32)
