"""Nucleotide Transformer v3 on the hub: config.json with two sets of names, and state dicts after a forward."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from nexvar.models.ntv3 import ROTARY_BASE, Config
from nexvar.ops.rotary import inverse_frequencies

CLASSES = ("NTv3PreTrained", "NTv3PostTrained", "NTv3Generative")
LONG_NAMES = {  # ours: what some config.json call it
    "alphabet_size": "vocab_size",
    "attention_heads": "num_attention_heads",
    "embed_dim": "hidden_size",
    "ffn_embed_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
}


def matches(official: dict[str, Any]) -> bool:
    """An NTv3 config by its classes or model_type."""
    classes = official.get("architectures") or ()
    return official.get("model_type") in ("ntv3", "ntv3_posttrained") or any(name in CLASSES for name in classes)


def from_official(official: dict[str, Any]) -> Config:
    """From a hub config.json; also the long names that some of them use."""
    values = {ours: official[theirs] for ours, theirs in LONG_NAMES.items() if theirs in official}
    taken = {f.name for f in dataclasses.fields(Config)} - {"default_species"}
    values |= {name: official[name] for name in taken if official.get(name) is not None}
    kind = str(values.get("deconv_upsample_type", "repeat+conv")).rsplit(".", 1)[-1].lower()
    values["deconv_upsample_type"] = {"repeat_conv": "repeat+conv"}.get(kind, kind)
    if "key_size" not in values and {"embed_dim", "attention_heads"} <= set(values):
        values["key_size"] = values["embed_dim"] // values["attention_heads"]
    for name in ("conditions_vocab_size", "bed_elements_names"):
        values[name] = tuple(values.get(name, ()))
    species = values.get("species_to_token_id", {})
    return Config(**values, default_species="human" if "human" in species else None)


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names -> ours: the same, without the rotary buffers (cos_cached and sin_cached appear in checkpoints
    saved after a forward). Mixed-precision checkpoints keep their dtypes."""
    rotary = (".rotary_embedding.inv_freq", ".rotary_embedding.cos_cached", ".rotary_embedding.sin_cached")
    return {name: tensor.contiguous() for name, tensor in state.items() if not name.endswith(rotary)}


def official_values(config: Config) -> dict[str, Any]:
    """The hub's config.json, under its short names."""
    post = bool(config.conditions_vocab_size)
    values = dataclasses.asdict(config)
    values.pop("default_species")
    heads = ("conditions_vocab_size", "bigwigs_per_species", "bed_elements_names", "species_to_token_id")
    only_post = (*heads, "num_species_special_tokens", "keep_target_center_fraction")
    kept = {n: list(v) if isinstance(v, tuple) else v for n, v in values.items() if post or n not in only_post}
    species = {"conditions_names": ["species"]} if post else {}
    return {
        "model_type": "ntv3_posttrained" if post else "ntv3",
        "architectures": ["NTv3PostTrained" if post else "NTv3PreTrained"],
        "tie_word_embeddings": False,
        **kept,
        **species,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Ours, and the rotary frequencies of every transformer block."""
    result = dict(state)
    for name in state:
        if name.endswith(".sa_layer.query_head.linear.weight"):
            rotary = name.replace("query_head.linear.weight", "rotary_embedding.inv_freq")
            result[rotary] = inverse_frequencies(config.key_size, ROTARY_BASE)
    return result
