"""The tokenizer of Evo 1 and Evo 2 / NexVar."""

from __future__ import annotations

from collections.abc import Sequence

from nexvar.errors import NexVarError
from nexvar.tokenizers.encoding import Encoding


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
        return list(text.encode("ascii")) if text.isascii() else self.encode(text).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids if 32 <= i < 128)

    def base_ids(self) -> dict[str, int] | None:
        return {base: ord(base) for base in "ACGT"}
