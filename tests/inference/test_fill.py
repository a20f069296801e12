"""Filling in N with masked models: every tokenizer, against the definition; bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nexvar import NexVar
from nexvar.errors import NexVarError
from places import GOLDEN
from toy_genome import random_bases

FOLDERS = ["caduceus_ph_tiny", "caduceus_ps_tiny", "dnabert2_tiny", "nt_v1_tiny", "nt_v2_tiny", "nt_v2_3mer_tiny"]
FOLDERS += ["ntv3_pre_tiny", "ntv3_post_tiny"]
BASES = random_bases(64, seed=8)


@pytest.fixture(scope="module", params=FOLDERS)
def model(request) -> NexVar:
    return NexVar(GOLDEN / request.param, dtype="float32", device="cpu")


@torch.no_grad()
def base_probabilities(model: NexVar, text: str, place: int) -> np.ndarray:
    """(4,) of one N at ``place``: the softmax over the four texts that remain, in the token they make there."""
    four = [text[:place] + base + text[place + 1 :] for base in "ACGT"]
    tokenizer, special = model.tokenizer, model.card.special_tokens
    if hasattr(tokenizer, "sep_id"):  # byte-pair: the N is a token of its own
        masked = tokenizer.encode(text.replace("N", "[MASK]"), special=special).ids
        at = masked.index(tokenizer.mask_id)
        choices = [tokenizer.encode(base, special=False).ids[0] for base in "ACGT"]
    else:
        rows = [tokenizer.encode(one, special=special).ids for one in four]
        (at,) = [i for i in range(len(rows[0])) if len({row[i] for row in rows}) == 4]
        choices = [row[at] for row in rows]
        masked = [*rows[0][:at], tokenizer.mask_id, *rows[0][at + 1 :]]
    logits = model.model(torch.tensor([masked])).logits[0, at]
    return logits[choices].double().softmax(-1).numpy()


@pytest.mark.parametrize("place", [0, 20, 63])
def test_one_n_is_the_models_best_base(model, place):
    text = BASES[:place] + "N" + BASES[place + 1 :]
    (found,) = model.fill([text])
    expected = base_probabilities(model, text, place)
    assert found.positions == [place]
    np.testing.assert_allclose(found.probabilities[0], expected, atol=1e-5)
    assert found.sequence == text.replace("N", "ACGT"[int(expected.argmax())])
    assert found.log_probs[0] == pytest.approx(math.log(expected.max()), abs=1e-5)
    assert found.score == pytest.approx(found.log_probs[0], abs=1e-5)


def test_many_n_in_any_number_of_steps(model):
    text = "NN" + BASES[:20] + "N" * 9 + BASES[20:31] + "N" + BASES[31:40] + "N"
    for steps in (1, 3, None):
        (found,) = model.fill([text], steps=steps)
        assert len(found.sequence) == len(text)
        assert set(found.sequence) <= set("ACGT")
        assert all(a == b for a, b in zip(text, found.sequence, strict=True) if a != "N")
        assert found.positions == [i for i, letter in enumerate(text) if letter == "N"]
        np.testing.assert_allclose(found.probabilities.sum(1), 1.0, atol=1e-6)
        assert found.score < 0


def test_the_last_of_many_knows_all_others(model):
    """One token at a time: what is filled last is what a single N would give."""
    if hasattr(model.tokenizer, "sep_id"):
        pytest.skip("byte-pair encoding may join a filled base and its neighbours to another token")
    text = BASES[:30] + "N" + BASES[31:50] + "N" + BASES[51:]
    (found,) = model.fill([text])
    matches = 0
    for place in (30, 50):
        alone = model.fill([found.sequence[:place] + "N" + found.sequence[place + 1 :]])[0]
        matches += np.allclose(alone.probabilities[0], found.probabilities[found.positions.index(place)], atol=1e-5)
    assert matches >= 1


def test_several_sequences_are_each_alone_and_draws_follow_the_seed(model):
    texts = [BASES[:30] + "NNN" + BASES[33:], "N" + BASES[:12]]
    together = model.fill(texts)
    assert [f.sequence for f in together] == [model.fill([t])[0].sequence for t in texts]
    drawn = {model.fill([texts[0]], temperature=5.0, seed=seed)[0].sequence for seed in range(12)}
    assert len(drawn) > 1
    assert model.fill([texts[0]], temperature=5.0, seed=3)[0].sequence in drawn


def test_known_bases_of_a_kmer_stay():
    model = NexVar(GOLDEN / "nt_v2_tiny", dtype="float32", device="cpu")
    (found,) = model.fill(["ACGTANGGATCC"])
    assert found.sequence[:5] == "ACGTA"
    assert found.sequence[6:] == "GGATCC"


@pytest.mark.parametrize(
    ("seqs", "options", "says"),
    [
        (["ACGT"], {}, "no N"),
        ("ACN", {}, "list"),
        ([""], {}, "empty"),
        (["ACNU"], {}, "write T for U"),
        (["ACNR"], {}, "write N"),
        (["MKVNLE"], {}, "protein"),
        (["ACN"], {"steps": 0}, "steps"),
        (["ACN"], {"temperature": -1.0}, "temperature"),
    ],
)
def test_bad_input(model, seqs, options, says):
    with pytest.raises(NexVarError, match=says):
        model.fill(seqs, **options)


def test_longer_than_the_context():
    with pytest.raises(NexVarError, match="exceed the context"):
        NexVar(GOLDEN / "nt_v1_tiny", device="cpu").fill(["N" * 6001])


def test_causal_models_cannot():
    with pytest.raises(NexVarError, match="generate"):
        NexVar(GOLDEN / "hyenadna_tiny", device="cpu").fill(["ACN"])
