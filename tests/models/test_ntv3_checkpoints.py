"""NTv3's checkpoints: which configs are ours, published sizes and totals, buffers."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from nexvar import cards, models
from nexvar.errors import NexVarError
from nexvar.models.layouts.ntv3 import convert, from_official, matches
from nexvar.models.ntv3 import Config
from nexvar.weights.assemble import build, make_config
from nexvar.weights.sources import compare_config
from places import GOLDEN
from tiny_ntv3 import TINY, load, official


def test_which_configs_are_ours():
    for folder in ("ntv3_pre_tiny", "ntv3_post_tiny"):
        assert matches(official(folder)) and models.infer(official(folder)) == "ntv3"
    assert not matches({"model_type": "ntv3_tracks"}), "a later release, of another format"
    config = from_official({"model_type": "ntv3"})
    assert config == Config(), "what config.json does not say is the hub class's default"
    named = {"hidden_size": 24, "num_attention_heads": 3, "vocab_size": 11, "num_hidden_layers": 5}
    config = from_official(named | {"deconv_upsample_type": "DeConvUpsampleType.REPEAT_CONV"})
    assert (config.embed_dim, config.key_size, config.num_layers) == (24, 8, 5)
    assert config.deconv_upsample_type == "repeat+conv"


def test_buffers_of_a_checkpoint_saved_after_a_forward():
    model, _ = load("ntv3_pre_tiny")
    state = load_file(GOLDEN / "ntv3_pre_tiny" / "weights.safetensors")
    state["core.transformer_blocks.0.sa_layer.rotary_embedding.cos_cached"] = torch.zeros(1, 8, 1, 4)
    assert set(convert(state, model.config)) == set(model.state_dict())


def test_channels_between_the_towers():
    config = dataclasses.replace(TINY, conv_init_embed_dim=5, embed_dim=12, attention_heads=3, num_downsamples=3)
    import numpy as np

    assert config.channels == np.linspace(5, 12, 4).astype(int).tolist() == [5, 7, 9, 12]


SIZES = {  # published: layers, width, heads, MLP width, downsamples
    "8m": (2, 256, 8, 1024, 7),
    "100m": (6, 768, 12, 3072, 7),
    "650m": (12, 1536, 24, 6144, 7),
    "5downsample": (12, 1536, 24, 6144, 5),
}
NAMES = [
    *(f"NTv3_{size}_pre{context}" for size in ("8M", "100M", "650M", "5downsample") for context in ("", "_8kb")),
    *(f"NTv3_{size}_post{context}" for size in ("100M", "650M", "5downsample") for context in ("", "_131kb")),
]


@pytest.mark.parametrize("name", NAMES)
def test_full_size(name):
    """Every released model on the meta device."""
    card = cards.get(f"InstaDeepAI/{name}")
    assert card is cards.get(name) and card.architecture == "ntv3" and card.config_file
    config = make_config("ntv3", card.config, name)
    shape = (config.num_layers, config.embed_dim, config.attention_heads, config.ffn_embed_dim, config.num_downsamples)
    assert shape == SIZES[name.split("_")[1].lower()]
    assert sum(p.numel() for p in build("ntv3", config).parameters()) == card.parameters
    assert card.context == {"8kb": 8192, "131kb": 131_072}.get(name.rsplit("_", 1)[1], 1_048_576)


def test_published_totals():
    """model_parameter_count of two hub READMEs. The second with the paper's heads: 15,889 tracks of 9 species and 21
    elements, for 24 species; how the tracks are shared out over species does not change the total."""
    assert sum(p.numel() for p in build("ntv3", Config()).parameters()) == 7_692_475
    body = make_config("ntv3", cards.get("NTv3_5downsample_post_131kb").config, "card")
    tracks = {f"species {i}": [f"{i}.{j}" for j in range(1766 if i < 4 else 1765)] for i in range(9)}
    config = dataclasses.replace(
        body,
        bigwigs_per_species=tracks,
        species_to_token_id={name: 6 + i for i, name in enumerate(tracks)} | {"human": 15},
        bed_elements_names=tuple(f"element {i}" for i in range(21)),
    )
    assert sum(map(len, tracks.values())) == 15_889
    assert sum(p.numel() for p in build("ntv3", config).parameters()) == 622_605_044


def test_config_json_completes_the_card(tmp_path):
    """Track names come from config.json; what the card says itself must agree."""
    card = cards.get("NTv3_100M_post")
    ours = make_config("ntv3", card.config, card.name)
    values = {k: v for k, v in dataclasses.asdict(ours).items() if k != "default_species"} | {
        "model_type": "ntv3_posttrained",
        "bigwigs_per_species": {"human": ["a", "b"]},
        "species_to_token_id": {"human": 6},
        "deconv_upsample_type": "conv_transpose",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    config = compare_config(card, ours, path)
    assert config.bigwigs_per_species == {"human": ["a", "b"]}
    assert config.deconv_upsample_type == "conv_transpose"
    path.write_text(json.dumps(values | {"num_layers": 7}))
    with pytest.raises(NexVarError, match="num_layers is 7, the card says 6"):
        compare_config(card, ours, path)
    path.unlink()
    with pytest.raises(NexVarError, match="needs it"):
        compare_config(card, ours, path)
