"""configs/models.yaml of the non-coding variant benchmark, read as it is: which of NexVar's models each entry means,
and what of it is not so.

    key: {name, type, params, embedding_dim, max_length, quantize, pooling, zero_shot_method, lora: {r, alpha, …}}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nexvar import arguments, cards, models
from nexvar.cards import Card
from nexvar.compat.noncoding import CAUSAL, DISTANCE, LLR, MODEL_REGISTRY, GenomicModel
from nexvar.errors import NexVarError
from nexvar.files import read_text

BASELINES = "baselines"  # a part of the file that names no models
CLOSE = 0.15  # how far a rounded number of parameters may be from the true one
# A repository that no card names -> the card that is meant.
MEANT = {"kuleshov-group/caduceus-ph_seqlen-131k_d256_n4": "caduceus_ph_131k"}
# architecture -> what the file calls layers that the checkpoint's own code has under other names.
LAYERS = {
    "hyenadna": {"filter": ("in_proj", "out_proj"), "projection": ("in_proj", "out_proj")},
    "striped_hyena": {"in_proj": ("projections", "Wqkv"), "out_proj": ("out_filter_dense", "out_proj")},
}


@dataclass(frozen=True)
class Entry:
    """config: for ``load_model``, as in the file but for what ``notes`` say. card: None for a wrapper of a user's own.

    tune: the values of ``[tune]`` in a recipe (docs/training.md), with the architecture's own names of layers.
    """

    key: str
    config: dict[str, Any]
    card: Card | None
    tune: dict[str, Any]
    notes: tuple[str, ...]


def read_models_yaml(path: str | Path) -> dict[str, Entry]:
    """Every model of the file by its key; NexVarError, with the line or the key, for what cannot be read."""
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise NexVarError(f"no YAML: {error.problem}", where=f"{path}{line}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise NexVarError(f"no YAML: {str(error) or 'nested too deeply'}", where=path) from None
    if not isinstance(content, dict):
        raise NexVarError("no table of models", where=path, fix="key: {name: …, type: …}")
    entries = {str(key): _entry(str(key), value, path) for key, value in content.items() if key != BASELINES}
    if not entries:
        raise NexVarError("no models in it", where=path, fix="key: {name: …, type: …}")
    return entries


def _entry(key: str, value: Any, path: str | Path) -> Entry:
    where = f"{path}: {key}"
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"].strip():
        raise NexVarError("no name of a model", where=where, fix="name: a repository, name or folder")
    config = dict(value)
    lora = config.get("lora") or {}
    if not isinstance(lora, dict):
        raise NexVarError(f"lora is {arguments.described(lora)}", where=where, fix="lora: {r: 8, alpha: 16, …}")
    if not issubclass(MODEL_REGISTRY.get(key, GenomicModel), GenomicModel):
        return Entry(key, config, None, _tune(lora, {}, where), ())
    notes = []
    if config["name"] in MEANT:
        config["name"] = MEANT[config["name"]]
        notes.append(f"NexVar knows no {value['name']}; {config['name']} is taken")
    if Path(config["name"]).is_dir():
        return Entry(key, config, None, _tune(lora, {}, where), tuple(f"{key}: {note}" for note in notes))
    try:
        card = cards.get(config["name"])
    except NexVarError as error:
        raise NexVarError(error.what, where=where, fix=error.fix) from None
    layers = {**models.get(card.architecture).LORA_NAMES, **LAYERS.get(card.architecture, {})}
    tune = _tune(lora, layers, where)
    notes += _wrong(config, card, where)
    asked = list(dict.fromkeys(lora.get("target_modules") or ()))
    if asked and asked != tune["targets"]:
        notes.append(f"LoRA's {', '.join(asked)} are {', '.join(tune['targets'])} in {card.name}")
    return Entry(key, config, card, tune, tuple(f"{key}: {note}" for note in notes))


def not_taken(entry: Entry) -> Iterator[str]:
    """What an entry says that ``load_model`` reads and `nexvar benchmark noncoding` does not, and matters."""
    causal = entry.card is not None and entry.card.objective == CAUSAL
    usual = {"quantize": None, "zero_shot_method": LLR if causal else DISTANCE, "pooling": "mean"}
    instead = {"quantize": "--quantize", "zero_shot_method": "--readout", "pooling": "probes read the mean"}
    for name, value in usual.items():
        if (said := entry.config.get(name, value)) != value:
            yield f"{entry.key}: {name} {said} is not taken from the file: {instead[name]}"


def _tune(lora: Mapping[str, Any], layers: Mapping[str, tuple[str, ...]], where: str) -> dict[str, Any]:
    """[tune]'s values; {} where the file says nothing of LoRA."""
    if not lora:
        return {}
    asked = arguments.a_list(lora.get("target_modules") or (), f"{where}: target_modules", "names")
    targets = [own for name in asked for own in layers.get(arguments.text(name, f"{where}: target_modules"), (name,))]
    return {
        "weights": "lora",
        "rank": arguments.whole(lora.get("r", 8), f"{where}: lora r", 1),
        "alpha": arguments.number(lora.get("alpha", 16), f"{where}: lora alpha", "a number", 0),
        "dropout": arguments.number(lora.get("dropout", 0.0), f"{where}: lora dropout", "from 0 to 1", 0, 1),
        "targets": list(dict.fromkeys(targets)),
    }


def _wrong(config: dict[str, Any], card: Card, where: str) -> Iterator[str]:
    """What the file says of a checkpoint that is not so. max_length is lowered to what the model reads."""
    if (said := _count(config.get("params"))) and abs(said / card.parameters - 1) > CLOSE:
        yield f"params {config['params']}, but {card.name} has {card.parameters:,}"
    width = card.config.get("hidden_size") or card.config.get("d_model") or card.config.get("embed_dim")
    if width and config.get("embedding_dim") not in (None, width):
        yield f"embedding_dim {config['embedding_dim']}, but {card.name} has {width}"
    if config.get("max_length") is not None:
        length = arguments.whole(config["max_length"], f"{where}: max_length", 1)
        kmer = re.match(r"kmer(\d)", card.tokenizer)
        bases = int(kmer[1]) if kmer else 1
        longest = -(-card.context // bases) + bool(kmer)  # a k-mer model's [CLS] is counted in the file
        if length > longest:
            config["max_length"] = longest
            yield f"max_length {length:,} tokens, but {card.name} reads {longest:,} ({card.context:,} bases)"


def _count(text: object) -> float:
    """ "~1.6B" -> 1.6e9; 0 where there is no number."""
    found = re.fullmatch(r"~?\s*(\d+(?:\.\d+)?)\s*([kMB]?)", str(text))
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "B": 1e9}[found[2]] if found else 0.0
