"""HyenaDNA as the Hugging Face port and the Lightning checkpoints of the other repositories write it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.models.hyenadna import PREFIX, Config
from nexvar.models.layouts import same_names

NEEDED = ("d_model", "n_layer", "max_seq_len")
DEFAULTS = {
    "emb_dim": 5,
    "filter_order": 64,
    "num_inner_mlps": 2,
    "short_filter_order": 3,
    "layer_norm_epsilon": 1e-5,
    "use_bias": True,
}
REPOSITORY = "LongSafari/hyenadna-tiny-1k-seqlen-hf"
CODE = {
    "AutoConfig": "configuration_hyena.HyenaConfig",
    "AutoModel": "modeling_hyena.HyenaDNAModel",
    "AutoModelForCausalLM": "modeling_hyena.HyenaDNAForCausalLM",
    "AutoModelForSequenceClassification": "modeling_hyena.HyenaDNAForSequenceClassification",
}


def matches(official: dict[str, Any]) -> bool:
    """Is this config.json one of the Hugging Face port's?"""
    return official.get("model_type") == "hyenadna"


def from_official(official: dict[str, Any]) -> Config:
    """From the Hugging Face port's config.json; the vocabulary is padded as that code pads it."""
    if official.get("hyena_order", 2) != 2:
        what = f"hyena_order {official['hyena_order']}"
        raise NexVarError(what, where="config", fix="no checkpoint has another than 2")
    multiple = official.get("pad_vocab_size_multiple", 8)
    return Config(
        **same_names(official, NEEDED, DEFAULTS),
        d_inner=official.get("d_inner") or 4 * official["d_model"],
        vocab_size=math.ceil(official["vocab_size"] / multiple) * multiple,
    )


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names -> ours. Also reads the Lightning checkpoints of the non -hf repositories.

    Those may wrap mixers and MLPs in ``.layer``, and tie the head.
    """
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        key = key.replace(".mixer.layer.", ".mixer.").replace(".mlp.layer.", ".mlp.")
        if ".implicit_filter." in key and key.endswith(".freq"):
            kept = key.split(".implicit_filter.")[0] + ".implicit_filter.1.freq"
            if not torch.equal(result.setdefault(kept, value), value):
                raise NexVarError(f"it differs from {kept}; the model has one freq for both", where=key)
        else:
            result[key] = value
    result.setdefault("lm_head.weight", result[f"{PREFIX}embeddings.word_embeddings.weight"])
    return result


def official_values(config: Config) -> dict[str, Any]:
    """The Hugging Face port's config.json; the vocabulary is given as padded, as both codes then find it."""
    values = {name: getattr(config, name) for name in (*NEEDED, *DEFAULTS, "d_inner")}
    return {
        "model_type": "hyenadna",
        "architectures": ["HyenaDNAForCausalLM"],
        "auto_map": {auto: f"{REPOSITORY}--{place}" for auto, place in CODE.items()},
        **values,
        "vocab_size": config.vocab_size,
        "pad_vocab_size_multiple": 8 if config.vocab_size % 8 == 0 else 1,
        "pad_token_id": 4,
        "hyena_order": 2,
        "activation_freq": 10,
        "train_freq": True,
        "embed_dropout": 0.1,
        "hyena_dropout": 0.0,
        "hyena_filter_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Our names are the port's. A filter has one frequency, which the hub's files hold once, as ours."""
    return dict(state)
