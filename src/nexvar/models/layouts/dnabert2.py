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
REPOSITORY = "zhihan1996/DNABERT-2-117M"
CODE = {
    "AutoConfig": "configuration_bert.BertConfig",
    "AutoModel": "bert_layers.BertModel",
    "AutoModelForMaskedLM": "bert_layers.BertForMaskedLM",
    "AutoModelForSequenceClassification": "bert_layers.BertForSequenceClassification",
}


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


def official_values(config: Config) -> dict[str, Any]:
    """The hub's config.json; the code is that of DNABERT-2's own repository."""
    kind = "BertForSequenceClassification" if config.num_labels else "BertForMaskedLM"
    values: dict[str, Any] = {name: getattr(config, name) for name in NEEDED}
    labels = {"id2label": {str(i): f"LABEL_{i}" for i in range(config.num_labels)}} if config.num_labels else {}
    return {
        **values,
        "model_type": "bert",
        "architectures": [kind],
        "auto_map": {auto: f"{REPOSITORY}--{place}" for auto, place in CODE.items()},
        "alibi_starting_size": 512,
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "pad_token_id": 3,
        **labels,
    }


def to_official(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Ours, and the decoder's weight: a copy of the word embeddings, as the official file has it."""
    result = dict(state)
    words = state.get("bert.embeddings.word_embeddings.weight")
    if words is not None and "cls.predictions.decoder.bias" in state:
        result["cls.predictions.decoder.weight"] = words.clone()
    return result
