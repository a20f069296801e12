"""Nucleotide Transformer v3 on the hub: config.json with two sets of names, and state dicts after a forward."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from nexvar.models.ntv3 import Config

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
