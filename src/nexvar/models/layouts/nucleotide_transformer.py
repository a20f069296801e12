"""Nucleotide Transformer v1, v2 and AgroNT on the hub: an ESM with a vocabulary of k-mers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nexvar.models.layouts import same_names
from nexvar.models.nucleotide_transformer import Config

NEEDED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "position_embedding_type", "layer_norm_eps", "pad_token_id", "mask_token_id",
)  # fmt: skip


def matches(official: dict[str, Any]) -> bool:
    """An ESM config whose vocabulary is one of k-mers (protein ESM has 33 tokens)."""
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
    if embeddings is not None:  # tie_word_embeddings: the decoder is not in the file
        converted.setdefault("lm_head.decoder.weight", embeddings)
    return converted
