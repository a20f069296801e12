"""The k-mer and NTv3 tokenizers: the official encodings, the README's examples, a slow one that is plainly right."""

from __future__ import annotations

import json
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from nexvar import tokenizers
from nexvar.errors import NexVarError
from nexvar.genome.windows import Status, Windows
from nexvar.inference.scorers.masked import tokens_to_mask
from nexvar.tokenizers import KmerTokenizer, Ntv3Tokenizer
from places import GOLDEN

FOLDERS = {"nt_v1_tiny": (6, "v1"), "nt_v2_tiny": (6, "v2"), "nt_v2_3mer_tiny": (3, "v2")}
FACTS = {name: json.loads((GOLDEN / name / "tokenizer_facts.json").read_text()) for name in FOLDERS}
HF = [(name, fact) for name in FOLDERS for fact in FACTS[name]["hf"]]
JAX = [(name, fact) for name in FOLDERS for fact in FACTS[name]["jax"]]
DNA = st.text("ACGTN", max_size=60)


def tokenizer(folder: str, unknown: str = "error") -> KmerTokenizer:
    return KmerTokenizer(*FOLDERS[folder], unknown)


def slow(tokenizer: KmerTokenizer, text: str) -> list[str]:
    """Letter by letter, as the paper tells it."""
    out, rest = ["<cls>"], text
    while rest:
        head = rest[: tokenizer.k]
        taken = head if len(head) == tokenizer.k and all(base in "ACGT" for base in head) else rest[0]
        out.append(taken)
        rest = rest[len(taken) :]
    return out


# -- the official encodings


@pytest.mark.parametrize(("folder", "fact"), HF)
def test_as_the_hub_tokenizer(folder, fact):
    assert tokenizer(folder, "hf").tokenize(fact["text"]) == fact["input_ids"]


@pytest.mark.parametrize(("folder", "fact"), JAX)
def test_as_the_jax_tokenizer(folder, fact):
    jax = tokenizer(folder, "jax")
    if "error" in fact:
        token = fact["error"].split("Token ")[1].split(" not found")[0]
        with pytest.raises(NexVarError, match="not found in the vocabulary") as caught:
            jax.tokenize(fact["text"])
        assert f"token {token!r} " in str(caught.value)
    else:
        assert jax.tokenize(fact["text"]) == fact["input_ids"]


