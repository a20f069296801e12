"""The tokenizer of Nucleotide Transformer v3."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nexvar.errors import NexVarError
from nexvar.tokenizers.encoding import Encoding, not_a_base


class Ntv3Tokenizer:
    """One token per base, nothing added: Nucleotide Transformer v3.

    unknown: what happens to anything but A, C, G, T, N and special tokens such as ``<mask>``:
      "error"  lower case is read as upper case; other letters are a NexVarError (default)
      "hf"     lower case is read as upper case; each other letter is one <unk>, white space too
      "jax"    each is one <unk>, lower case and all special tokens but <mask> too; white space vanishes
    """

    tokens = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *"ATCGN")
    vocab_size = 11
    pad_id = 1
    mask_id: int | None = 2
    special_ids = frozenset(range(6))

    def __init__(self, unknown: str = "error") -> None:
        if unknown not in ("error", "hf", "jax"):
            raise NexVarError(f"no NTv3 tokenizer with unknown={unknown!r}", where="tokenizer")
        self.unknown = unknown
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        names = "<(?:unk|pad|mask|cls|eos|bos)>|."
        self._pattern = re.compile(r"<mask>|\S" if unknown == "jax" else names, re.DOTALL)

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        if (fast := self._letters_only(text)) is not None:
            return Encoding(fast, [(i, i + 1) for i in range(len(text))])
        ids, spans = [], []
        for match in self._pattern.finditer(text):
            token, (start, end) = match[0], match.span()
            in_brackets = len(token) > 1
            id_ = self.ids.get(token if in_brackets or self.unknown == "jax" else token.upper())
            if id_ is None and self.unknown == "error":
                raise not_a_base(token, start)
            ids.append(0 if id_ is None else id_)
            spans.append((start, start) if in_brackets else (start, end))
        return Encoding(ids, spans)

    def tokenize(self, text: str) -> list[int]:
        fast = self._letters_only(text)  # a megabase has a million spans: do not build what nobody reads
        return self.encode(text).ids if fast is None else fast

    def _letters_only(self, text: str) -> list[int] | None:
        """Ids of a text of nothing but bases; None if there is anything else."""
        table = np.zeros(256, dtype=np.uint8)
        for letter in "ATCGN" if self.unknown == "jax" else "ATCGNatcgn":
            table[ord(letter)] = self.ids[letter.upper()]
        if not text.isascii():
            return None
        ids = table[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
        return ids.tolist() if ids.all() else None

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(self.tokens[i] for i in ids if i not in self.special_ids)

    def base_ids(self) -> dict[str, int] | None:
        return {base: self.ids[base] for base in "ACGT"}
