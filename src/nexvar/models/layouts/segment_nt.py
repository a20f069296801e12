"""SegmentNT on the hub: PyTorch names, and those of the JAX package's haiku modules.

A haiku parameter is called MODULE/PARAMETER here, as in ``…/downsample_block_0/~/conv0/w``. Linear weights are
transposed, convolutions have the axes (k, in, out), transposed ones (k, out, in), and run against torch's direction:
haiku does not turn the kernel round, so the k axis is reversed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from nexvar.models.layouts import nucleotide_transformer as trunk
from nexvar.models.nucleotide_transformer import JAX_LAYER_NORM_EPS
from nexvar.models.segment_nt import Config

UNREAD = trunk.UNREAD
REPOSITORY = "InstaDeepAI/segment_nt"
CODE = {"AutoConfig": "segment_nt_config.SegmentNTConfig", "AutoModel": "modeling_segment_nt.SegmentNT"}
HYPERPARAMETERS = {  # of the JAX package's hyperparams.json: our name
    "alphabet_size": "vocab_size",
    "embed_dim": "hidden_size",
    "ffn_embed_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads",
}


def matches(official: dict[str, Any]) -> bool:
    """A config.json of the class SegmentNT, or a hyperparams.json of its JAX package."""
    classes = official.get("architectures") or ()
    return "SegmentNT" in classes or ("features" in official and "k_for_kmers" in official)


def from_official(official: dict[str, Any]) -> Config:
    """From a hub config.json, or from the JAX package's hyperparams.json."""
    jax = "k_for_kmers" in official
    if jax:
        official = {
            **{ours: official[theirs] for theirs, ours in HYPERPARAMETERS.items()},
            "features": official["features"],
            "rescaling_factor": official["rescaling_factor"],
            "max_position_embeddings": official["max_positions"] + 2,
            "position_embedding_type": "rotary",
            "layer_norm_eps": JAX_LAYER_NORM_EPS,
            "pad_token_id": 1,
            "mask_token_id": 2,
            "add_bias_fnn": official["add_bias_ffn"],
            "token_dropout": official["token_dropout"],
            "emb_layer_norm_before": official["emb_layer_norm_before"],
        }
    values = vars(trunk.from_official(official))
    return Config(**{
        **values,
        "gated_mlp": True,
        "mlp_bias": bool(official.get("add_bias_fnn", True)),
        "features": tuple(official["features"]),
        "num_layers_head": official.get("num_layers_head", 2),
        "rescaling_factor": official.get("rescaling_factor"),
    })  # fmt: skip


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names -> ours: the hub's are the same; without what no forward reads."""
    if any("/~/" in name for name in state):
        state = _from_haiku(state)
    return trunk.convert(state, config)


def official_values(config: Config) -> dict[str, Any]:
    """The hub's config.json."""
    return {
        **trunk.official_values(config),
        "model_type": "esm",
        "architectures": ["SegmentNT"],
        "auto_map": {auto: f"{REPOSITORY}--{place}" for auto, place in CODE.items()},
        "add_bias_fnn": config.mlp_bias,
        "features": list(config.features),
        "num_layers_head": config.num_layers_head,
        "rescaling_factor": config.rescaling_factor,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The same names. The contact head and learned positions, which no forward reads, are gone."""
    return dict(state)


# -- haiku


def _same(w: Tensor) -> Tensor:
    return w


def _linear(w: Tensor) -> Tensor:
    return w.t() if w.ndim == 2 else w


def _conv(w: Tensor) -> Tensor:
    return w.permute(2, 1, 0) if w.ndim == 3 else w


def _transposed_conv(w: Tensor) -> Tensor:
    return w.permute(2, 1, 0).flip(-1) if w.ndim == 3 else w


_LAYER = r"attention_layer_(\d+)/~/"
_MODULES: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (  # end of a haiku module -> ours, of its w
    (r"~/embed", "esm.embeddings.word_embeddings", _same),
    (_LAYER + r"(?:self_attention|mha)/(query|key|value)", r"esm.encoder.layer.\1.attention.self.\2", _linear),
    (_LAYER + r"(?:self_attention|mha)/mha_output", r"esm.encoder.layer.\1.attention.output.dense", _linear),
    (_LAYER + r"(?:self_attention|mha)_layer_norm", r"esm.encoder.layer.\1.attention.LayerNorm", _same),
    (_LAYER + r"final_layer_norm", r"esm.encoder.layer.\1.LayerNorm", _same),
    (_LAYER + r"fc1", r"esm.encoder.layer.\1.intermediate.dense", _linear),
    (_LAYER + r"fc2", r"esm.encoder.layer.\1.output.dense", _linear),
    (r"roberta_lm_head/~/emb_layer_norm_after", "esm.encoder.emb_layer_norm_after", _same),
    (r"downsample_block_(\d+)/~/conv(\d+)", r"unet._downsample_blocks.\1.conv_layers.\2", _conv),
    (r"upsample_block_(\d+)/~/conv_transpose(\d+)", r"unet._upsample_blocks.\1.conv_layers.\2", _transposed_conv),
    (r"final_conv1_d/~/conv(\d+)", r"unet.final_block.conv_layers.\1", _conv),
    (r"_1/~/fc|u_net_head/~/fc", "fc", _linear),
)
_PARAMETERS = {"w": "weight", "embeddings": "weight", "scale": "weight", "b": "bias", "offset": "bias"}


def _from_haiku(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Haiku's names and axes -> the hub's. The language-model head, which its code always makes, is left out."""
    result = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition("/")
        if re.search(r"roberta_lm_head/~/lm_", module):
            continue
        for pattern, ours, turned in _MODULES:
            if (match := re.search(f"(?:{pattern})$", module)) and parameter in _PARAMETERS:
                result[f"{match.expand(ours)}.{_PARAMETERS[parameter]}"] = turned(tensor)
                break
        else:
            result[name] = tensor  # it will be named as unknown
    return result
