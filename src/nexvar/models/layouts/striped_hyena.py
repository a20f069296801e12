"""StripedHyena 1 as stripedhyena and the Hugging Face repositories of Evo write it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nexvar.models.layouts import same_names, striped_hyena2
from nexvar.models.striped_hyena import Config
from nexvar.ops.rotary import inverse_frequencies

NEEDED = ("hidden_size", "num_attention_heads", "vocab_size", "state_size", "short_filter_length", "eps")
DEFAULTS = {
    "rotary_emb_base": 10000,
    "mlp_activation": "silu",
    "tie_embeddings": True,
    "qkv_proj_bias": True,
    "mha_out_proj_bias": True,
    "column_split_hyena": True,
    "hyena_filter_groups": 1,
}


def matches(official: dict[str, Any]) -> bool:
    """Is this config.json one of StripedHyena 1's?"""
    return "hyena_layer_idxs" in official and "attn_layer_idxs" in official


def from_official(official: dict[str, Any]) -> Config:
    """From the keys of stripedhyena's configs and of the Hugging Face config.json."""
    letters = dict.fromkeys(official["hyena_layer_idxs"], "H") | dict.fromkeys(official["attn_layer_idxs"], "*")
    return Config(
        **same_names(official, NEEDED, DEFAULTS),
        pattern=striped_hyena2.pattern(letters, official["num_layers"]),
        max_seqlen=official.get("max_seqlen", official.get("max_sequence_len", 8192)),
        **striped_hyena2.frame(official),
    )


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names and layouts -> ours; the file's rounded ``inv_freq`` is dropped."""
    state = {key.removeprefix("backbone."): value for key, value in state.items()}
    return striped_hyena2.convert({k: v for k, v in state.items() if not k.endswith("inv_freq")}, config)


def official_values(config: Config) -> dict[str, Any]:
    """The config.json of Evo's repositories."""
    c = config
    return {
        **{name: getattr(c, name) for name in (*NEEDED, *DEFAULTS, "inner_mlp_size")},
        **striped_hyena2.frame_values(c),
        "hyena_filter_groups": c.hyena_filter_groups,
        "hyena_layer_idxs": [i for i, letter in enumerate(c.pattern) if letter == "H"],
        "attn_layer_idxs": [i for i, letter in enumerate(c.pattern) if letter == "*"],
        "max_seqlen": c.max_seqlen,
        "max_sequence_len": c.max_seqlen,
        "short_filter_bias": True,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """As the Hugging Face repositories of Evo write it: without the tied unembedding, ``inv_freq`` in bfloat16."""
    result = striped_hyena2.to_official(state, config)
    if config.tie_embeddings:
        result.pop("unembed.weight", None)
    exact = inverse_frequencies(config.head_dim, config.rotary_emb_base).bfloat16()
    for name in state:
        if name.endswith(".inner_mha_cls.Wqkv.weight"):
            result[name.replace("Wqkv.weight", "rotary_emb.inv_freq")] = exact.clone()
    return {f"backbone.{name}": tensor for name, tensor in result.items()}
