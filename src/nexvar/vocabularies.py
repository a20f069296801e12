"""What a tokenizer.json says of tokens and merges, checked; nothing else in it is looked at.

A tokenizer.json can also hold normalisers, pre-tokenisers, post-processors and regular expressions. The tokenizers
library believes them: it panics, hangs or fills the memory where they lie. The released checkpoints that we read
(DNABERT-2, Genos) need none of them, so what they do is written in ``tokenizers/``.
Format: https://github.com/huggingface/tokenizers
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.files import check_inside, read_json

MAX_TOKENS = 1 << 18
MAX_TOKEN = 256  # characters
Merges = list[tuple[str, str]]


def read_tokens(path: Path) -> dict[str, int]:
    """{token: id} of the model and the added tokens of a tokenizer.json; no id twice. NexVarError if it has none."""
    return _tokens(read_json(check_inside(path)), path)


def read_bpe(path: Path) -> tuple[dict[str, int], Merges]:
    """Vocabulary, with ids 0 … n - 1, and merges in the order of their rank; NexVarError if they do not fit."""
    values = read_json(check_inside(path))
    tokens = _tokens(values, path)
    model = values["model"]
    if model.get("type", "BPE") != "BPE":
        raise _refuse(f"a {str(model['type'])[:20]} model, not BPE", path)
    if sorted(tokens.values()) != list(range(len(tokens))):
        raise _refuse(f"{len(tokens)} tokens whose ids are not 0 to {len(tokens) - 1}", path)
    listed = model.get("merges")
    if not isinstance(listed, list) or len(listed) > MAX_TOKENS:
        raise _refuse("no list of merges", path)
    merges: Merges = []
    for number, merge in enumerate(listed, 1):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise _refuse(f"merge {number} is no pair of tokens", path)
        left, right = pair
        if left not in tokens or right not in tokens or left + right not in tokens:
            raise _refuse(f"merge {number} ({left!r} and {right!r}) is of no tokens of the vocabulary", path)
        merges.append((left, right))
    return tokens, merges


def _tokens(values: dict[str, Any], path: Path) -> dict[str, int]:
    """{token: id} of a tokenizer.json, its added tokens too; NexVarError if two tokens share an id, or one has two."""
    model, added = values.get("model"), values.get("added_tokens", [])
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # unigram models: [token, score] in the order of their ids
        if not all(isinstance(entry, list) and entry for entry in vocabulary):
            raise _refuse("an entry of the vocabulary is no [token, score]", path)
        pairs: list[tuple[Any, Any]] = [(entry[0], id_) for id_, entry in enumerate(vocabulary)]
    elif isinstance(vocabulary, dict):
        pairs = list(vocabulary.items())
    else:
        raise _refuse("it has no model with a vocabulary", path)
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise _refuse("added_tokens is no list of tokens", path)
    pairs += [(token.get("content"), token.get("id")) for token in added]
    if len(pairs) > MAX_TOKENS:
        raise _refuse(f"{len(pairs)} tokens, at most {MAX_TOKENS} make sense", path)
    tokens: dict[str, int] = {}
    names: dict[int, str] = {}
    for token, id_ in pairs:
        if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN:
            raise _refuse(f"a token that is no text of 1 to {MAX_TOKEN} characters", path)
        if type(id_) is not int or not 0 <= id_ < MAX_TOKENS:
            raise _refuse(f"the id of {token!r} is not a number from 0 to {MAX_TOKENS - 1}", path)
        if tokens.setdefault(token, id_) != id_ or names.setdefault(id_, token) != token:
            raise _refuse(f"{token!r} and {names.get(id_, token)!r} share a name or the id {id_}", path)
    return tokens


def _refuse(what: str, path: Path) -> NexVarError:
    return NexVarError(f"not a tokenizer file that we read: {what}", where=path, fix="is it the model's own?")


def bpe(tokens: dict[str, int], merges: Merges, special: tuple[str, ...], around: tuple[str, str]) -> Any:
    """A ``tokenizers.Tokenizer``: byte pairs within white space, [UNK] for what has no token, ``around`` its text.

    special: tokens that are found in the text as they are written; the first is what unknown letters become.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    first, last = around
    with panics_are_errors("tokenizer.json"):
        library = Tokenizer(models.BPE(vocab=tokens, merges=merges, unk_token=special[0]))
        library.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
        library.pre_tokenizer = pre_tokenizers.Whitespace()
        library.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", special_tokens=[(name, tokens[name]) for name in around]
        )
        return library


@contextmanager
def panics_are_errors(where: object) -> Iterator[None]:
    """A panic of a library in Rust is a BaseException that no ``except Exception`` stops."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, NexVarError) or (
            type(error).__name__ != "PanicException" and not isinstance(error, Exception)
        ):
            raise
        what = f"the tokenizers library fails ({error})"
        raise NexVarError(what, where=where, fix="is it the model's own?") from None
