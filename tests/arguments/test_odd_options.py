"""What every public function does with an option of another kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nexvar import NexVar, cards, verify
from nexvar.compat import helical
from nexvar.compat.evo2 import Evo2
from nexvar.compat.noncoding import GenomicModel
from nexvar.evals import metrics, parity, statistics, tables, variants
from nexvar.train import Predictor, pretrain
from odd_values import (
    GENOME,
    LABELLED,
    LABELS,
    NO_FLAG,
    NO_NAMES,
    NO_NUMBER,
    NO_PATH,
    NO_TEXT,
    NO_WHOLE,
    SCORES,
    SEQS,
    refused,
    run,
    values,
)
from places import GOLDEN


def guided(m: NexVar, **options: Any) -> Any:
    return m.generate(["ACGT"], 2, guide=lambda prompt, texts: [1.0] * len(texts), **options)


WHOLE: dict[str, Callable[..., Any]] = {
    "batch_size": lambda m, v: m.score_sequences(SEQS, batch_size=v),
    "batch_tokens": lambda m, v: m.embed(SEQS, batch_tokens=v),
    "n_tokens": lambda m, v: m.generate(SEQS, v),
    "streamed": lambda m, v: m.generate_stream(SEQS, v),
    "top_k": lambda m, v: m.generate(SEQS, 2, top_k=v),
    "seed": lambda m, v: m.generate(SEQS, 2, seed=v),
    "beam": lambda m, v: guided(m, beam=v),
    "branches": lambda m, v: guided(m, branches=v),
    "chunk": lambda m, v: guided(m, chunk=v),
    **{
        name: lambda m, v, name=name: m.score_variants(["chrM:100G>A"], GENOME, **{"window": 64, name: v})
        for name in ("window", "left", "span", "batch_tokens")
    },
    "draws": lambda m, v: metrics.bootstrap(LABELS, SCORES, draws=v),
    "metrics.seed": lambda m, v: metrics.bootstrap(LABELS, SCORES, draws=3, seed=v),
    "run.draws": lambda m, v: variants.run(LABELLED, score="LABEL", draws=v),
    "helical": lambda m, v: helical.Evo2Config(batch_size=v),
    "max_length": lambda m, v: GenomicModel({"name": "nexvar_mito", "max_length": v}).load(),
}


@pytest.mark.parametrize("option", WHOLE)
@pytest.mark.parametrize("bad", values(*NO_WHOLE))
def test_what_is_no_whole_number_is_refused(model, option, bad):
    refused(lambda: WHOLE[option](model, bad))


@pytest.mark.parametrize("option", [name for name in WHOLE if name not in ("span", "max_length", "window")])
def test_numpys_whole_numbers_are_numbers(model, option):
    run(WHOLE[option](model, np.int64(2)))


@pytest.mark.parametrize("bad", values(*NO_WHOLE))
def test_so_it_is_for_what_other_models_count(masked, transformer, predictor, bad):
    refused(lambda: masked.fill(["ACGN"], steps=bad))
    refused(lambda: masked.fill(["ACGN"], seed=bad))
    refused(lambda: transformer.attention_maps(SEQS, [bad]))
    refused(lambda: transformer.attention_maps(SEQS, attention_maps_to_save=[(bad, 0)]))
    refused(lambda: predictor.predict(SEQS, batch_tokens=bad))


@pytest.mark.parametrize("bad", values(*NO_NUMBER))
def test_what_is_no_number_is_refused(model, masked, bad):
    refused(lambda: model.generate(SEQS, 2, temperature=bad))
    refused(lambda: model.generate(SEQS, 2, top_p=bad))
    refused(lambda: masked.fill(["ACGN"], temperature=bad))
    refused(lambda: model.score_variants(["chrM:100G>A"], GENOME, window=64, max_ref_mismatch=bad))


def test_numpys_numbers_are_numbers(model):
    for one in (1, 0.5, np.float32(0.5), np.int8(1)):
        assert model.generate(SEQS, 2, temperature=one, top_p=one, seed=1).sequences


TEXT: dict[str, Callable[..., Any]] = {
    "reduce_method": lambda m, v: m.score_sequences(SEQS, reduce_method=v),
    "pool": lambda m, v: m.embed(SEQS, pool=v),
    "strand": lambda m, v: m.embed(SEQS, strand=v),
    "alphabet": lambda m, v: m.generate(SEQS, 2, alphabet=v),
    "device": lambda m, v: NexVar("nexvar_mito", device=v),
    "dtype": lambda m, v: NexVar("nexvar_mito", dtype=v),
    "quantize": lambda m, v: NexVar("nexvar_mito", quantize=v),
    "device_map": lambda m, v: NexVar("nexvar_mito", device_map=v),
    "architecture": lambda m, v: NexVar(GOLDEN / "sh2_a", architecture=v),
    "revision": lambda m, v: NexVar("hyenadna_tiny_1k", revision=v),
    "card": lambda m, v: cards.get(v),
    **{
        f"variants.{name}": lambda m, v, name=name: m.score_variants(["chrM:100G>A"], GENOME, **{"window": 64, name: v})
        for name in ("strand", "layer", "pool", "protocol", "windowing")
    },
    **{
        f"run.{name}": lambda m, v, name=name: variants.run(LABELLED, **{"score": "LABEL", "draws": 3, name: v})
        for name in ("score", "label", "by", "cluster", "against", "positive")
    },
    "metric": lambda m, v: statistics.paired_bootstrap(LABELS, SCORES, SCORES, metric=v, draws=3),
    "helical.model_name": lambda m, v: helical.Evo2Config(v),
    "benchmark.name": lambda m, v: GenomicModel({"name": v}).load(),
    "get_embedding": lambda m, v: GenomicModel({"name": "nexvar_mito", "device": "cpu"}).load().get_embedding(v),
}


@pytest.mark.parametrize("option", TEXT)
@pytest.mark.parametrize("bad", values(*NO_TEXT))
def test_what_is_no_text_is_refused(model, option, bad):
    refused(lambda: TEXT[option](model, bad))


@pytest.mark.parametrize("bad", values(*NO_NAMES))
def test_what_is_no_row_of_names_is_refused(model, bad):
    ids = torch.tensor([[65, 67]])
    refused(lambda: model.embed(SEQS, layer=bad))
    refused(lambda: model(ids, return_embeddings=True, layer_names=bad))
    refused(lambda: model.score_variants(["chrM:100G>A"], GENOME, window=64, readouts=bad))
    refused(lambda: metrics.bootstrap(LABELS, SCORES, bad, draws=3))


def test_one_readout_may_be_a_string(model):
    one, row = (list(model.score_variants(["chrM:100G>A"], GENOME, window=64, readouts=r)) for r in ("llr", ["llr"]))
    assert one == row


@pytest.mark.parametrize("bad", values(-1, 2.5, None, [None], [2.5], [-1], True, {"A"}, b"A", [""], ["A", True]))
def test_what_cannot_stop_is_refused(model, bad):
    refused(lambda: model.generate(SEQS, 2, stop=bad))


@pytest.mark.parametrize("bad", values(*NO_FLAG))
def test_what_is_no_flag_is_refused(model, bad):
    refused(lambda: model.score_sequences(SEQS, prepend_bos=bad))
    refused(lambda: model.score_sequences(SEQS, average_reverse_complement=bad))
    refused(lambda: model.generate(SEQS, 2, return_logits=bad))
    refused(lambda: model.generate(SEQS, 2, cached_generation=bad))
    refused(lambda: model.score_variants(["chrM:100G>A"], GENOME, window=64, share=bad))
    refused(lambda: model(torch.tensor([[65]]), return_embeddings=bad))
    refused(lambda: variants.run(LABELLED, score="LABEL", draws=3, higher=bad))
    refused(lambda: NexVar("nexvar_mito", allow_wrong_fp8=bad))
    if not callable(bad):
        refused(lambda: model.generate(SEQS, 2, guide=bad))


@pytest.mark.parametrize("bad", values(*NO_PATH))
def test_what_is_no_path_is_refused(model, bad):
    for call in (
        lambda: NexVar(bad),
        lambda: NexVar("nexvar_mito", weights=bad),
        lambda: NexVar("nexvar_mito", device_map="auto", offload_folder=bad),
        lambda: model.score_variants(["chrM:100G>A"], bad, window=64),
        lambda: tables.read_table(bad),
        lambda: variants.run(bad),
        lambda: parity.compare(bad),
        lambda: Predictor(bad),
        lambda: pretrain(bad),
        lambda: Evo2("evo2_7b", local_path=bad),
        lambda: list(verify.verify(bad)),
    ):
        refused(call)