@pytest.mark.parametrize(("folder", "fact"), HF)
def test_the_default_is_the_official_encoding_or_an_error(folder, fact):
    """Never a silent <unk>: what the hub tokenizer cannot read is upper-cased where that helps, and else refused."""
    ids = fact["input_ids"]
    if 0 not in ids and not any(c.isspace() for c in fact["text"]):
        assert tokenizer(folder).tokenize(fact["text"]) == ids
    elif fact["text"].upper().strip("ACGTN") == "":
        assert tokenizer(folder).tokenize(fact["text"]) == tokenizer(folder).tokenize(fact["text"].upper())
    else:
        with pytest.raises(NexVarError, match="is not A, C, G, T or N"):
            tokenizer(folder).tokenize(fact["text"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_vocabulary_file(folder):
    """Same order as vocab.txt; v1's last two lines have no row in the embedding and are never emitted."""
    lines = (GOLDEN / folder / "vocab.txt").read_text().split()
    ours = tokenizer(folder)
    assert lines[: ours.vocab_size] == list(ours.tokens)
    assert lines[ours.vocab_size :] == (["<eos>", "<bos>"] if folder == "nt_v1_tiny" else [])
    config = json.loads((GOLDEN / folder / "config.json").read_text())
    assert ours.vocab_size == config["vocab_size"]
    for unknown in ("error", "hf", "jax"):
        if folder == "nt_v1_tiny":
            with pytest.raises(NexVarError):
                tokenizer(folder, unknown).tokenize("ATTCCG<eos>")


# -- the README's two examples


def test_readme_examples():
    v2 = KmerTokenizer(6, "v2")
    assert v2.tokenize("ATTCCGATTCCGATTCCG") == [3, 369, 369, 369]
    words = ["ATTTCT", "CTCTCT", "CTCTGA", "GATCGA", "TCGATC", "G", "A", "T"]
    assert [v2.tokens[i] for i in v2.tokenize("ATTTCTCTCTCTCTCTGAGATCGATCGATCGAT")] == ["<cls>", *words]


# -- properties


@given(DNA, st.sampled_from([(6, "v1"), (6, "v2"), (3, "v2"), (2, "v1")]))
def test_equals_the_slow_tokenizer(text, kind):
    fast = KmerTokenizer(*kind)
    encoded = fast.encode(text)
    assert [fast.tokens[i] for i in encoded.ids] == slow(fast, text)
    for other in (KmerTokenizer(*kind, "hf"), KmerTokenizer(*kind, "jax")):
        assert other.tokenize(text) == encoded.ids
    assert fast.detokenize(encoded.ids) == text
    assert fast.encode(text.lower()) == encoded
    assert fast.encode(text, special=False).ids == encoded.ids[1:]


@given(DNA)
def test_every_base_has_the_token_that_covers_it(text):
    kmers = KmerTokenizer()
    encoded = kmers.encode(text)
    owner = encoded.base_to_token(len(text))
    for position, base in enumerate(text):
        start, end = encoded.spans[owner[position]]
        assert start <= position < end
        assert kmers.tokens[encoded.ids[owner[position]]][position - start] == base
        assert encoded.tokens_over(position, position + 1) == [owner[position]]
    if text:
        covered = encoded.tokens_over(0, len(text))
        assert covered == list(range(1, len(encoded.ids))), "all but <cls>"


def test_the_tokens_of_a_variant():
    encoded = KmerTokenizer().encode("ATTCCGAAAAAANGGGGGGTT")
    assert encoded.tokens_over(8, 9) == [2], "a substitution in the second 6-mer"
    assert encoded.tokens_over(5, 7) == [1, 2], "a deletion over the border of two"
    assert encoded.tokens_over(12, 13) == [3], "the N is alone"
    assert encoded.tokens_over(18, 21) == [4, 5, 6], "into the tail of single letters"
    assert encoded.tokens_over(4, 4) == [1], "an insertion inside the first"
    assert encoded.tokens_over(6, 6) == [], "an insertion between two"


def test_letters_give_the_base_at_every_offset():
    kmers = KmerTokenizer(3)
    table = kmers.letters()
    for token, id_ in kmers.ids.items():
        expected = ["ACGT".index(b) for b in token] if len(token) == 3 else [-1] * 3
        assert table[id_].tolist() == expected
    assert np.count_nonzero(table[:, 1] == 2) == 16, "a quarter of the 64 k-mers has G in the middle"


@pytest.mark.parametrize(
    ("variant", "masked"),
    [
        ("A>C", 1),  # one 6-mer
        ("ACG>TTT", 1),  # inside one
        ("ACGTACGTAC>TCGTACGTAG", 2),  # the first and the last base
        ("ACGTACGTACGTACG>TCGTACGTACGTACC", 2),  # and the 6-mer between them is the same
        ("A>ACG", 1),  # everything behind moves by two, but is only context
        ("ACG>A", 1),
        ("ACGTACGTAC>A", 2),
        ("A>ACGTACGTAC", 2),
    ],
)
def test_what_a_masked_readout_masks_under_kmers(variant, masked):
    """The 6-mers that differ; over as many bases of both windows for indels, which change every 6-mer behind them."""
    ref, alt = variant.split(">")
    left, right = "TTGCAT" * 5, "GGATCC" * 12
    alt_window = (left + alt + right)[: len(left + ref + right)]
    ref_window = (left + ref + right)[: len(alt_window)]
    sites = ((30, 30 + len(ref)), (30, 30 + len(alt)))
    windows = Windows(Status.OK, ref_seq=ref_window, alt_seq=alt_window, ref_site=sites[0], alt_site=sites[1])
    loaded = SimpleNamespace(tokenizer=KmerTokenizer(), card=SimpleNamespace(special_tokens=True))
    *sides, _ = tokens_to_mask(loaded, windows)
    for side, window in zip(sides, (ref_window, alt_window), strict=True):
        assert len(side.changed) == masked
        assert side.ids == KmerTokenizer().tokenize(window)
    longer = windows.ref_seq[30 : 30 + len(ref)] if len(ref) > len(alt) else windows.alt_seq[30 : 30 + len(alt)]
    side, window = (sides[0], ref_window) if len(ref) > len(alt) else (sides[1], alt_window)
    spans = [KmerTokenizer().encode(window).spans[i] for i in side.changed]
    assert all(any(a <= 30 + i < b for a, b in spans) for i in (0 if len(ref) == len(alt) else 1, len(longer) - 1))


# -- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACGTR", "sequence position 5: 'R' is not A, C, G, T or N: write N"),
        ("ACGU", "sequence position 4: 'U' is not A, C, G, T or N: RNA. write T"),
        ("AC GT", "sequence position 3"),
        ("ACGT\n", "sequence position 5"),
        ("MKVL", "sequence position 1: 'M'"),
        ("ACé", "sequence position 3"),
    ],
)
@pytest.mark.parametrize("kind", [KmerTokenizer, Ntv3Tokenizer])
def test_unknown_letters_are_refused_with_their_place(kind, text, message):
    with pytest.raises(NexVarError, match=message):
        kind().tokenize(text)
    with pytest.raises(NexVarError, match=message):
        kind().encode(text)


