"""Tokenizers: text -> ids, ids -> text, and which token each base belongs to.

One small class per kind; ``make(name, folder)`` builds the one a card names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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


class ByteTokenizer:
    """UTF-8 bytes as ids: Evo 1, Evo 2 / NexVar. Ids 0 (end of document) and 1 (pad) are special."""

    vocab_size = 512
    eos_id = 0
    pad_id = 1
    mask_id: int | None = None
    special_ids = frozenset({0, 1})

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        ids = list(text.encode("utf-8"))
        if len(ids) != len(text):
            bad = next(c for c in text if ord(c) > 127)
            raise NexVarError(f"the sequence holds {bad!r}", where="sequence", fix="only ASCII letters are bases")
        return Encoding(ids, [(i, i + 1) for i in range(len(ids))])

    def tokenize(self, text: str) -> list[int]:
        return self.encode(text).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids if 32 <= i < 128)

    def base_ids(self) -> dict[str, int] | None:
        return {base: ord(base) for base in "ACGT"}


def make(name: str, folder: Path | None = None) -> Tokenizer:
    """The tokenizer a card names; ``folder`` holds the checkpoint's tokenizer files, for those that need them."""
    if name == "byte":
        return ByteTokenizer()
    raise NexVarError(f"no tokenizer {name!r}", where="tokenizer")
