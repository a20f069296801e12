"""What users type: read or refused in one line, for every tokenizer and every verb that takes sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.inference.core import sequences
from places import CHECKPOINTS, GOLDEN
from tiny import tiny_loaded


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda folder: folder.name)
def model(request) -> NexVar:
    return NexVar(request.param, dtype="float32", device="cpu")


BAD = [
    ([""], "empty"),
    (["ACGT", "ACGU"], "seqs[1]"),
    (["ACGU"], "write T for U"),
    (["ACGR"], "write N"),
    (["MKVLEERTAL"], "protein"),
    (["ACG T"], "white space"),
    (["ACGT\n"], "white space"),
    (["ACG*"], "position 4"),
    (["ACG9T"], "position 4"),
    (["AC\u00e9T"], "position 3"),
    ([b"ACGT"], "bytes"),
    ([None], "NoneType"),
    ("ACGT", "list"),
]


@pytest.mark.parametrize(("seqs", "says"), BAD)
def test_one_line_and_no_number(model, seqs, says):
    verbs = [model.embed]
    if model.card.objective == "causal":
        verbs += [model.score_sequences, lambda s: model.generate(s, 2)]
        if model.card.tokenizer == "byte" and seqs == ["ACG*"]:
            return  # punctuation is in the byte models' training data
    else:
        verbs += [model.fill] if model.model.has_head else [model.annotate]
    for verb in verbs:
        with pytest.raises(NexVarError) as error:
            verb(seqs)
        assert says in str(error.value).replace("prompt_seqs", "seqs")
        assert "\n" not in str(error.value)


def test_longer_than_the_context_is_never_cut(model):
    longest = model.card.context
    if longest > 200_000:
        pytest.skip("a million bases are no quick test")
    verbs = [model.embed] + (
        [model.score_sequences, lambda s: model.generate(s, 1)]
        if model.card.objective == "causal"
        else [model.fill] * model.model.has_head
    )
    for verb in verbs:
        with pytest.raises(NexVarError, match="exceed the context"):
            verb(["A" * (longest + 1)])
    if model.card.objective == "causal":
        with pytest.raises(NexVarError, match="and 2 new ones exceed"):
            model.generate(["A" * (longest - 1)], 2)


def test_lower_case_scores_as_upper_case(model):
    if model.card.objective == "causal":
        lower, upper = model.score_sequences(["acgtnACGTTT", "ACGTNACGTTT"])
        assert lower == pytest.approx(upper, rel=1e-6)  # two rows of one product, where experts sort tokens


def test_tags_are_scored_and_have_no_other_strand():
    model = NexVar(GOLDEN / "sh2_a", device="cpu", dtype="float32")
    tagged, bare = model.score_sequences(["|D__BACTERIA|ACGTACGT", "ACGTACGT"])
    assert tagged != bare
    with pytest.raises(NexVarError, match="no reverse complement"):
        model.score_sequences(["|D__BACTERIA|ACGT"], average_reverse_complement=True)


@given(st.one_of(st.text(st.characters(exclude_characters="|"), max_size=30), st.text("ACGTNacgtn.@#-", min_size=1)))
def test_a_byte_model_reads_what_it_was_trained_with_and_nothing_else(text):
    loaded = tiny_loaded()
    try:
        read = sequences.clean(loaded, text, "x")
    except NexVarError as error:
        assert str(error).startswith("x: ")
        return
    assert len(read) == len(text)
    assert read.isascii()
    assert read.isprintable()
    assert not {c for c in read if c.isalnum() or c.isspace()} - set("ACGTN")


@given(st.text("ACGTNacgtn", min_size=1, max_size=40))
def test_ids_with_and_without_spans_are_the_same(text):
    for folder in CHECKPOINTS:
        tokenizer = _tokenizer(folder)
        for special in (True, False):
            assert sequences.token_ids(tokenizer, text, special=special) == tokenizer.encode(text, special=special).ids


_kept: dict[Path, object] = {}


def _tokenizer(folder):
    if folder not in _kept:
        _kept[folder] = NexVar(folder, device="cpu").tokenizer
    return _kept[folder]
