"""What every public function does with an argument of another kind: it is as good as the right one, or one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import NexVar, NexVarError, arguments, cards, verify
from nexvar.compat import helical
from nexvar.compat.benchmark import GenomicModel
from nexvar.compat.evo2 import Evo2
from nexvar.evals import metrics, parity, tables, variants
from nexvar.genome.reference import Variant
from nexvar.train import Predictor, pretrain
from places import GOLDEN, ROOT

GENOME = ROOT / "src" / "nexvar" / "data" / "chrM_rCRS.fa"
LABELLED = ROOT / "src" / "nexvar" / "data" / "mtdna_labelled.vcf"
SEQS = ["ACGTACGT", "GGAT"]


class Column(list):
    """As pandas' Series: one-dimensional, no Sequence."""

    ndim = 1


class Table(dict):
    columns = property(lambda self: list(self))


def values(*ready: Any) -> list[Any]:
    """Pytest parameters with short ids, so that workers agree on them."""
    return [pytest.param(value, id=f"{i}-{type(value).__name__}") for i, value in enumerate(ready)]


NO_LIST = [
    "ACGT",
    b"ACGT",
    None,
    5,
    2.5,
    True,
    {"a": "ACGT"},
    {"ACGT"},
    np.array(5),
    Path("x"),
    object(),
    Table(a=["A"]),
]
NO_SEQUENCES = [*NO_LIST, [b"ACGT"], [None], [5], [float("nan")], [["ACGT"]], [""]]
NO_SEQUENCES += [np.array([["ACGT"]]), np.array([1.5]), np.array(["ACGT", None], dtype=object), torch.tensor([1, 2])]
SEQUENCES = [tuple, np.array, iter, Column, lambda s: (one for one in s), lambda s: np.array(s, dtype=object)]
NO_WHOLE = [
    "5",
    b"5",
    2.5,
    float("nan"),
    float("inf"),
    -1,
    True,
    np.True_,
    [5],
    np.array([1, 2]),
    torch.tensor(5.5),
    1j,
    object(),
]
NO_NUMBER = ["0.5", b"1", None, float("nan"), float("inf"), -1.0, True, [1.0], 1j, object()]
NO_TEXT = [5, b"mean", ["mean"], True, "", float("nan"), object(), [None]]
NO_NAMES = [5, b"mean", True, "", float("nan"), object(), [None], [5], [["mean"]], {"a": 1}]
NO_FLAG = ["no", 5, 1.0, [1], object()]
NO_PATH = [5, b"x", ["x"], True, float("nan"), object(), ""]
NO_FLOATS = [
    "x",
    b"x",
    5,
    None,
    ["a"] * 40,
    [float("nan")] * 40,
    [float("inf")] * 40,
    [1j] * 40,
    [[1], [1, 2]],
    {},
    object(),
]

MITO = NexVar("nexvar_mito", device="cpu")
LABELS, SCORES = np.array([0, 1] * 20), np.random.default_rng(0).normal(size=40)


@pytest.fixture(scope="module")
def model() -> NexVar:
    return MITO


@pytest.fixture(scope="module")
def masked() -> NexVar:
    return NexVar(GOLDEN / "caduceus_ph_tiny", device="cpu")


@pytest.fixture(scope="module")
def transformer() -> NexVar:
    return NexVar(GOLDEN / "nt_v2_tiny", device="cpu")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    """A head of zeros on a golden model."""
    import shutil

    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("predictor") / "m"
    shutil.copytree(GOLDEN / "hyenadna_tiny", folder, ignore=shutil.ignore_patterns("io*"))
    width = NexVar(folder, device="cpu").embed(["ACGT"]).shape[1]
    save_file({"weight": torch.zeros(1, width), "bias": torch.zeros(1)}, folder / "head.safetensors")
    facts = {"kind": "regression", "pool": "mean", "classes": [], "centre": 0.0, "scale": 1.0}
    (folder / "task.json").write_text(json.dumps(facts))
    return Predictor(folder, device="cpu")


def run(result: Any) -> Any:
    """Iterators are read, as a user would."""
    return list(result) if isinstance(result, Iterator) else result


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(NexVarError) as error, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(call())
    assert "\n" not in str(error.value)


# -- rows of sequences


