"""The non-coding benchmark's interface: its own users' code with only the import changed, and its models.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nexvar import NexVar, NexVarError, cards
from nexvar.compat import benchmark, noncoding, noncoding_yaml
from nexvar.compat.noncoding import (
    GenomicModel,
    GenomicModelBase,
    create_model,
    list_available_models,
    load_model,
    register_from,
    register_model,
    unregister_model,
    wrapper,
)
from nexvar.compat.noncoding_yaml import LAYERS, not_taken, read_models_yaml
from nexvar.train.recipe import TunePart
from places import GOLDEN

CADUCEUS = {"name": str(GOLDEN / "caduceus_ph_tiny"), "type": "encoder", "device": "cpu"}
MITO = {"name": "nexvar_mito", "type": "causal", "device": "cpu"}
RNG = np.random.default_rng(0)
WINDOW = "".join(RNG.choice(list("ACGT"), 64))
CHANGED = WINDOW[:32] + ("A" if WINDOW[32] != "A" else "C") + WINDOW[33:]


class Mine(GenomicModelBase):
    """A wrapper as that benchmark's own unit test has one."""

    def load(self):
        self.model = torch.nn.Linear(10, 4)
        self.tokenizer = "letters"
        return self

    def get_embedding(self, sequence: str) -> np.ndarray:
        return np.array([sequence.count(base) for base in "ACGT"], dtype=float)

    def score_variant(self, ref_seq: str, alt_seq: str) -> float:
        return float(np.abs(self.get_embedding(ref_seq) - self.get_embedding(alt_seq)).sum())


