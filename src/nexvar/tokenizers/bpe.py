"""The tokenizer of DNABERT-2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nexvar import vocabularies
from nexvar.errors import NexVarError
from nexvar.tokenizers.encoding import Encoding, not_a_base


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
                raise not_a_base(*next((c, i) for i, c in enumerate(text) if not c.isascii()))
            text = text.upper()
        with vocabularies.panics_are_errors("sequence"):
            encoded = self._library.encode(text, add_special_tokens=special)
        ids, spans = encoded.ids, encoded.offsets
        if special:
            spans[-1] = (len(text), len(text))  # the library says (0, 0) of [SEP]
        if self.unknown == "error" and self.unk_id in ids:
            for id_, (start, end) in zip(ids, spans, strict=True):
                if id_ == self.unk_id and text[start:end] not in ("N", "[UNK]"):
                    raise not_a_base(text[start:end], start)
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
