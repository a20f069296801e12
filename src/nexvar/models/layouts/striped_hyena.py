"""StripedHyena 1 as stripedhyena and the Hugging Face repositories of Evo write it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nexvar.models.layouts import same_names, striped_hyena2
from nexvar.models.striped_hyena import Config

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
