"""Tokenizers: text -> ids, ids -> text, and which token each base belongs to.

One small class per kind; ``make(name, folder)`` builds the one a card names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nexvar import vocabularies
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
        fix = "RNA? write T for U" if token in "uU" else "write N for an ambiguous or unknown base"
        return NexVarError(f"{token!r} is not A, C, G, T or N", where=f"sequence position {start + 1}", fix=fix)

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
                fix = "RNA? write T for U" if token in "uU" else "write N for an ambiguous or unknown base"
                where = f"sequence position {start + 1}"
                raise NexVarError(f"{token!r} is not A, C, G, T or N", where=where, fix=fix)
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


class BpeTokenizer:
    """Byte-pair encoding with the vocabulary and the merges of the checkpoint's own tokenizer.json: DNABERT-2.

    [CLS] and [SEP] around the text; no token reaches across white space, which vanishes.
    unknown: what happens to letters that are not in the vocabulary (which has A, C, G, T alone)
      "error"  lower case is read as upper case, N is [UNK], anything else is a NexVarError (default)
      "hf"     as the official tokenizer: each such letter, lower case too, is one [UNK]

    [UNK] stands for a base, so it is no special token: it is pooled over, and read back as N.
    """

    def __init__(self, path: str | Path, unknown: str = "error") -> None:
        if unknown not in ("error", "hf"):
            raise NexVarError(f"no BPE tokenizer with unknown={unknown!r}", where="tokenizer", fix="'error' or 'hf'")
        self.path, self.unknown = Path(path), unknown
        path = self.path
        if not path.is_file():
            raise NexVarError("no such file", where=path, fix="copy tokenizer.json from the model's hub repository")
        ids, merges = vocabularies.read_bpe(path)
        names = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
        if missing := [name for name in names if name not in ids]:
            raise NexVarError(f"the vocabulary has no {', '.join(missing)}", where=path, fix="is it DNABERT-2's?")
        self._library = vocabularies.bpe(ids, merges, names, ("[CLS]", "[SEP]"))
        self.unk_id, self.cls_id, self.sep_id, self.pad_id = (ids[name] for name in names[:4])
        self.mask_id: int | None = ids["[MASK]"]
        self.special_ids = frozenset(ids[name] for name in names[1:])
        self.vocab_size = len(ids)

    def encode(self, text: str, *, special: bool = True) -> Encoding:
        if self.unknown == "error":
            if not text.isascii():
                raise _not_a_base(*next((c, i) for i, c in enumerate(text) if not c.isascii()))
            text = text.upper()
        with vocabularies.panics_are_errors("sequence"):
            encoded = self._library.encode(text, add_special_tokens=special)
        ids, spans = encoded.ids, encoded.offsets
        if special:
            spans[-1] = (len(text), len(text))  # the library says (0, 0) of [SEP]
        if self.unknown == "error" and self.unk_id in ids:
            for id_, (start, end) in zip(ids, spans, strict=True):
                if id_ == self.unk_id and text[start:end] not in ("N", "[UNK]"):
                    raise _not_a_base(text[start:end], start)
        for i, (id_, (start, end)) in enumerate(zip(ids, spans, strict=True)):
            if end > start and text[start] == "[" and id_ in self.special_ids:
                spans[i] = (start, start)
        return Encoding(ids, spans)

    def tokenize(self, text: str) -> list[int]:
        return self.encode(text).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        texts = ("N" if i == self.unk_id else self._library.id_to_token(i) for i in ids if i not in self.special_ids)
        return "".join(text or "" for text in texts)

    def base_ids(self) -> dict[str, int] | None:
        return None


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
            raise _not_a_base(text[position], position)
        return ids.tolist()

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(self._letters.get(int(i), "") for i in ids)

    def base_ids(self) -> dict[str, int] | None:
        return {base: self.ids[base] for base in "ACGT"}


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
            raise _not_a_base(text[position], position)
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


def _read_vocabulary(path: Path) -> tuple[dict[str, int], set[int], int, int]:
    """From a tokenizer.json: the bases' ids, all other ids, the padding's and the vocabulary's size."""
    ids = vocabularies.read_tokens(path)
    bases = {base: ids[base] for base in "ACGTN" if base in ids}
    if missing := [base for base in "ACGT" if base not in bases]:
        raise NexVarError(f"no one-hot tokenizer (the vocabulary has no {', '.join(missing)})", where=path)
    pad = next((ids[name] for name in ("[PAD]", "<PAD>", "<pad>") if name in ids), 0)
    return bases, set(ids.values()) - set(bases.values()), pad, max(ids.values()) + 1


def _not_a_base(letter: str, position: int) -> NexVarError:
    fix = "RNA? write T for U" if letter in "uU" else "write N for an ambiguous or unknown base"
    return NexVarError(f"{letter!r} is not A, C, G, T or N", where=f"sequence position {position + 1}", fix=fix)


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
