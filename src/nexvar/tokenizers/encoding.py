"""What a text becomes, what every tokenizer does, and the error for a letter that none reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nexvar.errors import NexVarError


@dataclass(frozen=True)
class Encoding:
    """ids and, for each token, the bases it covers: 0-based half-open spans of the text, (i, i) for special tokens."""

    ids: list[int]
    spans: list[tuple[int, int]]

    def base_to_token(self, length: int) -> np.ndarray:
        """(length,) int64: the index of the token that covers each base of a text of ``length``, -1 for none."""
        owner = np.full(length, -1, dtype=np.int64)
        for token, (start, end) in enumerate(self.spans):
            owner[start:end] = token
        return owner

    def tokens_over(self, start: int, end: int) -> list[int]:
        """Indices of the tokens that share a base with ``start .. end``: what to mask to hide them.

        An empty interval (an insertion) inside a token gives that token. Special tokens cover no base, wherever they
        stand.
        """
        return [i for i, (first, last) in enumerate(self.spans) if first < last and first < end and start < last]


class Tokenizer(Protocol):
    """What every tokenizer here does."""

    vocab_size: int
    pad_id: int
    mask_id: int | None
    special_ids: frozenset[int]

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        """Tokens of ``text``; ``special`` adds what the official tokenizer adds ([CLS], [SEP], …)."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """``encode(text).ids``."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; special tokens vanish."""
        ...

    def base_ids(self) -> dict[str, int] | None:
        """{"A": id, "C": id, "G": id, "T": id} for single-base tokenizers, else None."""
        ...


def not_a_base(letter: str, position: int) -> NexVarError:
    """The error for a letter at ``position`` (0-based) of a sequence."""
    fix = "RNA? write T for U" if letter in "uU" else "write N for an ambiguous or unknown base"
    return NexVarError(f"{letter!r} is not A, C, G, T or N", where=f"sequence position {position + 1}", fix=fix)
