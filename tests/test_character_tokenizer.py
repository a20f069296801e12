"""The character tokenizers against encodings of the official classes, and what ours does beyond them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.tokenizers import CharacterTokenizer, make

OFFICIAL = {"hyenadna": "hyenadna_tiny", "caduceus": "caduceus_ps_tiny"}


def facts(golden: Path, kind: str) -> dict[str, Any]:
    return json.loads((golden / OFFICIAL[kind] / "tokenizer.json").read_text())


@pytest.mark.parametrize("kind", OFFICIAL)
def test_official_encodings(golden: Path, kind: str) -> None:
    expected, tokenizer = facts(golden, kind), CharacterTokenizer(kind, unknown="hf")
    assert expected["vocab"] == tokenizer.ids
    assert expected["len_vocab"] == tokenizer.vocab_size
    assert expected["special_ids"]["pad_token_id"] == tokenizer.pad_id
    assert expected["special_ids"]["mask_token_id"] == tokenizer.mask_id
    assert expected["padding_side"] == tokenizer.padding_side
    for case in expected["encodings"]:
        assert tokenizer.encode(case["text"]).ids == case["ids"], case["text"]
        assert tokenizer.encode(case["text"], special=False).ids == case["ids_no_special"], case["text"]
        assert tokenizer.tokenize(case["text"]) == case["ids"], case["text"]


@pytest.mark.parametrize("kind", OFFICIAL)
def test_official_batches(golden: Path, kind: str) -> None:
    expected, tokenizer = facts(golden, kind), CharacterTokenizer(kind)
    tried = 0
    for case in expected["batches"]:
        options = case["kwargs"]
        if options.get("padding"):  # ours always pads
            ids, real = tokenizer.batch(
                case["texts"], special=options.get("add_special_tokens", True), length=options.get("max_length")
            )
            assert ids == case["input_ids"], options
            assert real == [[i != tokenizer.pad_id for i in row] for row in ids]
            tried += 1
    assert tried == 4


@pytest.mark.parametrize("kind", OFFICIAL)
def test_default_agrees_on_bases(golden: Path, kind: str) -> None:
    """On A, C, G, T, N and special tokens the strict default is the official tokenizer."""
    tokenizer = CharacterTokenizer(kind)
    same = [c for c in facts(golden, kind)["encodings"] if 6 not in c["ids"]]
    assert len(same) >= 9
    for case in same:
        assert tokenizer.encode(case["text"]).ids == case["ids"]


def test_soft_masked_bases_are_bases() -> None:
    assert CharacterTokenizer("hyenadna").tokenize("acgtN") == [7, 8, 9, 10, 11, 1]
    assert CharacterTokenizer("hyenadna", unknown="hf").tokenize("acgtN") == [6, 6, 6, 6, 11, 1]


@pytest.mark.parametrize(("text", "letter", "position"), [("ACRT", "R", 3), ("acgU", "U", 4), ("A[MASK]é", "é", 8)])
def test_unknown_letters_are_refused(text: str, letter: str, position: int) -> None:
    with pytest.raises(NexVarError, match=f"position {position}: '{letter}'"):
        CharacterTokenizer("hyenadna").encode(text)


def test_plantcaduceus() -> None:
    tokenizer = make("plantcaduceus")
    assert tokenizer.tokenize("acgtACGTN") == [3, 4, 5, 6, 3, 4, 5, 6, 2]
    assert tokenizer.encode("ac[MASK]t").ids == [3, 4, 1, 6]
    assert tokenizer.base_ids() == {"A": 3, "C": 4, "G": 5, "T": 6}
    assert tokenizer.mask_id == 1
    assert tokenizer.pad_id == 0


@given(st.text("ACGTN", max_size=50), st.sampled_from(["hyenadna", "caduceus", "plantcaduceus"]))
def test_round_trip_and_spans(text: str, kind: str) -> None:
    tokenizer = make(kind)
    encoding = tokenizer.encode(text)
    assert tokenizer.detokenize(encoding.ids) == text
    assert encoding.base_to_token(len(text)).tolist() == list(range(len(text)))
    assert [s for s, i in zip(encoding.spans, encoding.ids, strict=True) if i in tokenizer.special_ids] == (
        [] if kind == "plantcaduceus" else [(len(text), len(text))]
    )


def test_special_tokens_own_no_base() -> None:
    encoding = make("caduceus").encode("AC[MASK]GT")
    assert encoding.spans == [(0, 1), (1, 2), (2, 2), (8, 9), (9, 10), (10, 10)]
