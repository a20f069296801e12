"""SegmentNT: the original code's numbers, both layouts, rescaling, lengths, what is warned about, full size."""

from __future__ import annotations

import json
import re
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexvar import cards, models
from nexvar.errors import NexVarError
from nexvar.evals import parity
from nexvar.models.nucleotide_transformer import JAX_LAYER_NORM_EPS
from nexvar.tokenizers import KmerTokenizer
from nexvar.weights.assemble import build, convert, make_config, official_config
from nexvar.weights.load import load
from places import GOLDEN

FOLDER = GOLDEN / "segment_nt_tiny"
WHAT = {"down": ("skip", "pooled"), "up": ("out", "sum")}
ELEMENTS = models.get("segment_nt")


@pytest.fixture(scope="module")
def module():
    return load(FOLDER, dtype="float32", device="cpu").module


@pytest.fixture(scope="module")
def recorded():
    return load_file(FOLDER / "io.safetensors")


def test_every_level_logits_and_trunk_are_the_originals():
    result = parity.compare(FOLDER, tolerance=3e-5)
    assert result.passed
    assert result.cases == 5
    levels = {f"{block}.{i}.{what}" for block in ("down", "up") for i in (0, 1) for what in WHAT[block]}
    assert {f"hf.unet.{name}" for name in levels | {"final"}} <= result.compared
    assert "esm.encoder.emb_layer_norm_after" in result.compared


@torch.no_grad()
def test_the_jax_codes_numbers_with_its_epsilon(recorded):
    module = load(FOLDER, dtype="float32", device="cpu").module
    module.set_layer_norm_eps(JAX_LAYER_NORM_EPS)
    logits = module(recorded["len96.input_ids"]).logits
    torch.testing.assert_close(logits, recorded["len96.jax.logits"], atol=3e-5, rtol=0)


ROOT, LAYER = "nucleotide_transformersegment_nt", r"esm\.encoder\.layer\.(\d+)\."
BLOCK, HEAD = rf"{ROOT}/attention_layer_\1/~/", f"{ROOT}_1/~/unet1_d_segmentation_head/~/"
HAIKU = (  # beginning of a hub name, haiku's module, axes of a matrix or kernel there
    (r"esm\.embeddings\.word_embeddings", f"{ROOT}/~/embed", ()),
    (LAYER + r"attention\.self\.(query|key|value)", BLOCK + r"self_attention/\2", (1, 0)),
    (LAYER + r"attention\.output\.dense", BLOCK + "self_attention/mha_output", (1, 0)),
    (LAYER + r"attention\.LayerNorm", BLOCK + "self_attention_layer_norm", ()),
    (LAYER + r"LayerNorm", BLOCK + "final_layer_norm", ()),
    (LAYER + r"intermediate\.dense", BLOCK + "fc1", (1, 0)),
    (LAYER + r"output\.dense", BLOCK + "fc2", (1, 0)),
    (r"esm\.encoder\.emb_layer_norm_after", f"{ROOT}/~/roberta_lm_head/~/emb_layer_norm_after", ()),
    (r"unet\._downsample_blocks\.(\d)\.conv_layers\.(\d)", HEAD + r"downsample_block_\1/~/conv\2", (2, 1, 0)),
    (r"unet\._upsample_blocks\.(\d)\.conv_layers\.(\d)", HEAD + r"upsample_block_\1/~/conv_transpose\2", (2, 1, 0)),
    (r"unet\.final_block\.conv_layers\.(\d)", HEAD + r"final_conv1_d/~/conv\1", (2, 1, 0)),
    (r"fc", f"{ROOT}_1/~/fc", (1, 0)),
)


