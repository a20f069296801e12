"""Genos on disk: a Hugging Face Mixtral."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.models.genos import Config
from nexvar.models.layouts import same_names

NEEDED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "intermediate_size", "num_local_experts", "num_experts_per_tok", "rms_norm_eps", "max_position_embeddings",
)  # fmt: skip
FIXED = {"sliding_window": None, "tie_word_embeddings": False, "hidden_act": "silu"}


def matches(official: dict[str, Any]) -> bool:
    """Is this a Mixtral?"""
    return official.get("model_type") == "mixtral"


def from_official(official: dict[str, Any]) -> Config:
    """From a Mixtral config.json (transformers 4 has ``rope_theta``, 5 has ``rope_parameters``)."""
    for key, ours in FIXED.items():
        if official.get(key, ours) != ours:
            raise NexVarError(f"{key} is {official[key]!r}; Genos has {ours!r}", where="config.json")
    rope = official.get("rope_parameters") or official
    return Config(
        **same_names(official, NEEDED, {}),
        head_dim=official.get("head_dim") or official["hidden_size"] // official["num_attention_heads"],
        rope_theta=float(rope["rope_theta"]),
    )


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The Hugging Face names are ours; old files also hold the rotary frequencies, which are recomputed."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("rotary_emb.inv_freq")}


def official_values(config: Config) -> dict[str, Any]:
    """A Mixtral's config.json, which transformers reads with code of its own."""
    values = {name: getattr(config, name) for name in (*NEEDED, "rope_theta")}
    head = {} if config.head_dim is None else {"head_dim": config.head_dim}
    return {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], **FIXED, **values, **head}


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Our names are the Hugging Face ones."""
    return dict(state)