VERBS: dict[str, Callable[..., Any]] = {
    "score_sequences": lambda m, s: m.score_sequences(s),
    "embed": lambda m, s: m.embed(s).tolist(),
    "generate": lambda m, s: m.generate(s, 2, seed=1).token_ids,
    "generate_stream": lambda m, s: list(m.generate_stream(s, 2, seed=1)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("bad", values(*NO_SEQUENCES))
def test_what_is_no_row_of_sequences_is_refused(model, verb, bad):
    refused(lambda: VERBS[verb](model, bad))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("make", values(*SEQUENCES))
def test_every_row_of_sequences_is_as_good_as_a_list(model, verb, make):
    assert VERBS[verb](model, make(SEQS)) == VERBS[verb](model, SEQS)


@pytest.mark.parametrize("bad", values(*NO_SEQUENCES))
def test_so_it_is_for_the_other_models(masked, transformer, predictor, bad):
    refused(lambda: masked.fill(bad))
    refused(lambda: transformer.attention_maps(bad, [0]))
    refused(lambda: predictor.predict(bad))


@pytest.mark.parametrize("make", values(*SEQUENCES))
def test_so_it_is_for_the_other_models_rows(masked, transformer, predictor, make):
    assert [f.sequence for f in masked.fill(make(["ACGNACGT"]))] == [f.sequence for f in masked.fill(["ACGNACGT"])]
    assert len(transformer.attention_maps(make(SEQS), [0])[0]) == 2
    assert predictor.predict(make(SEQS)) == predictor.predict(SEQS)


def test_pandas_columns():
    pandas = pytest.importorskip("pandas")
    for series in (pandas.Series(SEQS), pandas.Series(SEQS, index=[5, 7]), pandas.array(SEQS, dtype="string")):
        assert MITO.score_sequences(series) == MITO.score_sequences(SEQS)
    refused(lambda: MITO.score_sequences(pandas.DataFrame({"Sequence": SEQS})))


# -- single options


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
    "metric": lambda m, v: metrics.paired_bootstrap(LABELS, SCORES, SCORES, metric=v, draws=3),
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


# -- variants, tensors, numbers to evaluate


@pytest.mark.parametrize(
    "bad", values(None, 5, b"x", "", [5], [None], [b"x"], {"a": 1}, True, [""], np.array([1]), object())
)
def test_what_is_no_variant_is_refused(model, bad):
    refused(lambda: model.score_variants(bad, GENOME, window=64))


@pytest.mark.parametrize("make", values(tuple, np.array, iter, Column))
def test_every_row_of_variants_is_as_good_as_a_list(model, make):
    rows = [list(model.score_variants(v, GENOME, window=64)) for v in (make(["chrM:100G>A"]), ["chrM:100G>A"])]
    assert rows[0] == rows[1]
    (row,) = model.score_variants(make([Variant("chrM", 99, "G", ("A",))]), GENOME, window=64)
    assert row.llr == rows[0][0].llr


IDS = torch.tensor([[65, 67, 71, 84]])


@pytest.mark.parametrize(
    "bad",
    values(
        None,
        "ACGT",
        [[65]],
        5,
        IDS.float(),
        IDS.bool(),
        IDS.to(torch.complex64),
        IDS[0],
        IDS[None],
        IDS - 100,
        IDS + 1000,
        IDS[:, :0],
        IDS[:0],
        np.array([[65]]),
    ),
)
def test_what_are_no_token_ids_is_refused(model, bad):
    refused(lambda: model(bad))


@pytest.mark.parametrize(
    "bad", values("x", 5, [1, 1, 1, 1], IDS[0], torch.ones(1, 3), torch.ones(2, 4), torch.ones(1, 4, 1))
)
def test_what_is_no_mask_is_refused(model, bad):
    refused(lambda: model(IDS, bad))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_token_ids_of_any_whole_dtype(model, dtype):
    torch.testing.assert_close(model(IDS.to(dtype))[0].logits, model(IDS)[0].logits)


@pytest.mark.parametrize("bad", values(*NO_FLOATS, SCORES[:5], SCORES.reshape(2, 20)))
def test_what_are_no_scores_is_refused(bad):
    for name in ("auroc", "auprc", "youden_threshold", "roc_curve", "pr_curve", "delong_interval", "bootstrap"):
        refused(lambda name=name: getattr(metrics, name)(LABELS, bad))
        refused(lambda name=name: getattr(metrics, name)(bad, SCORES))
    for call in (
        lambda: metrics.spearman(SCORES, bad),
        lambda: metrics.bootstrap_spearman(bad, SCORES, draws=3),
        lambda: metrics.delong(LABELS, SCORES, bad),
        lambda: metrics.paired_bootstrap(LABELS, bad, SCORES, draws=3),
        lambda: variants.evaluate(bad, LABELS.astype(bool), draws=3),
    ):
        refused(call)


@pytest.mark.parametrize("bad", values("x", 5, [1], {}, [[1]] * 40))
def test_what_are_no_clusters_is_refused(bad):
    refused(lambda: metrics.bootstrap(LABELS, SCORES, draws=3, clusters=bad))
    refused(lambda: variants.evaluate(SCORES, LABELS.astype(bool), bad, draws=3))


def test_rows_of_labels_scores_and_clusters_may_be_of_any_kind():
    expected = metrics.bootstrap(LABELS, SCORES, draws=5, clusters=np.arange(40) % 8)
    for kind in (list, tuple, Column, torch.tensor):
        found = metrics.bootstrap(kind(LABELS.tolist()), kind(SCORES.tolist()), draws=5, clusters=np.arange(40) % 8)
        assert found == expected
    assert metrics.bootstrap(LABELS, SCORES, draws=5, clusters=[i if i % 2 else str(i) for i in range(40)])


# -- other packages' interfaces


@pytest.mark.parametrize("bad", values(*NO_SEQUENCES))
def test_sequences_of_evo2(bad):
    model = Evo2("evo2_7b", local_path=GOLDEN / "sh2_a", device="cpu")
    refused(lambda: model.generate(bad, 2))


@pytest.mark.parametrize(
    "bad", values(b"A", None, 5, True, {"a": "b"}, [b"A"], [None], [5], [""], np.array([["A"]]), "", object())
)
def test_sequences_of_helical(bad):
    model = helical.Evo2(helical.Evo2Config(str(GOLDEN / "sh2_a"), device="cpu"))
    refused(lambda: model.process_data(bad))
    refused(lambda: model.get_embeddings(bad))
    refused(lambda: model.get_embeddings(model.process_data(["ACGT"]), ["blocks.0"]))
    for none in (5, "x", {}):
        refused(lambda none=none: helical.Evo2(none))
        refused(lambda none=none: GenomicModel(none))


@pytest.mark.parametrize(
    ("option", "bad"),
    [("embeddings_layers_to_save", bad) for bad in ("1", 1, [0], [99], [1.5], [True], None)]
    + [("attention_maps_to_save", bad) for bad in ("1", 1, [1], [(0, 1)], [(99, 1)], [("1", 1)], [(1,)])]
    + [("max_positions", bad) for bad in (None, 0, -1, 2.5, True, "8")]
    + [("model_name", bad) for bad in (None, 5, b"x", "")],
    ids=str,
)
def test_options_of_the_jax_package(option, bad):
    pytest.importorskip("jax")
    from nexvar.compat.nucleotide_transformer import get_pretrained_model

    refused(lambda: get_pretrained_model(**{"model_name": str(GOLDEN / "nt_v2_tiny"), option: bad}))


# -- the checks themselves


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
    st.sets(st.integers()),
)
CHECKS: dict[str, Callable[[Any], Any]] = {
    "a_list": lambda v: arguments.a_list(v, "x"),
    "whole": lambda v: arguments.whole(v, "x", 0, 100),
    "number": lambda v: arguments.number(v, "x", "0 to 1", 0, 1),
    "text": lambda v: arguments.text(v, "x"),
    "one_of": lambda v: arguments.one_of(v, "x", ("a", "b")),
    "flag": lambda v: arguments.flag(v, "x"),
    "path": lambda v: arguments.path(v, "x"),
    "pairs": lambda v: arguments.pairs(v, "x"),
}


@pytest.mark.parametrize("check", CHECKS)
@given(value=anything)
def test_a_check_gives_the_value_or_one_line(check, value):
    try:
        found = CHECKS[check](value)
    except NexVarError as error:
        assert "\n" not in str(error) and "x" in str(error)
    else:
        assert found == (Path(value) if check == "path" else value)
