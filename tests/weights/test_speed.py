"""The work of a token follows from the shapes of a model alone."""

from __future__ import annotations

import pytest
import torch

from nexvar import cards
from nexvar.weights import speed, suggest
from nexvar.weights.load import outline


@pytest.mark.parametrize("name", ["nexvar_mito", "hyenadna_small_32k", "nexvar_1b_base", "nt_v2_50m", "dnabert2"])
def test_dense_models_meet_each_weight_once(name):
    module = outline(name, device="cpu").module
    assert next(module.parameters()).device.type == "meta"
    weights = cards.get(name).parameters
    assert 0.7 * weights <= speed.work(module).products / 2 <= 1.1 * weights


def test_of_experts_a_token_meets_those_it_is_sent_to():
    """The card: 1.25 billion weights, 0.33 billion of them active."""
    assert speed.work(outline("genos_1.2b", device="cpu").module).products / 2 == pytest.approx(0.33e9, rel=0.1)


def test_a_unet_has_fewer_positions_in_its_depths():
    assert speed.work(outline("ntv3_8m_pre", device="cpu").module).products < cards.get("ntv3_8m_pre").parameters


def test_attention_grows_with_the_window_and_twice_as_fast_without_causality():
    fast = speed.Speed(1e12, 1e10)
    for name in ("nt_v2_50m", "genos_1.2b"):
        work = speed.work(outline(name, device="cpu").module)
        more = work.seconds(2000, fast) - work.seconds(1000, fast)
        assert more == pytest.approx(work.attention * (500 if work.causal else 1000) / 1e12)
        assert more > 0


def test_the_machine_is_measured():
    measured = speed.measure(torch.device("cpu"), torch.float32)
    assert measured.products > 1e8 and measured.elements > 1e6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s or less"), (12, "12 s"), (90, "1.5 min"), (4000, "1.1 h"), (2e5, "2.3 days"), (1e9, "32 years")],
)
def test_times_are_told_in_a_unit_that_fits(seconds, text):
    assert speed.human_time(seconds) == text


def test_suggestions_are_at_most_three_models_with_a_published_result():
    chosen = suggest.suggestions()
    assert 1 <= len(chosen) <= 3 and len({s.card.name for s in chosen}) == len(chosen)
    assert all(s.auroc >= suggest.GOOD and s.card.species is None for s in chosen)
