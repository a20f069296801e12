"""Sequences that a user typed or that a file gave: read, checked, tokenised; or one line that says what is wrong.

Lower case is read as upper case. A, C, G, T and N are bases; anything else is refused and never becomes an unknown
token, whatever the tokenizer would do with it. Byte models (Evo 1, NexVar / Evo 2) also read phylogenetic tags,
``|D__BACTERIA;…|``, and punctuation, with which their checkpoints were trained; tokenizers that have special tokens
read them where they are written out (``<mask>``, ``[MASK]``).
"""

from __future__ import annotations

import re

from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.tokenizers import ByteTokenizer, CharacterTokenizer, Encoding, Ntv3Tokenizer, OneHotTokenizer, Tokenizer
from nexvar.weights.load import Loaded

_BASES = re.compile("[ACGTNacgtn]+")
_BYTES = re.compile(r"(\|[^|]*\|)|([ACGTNacgtn]+)|[!-/:-@\[-`{-~]+|(.)", re.DOTALL)
_IUPAC = frozenset("RYSWKMBDHV")
_PROTEIN_ONLY = frozenset("EFILPQXZJO*")


def clean(loaded: Loaded, text: object, where: str, *, more: int = 0) -> str:
    """``text`` in upper case, after every check that needs no model.

    more: bases that will follow it (generation), for the check against the model's context.
    Raises NexVarError: no text, empty, longer than the context, a letter that is no base.
    """
    if not isinstance(text, str):
        raise NexVarError(f"a {type(text).__name__}, not text", where=where, fix="give a string of bases")
    if not text:
        raise NexVarError("empty: no bases", where=where, fix="give at least one base")
    context = loaded.card.context
    if len(text) + more > context:
        new = f" and {more:,} new ones" if more else ""
        raise NexVarError(
            f"{len(text):,} bases{new} exceed the context of {loaded.card.name}, {context:,}",
            where=where,
            fix="cut it, or use a model with a longer context (`nexvar models`)",
        )
    if _BASES.fullmatch(text):
        return text.upper()
    if isinstance(loaded.tokenizer, ByteTokenizer):
        return _clean_bytes(text, where)
    if space := re.search(r"\s", text):  # which some tokenizers drop
        raise not_a_base(text, space.start(), where)
    try:
        loaded.tokenizer.encode(text)
    except NexVarError as error:
        place = re.search(r"position (\d+)", str(error.where))
        if place is None:
            raise NexVarError(error.what, where=where, fix=error.fix) from None
        raise not_a_base(text, int(place[1]) - 1, where) from None
    return text


def _clean_bytes(text: str, where: str) -> str:
    pieces = []
    for match in _BYTES.finditer(text):
        tag, bases, odd = match.groups()
        if odd or (tag and not (tag.isascii() and tag.isprintable())):
            first = next((i for i, c in enumerate(match[0]) if not (c.isascii() and c.isprintable())), 0)
            raise not_a_base(text, match.start() + first, where)
        pieces.append(bases.upper() if bases else match[0])
    return "".join(pieces)


def not_a_base(text: str, position: int, where: str) -> NexVarError:
    """The error for the letter at ``position`` (0-based), with what it probably is."""
    letter = text[position]
    upper = letter.upper()
    if upper == "U":
        fix = "RNA? write T for U"
    elif "|" not in text and set(text.upper()) & _PROTEIN_ONLY:
        fix = "a protein? these models read DNA"
    elif upper in _IUPAC:
        fix = "an ambiguous base: write N"
    elif letter.isspace():
        fix = "remove white space"
    else:
        fix = "write N for an unknown base"
    return NexVarError(f"{letter!r} at position {position + 1} is not A, C, G, T or N", where=where, fix=fix)


def other_strand(text: str) -> str:
    """The reverse complement of a clean text; NexVarError for what has none."""
    if set(text) - set("ACGTN"):
        raise NexVarError("tags and special tokens have no reverse complement", where="strand", fix="use 'forward'")
    return reverse_complement(text)


def token_ids(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    """``tokenizer.encode(text, special=special).ids``, without the spans where they can be had without."""
    if special or isinstance(tokenizer, (ByteTokenizer, Ntv3Tokenizer, OneHotTokenizer)):
        return tokenizer.tokenize(text)
    if isinstance(tokenizer, CharacterTokenizer):
        ids = tokenizer.tokenize(text)
        return ids[:-1] if tokenizer.adds_sep else ids
    return tokenizer.encode(text, special=False).ids


def begin_ids(loaded: Loaded, wanted: bool | None = None) -> tuple[int, ...]:
    """The tokens that stand before a sequence that is scored: the card's begin token, if it has one.

    wanted: False leaves it out; True is no more than None where the card has none.
    """
    bos = loaded.card.bos_id
    return () if bos is None or wanted is False else (bos,)


def encoding(loaded: Loaded, text: str) -> Encoding:
    """Tokens and spans as this model embeds them: with the special tokens of its official use."""
    return loaded.tokenizer.encode(text, special=loaded.card.special_tokens)
