"""StripedHyena 2 as vortex and savanna write it: config.yml keys, and rows in several orders."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.models._striped_hyena import hyena_rows
from nexvar.models.layouts import same_names
from nexvar.models.striped_hyena2 import Config
from nexvar.ops.rotary import inverse_frequencies

LETTERS = {"hcs": "S", "hcm": "D", "hcl": "H", "attn": "*"}
NEEDED = (
    "hidden_size", "num_attention_heads", "vocab_size", "state_size", "short_filter_length", "hcs_filter_length",
    "hcs_filter_groups", "hcm_filter_length", "hcm_filter_groups", "eps", "interleave",
)  # fmt: skip
DEFAULTS = {
    "rotary_emb_base": 1_000_000,
    "max_seqlen": 8192,
    "mlp_activation": "gelu",
    "tie_embeddings": True,
    "qkv_proj_bias": True,
    "short_filter_bias": False,
    "hyena_out_proj_bias": True,
    "mha_out_proj_bias": True,
    "column_split_hyena": True,
    "hyena_flip_x1x2": False,
    "column_split": True,
}


def matches(official: dict[str, Any]) -> bool:
    """Is this config.json one of StripedHyena 2's?"""
    return "hcl_layer_idxs" in official and "hcm_layer_idxs" in official


def from_official(official: dict[str, Any]) -> Config:
    """From the keys of vortex' configs (and NexVar's renamed one), with vortex' defaults."""
    letters = {i: letter for kind, letter in LETTERS.items() for i in official[f"{kind}_layer_idxs"]}
    evo2_style = official.get("nexvar_style_activations", official.get("evo2_style_activations", False))
    return Config(
        **same_names(official, NEEDED, DEFAULTS),
        pattern=pattern(letters, official["num_layers"]),
        activation_everywhere=not evo2_style,
        fp8_projections=official.get("use_fp8_input_projections", False),
        **frame(official),
    )


def pattern(letters: dict[int, str], layers: int) -> str:
    """One letter a layer from {layer: its letter}."""
    if missing := set(range(layers)) - set(letters):
        raise NexVarError(f"layers {sorted(missing)} are in no *_layer_idxs list", where="config")
    return "".join(letters[i] for i in range(layers))


def frame(official: dict[str, Any]) -> dict[str, Any]:
    """What both StripedHyenas derive: the MLP's size, and how far rotary positions are stretched."""
    if official.get("proj_groups", 1) != 1:
        raise NexVarError(f"proj_groups {official['proj_groups']}", where="config", fix="only 1 is known")
    width, multiple = official["hidden_size"], official.get("inner_size_multiple_of", 64)
    stretched = official.get("use_interpolated_rotary_pos_emb")
    return {
        "inner_mlp_size": official.get("inner_mlp_size") or multiple * math.ceil(int(2 * width * 4 / 3) / multiple),
        "rotary_interpolation": official.get("rotary_emb_scaling_factor", 1.0) if stretched else 1.0,
    }


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names and layouts -> ours: rows are put in the order x2 | x1 | v and q | k | v, left-overs dropped."""
    if config.tie_embeddings:
        state = {key: value for key, value in state.items() if key != "unembed.weight"}
    result = {}
    rows = hyena_rows(config)
    for key, value in state.items():
        if key.endswith(("_extra_state", "filter.t")):
            continue
        if key.endswith(("projections.weight", "projections.bias", "short_filter_weight", "short_filter_bias")):
            value = _reorder(key, value, rows)
        elif ".Wqkv." in key and config.column_split:
            qkv = torch.arange(3 * config.hidden_size).view(config.num_attention_heads, 3, -1)
            value = _reorder(key, value, qkv.transpose(0, 1).flatten())
        elif key.endswith("fp8_scale_fwd"):
            if not (config.fp8_projections and ".projections." in key):
                continue
            key, value = key.removesuffix("_fwd"), value[:2]
        result[key] = value
    attention = (i for i, letter in enumerate(config.pattern) if letter == "*" and config.inv_freq_in_checkpoint)
    for index in attention:
        # Real checkpoints hold bf16-rounded values; a file without them can only have meant the same.
        exact = inverse_frequencies(config.head_dim, config.rotary_emb_base)
        result.setdefault(f"blocks.{index}.inner_mha_cls.rotary_emb.inv_freq", exact.bfloat16().float())
    return result


def _reorder(key: str, value: Tensor, rows: Tensor) -> Tensor:
    if value.shape[0] != len(rows):
        raise NexVarError(f"{value.shape[0]} rows, not {len(rows)}", where=key, fix="is this the right config.json?")
    if torch.equal(rows, torch.arange(len(rows))):
        return value
    return value[rows.to(value.device)]


def official_values(config: Config) -> dict[str, Any]:
    """vortex' config.yml: every key that it or ``from_official`` reads."""
    c, letters = config, {kind: [i for i, x in enumerate(config.pattern) if x == y] for kind, y in LETTERS.items()}
    return {
        **{name: getattr(c, name) for name in (*NEEDED, *DEFAULTS, "inner_mlp_size")},
        **{f"{kind}_layer_idxs": indices for kind, indices in letters.items()},
        **frame_values(c),
        "hcl_filter_groups": c.hidden_size,
        "evo2_style_activations": not c.activation_everywhere,
        "use_fp8_input_projections": c.fp8_projections,
    }


def frame_values(config: Config) -> dict[str, Any]:
    """What both StripedHyenas' codes read beside what makes the model."""
    stretched = config.rotary_interpolation != 1.0
    return {
        "num_layers": len(config.pattern),
        "num_filters": config.hidden_size,
        "inner_size_multiple_of": 16,
        "proj_groups": 1,
        "hyena_filter_groups": 1,
        "use_interpolated_rotary_pos_emb": stretched,
        **({"rotary_emb_scaling_factor": config.rotary_interpolation} if stretched else {}),
        "final_norm": True,
        "make_vocab_size_divisible_by": 8,
        "model_parallel_size": 1,
        "pipe_parallel_size": 1,
        "inference_mode": True,
        "tokenizer_type": "CharLevelTokenizer",
        "prefill_style": "fft",
        "use_flash_attn": False,
        "use_flash_rmsnorm": False,
        "use_flash_depthwise": False,
        "use_flashfft": False,
        "log_intermediate_values": False,
        "max_batch_size": 1,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Rows go back to the official orders; the tied unembedding is written as the copy that vortex looks for.

    The scale of an FP8 product's output (the third, which nothing reads) is 1: only the other two were kept.
    """
    result, rows = {}, hyena_rows(config).argsort()
    qkv = torch.arange(3 * config.hidden_size).view(3, config.num_attention_heads, -1).transpose(0, 1).flatten()
    for key, value in state.items():
        if key.endswith(("projections.weight", "projections.bias", "short_filter_weight", "short_filter_bias")):
            value = _reorder(key, value, rows)
        elif ".Wqkv." in key and config.column_split:
            value = _reorder(key, value, qkv)
        elif key.endswith("fp8_scale"):
            key, value = f"{key}_fwd", torch.cat([value, value.new_ones(1)])
        result[key] = value
    if config.tie_embeddings and "embedding_layer.weight" in state:
        result["unembed.weight"] = state["embedding_layer.weight"].clone()
    return result
