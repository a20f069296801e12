"""The BPE tokenizer against the official encodings and a slow one, and the one-base tokenizer of Genos."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from nexvar.errors import NexVarError
from nexvar.tokenizers import BpeTokenizer, OneHotTokenizer, make
from places import GOLDEN

BPE = GOLDEN / "dnabert2_tiny" / "tokenizer.json"
BPE_FACTS = json.loads((GOLDEN / "dnabert2_tiny" / "tokenizer_facts.json").read_text())
ONE_HOT_FACTS = json.loads((GOLDEN / "genos_tiny" / "tokenizer_facts.json").read_text())
MODEL = json.loads(BPE.read_text())["model"]
MERGES = [tuple(m.split()) if isinstance(m, str) else tuple(m) for m in MODEL["merges"]]

hf = BpeTokenizer(BPE, unknown="hf")
bpe = make("bpe", BPE.parent)
one_hot = make("onehot")
dna = st.text("ACGT", max_size=60)


def slow_bpe(text: str) -> list[int]:
    """Merge the pair of the best rank, its leftmost occurrence first, until no pair is in the table."""
    ranks = {pair: rank for rank, pair in enumerate(MERGES)}
    pieces = list(text)
    while True:
        pairs = [(ranks[p], i) for i, p in enumerate(zip(pieces, pieces[1:], strict=False)) if p in ranks]
        if not pairs:
            return [MODEL["vocab"].get(piece, 0) for piece in pieces]
        _, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


@pytest.mark.parametrize("case", BPE_FACTS["cases"], ids=lambda c: c["text"][:20] or "empty")
def test_official_encodings(case: dict) -> None:
    assert hf.encode(case["text"]).ids == case["input_ids"]


@given(dna)
def test_equals_a_slow_tokenizer(text: str) -> None:
    assert bpe.encode(text, special=False).ids == slow_bpe(text)
    assert bpe.tokenize(text) == [1, *slow_bpe(text), 2]


@given(st.text("ACGTNacgtn", max_size=60))
def test_spans_tile_the_text_and_it_comes_back(text: str) -> None:
    encoding = bpe.encode(text)
    assert encoding.spans[0] == (0, 0) and encoding.spans[-1] == (len(text), len(text))
    assert [s for s, _ in encoding.spans[1:]] == [e for _, e in encoding.spans[:-1]]
    assert bpe.detokenize(encoding.ids) == text.upper()
    owner = encoding.base_to_token(len(text))
    for base, token in enumerate(owner):
        start, end = encoding.spans[token]
        assert start <= base < end


def test_which_token_a_base_belongs_to() -> None:
    # [CLS] A C GT [UNK] A C GT [SEP]
    assert bpe.encode("ACGTNACGT").base_to_token(9).tolist() == [1, 2, 3, 3, 4, 5, 6, 7, 7]
    assert bpe.encode("A C", special=False).base_to_token(3).tolist() == [0, -1, 1]


def test_lower_case_is_upper_case_unless_the_official_way_is_asked_for() -> None:
    assert bpe.tokenize("acgtACGT") == bpe.tokenize("ACGTACGT")
    assert hf.tokenize("acgt") == [1, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("text, where", [("ACGU", "position 4"), ("ACRT", "position 3"), ("AC-T", "position 3")])
def test_what_would_silently_become_unk_is_refused(text: str, where: str) -> None:
    for tokenizer in (bpe, one_hot):
        with pytest.raises(NexVarError, match=where):
            tokenizer.encode(text)


@pytest.mark.parametrize("text", ["ACß", "AÅ", "AC€"])
def test_letters_beyond_ascii_are_refused_by_name(text: str) -> None:
    for tokenizer in (bpe, one_hot):
        with pytest.raises(NexVarError, match=text[-1]):
            tokenizer.encode(text)


def test_n_is_unk_and_is_no_special_token() -> None:
    assert bpe.tokenize("ANA") == [1, 5, 0, 5, 2]
    assert 0 not in bpe.special_ids and bpe.special_ids == {1, 2, 3, 4}
    assert (bpe.pad_id, bpe.mask_id, bpe.vocab_size, bpe.base_ids()) == (3, 4, 4096, None)


def test_mask_in_the_text_is_the_mask_token_and_covers_no_base() -> None:
    encoding = bpe.encode("[MASK]A")
    assert encoding.ids == [1, 4, 5, 2]
    assert encoding.base_to_token(7).tolist() == [-1] * 6 + [2]


def test_a_long_sequence_is_quick_enough() -> None:
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 200_000))
    encoding = bpe.encode(text)
    assert bpe.detokenize(encoding.ids) == text


def test_bad_tokenizer_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(NexVarError, match=r"tokenizer\.json.*no such file"):
        make("bpe", tmp_path)
    with pytest.raises(NexVarError, match="needs the folder"):
        make("bpe")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(NexVarError, match="not a tokenizer file"):
        make("bpe", tmp_path)
    with pytest.raises(NexVarError, match="not a tokenizer file"):
        make("onehot", tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"A": 0, "C": 1}}}))
    with pytest.raises(NexVarError, match="no one-hot tokenizer .*no G, T"):
        make("onehot", tmp_path)
    other = {"version": "1.0", "model": {"type": "BPE", "vocab": {"A": 0}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(NexVarError, match=r"no \[UNK\]"):
        make("bpe", tmp_path)


# ------------------------------------------------------------------------------------------------------- one base


@pytest.mark.parametrize("case", ONE_HOT_FACTS["cases"], ids=lambda c: c["text"][:20] or "empty")
def test_official_one_hot_encodings(case: dict) -> None:
    assert one_hot.encode(case["text"]).ids == case["input_ids"]


def test_one_hot_facts() -> None:
    assert one_hot.base_ids() == {b: ONE_HOT_FACTS["base_ids"][b] for b in "ACGT"}
    assert one_hot.pad_id == ONE_HOT_FACTS["presumed_ids"]["[PAD]"]
    assert one_hot.special_ids == set(ONE_HOT_FACTS["presumed_ids"].values())
    assert one_hot.mask_id is None


@given(st.text("ACGTNacgtn", max_size=60))
def test_one_hot_round_trip(text: str) -> None:
    encoding = one_hot.encode(text)
    assert len(encoding.ids) == len(text)
    assert one_hot.detokenize(encoding.ids) == text.upper()
    assert encoding.base_to_token(len(text)).tolist() == list(range(len(text)))


@pytest.mark.parametrize("unigram", [False, True])
def test_the_checkpoints_own_file_overrules_the_presumed_ids(tmp_path: Path, unigram: bool) -> None:
    tokens = ["<pad>", "T", "G", "C", "A", "N"]
    vocab = [[t, 0.0] for t in tokens] if unigram else {t: i for i, t in enumerate(tokens)}
    content = {"model": {"vocab": vocab}, "added_tokens": [{"id": 6, "content": "<eos>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = make("onehot", tmp_path)
    assert tokenizer.tokenize("ACGTN") == [4, 3, 2, 1, 5]
    assert tokenizer.detokenize([0, 4, 3, 6]) == "AC"
    assert (tokenizer.pad_id, tokenizer.vocab_size, tokenizer.special_ids) == (0, 7, {0, 6})


def test_a_file_without_n_refuses_n(tmp_path: Path) -> None:
    content = {"model": {"vocab": {t: i for i, t in enumerate("ACGT")}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = OneHotTokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(NexVarError, match="position 2"):
        tokenizer.encode("ANA")


# ------------------------------------------------------------------------------------- files that are not what they say


def hostile_file(folder: Path, **changes: object) -> Path:
    """The sound tokenizer.json with parts of it, or of its model ("model__vocab"), replaced."""
    values = json.loads(BPE.read_text())
    for name, value in changes.items():
        place, _, inner = name.partition("__")
        if inner:
            values[place][inner] = value
        else:
            values[place] = value
    (folder / "tokenizer.json").write_text(json.dumps(values))
    return folder


IGNORED = {
    "a regex that never ends": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(A+)+$"}}},
    "a normaliser that grows": {"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "A" * 1000}},
    "templates of unknown tokens": {"post_processor": {"type": "TemplateProcessing", "single": []}},
    "padding to the moon": {"padding": {"strategy": {"Fixed": 1 << 40}, "pad_id": 3}},
    "truncation": {"truncation": {"max_length": 1}},
    "a prefix longer than every token": {"model__continuing_subword_prefix": "é" * 1000},
    "dropout": {"model__dropout": 0.99},
    "an unknown token that is none": {"model__unk_token": "nothing"},
    "a decoder": {"decoder": {"type": "Nonsense"}},
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_no_released_checkpoint_needs_of_a_tokenizer_file_is_not_looked_at(tmp_path: Path, name: str) -> None:
    tokenizer = make("bpe", hostile_file(tmp_path, **IGNORED[name]))
    text = "ACGTTGCANNACGTACGT" * 20
    assert tokenizer.tokenize(text) == bpe.tokenize(text)


VOCAB = MODEL["vocab"]
REFUSED = {
    "an id twice": {"model__vocab": {**VOCAB, "A": 6}},
    "an id far away": {"model__vocab": {**VOCAB, "A": 1 << 31}},
    "an id below zero": {"model__vocab": {**VOCAB, "A": -1}},
    "an id of words": {"model__vocab": {**VOCAB, "A": "5"}},
    "a hole": {"model__vocab": {t: i for t, i in VOCAB.items() if i != 4000}},
    "a token of a megabyte": {"model__vocab": {**VOCAB, "A" * 1_000_000: 4096}},
    "an empty token": {"model__vocab": {**VOCAB, "": 4096}},
    "no vocabulary": {"model__vocab": None},
    "merges of nothing known": {"model__merges": [["X", "Y"]]},
    "a merge whose result is unknown": {"model__merges": [["[MASK]", "[MASK]"]]},
    "a merge of three": {"model__merges": ["A A A"]},
    "a merge of numbers": {"model__merges": [[1, 2]]},
    "merges of words": {"model__merges": "A A"},
    "another kind of model": {"model__type": "WordPiece"},
    "a type of lists": {"model__type": [[[]]]},
    "added tokens that contradict": {"added_tokens": [{"id": 5, "content": "[MASK]"}]},
    "added tokens of words": {"added_tokens": ["[MASK]"]},
    "added tokens far away": {"added_tokens": [{"id": 1 << 40, "content": "far"}]},
    "a model of words": {"model": "BPE"},
}


@pytest.mark.parametrize("kind", ["bpe", "onehot"])
@pytest.mark.parametrize("name", REFUSED)
def test_vocabularies_and_merges_that_contradict_themselves_are_one_line(tmp_path: Path, name: str, kind: str) -> None:
    folder = hostile_file(tmp_path, **REFUSED[name])
    if kind == "onehot" and ("merge" in name or name in ("a hole", "another kind of model", "a type of lists")):
        make(kind, folder)  # it reads the vocabulary alone
        return
    with pytest.raises(NexVarError, match=r"tokenizer\.json: not a tokenizer file"):
        make(kind, folder)


@pytest.mark.parametrize("kind", ["bpe", "onehot"])
def test_a_tokenizer_file_is_a_file_of_its_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model").mkdir()
    link = tmp_path / "model" / "tokenizer.json"
    (tmp_path / "outside.json").write_text(BPE.read_text())
    link.symlink_to("../outside.json")
    with pytest.raises(NexVarError, match="a link out of its folder"):
        make(kind, tmp_path / "model")
