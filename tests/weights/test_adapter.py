"""LoRA adapters in PEFT's layout: read, added to the weights as PEFT computes it, written by fine-tuning, refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.train.loop import Run
from nexvar.train.recipe import read as read_recipe
from nexvar.weights import checkpoint
from nexvar.weights.export import export
from nexvar.weights.load import load
from places import GOLDEN

CONFIG = {"peft_type": "LORA", "r": 3, "lora_alpha": 12, "target_modules": ["x"], "bias": "none", "task_type": None,
          "lora_dropout": 0.1, "fan_in_fan_out": False, "inference_mode": True, "modules_to_save": None,
          "rank_pattern": {}, "alpha_pattern": {}, "use_dora": False, "use_rslora": False, "init_lora_weights": True,
          "peft_version": "0.19.1", "megatron_config": None, "megatron_core": "megatron.core", "loftq_config": {},
          "layer_replication": None, "lora_bias": False, "trainable_token_indices": None, "use_qalora": False,
          "qalora_group_size": 16, "target_parameters": None}  # fmt: skip
LAYERS = {  # golden folder -> linear layers by their official names
    "nt_v2_tiny": ["esm.encoder.layer.0.attention.self.query", "esm.encoder.layer.2.intermediate.dense"],
    "dnabert2_tiny": ["bert.encoder.layer.1.attention.self.Wqkv", "bert.encoder.layer.0.mlp.wo"],
    "genos_tiny": ["model.layers.0.self_attn.q_proj", "lm_head"],
    "hyenadna_tiny": ["hyena.backbone.layers.0.mixer.in_proj", "hyena.backbone.layers.2.mlp.fc2"],
    "ntv3_pre_tiny": ["core.transformer_blocks.0.sa_layer.query_head.linear", "core.transformer_blocks.1.fc1"],
    "sh1_a": ["backbone.blocks.0.projections", "backbone.blocks.2.inner_mha_cls.Wqkv", "backbone.blocks.0.mlp.l1"],
    "sh2_a": ["blocks.0.projections", "blocks.3.inner_mha_cls.Wqkv", "blocks.0.out_filter_dense"],
    "sh2_b": ["blocks.0.projections", "blocks.3.inner_mha_cls.Wqkv"],
    "caduceus_ph_tiny_variants": ["caduceus.backbone.layers.0.mixer.mamba_fwd.in_proj"],
    "caduceus_ps_tiny": [f"caduceus.backbone.layers.0.mixer.submodule.mamba_{way}.in_proj" for way in ("fwd", "rev")],
}


def tensors(name: str, rank: int = 3) -> dict[str, Tensor]:
    """{layer.lora_A / lora_B: values}; layers that are tied get equal ones."""
    state, made = checkpoint.read_folder(GOLDEN / name), {}
    for layer in LAYERS[name]:
        kept = layer.replace("mamba_rev", "mamba_fwd")
        rows, columns = state[f"{kept}.weight"].shape
        rng = torch.Generator().manual_seed(len(kept))
        made[f"{layer}.lora_A"] = torch.randn(rank, columns, generator=rng)
        made[f"{layer}.lora_B"] = torch.randn(rows, rank, generator=rng)
    return made


def written(folder: Path, made: dict[str, Tensor], wrapper: str = "base_model.model.", **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({f"{wrapper}{name}.weight": t for name, t in made.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def by_hand(name: str, folder: Path, made: dict[str, Tensor], scale: float) -> Path:
    """The golden folder with W + scale B A written out on the original file."""
    state = {k: v.clone() for k, v in checkpoint.read_folder(GOLDEN / name).items()}
    for layer in LAYERS[name]:
        if f"{layer}.weight" in state:
            weight = state[f"{layer}.weight"]
            update = made[f"{layer}.lora_B"].double() @ made[f"{layer}.lora_A"].double()
            state[f"{layer}.weight"] = (weight.double() + scale * update).float()
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    for path in GOLDEN.joinpath(name).iterdir():
        if path.suffix in (".json", ".txt"):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def logits(source: Path, **options: Any) -> Tensor:
    loaded = load(source, device="cpu", dtype="float32", **options)
    ids = torch.tensor([loaded.tokenizer.encode("ACGTTGCA" * 16, special=False).ids])
    with torch.no_grad():
        return loaded.module(ids).logits


# ------------------------------------------------------------------------------------------------------- PEFT's numbers


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_adds_alpha_over_r_times_b_a(tmp_path, name, rslora):
    made = tensors(name)
    folder = written(tmp_path / "adapter", made, use_rslora=rslora)
    expected = logits(by_hand(name, tmp_path / "hand", made, 12 / (math.sqrt(3) if rslora else 3)))
    found = logits(GOLDEN / name, adapter=folder)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, logits(GOLDEN / name), atol=1e-3)


@pytest.mark.parametrize("wrapper", ["base_model.model.", "", "model."])
def test_an_adapter_of_the_inner_model_finds_its_layers(tmp_path, wrapper):
    made = tensors("nt_v2_tiny")
    bare = {name.removeprefix("esm."): t for name, t in made.items()}
    one = logits(GOLDEN / "nt_v2_tiny", adapter=written(tmp_path / "a", made))
    two = logits(GOLDEN / "nt_v2_tiny", adapter=written(tmp_path / "b", bare, wrapper))
    assert torch.equal(one, two)


def test_a_classifier_beside_the_adapter_is_left_out_by_name(tmp_path):
    folder = written(tmp_path / "a", tensors("nt_v2_tiny"), modules_to_save=["classifier"])
    state = load_file(folder / "adapter_model.safetensors")
    state["base_model.model.classifier.dense.weight"] = torch.zeros(3)
    save_file(state, folder / "adapter_model.safetensors")
    with pytest.warns(UserWarning, match="of the adapter, base_model.model.classifier.dense.weight is left out"):
        NexVar(GOLDEN / "nt_v2_tiny", device="cpu", adapter=folder)


def test_an_adapter_is_merged_into_what_is_exported(tmp_path):
    made = tensors("sh2_a")
    folder = written(tmp_path / "a", made)
    export(GOLDEN / "sh2_a", tmp_path / "o", "huggingface", adapter=folder)
    assert torch.equal(logits(tmp_path / "o"), logits(GOLDEN / "sh2_a", adapter=folder))
    layer = "blocks.0.projections.weight"
    before, after = (checkpoint.read_folder(f)[layer].float() for f in (GOLDEN / "sh2_a", tmp_path / "o"))
    update = 4 * made["blocks.0.projections.lora_B"] @ made["blocks.0.projections.lora_A"]
    torch.testing.assert_close(after - before, update, rtol=1e-4, atol=1e-4)


def test_an_adapter_goes_with_quantised_weights(tmp_path):
    # NOTE small: large random updates make Genos route to other experts when weights are rounded
    folder = written(tmp_path / "a", {name: value / 4 for name, value in tensors("genos_tiny").items()})
    exact, plain = logits(GOLDEN / "genos_tiny", adapter=folder), logits(GOLDEN / "genos_tiny")
    found = logits(GOLDEN / "genos_tiny", adapter=folder, quantize="int8")
    assert (found - exact).abs().mean() < 0.1 * (plain - exact).abs().mean()


# ---------------------------------------------------------------------------------------------------------- fine-tuning

RECIPE = """
[model]
init = "{init}"
[tune]
{tune}
[data]
files = ["{data}"]
length = 64
[objective]
kind = "{kind}"
[optimizer]
adam_lr = 1e-2
[schedule]
steps = 2
warmup = 1
[run]
out = "{out}"
batch = 2
micro_batch = 2
bf16 = false
"""


@pytest.mark.parametrize("name", ["sh1_a", "sh2_a", "caduceus_ps_tiny", "nt_v2_tiny", "hyenadna_tiny", "genos_tiny"])
def test_fine_tuning_writes_an_adapter_that_gives_the_same_model(tmp_path, name):
    values, folder = trained(tmp_path, name, 'weights = "lora"\nrank = 2\ndropout = 0.1')
    assert values["r"] == 2 and values["lora_alpha"] == 4 and values["lora_dropout"] == 0.1
    official = {n.removesuffix(".weight") for n in checkpoint.read_folder(GOLDEN / name)}
    layers = set(values["target_modules"])
    assert {layer.replace("mamba_rev", "mamba_fwd") for layer in layers} <= official
    stored = load_file(folder / "adapter_model.safetensors")
    assert {f"base_model.model.{layer}.lora_{x}.weight" for layer in layers for x in "AB"} == set(stored)


@pytest.mark.parametrize(
    "name", ["sh1_a", "sh2_a", "sh2_b", "nt_v1_tiny", "nt_v2_tiny", "dnabert2_tiny", "genos_tiny", "ntv3_pre_tiny"]
)
def test_ia3_scales_keys_values_and_inner_activations(tmp_path, name):
    """Queries of fused layers stay as they are; what is written gives the same model, added or merged."""
    values, folder = trained(tmp_path, name, 'weights = "ia3"')
    assert values["peft_type"] == "IA3" and 0 < len(values["feedforward_modules"]) < len(values["target_modules"])
    stored = load_file(folder / "adapter_model.safetensors")
    assert set(stored) == {f"base_model.model.{layer}.ia3_l" for layer in values["target_modules"]}
    forward = {f"base_model.model.{layer}.ia3_l" for layer in values["feedforward_modules"]}
    assert all((scale.shape[0] == 1) == (layer in forward) for layer, scale in stored.items())
    for layer, scale in stored.items():
        if "Wqkv" in layer:
            assert (scale == 1).sum() == len(scale) // 3  # the queries


@pytest.mark.parametrize("name", ["hyenadna_tiny", "caduceus_ph_tiny"])
def test_ia3_without_attention_is_one_line(tmp_path, name):
    with pytest.raises(NexVarError, match=r"\(IA\)3 is of attention.*weights = \"lora\""):
        trained(tmp_path, name, 'weights = "ia3"')


@pytest.mark.parametrize(
    ("name", "layers"),
    [("nt_v2_tiny", {"query", "value"}), ("dnabert2_tiny", {"Wqkv"}), ("genos_tiny", {"q_proj", "v_proj"}),
     ("ntv3_pre_tiny", {"linear"}), ("sh2_a", {"projections", "Wqkv"})],
)  # fmt: skip
def test_targets_by_the_names_of_public_benchmarks(tmp_path, name, layers):
    values, _ = trained(tmp_path, name, 'weights = "lora"\nrank = 1\nalpha = 32\ntargets = ["query", "value"]')
    assert {layer.rpartition(".")[2] for layer in values["target_modules"]} == layers
    assert values["lora_alpha"] == 32


def trained(tmp_path: Path, name: str, tune: str) -> tuple[dict[str, Any], Path]:
    """adapter_config.json of a run of two steps and its folder, which gives the model that the run wrote."""
    fasta = tmp_path / "g.fa"
    fasta.write_text(">Genus_a\n" + "ACGTTGCAAC" * 40 + "\n>Genus_b\n" + "TTGCAACCGA" * 40 + "\n")
    kind = "masked" if name.startswith(("cad", "nt", "dna")) else "causal"
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(init=GOLDEN / name, data=fasta, kind=kind, out=tmp_path / "run", tune=tune))
    run = Run(read_recipe(path))
    for _ in range(2):
        run.train_step()
    run.save()
    folder = tmp_path / "run/model/adapter"
    values = json.loads((folder / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == str(GOLDEN / name)
    found = logits(GOLDEN / name, adapter=folder)
    torch.testing.assert_close(found, logits(tmp_path / "run/model"), rtol=1e-4, atol=1e-4)
    assert not torch.equal(found, logits(GOLDEN / name))
    return values, folder


# ------------------------------------------------------------------------------------------------------------ bad input

REFUSED: dict[str, dict[str, Any]] = {
    "use_dora is True, which is not supported": {"use_dora": True},
    "bias is 'all', which is not supported": {"bias": "all"},
    "peft_type is 'LOHA', which is not supported": {"peft_type": "LOHA"},
    "lora_A.weight is not supported: ia3_l of linear layers": {"peft_type": "IA3"},
    "fan_in_fan_out is True": {"fan_in_fan_out": True},
    "rank_pattern is {'q': 4}": {"rank_pattern": {"q": 4}},
    "alpha_pattern is {'q': 4}": {"alpha_pattern": {"q": 4}},
    "init_lora_weights is 'pissa'": {"init_lora_weights": "pissa"},
    "lora_bias is True": {"lora_bias": True},
    "layer_replication is": {"layer_replication": [[0, 4]]},
    "target_parameters is": {"target_parameters": ["experts.gate_up_proj"]},
    "something_new is 3": {"something_new": 3},
    "r is 0": {"r": 0},
    "r is 'three'": {"r": "three"},
    "r is True": {"r": True},
    "lora_alpha is None": {"lora_alpha": None},
    "use_rslora is 'yes'": {"use_rslora": "yes"},
    "of rank 4": {"r": 4},
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_changes_the_arithmetic_is_refused_by_name(tmp_path, says):
    folder = written(tmp_path / "a", tensors("genos_tiny"), **REFUSED[says])
    with pytest.raises(NexVarError) as refused:
        load(GOLDEN / "genos_tiny", device="cpu", adapter=folder)
    assert says in str(refused.value) and str(folder) in str(refused.value) and "\n" not in str(refused.value)


def damaged(kind: str) -> dict[str, Tensor]:
    made = tensors("genos_tiny")
    layer = LAYERS["genos_tiny"][0]
    if kind == "a half":
        del made[f"{layer}.lora_B"]
    elif kind == "another layer":
        made = {name.replace("q_proj", "qkv_proj"): t for name, t in made.items()}
    elif kind == "another shape":
        made[f"{layer}.lora_A"] = torch.zeros(3, 5)
    elif kind == "NaN":
        made[f"{layer}.lora_A"][0, 0] = math.nan
    elif kind == "an embedding":
        made["model.embed_tokens.lora_embedding_A"] = torch.zeros(3, 5)
    elif kind == "a whole head":
        made["lm_head"] = torch.zeros(128, 48)
    elif kind == "nothing":
        made = {}
    return made


@pytest.mark.parametrize(
    ("kind", "says"),
    [("a half", "has no lora_B"), ("another layer", "no linear layer"), ("another shape", "3 x 5|48 x 5"),
     ("NaN", "NaN or infinite"), ("an embedding", "lora_embedding_A.*not supported"),
     ("a whole head", "lm_head.weight is not supported"), ("nothing", "no lora_A and lora_B")],
)  # fmt: skip
def test_a_damaged_adapter_is_one_line(tmp_path, kind, says):
    with pytest.raises(NexVarError, match=says) as refused:
        load(GOLDEN / "genos_tiny", device="cpu", adapter=written(tmp_path / "a", damaged(kind)))
    assert "\n" not in str(refused.value)


def test_one_of_two_tied_layers_is_refused(tmp_path):
    made = {n: t for n, t in tensors("caduceus_ps_tiny").items() if "mamba_fwd" in n}
    with pytest.raises(NexVarError, match="one of two layers that this model's config ties"):
        load(GOLDEN / "caduceus_ps_tiny", device="cpu", adapter=written(tmp_path / "a", made))
    both = tensors("caduceus_ps_tiny")
    both["caduceus.backbone.layers.0.mixer.submodule.mamba_rev.in_proj.lora_A"] += 1
    with pytest.raises(NexVarError, match="another update than the layer that it is tied to"):
        load(GOLDEN / "caduceus_ps_tiny", device="cpu", adapter=written(tmp_path / "b", both))


def test_no_adapter_there(tmp_path):
    for adapter, says in ((tmp_path / "none", "no such folder"), (tmp_path, "no adapter_config.json")):
        with pytest.raises(NexVarError, match=says):
            load(GOLDEN / "genos_tiny", device="cpu", adapter=adapter)
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(NexVarError, match="neither adapter_model.safetensors nor adapter_model.bin"):
        load(GOLDEN / "genos_tiny", device="cpu", adapter=tmp_path)
    with pytest.raises(NexVarError, match="adapter"):
        load(GOLDEN / "genos_tiny", device="cpu", adapter=3)
