"""Per-base log-probabilities and entropies: against slow definitions, both strands, batches, pieces, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.inference.core import pieces
from nexvar.inference.per_base import per_base
from nexvar.inference.score import score_sequences
from nexvar.weights.load import load
from places import GOLDEN
from tiny import tiny_loaded
from tiny_masked import tiny_masked
from toy_genome import random_bases

CAUSAL = tiny_loaded()
MODELS = {"causal": CAUSAL, **{name: tiny_masked(name) for name in ("base", "kmer", "bpe")}}
dna = st.text("ACGTN", min_size=1, max_size=40)


def slow(loaded, text):
    """(log-probabilities, entropies) of one strand, a forward for each token, the definition written out."""
    causal = loaded.card.objective == "causal"
    tokens = loaded.tokenizer.encode(text, special=not causal and loaded.card.special_tokens)
    bases = loaded.tokenizer.base_ids()
    log_probs, entropies = np.full(len(text), np.nan), np.full(len(text), np.nan)
    for i, (token, (start, end)) in enumerate(zip(tokens.ids, tokens.spans, strict=True)):
        if start == end or (causal and i == 0):
            continue
        if causal:
            logits = loaded.module(torch.tensor([tokens.ids[:i]])).logits[0, -1]
        else:
            ids = list(tokens.ids)
            ids[i] = loaded.tokenizer.mask_id
            logits = loaded.module(torch.tensor([ids])).logits[0, i]
        for place in range(start, end):
            if text[place] in "ACGT":
                log_probs[place] = logits.double().log_softmax(-1)[token].item() / (end - start)
                if bases is not None:
                    p = logits.double()[list(bases.values())].softmax(-1)
                    entropies[place] = -(p * p.log()).sum().item()
    return log_probs, entropies


@pytest.mark.parametrize("name", MODELS)
@given(texts=st.lists(dna, max_size=4))
def test_values_are_those_of_the_definition_on_both_strands(name, texts):
    loaded = MODELS[name]
    for text, result in zip(texts, per_base(loaded, texts, strand="both"), strict=True):
        assert result.strands == ("forward", "reverse")
        assert result.log_probs_SL.dtype == result.entropies_SL.dtype == np.float32
        expected = [slow(loaded, text), [values[::-1] for values in slow(loaded, reverse_complement(text))]]
        np.testing.assert_allclose(result.log_probs_SL, [e[0] for e in expected], atol=2e-5)
        np.testing.assert_allclose(result.entropies_SL, [e[1] for e in expected], atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
@given(texts=st.lists(dna, min_size=1, max_size=4), batch_tokens=st.integers(1, 200))
def test_strands_mirror_on_the_reverse_complement_and_batches_change_nothing(name, texts, batch_tokens):
    results = per_base(MODELS[name], texts, strand="both")
    mirrored = per_base(MODELS[name], [reverse_complement(t) for t in texts], strand="both", batch_tokens=batch_tokens)
    for here, there in zip(results, mirrored, strict=True):
        np.testing.assert_allclose(here.log_probs_SL, there.log_probs_SL[::-1, ::-1], atol=2e-6)
        np.testing.assert_allclose(here.entropies_SL, there.entropies_SL[::-1, ::-1], atol=2e-6)
        np.testing.assert_allclose(here.log_probs_L, there.log_probs_L[::-1], atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
@given(text=dna, data=st.data())
def test_what_is_kept_has_the_values_of_the_whole_and_the_rest_none(name, text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    whole = per_base(MODELS[name], [text], strand="both")[0].log_probs_SL
    kept = per_base(MODELS[name], [text], strand="both", keep=[[(start, end)]])[0].log_probs_SL
    np.testing.assert_allclose(kept[:, start:end], whole[:, start:end], atol=2e-6)
    assert np.isnan(np.delete(kept, slice(start, end), axis=1)).all()


def test_only_the_tokens_that_are_kept_are_masked():
    loaded = tiny_masked("base")
    per_base(loaded, ["ACGTNACGTA"], keep=[[(2, 6)]])
    assert sum(loaded.module.rows) == 3  # and the N is not asked for


def test_a_causal_model_reads_long_sequences_in_pieces(monkeypatch):
    text = random_bases(700, seed=3)
    whole = per_base(CAUSAL, [text, text[:90]], strand="both")
    monkeypatch.setattr(pieces, "PIECE_TOKENS", 64)
    for one, other in zip(whole, per_base(CAUSAL, [text, text[:90]], strand="both"), strict=True):
        np.testing.assert_allclose(one.log_probs_SL, other.log_probs_SL, atol=1e-5)
        np.testing.assert_allclose(one.entropies_SL, other.entropies_SL, atol=1e-5)


@pytest.mark.parametrize("begin", [None, False, True])
@given(texts=st.lists(st.text("ACGT", min_size=2, max_size=60), max_size=4))
def test_none_sums_to_the_score_and_is_its_mean(begin, texts):
    values = score_sequences(CAUSAL, texts, reduce_method="none", prepend_bos=begin)
    sums = score_sequences(CAUSAL, texts, reduce_method="sum", prepend_bos=begin)
    for text, row, total in zip(texts, values, sums, strict=True):
        assert row.shape == (len(text),)
        assert row.dtype == np.float32
        assert np.isnan(row[0]) == (not begin)
        assert np.nansum(row) == pytest.approx(total, abs=1e-4)


def test_a_begin_token_of_the_card_predicts_the_first_base():
    loaded = tiny_loaded(bos_id=0)
    assert not np.isnan(per_base(loaded, ["ACGT"])[0].log_probs_SL).any()


@pytest.mark.parametrize("name", ["base", "kmer", "bpe"])
def test_the_pseudo_log_likelihood_of_a_masked_model_is_the_sum_of_its_bases(name):
    text = random_bases(50, seed=1)
    model = MODELS[name]
    (total,) = score_sequences(model, [text], reduce_method="pll")
    (row,) = score_sequences(model, [text], reduce_method="none", batch_size=2)
    assert total == pytest.approx(np.nansum(slow(model, text)[0]), abs=1e-4)
    assert row.sum() == pytest.approx(total, abs=1e-4)
    (both,) = score_sequences(model, [text], reduce_method="none", average_reverse_complement=True)
    expected = (slow(model, text)[0] + slow(model, reverse_complement(text))[0][::-1]) / 2
    np.testing.assert_allclose(both, expected, atol=2e-5)
    (both_total,) = score_sequences(model, [text], reduce_method="pll", average_reverse_complement=True)
    assert both_total == pytest.approx(expected.sum(), abs=1e-4)


@pytest.mark.parametrize("folder", ["hyenadna_tiny", "caduceus_ps_tiny", "caduceus_ph_tiny", "nt_v2_tiny", "sh2_a"])
def test_released_architectures_agree_with_the_definition(folder):
    loaded = load(GOLDEN / folder, device="cpu", dtype="float32")
    text = random_bases(24, seed=5)
    with torch.no_grad():
        expected = slow(loaded, text)
        reverse = slow(loaded, reverse_complement(text))
    (result,) = per_base(loaded, [text], strand="both")
    np.testing.assert_allclose(result.log_probs_SL, [expected[0], reverse[0][::-1]], atol=1e-4)
    np.testing.assert_allclose(result.entropies_SL, [expected[1], reverse[1][::-1]], atol=1e-4)


def test_likelihoods_of_the_built_in_model():
    model = NexVar("nexvar_mito", device="cpu")
    (result,) = model.likelihoods(["ACGTACGTN"], strand="both")
    assert result.log_probs_L.shape == (9,)
    assert np.isnan(result.log_probs_L[8])
    assert (result.entropies_L[:8] <= np.log(4) + 1e-6).all()
    assert model.likelihoods([]) == []


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: per_base(CAUSAL, "ACGT"), "seqs"),
        (lambda: per_base(CAUSAL, ["ACGU"]), "RNA"),
        (lambda: per_base(CAUSAL, [""]), "empty"),
        (lambda: per_base(CAUSAL, ["A" * 9000]), "exceed the context"),
        (lambda: per_base(CAUSAL, ["ACGT"], strand="down"), "one of forward, reverse, both"),
        (lambda: per_base(CAUSAL, ["ACGT"], batch_tokens=0), "batch_tokens is 0"),
        (lambda: per_base(CAUSAL, ["ACGT"], keep=[]), "0 for 1 sequences"),
        (lambda: per_base(CAUSAL, ["ACGT"], keep=[[(2, 5)]]), "of 4 bases"),
        (lambda: per_base(CAUSAL, ["ACGT"], keep=[[(2, 2)]]), "of 4 bases"),
        (lambda: per_base(CAUSAL, ["|D__X;|ACGT"], strand="both"), "no reverse complement"),
        (lambda: score_sequences(CAUSAL, ["ACGT"], reduce_method="pll"), "'sum'"),
        (lambda: score_sequences(CAUSAL, ["ACGT"], reduce_method="median"), "mean, sum, none, pll"),
        (lambda: score_sequences(MODELS["base"], ["ACGT"]), "'pll'"),
        (lambda: score_sequences(MODELS["base"], ["ACGT"], reduce_method="pll", prepend_bos=True), "prepend_bos"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(NexVarError) as error:
        call()
    assert says in str(error.value)
    assert "\n" not in str(error.value)
