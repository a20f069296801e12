"""Caduceus and PlantCaduceus as their repositories write them: tied tensors under any of their names."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.models.caduceus import PREFIX, Config
from nexvar.models.layouts import same_names

DEFAULTS = {
    "rcps": False,
    "fused_add_norm": True,
    "rms_norm": True,
    "norm_epsilon": 1e-5,
    "bidirectional": True,
    "bidirectional_weight_tie": True,
}
REPOSITORY = "kuleshov-group/caduceus-ph_seqlen-131k_d_model-256_n_layer-16"
CODE = {
    "AutoConfig": "configuration_caduceus.CaduceusConfig",
    "AutoModel": "modeling_caduceus.Caduceus",
    "AutoModelForMaskedLM": "modeling_caduceus.CaduceusForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_caduceus.CaduceusForSequenceClassification",
}
SSM_DEFAULTS = {"d_state": 16, "d_conv": 4, "expand": 2, "bias": False, "conv_bias": True}


def matches(official: dict[str, Any]) -> bool:
    """Is this config.json one of Caduceus' or PlantCaduceus'?"""
    return official.get("model_type") == "caduceus"


def from_official(official: dict[str, Any]) -> Config:
    """From the official config.json; ``complement_map`` is read by key, whatever the order of its keys."""
    ssm, multiple = official.get("ssm_cfg") or {}, official.get("pad_vocab_size_multiple", 8)
    vocab = math.ceil(official["vocab_size"] / multiple) * multiple
    pairs = {int(k): int(v) for k, v in (official.get("complement_map") or {}).items()}
    rank = ssm.get("dt_rank", "auto")
    return Config(
        **same_names(official, ("d_model", "n_layer"), DEFAULTS),
        **same_names(ssm, (), SSM_DEFAULTS),
        vocab_size=vocab,
        complement_map=tuple(pairs.get(i, i) for i in range(vocab)) if official.get("rcps", False) else (),
        bidirectional_strategy=official.get("bidirectional_strategy") or "add",
        dt_rank=0 if rank in ("auto", math.ceil(official["d_model"] / 16)) else rank,
    )


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names -> ours: wrapper levels go, tied tensors stay once, missing complement maps come from the config.

    Files hold tied tensors once or several times, under any of their names; copies that differ are refused (some
    transformers versions leave them uninitialised and save them so).
    """
    result = {}
    for key, value in state.items():
        key = key.replace(".submodule.", ".").replace("lm_head.lm_head.", "lm_head.")
        result[key.replace("word_embeddings.embedding.", "word_embeddings.")] = value
    _merge(result, f"{PREFIX}embeddings.word_embeddings.weight", "lm_head.weight")
    if config.bidirectional and config.bidirectional_weight_tie:
        for i in range(config.n_layer):
            for part in ("in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias"):
                _merge(result, *(f"{PREFIX}layers.{i}.mixer.mamba_{way}.{part}" for way in ("fwd", "rev")))
    if config.rcps:
        # NOTE: the checkpoint's map is what its model was trained with; a config saved again may hold it reordered.
        names = f"{PREFIX}embeddings.word_embeddings.complement_map", "lm_head.complement_map"
        known = next((result[n] for n in names if n in result), torch.tensor(config.complement_map))
        for name in names:
            complement = result.setdefault(name, known.clone())
            if not torch.equal(complement[complement], torch.arange(len(complement))):
                warnings.warn(f"{name} is not its own inverse: reverse complements will not agree", stacklevel=2)
    return result


def _merge(state: dict[str, Tensor], kept: str, copy: str) -> None:
    """Leave one of two tied tensors, under the name ``kept``."""
    if copy in state:
        value = state.pop(copy)
        if not torch.equal(state.setdefault(kept, value), value):
            raise NexVarError(
                f"it differs from {kept}, to which config.json ties it",
                where=copy,
                fix="a file saved from a wrongly loaded model: take the original one",
            )


def official_values(config: Config) -> dict[str, Any]:
    """The hub's config.json; the vocabulary is given as padded, as both codes then find it."""
    pairs = config.complement_map or range(config.vocab_size)
    return {
        "model_type": "caduceus",
        "architectures": ["CaduceusForMaskedLM"],
        "auto_map": {auto: f"{REPOSITORY}--{place}" for auto, place in CODE.items()},
        **{name: getattr(config, name) for name in ("d_model", "n_layer", *DEFAULTS, "bidirectional_strategy")},
        "ssm_cfg": {name: getattr(config, name) for name in SSM_DEFAULTS} | {"dt_rank": config.dt_rank or "auto"},
        "complement_map": {str(i): int(j) for i, j in enumerate(pairs)},
        "vocab_size": config.vocab_size,
        "pad_vocab_size_multiple": 8 if config.vocab_size % 8 == 0 else 1,
        "residual_in_fp32": False,
        "initializer_cfg": {"initializer_range": 0.02, "n_residuals_per_layer": 1, "rescale_prenorm_residual": True},
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names again: PS models have wrapper levels. Tied tensors are written once, as the hub's files do."""
    result = {}
    for key, value in state.items():
        if config.rcps:
            key = key.replace("word_embeddings.weight", "word_embeddings.embedding.weight")
            key = key.replace(".mixer.", ".mixer.submodule.")
            if not config.fused_add_norm:
                key = key.replace(".norm.", ".norm.submodule.").replace(".norm_f.", ".norm_f.submodule.")
        result[key] = value
    return result


def tied_layers(config: Config) -> dict[str, str]:
    """The reverse direction's projections, which are the forward one's where config.json ties them."""
    if not (config.bidirectional and config.bidirectional_weight_tie):
        return {}
    mixers = [f"{PREFIX}layers.{i}.mixer.mamba_" for i in range(config.n_layer)]
    return {f"{m}rev.{part}": f"{m}fwd.{part}" for m in mixers for part in ("in_proj", "out_proj")}
