"""Readouts against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.inference.core import readout


@given(st.integers(1, 4), st.integers(2, 9), st.integers(2, 12), st.integers(0, 10_000))
def test_next_token_log_probs_are_a_log_softmax(batch, length, vocab, seed):
    torch.manual_seed(seed)
    logits, targets = torch.randn(batch, length, vocab) * 5, torch.randint(vocab, (batch, length))
    expected = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(readout.next_token_log_probs(logits, targets), expected)


def test_log_probs_are_float32_for_bfloat16_logits():
    logits = torch.randn(1, 3, 5).bfloat16()
    assert readout.next_token_log_probs(logits, torch.zeros(1, 3, dtype=torch.long)).dtype == torch.float32


def test_nucleotide_softmax_sums_to_one_and_skips_other_targets():
    logits = torch.randn(2, 3, 10)
    nucleotides = [1, 4, 7, 9]
    each = [readout.nucleotide_log_probs(logits, torch.full((2, 3), n), nucleotides).exp() for n in nucleotides]
    torch.testing.assert_close(sum(each), torch.ones(2, 3))
    assert readout.nucleotide_log_probs(logits, torch.zeros(2, 3, dtype=torch.long), nucleotides).eq(0).all()


@pytest.mark.parametrize("method", ["mean", "max", "last"])
def test_pooling_ignores_padding_and_special_tokens(method):
    hidden = torch.randn(1, 5, 3)
    real = torch.tensor([[False, True, True, True, False]])
    outside = hidden.clone()
    outside[:, [0, 4]] = 1e6
    expected = {"mean": hidden[:, 1:4].mean(1), "max": hidden[:, 1:4].amax(1), "last": hidden[:, 3]}[method]
    torch.testing.assert_close(readout.pool(outside, real, method), expected)


@pytest.mark.parametrize("kind", readout.DISTANCES)
def test_distances(kind):
    a, b = torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([[2.0, 2.0, 1.0]])
    expected = {"cosine": 1 - 8 / 9, "l1": 2.0, "l2": 2.0**0.5, "dot": 8.0}[kind]
    assert readout.distance(a, b, kind).item() == pytest.approx(expected)


@given(st.integers(0, 1000))
def test_cosine_resolves_nearly_equal_embeddings(seed):
    torch.manual_seed(seed)
    a = torch.randn(1, 64)
    b = a + 1e-4 * torch.randn(1, 64)
    assert 0 < readout.distance(a, b, "cosine").item() < 1e-6


@pytest.mark.parametrize("call", [
    lambda: readout.reduce_log_likelihood(-1.0, 2, "median"),
    lambda: readout.pool(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), "median"),
    lambda: readout.distance(torch.zeros(1, 1), torch.zeros(1, 1), "manhattan"),
])  # fmt: skip
def test_unknown_names_are_one_clear_line(call):
    with pytest.raises(NexVarError) as error:
        call()
    assert "\n" not in str(error.value)