def test_masks_in_the_text():
    encoded = KmerTokenizer().encode("ATTCCG<mask>ATT")
    assert encoded.ids[:3] == [3, 369, 2]
    assert encoded.spans[2] == (6, 6), "a special token covers no base"
    assert Ntv3Tokenizer().tokenize("ac<mask>N") == [6, 8, 2, 10]


def test_names():
    assert tokenizers.make("kmer6_v1").vocab_size == 4105
    assert tokenizers.make("kmer3_v2").vocab_size == 75
    assert isinstance(tokenizers.make("ntv3"), Ntv3Tokenizer)
    with pytest.raises(NexVarError):
        KmerTokenizer(6, "v3")
    with pytest.raises(NexVarError):
        Ntv3Tokenizer("ignore")


# -- NTv3

NTV3 = json.loads((GOLDEN / "ntv3_pre_tiny" / "tokenizer_facts.json").read_text())


@pytest.mark.parametrize("fact", NTV3["encodings"], ids=lambda fact: repr(fact["text"]))
def test_ntv3_as_the_hub_tokenizer(fact):
    assert Ntv3Tokenizer("hf").tokenize(fact["text"]) == fact["ids"]
    if 0 not in fact["ids"]:
        assert Ntv3Tokenizer().tokenize(fact["text"]) == fact["ids"]


@pytest.mark.parametrize("fact", NTV3["jax_tokenizer"], ids=lambda fact: repr(fact["text"]))
def test_ntv3_as_the_jax_tokenizer(fact):
    assert Ntv3Tokenizer("jax").tokenize(fact["text"]) == fact["tokenize"]


@given(st.text("ACGTNacgtn", max_size=40))
def test_ntv3_one_token_a_base(text):
    bases = Ntv3Tokenizer()
    encoded = bases.encode(text)
    assert encoded.ids == bases.tokenize(text) == [NTV3["vocab"][base] for base in text.upper()]
    assert encoded.spans == [(i, i + 1) for i in range(len(text))]
    assert bases.detokenize(encoded.ids) == text.upper()
    assert bases.base_ids() == {base: NTV3["vocab"][base] for base in "ACGT"}