@pytest.fixture(autouse=True)
def only_nexvars_own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this process has registered."""
    own = {name: made for name, made in noncoding.MODEL_REGISTRY.items() if made is GenomicModel}
    monkeypatch.setattr(noncoding, "MODEL_REGISTRY", own)
    monkeypatch.setattr(noncoding_yaml, "MODEL_REGISTRY", own)


@pytest.fixture(scope="module")
def mito() -> GenomicModelBase:
    return load_model("evo1", MITO)


@pytest.fixture(scope="module")
def caduceus() -> GenomicModelBase:
    return load_model("caduceus", CADUCEUS)


# -- NexVar's models


def test_a_causal_model_scores_the_reference_minus_the_alternative(mito: GenomicModelBase) -> None:
    native = NexVar("nexvar_mito", device="cpu")
    ref, alt = native.score_sequences([WINDOW, CHANGED], reduce_method="sum")
    assert mito.score_variant(WINDOW, CHANGED) == pytest.approx(ref - alt, abs=1e-4)
    assert mito.score_variant(CHANGED, WINDOW) == pytest.approx(alt - ref, abs=1e-4)
    np.testing.assert_allclose(mito.get_embedding(WINDOW), native.embed([WINDOW])[0], atol=1e-5)
    assert mito.num_parameters == sum(p.numel() for p in native.model.parameters())


def test_an_encoder_scores_one_minus_the_cosine(caduceus: GenomicModelBase) -> None:
    ref, alt = caduceus.get_embedding(WINDOW), caduceus.get_embedding(CHANGED)
    cosine = ref @ alt / np.linalg.norm(ref) / np.linalg.norm(alt)
    assert caduceus.score_variant(WINDOW, CHANGED) == pytest.approx(1 - cosine, abs=1e-6)
    assert caduceus.score_variant(WINDOW, WINDOW) == pytest.approx(0, abs=1e-12)
    assert caduceus.model_type == "encoder"


def test_batches_are_the_values_one_by_one(mito: GenomicModelBase, caduceus: GenomicModelBase) -> None:
    refs, alts = [WINDOW, CHANGED, WINDOW], [CHANGED, WINDOW, WINDOW[:-1] + "N"]
    for model in (mito, caduceus):
        one_by_one = [model.score_variant(ref, alt) for ref, alt in zip(refs, alts, strict=True)]
        np.testing.assert_allclose(model.score_variants_batch(refs, alts, batch_size=2), one_by_one, atol=1e-4)
        embedded = model.get_embeddings_batch(refs, batch_size=2)
        assert embedded.dtype == np.float32
        np.testing.assert_allclose(embedded[1], model.get_embedding(CHANGED), atol=1e-5)
        assert model.score_variants_batch([], []).shape == (0,)


@pytest.mark.parametrize("alt", [CHANGED, WINDOW[:32] + "GATTACA" + WINDOW[32:], WINDOW[:30] + WINDOW[33:]])
def test_long_windows_are_cut_at_the_same_places_of_both_alleles(caduceus: GenomicModelBase, alt: str) -> None:
    cut = load_model("caduceus", {**CADUCEUS, "max_length": len(WINDOW)})
    left, right = "ACGGT" * 4, "TTGCA" * 4
    assert cut.score_variant(left + WINDOW + right, left + alt + right) == caduceus.score_variant(WINDOW, alt)
    np.testing.assert_array_equal(cut.get_embedding(left + WINDOW + right), caduceus.get_embedding(WINDOW))


@pytest.mark.parametrize("name", ["dnabert2_tiny", "nt_v2_tiny"])
def test_max_length_counts_tokens(name: str) -> None:
    text = "".join(np.random.default_rng(1).choice(list("ACGT"), 300))
    model = load_model("dnabert2", {"name": str(GOLDEN / name), "max_length": 12, "device": "cpu"})
    (kept,) = model._cut(text.lower())
    before = text.lower().index(kept)
    assert abs(before - (len(text) - before - len(kept))) <= 1
    tokens = [span for span in model.tokenizer.encode(kept.upper()).spans if span[0] < span[1]]
    assert 6 <= len(tokens) <= 12 < len(kept)


def test_pooling_and_method_are_those_of_the_config(caduceus: GenomicModelBase, mito: GenomicModelBase) -> None:
    last = load_model("caduceus", {**CADUCEUS, "pooling": "last"}).get_embedding(WINDOW)
    np.testing.assert_allclose(last, caduceus.model.embed([WINDOW], pool="last")[0])
    far = load_model("evo1", {**MITO, "zero_shot_method": "embedding_distance"})
    assert 0 < far.score_variant(WINDOW, CHANGED) < 2 and far.score_variant(WINDOW, CHANGED) != mito.score_variant(
        WINDOW, CHANGED
    )


def test_loading_twice_loads_once(mito: GenomicModelBase) -> None:
    """As their scripts do: load_model(…), then .load()."""
    model = mito.model
    assert mito.load() is mito and mito.load_with_retry() is mito and mito.model is model


def test_the_former_import_is_the_same_class() -> None:
    assert benchmark.GenomicModel is GenomicModel is noncoding.HyenaDNAModel


# -- a wrapper of a user's own, and the registry


def test_a_wrapper_has_what_its_base_gives() -> None:
    config = {"name": "a/b", "type": "encoder", "max_length": 99, "params": "117M"}
    register_model("mine", Mine)
    assert "mine" in list_available_models()
    model = create_model("mine", config)
    assert (model.config, model.model_name, model.model_type, model.max_length) == (config, "a/b", "encoder", 99)
    assert model.model is None and model.tokenizer is None and model.num_parameters == 0
    assert repr(model) == "Mine(name=a/b, params=117M)"
    model = load_model("mine", config)
    assert model.num_parameters == 44
    model.model = "no torch"
    assert model.num_parameters == 0
    assert model.get_embeddings_batch(["ACGT", "AAAA"], batch_size=1).shape == (2, 4)
    np.testing.assert_array_equal(model.score_variants_batch(["AC", "GG"], ["AA", "GG"]), [2, 0])
    unregister_model("mine")
    assert "mine" not in list_available_models()


def test_loading_is_tried_again_where_the_network_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(noncoding.time, "sleep", waited.append)

    class Flaky(Mine):
        failures = 2

        def load(self):
            if self.failures:
                self.failures -= 1
                raise OSError("no network")
            return super().load()

    assert Flaky({"name": "x"}).load_with_retry().model is not None and len(waited) == 2
    hopeless = Flaky({"name": "x"})
    hopeless.failures = 9
    with pytest.raises(OSError, match="no network"):
        hopeless.load_with_retry()


def test_a_file_of_a_users_own_registers_its_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "my_wrapper.py"
    (tmp_path / "beside_my_wrapper.py").write_text("SCORE = 0.5\n")
    file.write_text(
        "from beside_my_wrapper import SCORE\n"
        "from nexvar.compat.noncoding import GenomicModelBase, register_model\n"
        "class Mine(GenomicModelBase):\n"
        "    def load(self): return self\n"
        "    def get_embedding(self, sequence): return [1.0]\n"
        "    def score_variant(self, ref_seq, alt_seq): return SCORE * (ref_seq != alt_seq)\n"
        "register_model('mine', Mine)\n"
    )
    assert register_from(file) == ["mine"]
    made = wrapper("mine")
    assert made is not None and made.score_variants_batch(["A", "A"], ["A", "C"]).tolist() == [0, 0.5]
    assert made.model_name == "mine"
    assert wrapper("hyenadna") is None and wrapper("nexvar_7b") is None


def broken(tmp_path: Path, text: str) -> str:
    file = tmp_path / "broken_wrapper.py"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda p: register_model("mine", dict), TypeError, "mine: .* derives from GenomicModelBase"),
        (lambda p: register_model("mine", Mine({"name": "x"})), TypeError, "GenomicModelBase"),
        (lambda p: register_model("evo1", Mine), ValueError, "evo1: a model of this name is registered"),
        (lambda p: unregister_model("nobody"), ValueError, "no model 'nobody'"),
        (lambda p: create_model("nobody", MITO), ValueError, "one of dnabert2"),
        (lambda p: load_model("nobody", MITO), ValueError, "no model 'nobody'"),
        (lambda p: create_model("evo1", {}), NexVarError, "no name of a model"),
        (lambda p: create_model("evo1", ["evo1"]), NexVarError, "config is a list"),
        (lambda p: create_model("evo1", {"name": "x", "type": "decoder"}), NexVarError, "no config type 'decoder'"),
        (lambda p: load_model("evo1", {**MITO, "type": "encoder"}), NexVarError, "is causal, not encoder"),
        (lambda p: load_model("evo1", {**MITO, "zero_shot_method": "x"}), NexVarError, "no zero_shot_method 'x'"),
        (lambda p: load_model("evo1", {**MITO, "pooling": "sum"}).get_embedding("ACGT"), NexVarError, "'sum'"),
        (
            lambda p: load_model("caduceus", {**CADUCEUS, "zero_shot_method": "log_likelihood_ratio"}),
            NexVarError,
            "is an encoder: embedding_distance",
        ),
        (lambda p: create_model("evo1", MITO).get_embedding("ACGT"), NexVarError, r"call load\(\) first"),
        (lambda p: load_model("evo1", MITO).score_variants_batch(["A"], []), NexVarError, "1 references but 0"),
        (lambda p: load_model("caduceus", CADUCEUS).score_variant("ACGT", "AC!T"), NexVarError, "'!'"),
        (lambda p: register_from(p / "none.py"), NexVarError, "none.py: no such file"),
        (lambda p: register_from("no.such.module"), NexVarError, "ModuleNotFoundError"),
        (lambda p: register_from(broken(p, "\nraise KeyError('x')")), NexVarError, r"KeyError.*broken_wrapper.py:2"),
        (lambda p: register_from(broken(p, "def")), NexVarError, "SyntaxError"),
        (lambda p: register_from(broken(p, "x = 1")), NexVarError, "it registers no model"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, call, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as refused:
        call(tmp_path)
    assert isinstance(refused.value, NexVarError) and "\n" not in str(refused.value)


# -- models.yaml

ENTRY = """{key}:
  name: "{name}"   # a comment
  type: encoder
  params: {params}
  embedding_dim: {dim}
  max_length: {length}
  quantize: null
  pooling: mean
  lora: {{r: 8, alpha: 16, dropout: 0.05, target_modules: [{layers}]}}
