"""The engine gives every sequence its own value, whatever it shares or stands beside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar.inference.core import batching, pieces
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import Member, log_likelihoods
from tiny import tiny_loaded

LOADED = tiny_loaded()


def totals(families, **options):
    """Sums over whole sequences, as nested lists."""
    given_ids = [[Member(ids) for ids in family] for family in families]
    return [[value.total for value in row] for row in log_likelihoods(LOADED, given_ids, **options)]


def alone(ids: list[int]) -> float:
    """The definition, one sequence, no cache, no batch."""
    with torch.no_grad():
        log_probs = LOADED.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs[t - 1, ids[t]]) for t in range(1, len(ids)))


sequence = st.lists(st.sampled_from([65, 67, 71, 84]), min_size=1, max_size=40)


@given(st.lists(st.lists(sequence, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 200))
def test_any_families_any_batch(families, batch_tokens):
    values = totals(families, batch_tokens=batch_tokens)
    for family, got in zip(families, values, strict=True):
        assert got == pytest.approx([alone(ids) for ids in family], abs=2e-4)


@given(st.integers(64, 150), st.lists(sequence, min_size=2, max_size=5), st.integers(1, 2000))
def test_shared_prefix_is_exact(prefix_length, rests, batch_tokens):
    prefix = [65, 67, 71, 84, 84, 65, 67] * 30
    family = [prefix[:prefix_length] + rest for rest in rests]
    shared = totals([family], batch_tokens=batch_tokens)
    naive = totals([family], batch_tokens=batch_tokens, share=False)
    assert shared[0] == pytest.approx(naive[0], rel=1e-5)


def test_shared_prefix_is_computed_once():
    prefix, rest = [65, 67, 71, 84] * 256, 1024
    family = [prefix + [base] * rest for base in (65, 67, 71, 84)]
    tally = Tally()
    totals([family], batch_tokens=10_000, tally=tally)
    assert tally.naive == len(family) * (len(prefix) + rest)
    assert tally.computed == len(prefix) + len(family) * rest


def test_long_sequences_run_in_pieces(monkeypatch):
    ids = [65, 67, 71, 84, 71] * 40
    whole = totals([[ids]], batch_tokens=1000)
    monkeypatch.setattr(pieces, "PIECE_TOKENS", 33)
    assert totals([[ids]], batch_tokens=1000)[0] == pytest.approx(whole[0], rel=1e-6)


def test_nucleotides_and_the_site():
    ids, bases = list(b"ATCNGGA"), list(b"ACGT")
    value = log_likelihoods(LOADED, [[Member(ids, ends=(4, 1))]], batch_tokens=100, nucleotides=True)[0][0]
    with torch.no_grad():
        of_bases = LOADED.module(torch.tensor([ids])).logits[0][:, bases].double().log_softmax(-1)
    expected = sum(float(of_bases[t - 1, bases.index(ids[t])]) for t in range(1, 7) if ids[t] in bases)
    assert value.nucleotides == pytest.approx(expected, abs=1e-4)
    assert value.until == (pytest.approx(alone(ids[:4]), abs=1e-4), 0.0)
    assert value.total == pytest.approx(alone(ids), abs=1e-4)
    assert value.predictions == 6


def test_out_of_memory_halves_the_batch(monkeypatch):
    families = [[[65, 67, 71] * n] for n in range(1, 9)]
    expected = totals(families, batch_tokens=10_000)
    forward = LOADED.module.forward

    def small_memory(ids_BL, **options):
        if ids_BL.numel() > 30:
            raise torch.OutOfMemoryError("out of memory")
        return forward(ids_BL, **options)

    monkeypatch.setattr(LOADED.module, "forward", small_memory)
    values = totals(families, batch_tokens=10_000)
    assert values == [pytest.approx(row, rel=1e-6) for row in expected]


def test_trunks_and_their_leaves_are_halved_where_memory_runs_out(monkeypatch):
    families = [[[*[65, 67, 71] * 60, base, *[84] * 30] for base in (65, first, 71)] for first in (67, 78, 84, 82)]
    expected = totals(families, batch_tokens=10_000)
    forward = LOADED.module.forward

    def small_memory(ids_BL, **options):
        if ids_BL.numel() > 200:
            raise torch.OutOfMemoryError("out of memory")
        return forward(ids_BL, **options)

    monkeypatch.setattr(LOADED.module, "forward", small_memory)
    values = totals(families, batch_tokens=10_000)
    assert values == [pytest.approx(row, rel=1e-6) for row in expected]


@pytest.mark.parametrize(("free", "tokens"), [(1 << 50, 8192), (1 << 29, 4096), (1, 1)])
def test_the_batch_fits_the_free_memory(free, tokens, monkeypatch):
    """Half a GiB, of which a quarter may be used: 12 float32 values times the widest layer, 512, for each token."""
    monkeypatch.setattr(batching.machine, "free_memory", lambda device: free)
    assert batching.default_batch_tokens(LOADED) == tokens
