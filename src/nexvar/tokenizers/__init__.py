"""Tokenizers: text -> ids, ids -> text, and which token each base belongs to.

One file a kind; ``make(name, folder)`` builds the one a card names. Files of their vocabularies are read by
``nexvar.vocabularies``.
"""

from __future__ import annotations

import re
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.tokenizers.bpe import BpeTokenizer
from nexvar.tokenizers.byte import ByteTokenizer
from nexvar.tokenizers.character import CharacterTokenizer
from nexvar.tokenizers.encoding import Encoding, Tokenizer
from nexvar.tokenizers.kmer import KmerTokenizer
from nexvar.tokenizers.ntv3 import Ntv3Tokenizer
from nexvar.tokenizers.onehot import OneHotTokenizer

__all__ = [
    "BpeTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Encoding",
    "KmerTokenizer",
    "Ntv3Tokenizer",
    "OneHotTokenizer",
    "Tokenizer",
    "make",
]


def make(name: str, folder: Path | None = None) -> Tokenizer:
    """The tokenizer a card names; ``folder`` holds the checkpoint's tokenizer files, for those that need them."""
    if name == "byte":
        return ByteTokenizer()
    if kmer := re.fullmatch(r"kmer(\d)_(v[12])", name):
        return KmerTokenizer(int(kmer[1]), kmer[2])
    if name == "ntv3":
        return Ntv3Tokenizer()
    if name == "bpe":
        if folder is None:
            raise NexVarError("a BPE tokenizer needs the folder of its tokenizer.json", where="tokenizer")
        return BpeTokenizer(folder / "tokenizer.json")
    if name == "onehot":
        own = folder / "tokenizer.json" if folder is not None else None
        return OneHotTokenizer(own if own is not None and own.is_file() else None)
    if name in CharacterTokenizer.KINDS:
        return CharacterTokenizer(name)
    raise NexVarError(f"no tokenizer {name!r}", where="tokenizer")
