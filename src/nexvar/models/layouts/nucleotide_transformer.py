"""Nucleotide Transformer v1, v2 and AgroNT on the hub: an ESM with a vocabulary of k-mers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nexvar.models.layouts import same_names
from nexvar.models.nucleotide_transformer import ROTARY_BASE, Config
from nexvar.ops.rotary import inverse_frequencies

NEEDED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "position_embedding_type", "layer_norm_eps", "pad_token_id", "mask_token_id",
)  # fmt: skip
UNREAD = ("esm.contact_head.*", "esm.embeddings.position_embeddings.weight")  # the latter: beside rotary positions
REPOSITORY = "InstaDeepAI/nucleotide-transformer-v2-50m-multi-species"
CODE = {"AutoConfig": "esm_config.EsmConfig", "AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"}


def matches(official: dict[str, Any]) -> bool:
    """An ESM config whose vocabulary is one of k-mers (protein ESM has 33 tokens), and no head of elements on it."""
    if "SegmentNT" in (official.get("architectures") or ()):
        return False
    auto_map = official.get("auto_map") or {}
    esm = official.get("model_type") == "esm" or "EsmConfig" in str(auto_map.get("AutoConfig", ""))
    size = official.get("vocab_size")
    return esm and isinstance(size, int) and any(size - 4**k in (9, 11) for k in range(1, 9))


def from_official(official: dict[str, Any]) -> Config:
    """From a hub config.json. The gated MLP is that of the remote code (auto_map); native ESM never gates."""
    native = official.get("model_type") == "esm" and not official.get("auto_map")
    gated = "add_bias_fnn" in official and not native
    return Config(
        **same_names(official, NEEDED, {}),
        gated_mlp=gated,
        mlp_bias=bool(official["add_bias_fnn"]) if gated else True,
        token_dropout=bool(official.get("token_dropout")),
        emb_layer_norm_before=bool(official.get("emb_layer_norm_before")),
    )


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official hub names -> ours: the same, without what no forward reads; the decoder owns its bias.

    NOTE: the 2.5B pickles hold column-major tensors, hence ``contiguous``.
    """
    unread = ["esm.contact_head.", "esm.pooler."]
    if config.position_embedding_type == "rotary":
        unread.append("esm.embeddings.position_embeddings.")
    converted = {}
    for name, tensor in state.items():
        if name.startswith(tuple(unread)) or name.endswith((".position_ids", ".rotary_embeddings.inv_freq")):
            continue
        converted["lm_head.decoder.bias" if name == "lm_head.bias" else name] = tensor.contiguous()
    embeddings = converted.get("esm.embeddings.word_embeddings.weight")
    if embeddings is not None and "lm_head.dense.weight" in converted:  # tie_word_embeddings: no decoder in the file
        converted.setdefault("lm_head.decoder.weight", embeddings)
    return converted


def official_values(config: Config) -> dict[str, Any]:
    """The hub's config.json: of v2's own code where the MLP is gated, of transformers' ESM otherwise."""
    values: dict[str, Any] = {name: getattr(config, name) for name in NEEDED}
    code: dict[str, Any] = {"model_type": "esm"}
    if config.gated_mlp:
        code = {
            "auto_map": {auto: f"{REPOSITORY}--{place}" for auto, place in CODE.items()},
            "add_bias_fnn": config.mlp_bias,
        }
    return {
        **values,
        **code,
        "architectures": ["EsmForMaskedLM"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "emb_layer_norm_before": config.emb_layer_norm_before,
        "token_dropout": config.token_dropout,
        "tie_word_embeddings": False,
        "is_folding_model": False,
        "use_cache": False,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The decoder's bias goes up a level; what the official code computes and stores, it finds in the file again.

    The contact head, and learned positions beside rotary ones, which no forward of a language model reads, are gone.
    """
    result = {"lm_head.bias" if name == "lm_head.decoder.bias" else name: tensor for name, tensor in state.items()}
    if "esm.embeddings.position_embeddings.weight" in state:
        result["esm.embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[None]
    if config.position_embedding_type == "rotary":
        exact = inverse_frequencies(config.hidden_size // config.num_attention_heads, ROTARY_BASE)
        for name in state:
            if name.endswith(".attention.self.query.weight"):
                result[name.replace("query.weight", "rotary_embeddings.inv_freq")] = exact.clone()
    return result
