"""Generation: the sampling rule, seeds, batches of unequal prompts, bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import engine
from nexvar.errors import NexVarError
from nexvar.generate import choose, generate
from tiny import tiny_loaded

LOADED = tiny_loaded()
prompts = st.lists(st.text("ACGT", min_size=1, max_size=12), min_size=1, max_size=4)


@given(prompts, st.integers(0, 2**40), st.sampled_from([0, 1, 4]), st.sampled_from([0.3, 1.0]))
def test_a_batch_gives_what_each_prompt_gives_alone(texts, seed, top_k, top_p):
    texts = list(dict.fromkeys(texts))
    options = dict(n_tokens=5, top_k=top_k, top_p=top_p, seed=seed)
    together = generate(LOADED, texts, **options)
    alone = [generate(LOADED, [text], **options) for text in texts]
    assert together.token_ids == [one.token_ids[0] for one in alone]
    assert together.logprobs_mean == pytest.approx([one.logprobs_mean[0] for one in alone], abs=1e-5)


@given(prompts, st.integers(0, 1000))
def test_the_cache_changes_nothing(texts, seed):
    cached = generate(LOADED, texts, n_tokens=6, seed=seed)
    uncached = generate(LOADED, texts, n_tokens=6, seed=seed, cached=False)
    assert cached.token_ids == uncached.token_ids


def test_long_prompts_enter_in_pieces(monkeypatch):
    whole = generate(LOADED, ["ACGGT" * 20], n_tokens=4, seed=1)
    monkeypatch.setattr("nexvar.generate.CHUNK", 7)
    assert engine.CHUNK > 7
    assert generate(LOADED, ["ACGGT" * 20], n_tokens=4, seed=1).token_ids == whole.token_ids


def test_copies_of_a_prompt_differ_and_equal_seeds_agree():
    options = dict(n_tokens=30, top_k=0, seed=5)
    first, second = (generate(LOADED, ["ACGT"] * 3, **options) for _ in range(2))
    assert first.token_ids == second.token_ids
    assert len({tuple(ids) for ids in first.token_ids}) == 3


def test_greedy_is_the_argmax_and_logits_are_what_chose_it():
    out = generate(LOADED, ["ACG", "T"], n_tokens=4, top_k=1, return_logits=True)
    assert out.logits is not None
    for ids, logits in zip(out.token_ids, out.logits, strict=True):
        assert logits.shape == (4, 512)
        assert logits.argmax(-1).tolist() == ids


def test_logprobs_mean_is_of_the_model_itself():
    out = generate(LOADED, ["ACGT"], n_tokens=6, top_k=3, temperature=0.5, seed=2, return_logits=True)
    log_probs = out.logits[0].log_softmax(-1)
    expected = log_probs[torch.arange(6), torch.tensor(out.token_ids[0])].mean()
    assert out.logprobs_mean[0] == pytest.approx(float(expected), abs=1e-5)


LOGITS = torch.tensor([[2.0, 0.0, 1.0, -1.0, float("nan")]])


@pytest.mark.parametrize(
    ("top_k", "top_p", "allowed"),
    [(1, 1.0, {0}), (2, 1.0, {0, 2}), (0, 1.0, {0, 1, 2, 3, 4}), (0, 0.05, {0}), (3, 0.7, {0, 2})],
)
def test_only_allowed_tokens_are_drawn(top_k, top_p, allowed):
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    drawn = choose(LOGITS.expand(1000, -1), grid, 1.0, top_k, top_p)
    assert set(drawn.tolist()) == allowed


def test_draws_follow_the_softmax_at_a_temperature():
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]
    drawn = choose(LOGITS[:, :4].expand(20_000, -1), grid, 0.7, 0, 1.0)
    shares = torch.bincount(drawn, minlength=4).double() / 20_000
    torch.testing.assert_close(shares, (LOGITS[0, :4].double() / 0.7).softmax(-1), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": [""]},
        {"prompts": "ACGT"},
        {"prompts": ["A" * 8190]},
        {"prompts": ["ACé"]},
        {"n_tokens": 0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_bad_input_is_one_clear_line(options):
    with pytest.raises(NexVarError) as error:
        generate(LOADED, options.pop("prompts", ["ACGT"]), **{"n_tokens": 5, **options})
    assert "\n" not in str(error.value)


def test_a_masked_model_cannot_generate():
    with pytest.raises(NexVarError, match="masked"):
        generate(tiny_loaded(objective="masked"), ["ACGT"], n_tokens=1)
