"""The tokenizer of Nucleotide Transformer v1 and v2 and of AgroNT."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nexvar.errors import NexVarError
from nexvar.tokenizers.encoding import Encoding, not_a_base


class KmerTokenizer:
    """Non-overlapping k-mers: Nucleotide Transformer v1, v2 (k = 6), its 3-mer model, AgroNT.

    <cls>, then from the left: a k-mer where the next k letters are all A, C, G, T; else one letter. N is always a
    token of its own, so the k-mers after it start anew; a tail shorter than k becomes single letters.

    layout: "v1" (4 special tokens: v1, AgroNT) or "v2" (6). unknown: what happens to anything but A, C, G, T, N and
    special tokens such as ``<mask>``:
      "error"  lower case is read as upper case; other letters are a NexVarError (default)
      "hf"     as EsmTokenizer: every run of them, lower case too, is one <unk>; white space vanishes
      "jax"    as the JAX package: a NexVarError; lower case too
    """

    pad_id = 1
    mask_id: int | None = 2
    cls_id = 3

    def __init__(self, k: int = 6, layout: str = "v2", unknown: str = "error") -> None:
        if layout not in ("v1", "v2") or unknown not in ("error", "hf", "jax"):
            raise NexVarError(f"no k-mer tokenizer {layout!r} with unknown={unknown!r}", where="tokenizer")
        self.k, self.unknown = k, unknown
        special = ["<unk>", "<pad>", "<mask>", "<cls>"] + (["<eos>", "<bos>"] if layout == "v2" else [])
        kmers = map("".join, itertools.product("ATCG", repeat=k))
        self.tokens = (*special, *kmers, *"ATCGN")
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.vocab_size = len(self.tokens)
        self.special_ids = frozenset(range(len(special)))
        # NOTE: v1's vocab.txt ends in <eos> and <bos>, ids that its embedding table does not have: never emitted.
        names = "<(?:unk|pad|mask|cls|eos|bos)>"
        case = "(?i:" if unknown == "error" else "(?:"
        self._pattern = re.compile(f"({names})|{case}[ACGT]{{{k}}}|[ACGTN])|(.)", re.DOTALL)

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        ids, spans = ([self.cls_id], [(0, 0)]) if special else ([], [])
        if self.unknown == "jax":
            pieces: Iterable[tuple[int, int]] = self._jax_pieces(text)
        else:
            pieces = self._pieces(text)
        for start, end in pieces:
            token = text[start:end]
            if token not in self.ids and self.unknown == "error":
                token = token.upper()
            if token in self.ids:
                ids.append(self.ids[token])
                in_brackets = token.startswith("<")
                spans.append((start, start) if in_brackets else (start, end))
            elif self.unknown == "hf" and not token.startswith("<"):
                ids.append(self.ids["<unk>"])
                spans.append((start, end))
            else:
                raise self._refuse(text[start:end], start)
        return Encoding(ids, spans)

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        """Spans of tokens from the left; a run of unknown letters is one piece, cut at white space."""
        if self.unknown == "error":
            yield from (match.span() for match in self._pattern.finditer(text))
            return
        run = None  # where the present run of unknown letters began
        for match in self._pattern.finditer(text):
            unknown = match.lastindex == 2
            if run is not None and (not unknown or match[0].isspace()):
                yield run, match.start()
                run = None
            if not unknown:
                yield match.span()
            elif run is None and not match[0].isspace():
                run = match.start()
        if run is not None:
            yield run, len(text)

    def _jax_pieces(self, text: str) -> Iterator[tuple[int, int]]:
        """Between two N's, k letters at a time whatever they are, then single letters."""
        for chunk in re.finditer("N|[^N]+", text):
            start, end = chunk.span()
            while end - start >= self.k:
                yield start, start + self.k
                start += self.k
            yield from ((i, i + 1) for i in range(start, end))

    def _refuse(self, token: str, start: int) -> NexVarError:
        if self.unknown == "jax":
            return NexVarError(f"token {token!r} not found in the vocabulary", where=f"sequence position {start + 1}")
        return not_a_base(token, start)

    def tokenize(self, text: str) -> list[int]:
        return self.encode(text).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(self.tokens[i] for i in ids if i not in self.special_ids)

    def base_ids(self) -> dict[str, int] | None:
        return None

    def letters(self) -> np.ndarray:
        """(vocab_size, k) int8: the base at each offset of every k-mer, 0 .. 3 for A, C, G, T; -1 for other tokens.

        ``letters()[:, j] == b`` selects the k-mers with base b at offset j: their summed probability is the model's
        probability of that base, given that the token is a k-mer.
        """
        first = len(self.special_ids)
        table = np.full((self.vocab_size, self.k), -1, dtype=np.int8)
        table[first : first + 4**self.k] = list(itertools.product((0, 3, 1, 2), repeat=self.k))  # A, T, C, G
        return table
