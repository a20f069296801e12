"""A sequence as a model reads it when it is explained: its tokens, their embeddings, which token holds which base."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.inference.core.sequences import begin_ids
from nexvar.tokenizers import KmerTokenizer
from nexvar.weights.load import Loaded

BASES = "ACGT"


@dataclass(frozen=True)
class Reading:
    """ids_T: int64, with the begin or special tokens that the model is scored with. spans_T: the bases of each token,
    0-based half-open, (i, i) for special ones. token_L: the token of each base, -1 where none holds it."""

    loaded: Loaded
    text: str
    ids_T: np.ndarray
    spans_T: tuple[tuple[int, int], ...]
    token_L: np.ndarray

    def embedded(self, ids_T: np.ndarray | None = None) -> Tensor:
        """(T, D): what the embedding table gives for the tokens, or for others in their place."""
        ids = torch.as_tensor(self.ids_T if ids_T is None else ids_T, device=self.loaded.device)
        with torch.no_grad():
            embeds_TD: Tensor = self.loaded.module.input_embeddings(ids[None])[0]
        return embeds_TD

    @cached_property
    def is_base_T(self) -> np.ndarray:
        """Which tokens stand for letters of the text: no special one."""
        return np.array([start < end for start, end in self.spans_T])

    @property
    def tokens_of_bases(self) -> bool:
        """Whether substituting a base changes the token over it and no other: not under BPE."""
        return self.loaded.tokenizer.base_ids() is not None or isinstance(self.loaded.tokenizer, KmerTokenizer)

    def token_with(self, pos0: int, base: str) -> int:
        """The token over base ``pos0`` were it ``base``: a neighbouring k-mer, or the base's own token."""
        bases, tokenizer = self.loaded.tokenizer.base_ids(), self.loaded.tokenizer
        if bases is not None:
            return bases[base]
        assert isinstance(tokenizer, KmerTokenizer)
        start, end = self.spans_T[self.token_L[pos0]]
        return tokenizer.ids[self.text[start:pos0] + base + self.text[pos0 + 1 : end]]

    def with_base(self, pos0: int, base: str) -> Reading:
        """The sequence with another base."""
        return read(self.loaded, f"{self.text[:pos0]}{base}{self.text[pos0 + 1 :]}")


def read(loaded: Loaded, text: str) -> Reading:
    """A clean text (``core.sequences.clean``), tokenised."""
    begin = begin_ids(loaded)
    encoded = loaded.tokenizer.encode(text, special=loaded.card.special_tokens)
    token_L = encoded.base_to_token(len(text))
    return Reading(
        loaded,
        text,
        np.array([*begin, *encoded.ids], dtype=np.int64),
        (*((0, 0) for _ in begin), *encoded.spans),
        np.where(token_L < 0, -1, token_L + len(begin)),
    )


def substitutions(text: str, positions: range, where: str) -> list[tuple[int, str]]:
    """(position, base) of the three other bases at each; NexVarError where a position holds no A, C, G or T."""
    for i in positions:
        if text[i] not in BASES:
            what = f"{text[i]!r} at position {i + 1:,} is no base that could be another one"
            raise NexVarError(what, where=where, fix="a region without N; around it, N is context")
    return [(i, base) for i in positions for base in BASES if base != text[i]]
