"""The tokenizer of Genos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nexvar import vocabularies
from nexvar.errors import NexVarError
from nexvar.tokenizers.encoding import Encoding, not_a_base


class OneHotTokenizer:
    """One token per base, nothing added: Genos.

    A 8, C 5, G 6, T 7 are printed in the official notebooks; N 9 and the special tokens come from a third party,
    since the checkpoint's tokenizer file could not be had. ``path`` (a tokenizer.json) overrules them all.
    Lower case is read as upper case; anything but A, C, G, T, N is a NexVarError.
    """

    mask_id: int | None = None

    def __init__(self, path: str | Path | None = None) -> None:
        self.ids = {"A": 8, "C": 5, "G": 6, "T": 7, "N": 9}
        special, self.pad_id, self.vocab_size = {*range(5), *range(10, 18)}, 0, 18
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.ids, special, self.pad_id, self.vocab_size = _read_vocabulary(self.path)
        self.special_ids = frozenset(special)
        self._letters = {id_: base for base, id_ in self.ids.items()}
        self._table = np.full(256, -1, dtype=np.int64)
        for base, id_ in self.ids.items():
            self._table[[ord(base), ord(base.lower())]] = id_

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        return Encoding(self.tokenize(text), [(i, i + 1) for i in range(len(text))])

    def tokenize(self, text: str) -> list[int]:
        ids = self._table[np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8)]
        if (ids < 0).any():
            position = int((ids < 0).argmax())
            raise not_a_base(text[position], position)
        return ids.tolist()

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(self._letters.get(int(i), "") for i in ids)

    def base_ids(self) -> dict[str, int] | None:
        return {base: self.ids[base] for base in "ACGT"}


def _read_vocabulary(path: Path) -> tuple[dict[str, int], set[int], int, int]:
    """From a tokenizer.json: the bases' ids, all other ids, the padding's and the vocabulary's size."""
    ids = vocabularies.read_tokens(path)
    bases = {base: ids[base] for base in "ACGTN" if base in ids}
    if missing := [base for base in "ACGT" if base not in bases]:
        raise NexVarError(f"no one-hot tokenizer (the vocabulary has no {', '.join(missing)})", where=path)
    pad = next((ids[name] for name in ("[PAD]", "<PAD>", "<pad>") if name in ids), 0)
    return bases, set(ids.values()) - set(bases.values()), pad, max(ids.values()) + 1