def to_haiku(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Haiku's names and axes, written from the specification alone."""
    result = {}
    for name, tensor in official.items():
        for pattern, theirs, axes in HAIKU:
            if match := re.fullmatch(rf"{pattern}\.(weight|bias)", name):
                weight, bias = ("scale", "offset") if "norm" in theirs else ("w", "b")
                weight = "embeddings" if "embed" in pattern else weight
                turned = tensor.permute(axes) if len(axes) == tensor.ndim else tensor
                turned = turned.flip(0) if "upsample" in theirs and tensor.ndim == 3 else turned
                parameter = weight if name.endswith("weight") else bias
                result[f"{match.expand(theirs)} | {parameter}"] = turned.contiguous()
    return result


def test_the_jax_layout_is_the_same_model(module, tmp_path):
    """Names and shapes are those recorded from the JAX code; its kernels of the way up are turned round."""
    haiku = to_haiku(load_file(FOLDER / "weights.safetensors"))
    shapes = json.loads((FOLDER / "meta.json").read_text())["haiku_names_and_shapes"]
    language = {name: shape for name, shape in shapes.items() if "/lm_" in name}
    assert {name: list(t.shape) for name, t in haiku.items()} == {n: s for n, s in shapes.items() if n not in language}
    haiku |= {name: torch.ones(shape) for name, shape in language.items()}
    save_file({name.replace(" | ", "/"): t for name, t in haiku.items()}, tmp_path / "model.safetensors")
    config = official_config("segment_nt", json.loads((FOLDER / "config.json").read_text()), FOLDER)
    hyper = {
        "alphabet_size": 4107, "max_positions": 512, "embed_scale": 1.0, "emb_layer_norm_before": False,
        "attention_heads": 4, "key_size": 8, "embed_dim": 32, "ffn_embed_dim": 48, "num_layers": 3,
        "positional_embedding": None, "lm_head": "roberta", "add_bias_kv": False, "add_bias_ffn": False,
        "use_rotary_embedding": True, "ffn_activation_name": "swish", "use_glu_in_ffn": True,
        "mask_before_attention": False, "token_dropout": False, "masking_ratio": 0.0, "masking_prob": 0.0,
        "k_for_kmers": 6, "rescaling_factor": None, "features": list(config.features),
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(hyper))
    with pytest.warns(UserWarning, match="other heads are left out"):
        other = load(tmp_path, dtype="float32", device="cpu").module
    assert other.config.layer_norm_eps == JAX_LAYER_NORM_EPS
    for name, tensor in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_the_factor_follows_the_number_of_tokens_and_can_be_set():
    config = make_config("segment_nt", cards.get("segment_nt").config, "card")
    module = build("segment_nt", config)
    assert module.factor_for(5_001) == module.factor_for(100) == 2.44140625
    assert module.factor_for(6_669) == 3.25634765625
    assert module.factor_for(8_333) == 4.06884765625
    module.rescaling_factor = 3.0
    assert module.factor_for(100) == module.factor_for(9_000) == 3.0
    for wrong in (0, -1.0, "2", True):
        with pytest.raises(NexVarError, match="rescaling_factor"):
            module.rescaling_factor = wrong


@torch.no_grad()
def test_a_set_factor_changes_the_numbers_and_none_brings_them_back(recorded):
    module = load(FOLDER, dtype="float32", device="cpu").module
    ids = recorded["len96.input_ids"]
    before = module(ids).logits
    module.rescaling_factor = 2.44140625
    assert float((module(ids).logits - before).abs().max()) > 0.01
    module.rescaling_factor = None
    assert torch.equal(module(ids).logits, before)


@pytest.mark.parametrize("bases", [6, 18, 30, 12 * 6 + 1])
def test_tokens_come_in_whole_blocks(module, bases):
    ids = torch.tensor([KmerTokenizer().encode("ACGTGA" * 20, special=True).ids[: 1 + bases // 6 + bases % 6]])
    with pytest.raises(NexVarError, match="no multiple of 4: cut the sequence to a multiple of 24 bases"):
        module(ids)


@torch.no_grad()
def test_one_line_for_padding_and_one_for_n(module, recorded):
    with pytest.warns(UserWarning, match="padding changes"):
        module(recorded["padded.input_ids"], mask_BL=recorded["padded.attention_mask"].bool())
    with pytest.warns(UserWarning, match="rows are no bases"):
        module(recorded["n_and_tail.input_ids"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(recorded["len96.input_ids"])
        module(recorded["n_and_tail.input_ids"], taps=(module.last_hidden,), logits=False)


@pytest.mark.parametrize("name", ["segment_nt", "segment_nt_multi_species"])
def test_full_size_names_and_shapes(name):
    """The listed inventory: 434 tensors, 559,330,937 numbers; a position table and a contact head are unread."""
    D, F, V = 1024, 4096, 4107
    official = {
        "esm.embeddings.word_embeddings.weight": (V, D),
        "esm.embeddings.position_embeddings.weight": (2050, D),
        "esm.encoder.emb_layer_norm_after.weight": (D,),
        "esm.encoder.emb_layer_norm_after.bias": (D,),
        "esm.contact_head.regression.weight": (1, 464),
        "esm.contact_head.regression.bias": (1,),
        "fc.weight": (168, D),
        "fc.bias": (168,),
    }
    for i in range(29):
        layer = f"esm.encoder.layer.{i}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            official |= {f"{layer}.{part}.weight": (D, D), f"{layer}.{part}.bias": (D,)}
        for norm in ("attention.LayerNorm", "LayerNorm"):
            official |= {f"{layer}.{norm}.weight": (D,), f"{layer}.{norm}.bias": (D,)}
        official |= {f"{layer}.intermediate.dense.weight": (2 * F, D), f"{layer}.output.dense.weight": (D, F)}
    convolutions = {
        "_downsample_blocks.0": [(D, D), (D, D)], "_downsample_blocks.1": [(2 * D, D), (2 * D, 2 * D)],
        "_upsample_blocks.0": [(2 * D, 2 * D)] * 2, "_upsample_blocks.1": [(2 * D, D), (D, D)],
        "final_block": [(D, D), (D, D)],
    }  # fmt: skip
    for block, pairs in convolutions.items():
        for j, pair in enumerate(pairs):
            wide = pair[1] if block.startswith("_up") else pair[0]
            official |= {
                f"unet.{block}.conv_layers.{j}.weight": (*pair, 3),
                f"unet.{block}.conv_layers.{j}.bias": (wide,),
            }
    tensors = {key: torch.empty(shape, device="meta") for key, shape in official.items()}
    assert len(tensors) == 434
    assert sum(t.numel() for t in tensors.values()) == 559_330_937
    card = cards.get(name)
    config = make_config("segment_nt", card.config, name)
    old = {f"esm.encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq": torch.empty(32) for i in range(29)}
    converted = convert(ELEMENTS, tensors | old, config, name)
    expected = build("segment_nt", config).state_dict()
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in expected.items()}


def test_the_published_configs_are_the_cards():
    """config.json as listed; the class' own names. It is no Nucleotide Transformer, which has the same model_type."""
    values = json.loads((FOLDER / "config.json").read_text()) | {
        "hidden_size": 1024, "intermediate_size": 4096, "max_position_embeddings": 2050, "num_attention_heads": 16,
        "num_hidden_layers": 29, "rescaling_factor": 2.44140625,
    }  # fmt: skip
    assert models.infer(values) == "segment_nt"
    for name in ("segment_nt", "segment_nt_multi_species"):
        card = cards.get(name)
        assert official_config("segment_nt", values, "config.json") == make_config("segment_nt", card.config, name)


def test_other_sizes_levels_and_elements_follow_the_config(tmp_path):
    config = make_config("segment_nt", {
        "vocab_size": 4107, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 20, "max_position_embeddings": 64, "features": ["a", "b", "c"], "num_layers_head": 3,
        "rescaling_factor": 1.5,
    }, "config")  # fmt: skip
    module = models.get("segment_nt").Model(config)
    assert module.element_unit == 48
    out = module(torch.randint(6, 4000, (2, 1 + 16)), levels=True)
    assert out.logits.shape == (2, 96, 3, 2)
    assert out.extras["unet"]["down.2.pooled"].shape == (2, 2, 96)
    assert out.extras["unet"]["up.2.sum"].shape == (2, 16, 24)
    official = ELEMENTS.to_official(module.state_dict(), config)
    assert set(convert(ELEMENTS, official, config, "x")) == set(module.state_dict())
    assert official_config("segment_nt", ELEMENTS.official_values(config), "x") == config


def test_a_config_without_elements_is_one_line(tmp_path):
    for change, said in (({"features": []}, "features"), ({"num_layers_head": 0}, "num_layers_head"),
                         ({"rescaling_factor": -2.0}, "rescaling"), ({"features": ["a", "a"]}, "twice")):  # fmt: skip
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(FOLDER, folder)
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(NexVarError, match=said):
            load(folder, device="cpu")
