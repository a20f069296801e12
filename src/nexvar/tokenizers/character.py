"""The tokenizers of HyenaDNA, Caduceus and PlantCaduceus."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nexvar.errors import NexVarError
from nexvar.tokenizers.encoding import Encoding, not_a_base


class CharacterTokenizer:
    """One token per base: HyenaDNA and Caduceus ([SEP] at the end, official batches padded on the left) and
    PlantCaduceus (no [SEP]; N is [UNK]).

    unknown: what happens to letters that are not in the vocabulary
      "error"  lower case is read as upper case; anything but A, C, G, T, N is a NexVarError (default)
      "hf"     as the official tokenizer: each is one [UNK], which for HyenaDNA includes every lower-case base

    Special tokens written in the text, such as ``[MASK]``, are tokens. [UNK] stands for a base, so it is no special
    token here: it is pooled over, and read back as N. PlantCaduceus' ids are those of the tokenizer that its authors
    name (gonzalobenegas/tokenizer-dna-mlm); its own tokenizer file was not seen.
    """

    KINDS = {  # tokens, [SEP] at the end, the letters that the official tokenizer knows
        "hyenadna": ("[CLS] [SEP] [BOS] [MASK] [PAD] [RESERVED] [UNK] A C G T N", True, "ACGTN"),
        "caduceus": ("[CLS] [SEP] [BOS] [MASK] [PAD] [RESERVED] [UNK] A C G T N", True, "ACGTNacgtn"),
        "plantcaduceus": ("[PAD] [MASK] [UNK] a c g t", False, "ACGTacgt"),
    }
    padding_side = "left"

    def __init__(self, kind: str = "hyenadna", unknown: str = "error") -> None:
        if kind not in self.KINDS or unknown not in ("error", "hf"):
            raise NexVarError(f"no character tokenizer {kind!r} with unknown={unknown!r}", where="tokenizer")
        tokens, self.adds_sep, letters = self.KINDS[kind]
        self.tokens, self.unknown = tuple(tokens.split()), unknown
        self.vocab_size = len(self.tokens)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.pad_id, self.unk_id = self.ids["[PAD]"], self.ids["[UNK]"]
        self.mask_id: int | None = self.ids["[MASK]"]
        self.special_ids = frozenset(range(self.ids["[UNK]"]))
        bases = {token.upper(): i for token, i in self.ids.items() if len(token) == 1}
        bases.setdefault("N", self.unk_id)
        self._table = np.full(256, self.unk_id if unknown == "hf" else -1, dtype=np.int64)
        for letter in letters if unknown == "hf" else "ACGTNacgtn":
            self._table[ord(letter)] = bases[letter.upper()]
        self._base_ids = {base: bases[base] for base in "ACGT"}
        names = (re.escape(token) for token in self.tokens if len(token) > 1 and token != "[RESERVED]")
        self._special = re.compile("|".join(names))

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        done = 0
        for match in (*self._special.finditer(text), None):
            end = len(text) if match is None else match.start()
            ids += self._letters(text, done, end)
            spans += [(i, i + 1) for i in range(done, end)]
            if match is not None:
                ids.append(self.ids[match[0]])
                spans.append((end, end))
                done = match.end()
        if special and self.adds_sep:
            ids.append(self.ids["[SEP]"])
            spans.append((len(text), len(text)))
        return Encoding(ids, spans)

    def _letters(self, text: str, start: int, end: int) -> list[int]:
        ids = self._table[np.frombuffer(text[start:end].encode("latin-1", "replace"), dtype=np.uint8)]
        if (ids < 0).any():
            position = start + int((ids < 0).argmax())
            raise not_a_base(text[position], position)
        return ids.tolist()

    def tokenize(self, text: str) -> list[int]:
        if "[" in text:
            return self.encode(text).ids
        ids = self._letters(text, 0, len(text))  # a megabase has a million spans: do not build what nobody reads
        return [*ids, self.ids["[SEP]"]] if self.adds_sep else ids

    def batch(
        self, texts: Sequence[str], *, special: bool = True, length: int | None = None
    ) -> tuple[list[list[int]], list[list[bool]]]:
        """Ids of equal length as the official tokenizer pads them, on the left, and which of them are real.

        length: pad to it, and cut longer texts to it before their [SEP]; None pads to the longest text.
        NOTE: neither family has an attention mask, so padding on the left changes every result.
        """
        rows = [self.encode(text, special=special).ids for text in texts]
        width = max(map(len, rows), default=0) if length is None else length
        end = 1 if special and self.adds_sep else 0
        rows = [row if len(row) <= width else [*row[: width - end], *row[len(row) - end :]] for row in rows]
        padding = [width - len(row) for row in rows]
        ids = [[self.pad_id] * pad + row for pad, row in zip(padding, rows, strict=True)]
        return ids, [[False] * pad + [True] * (width - pad) for pad in padding]

    def detokenize(self, ids: Sequence[int]) -> str:
        known = (self.tokens[i] for i in ids if i < self.vocab_size and i not in self.special_ids)
        return "".join("N" if token == "[UNK]" else token.upper() for token in known)

    def base_ids(self) -> dict[str, int] | None:
        return dict(self._base_ids)