"""
ENTRIES = [
    ("dnabert2", "zhihan1996/DNABERT-2-117M", "117M", 768, 512, '"query", "value"'),
    ("nt", "InstaDeepAI/nucleotide-transformer-2.5b-multi-species", "2.5B", 2560, 2048, "query, value"),
    ("hyenadna", "LongSafari/hyenadna-large-1m-seqlen-hf", "~1.6B", 256, 8192, "filter, projection"),
    ("caduceus", "kuleshov-group/caduceus-ph_seqlen-131k_d256_n4", "~various", 256, 8192, "in_proj, out_proj"),
    ("evo1", "togethercomputer/evo-1-131k-base", "7B", 4096, 8192, "in_proj, out_proj"),
]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    return file


def test_models_yaml_is_read_as_it_is_and_what_is_wrong_in_it_is_said(tmp_path: Path) -> None:
    fields = ("key", "name", "params", "dim", "length", "layers")
    text = "# registry\n" + "".join(ENTRY.format(**dict(zip(fields, entry, strict=True))) for entry in ENTRIES)
    found = read_models_yaml(written(tmp_path, text + "baselines:\n  cadd: {version: v1.7}\n"))
    assert {key: entry.card.name for key, entry in found.items()} == {
        "dnabert2": "dnabert2",
        "nt": "nt_2b5_multi_species",
        "hyenadna": "hyenadna_large_1m",
        "caduceus": "caduceus_ph_131k",
        "evo1": "evo1_131k_base",
    }
    assert found["dnabert2"].tune == {
        "weights": "lora", "rank": 8, "alpha": 16.0, "dropout": 0.05, "targets": ["Wqkv"]
    }  # fmt: skip
    assert found["hyenadna"].tune["targets"] == ["in_proj", "out_proj"]
    assert found["evo1"].tune["targets"] == ["projections", "Wqkv", "out_filter_dense", "out_proj"]
    assert TunePart(**found["evo1"].tune).rank == 8  # what a recipe's [tune] takes
    assert found["nt"].config["max_length"] == 1000 and found["hyenadna"].config["max_length"] == 8192
    said = {key: " | ".join(entry.notes) for key, entry in found.items()}
    assert "query, value are Wqkv" in said["dnabert2"] and "params" not in said["dnabert2"]
    assert "max_length 2,048 tokens, but nt_2b5_multi_species reads 1,000" in said["nt"]
    assert f"params ~1.6B, but hyenadna_large_1m has {cards.get('hyenadna_large_1m').parameters:,}" in said["hyenadna"]
    assert "caduceus_ph_131k is taken" in said["caduceus"] and "embedding_dim" not in said["caduceus"]


def test_layers_named_in_models_yaml_are_layers_of_the_models() -> None:
    """Every mapped name ends the name of a linear layer of a model of that architecture."""
    for name, key in (("hyenadna_tiny", "hyenadna"), ("sh1_a", "striped_hyena")):
        model = NexVar(GOLDEN / name, device="cpu").model
        own = {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        assert {end for ends in LAYERS[key].values() for end in ends} <= own


def test_an_entry_of_a_users_wrapper_or_folder_goes_through_untouched(tmp_path: Path) -> None:
    register_model("mine", Mine)
    file = written(tmp_path, f"mine: {{name: any thing, max_length: 7}}\nlocal: {{name: {GOLDEN / 'sh1_a'}}}\n")
    found = read_models_yaml(file)
    assert found["mine"].config == {"name": "any thing", "max_length": 7} and found["mine"].card is None
    made = wrapper("mine", found["mine"].config)
    assert made is not None and made.max_length == 7
    assert found["local"].card is None and found["local"].notes == ()


def test_what_the_benchmark_does_not_take_from_models_yaml_is_told(tmp_path: Path) -> None:
    said = "quantize: 4bit, pooling: max, zero_shot_method: embedding_distance"
    file = written(
        tmp_path, f"a: {{name: nexvar_mito, params: 1.2.3M, {said}}}\nb: {{name: dnabert2, pooling: mean}}\n"
    )
    found = read_models_yaml(file)
    assert [note.split(" is not")[0] for note in not_taken(found["a"])] == [
        "a: quantize 4bit", "a: zero_shot_method embedding_distance", "a: pooling max"]  # fmt: skip
    assert list(not_taken(found["b"])) == []


def test_a_wrapper_without_the_constructor_of_its_base_is_one_line() -> None:
    register_model("bare", type("Bare", (Mine,), {"__init__": lambda self, config: None}))
    try:
        with pytest.raises(NexVarError, match="bare: Bare: it has no model_name: call super"):
            wrapper("bare")
    finally:
        unregister_model("bare")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "models.yaml:1: no YAML"),
        ("a: b: c", "models.yaml:1: no YAML"),
        ("- a\n- b", "no table of models"),
        ("", "no table of models"),
        ("baselines: {cadd: {}}", "no models in it"),
        ("a: 5", "models.yaml: a: no name of a model"),
        ("a: {name: ''}", "models.yaml: a: no name of a model"),
        ("a: {name: 5}", "models.yaml: a: no name of a model"),
        ("a: {name: no_such_model}", "models.yaml: a: no model called 'no_such_model'"),
        ("a: {name: dnabert2, lora: 5}", "models.yaml: a: lora is 5"),
        ("a: {name: dnabert2, max_length: long}", "models.yaml: a: max_length: max_length is 'long'"),
        ("a: {name: dnabert2, lora: {r: 0}}", "lora r is 0"),
        ("a: {name: dnabert2, lora: {target_modules: query}}", "target_modules is 'query'"),
        ("a: !!python/object/apply:os.getcwd []", "models.yaml:1: no YAML"),
        ("[" * 1500, "nested too deeply|no YAML"),
    ],
)
def test_a_file_that_is_no_models_yaml_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(NexVarError, match=words) as refused:
        read_models_yaml(written(tmp_path, text))
    assert "\n" not in str(refused.value)
