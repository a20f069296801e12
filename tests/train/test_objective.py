"""What a model is asked: targets, hidden tokens, and the weighted loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.tokenizers import ByteTokenizer, KmerTokenizer
from nexvar.train import data
from nexvar.train.objective import Objective, weighted_nll
from nexvar.train.recipe import ObjectivePart


def test_causal_targets_are_the_next_tokens() -> None:
    o = Objective(ObjectivePart(), ByteTokenizer(), 128, 0)
    text = np.frombuffer(b"ACGNT", dtype=np.uint8)[None]
    b = o.batch(text, data.IS_BASE[text].astype(np.float32), 0)
    assert b.ids.tolist() == [list(b"ACGNT")] and b.targets[0, :-1].tolist() == list(b"CGNT")
    assert b.weight.tolist() == [[1, 1, 0, 1, 0]] and b.bases == 3
    with pytest.raises(NexVarError, match="vocabulary is 64"):
        Objective(ObjectivePart(), ByteTokenizer(), 64, 0)
    with pytest.raises(NexVarError, match="no mask token"):
        Objective(ObjectivePart(kind="masked"), ByteTokenizer(), 128, 0)


def test_kmers_read_other_letters_and_the_ends_of_records_as_n() -> None:
    tokenizer = KmerTokenizer(k=3)
    o = Objective(ObjectivePart(kind="masked"), tokenizer, tokenizer.vocab_size, 0)
    text = np.frombuffer(b"ACGYTTGCA\0GAT", dtype=np.uint8)[None]
    asked = o.batch(text, data.IS_BASE[text].astype(np.float32), 0).targets
    assert asked.tolist() == [tokenizer.encode("ACGNTTGCANGAT").ids]


def test_masking_hides_the_asked_share_of_whole_kmers_the_same_way_every_time() -> None:
    tokenizer = KmerTokenizer(k=6)
    o = Objective(ObjectivePart(kind="masked", mask_rate=0.15), tokenizer, tokenizer.vocab_size, 0)
    rng = np.random.default_rng(0)
    text = np.frombuffer(b"ACGT", dtype=np.uint8)[rng.integers(4, size=(16, 600))]
    weight = np.ones(text.shape, dtype=np.float32)
    b, again = o.batch(text, weight, 7), o.batch(text, weight, 7)
    assert torch.equal(b.ids, again.ids) and not torch.equal(b.ids, o.batch(text, weight, 99).ids)
    asked = b.weight > 0
    assert 0.12 < float(asked.sum()) / (16 * 100) < 0.18
    assert b.bases == 6 * float(b.weight.sum())  # every hidden token is six bases
    assert torch.equal(b.ids[~asked], b.targets[~asked])
    masked = (b.ids[asked] == tokenizer.mask_id).float().mean()
    same = (b.ids[asked] == b.targets[asked]).float().mean()
    assert 0.7 < masked < 0.9 and 0.04 < same < 0.17


def test_masked_spans_are_whole() -> None:
    from nexvar.tokenizers import CharacterTokenizer

    tokenizer = CharacterTokenizer()
    o = Objective(ObjectivePart(kind="masked", mask_rate=0.3, mask_span=5), tokenizer, tokenizer.vocab_size, 0)
    text = np.full((4, 200), ord("A"), dtype=np.uint8)
    hidden = o.batch(text, np.ones(text.shape, dtype=np.float32), 0).weight.numpy() > 0
    for row in hidden:
        edges = np.flatnonzero(np.diff(row.astype(int)))
        assert len(set(edges % 5)) <= 1  # spans begin and end on one grid of five


def test_weighted_loss_is_the_definition() -> None:
    logits, targets, weight = torch.randn(2, 5, 7), torch.randint(7, (2, 5)), torch.rand(2, 5)
    expected = sum(
        -float(weight[b, t]) * math.log(float(logits[b, t].softmax(0)[targets[b, t]]))
        for b in range(2)
        for t in range(5)
    )
    assert float(weighted_nll(logits, targets, weight)) == pytest.approx(expected, rel=1e-5)
