"""DNABERT-2 on the hub: a BERT with a decoder that is tied to the word embeddings, with or without a classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.models.dnabert2 import Config
from nexvar.models.layouts import same_names

NEEDED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "type_vocab_size",
    "layer_norm_eps", "hidden_dropout_prob",
)  # fmt: skip


def matches(official: dict[str, Any]) -> bool:
    """Only BERTs with ALiBi (MosaicBERT's code, which DNABERT-2 uses) have this key."""
    return "alibi_starting_size" in official


def from_official(official: dict[str, Any]) -> Config:
    """From config.json; ``architectures: [BertForSequenceClassification]`` is a classifier fine-tuned with the
    official code (pooler and classifier, no MLM head)."""
    classifier = "BertForSequenceClassification" in (official.get("architectures") or ())
    return Config(
        **same_names(official, NEEDED, {}),
        mlm_head=not classifier,
        num_labels=len(official.get("id2label") or (0, 1)) if classifier else 0,
        pooling="cls" if classifier else "mean",
    )


def convert(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Official names -> ours: the same, without the tied decoder weight and the heads the config does not want."""
    unwanted = ["cls.predictions.decoder.weight"]
    unwanted += [] if config.mlm_head else ["cls."]
    unwanted += [] if config.num_labels else ["classifier."]
    unwanted += [] if config.num_labels and config.pooling == "cls" else ["bert.pooler."]
    tied = state.get("cls.predictions.decoder.weight")
    if tied is not None and not torch.equal(tied, state["bert.embeddings.word_embeddings.weight"]):
        raise NexVarError(
            "it is not equal to the word embeddings, to which the official code ties it",
            where="cls.predictions.decoder.weight",
            fix="the checkpoint is damaged",
        )
    return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(unwanted))}
