"""What this server has: models (and those it could have), genomes."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

from nexvar.cards import Card, all_cards
from nexvar.errors import NexVarError
from nexvar.inference.scorers import READOUTS, check_readouts
from nexvar.inference.tracks import has_tracks, track_names
from nexvar.serve.genomes import Genome
from nexvar.serve.models import Models
from nexvar.weights import footprint, machine
from nexvar.weights.load import Loaded

_ONE_AT_A_TIME = Lock()  # who asks for the same meanwhile waits for it


def models(models: Models, *, fits: bool = False) -> list[dict[str, Any]]:
    """Loaded models first, then every other card. fits: say how each would fit this machine, which takes seconds."""
    loaded = dict(models.loaded)
    others = [card for name, card in all_cards().items() if name not in loaded]
    rows = [_model(each.card, each, fits) for each in loaded.values()]
    return rows + [_model(card, None, fits) for card in others]


def model(models: Models, card: Card) -> dict[str, Any]:
    """One model, with its layers if it is loaded."""
    loaded = models.loaded.get(card.name)
    row = _model(card, loaded, True)
    row["layers"] = [] if loaded is None else list(loaded.module.tap_names)
    row["tracks"] = {} if loaded is None else track_names(loaded)
    return row


def _model(card: Card, loaded: Loaded | None, fits: bool) -> dict[str, Any]:
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "architecture": card.architecture,
        "parameters": card.parameters,
        "context": card.context,
        "window": min(card.window, card.context),
        "objective": card.objective,
        "licence": card.licence,
        "commercial": "non-commercial" not in card.licence,
        "parity": card.parity,
        "citation": card.citation,
        "species": card.species,
        "notes": card.notes,
        "readout": card.readout,
        "readouts": [] if loaded is None else _readouts(loaded),
        "heads": [] if loaded is None else _heads(loaded),
        "loaded": loaded is not None,
        "device": None if loaded is None else str(loaded.device),
        "dtype": None if loaded is None else loaded.precision,
        "fits": how_it_fits(card) if fits and loaded is None else None,
    }


def _readouts(loaded: Loaded) -> list[str]:
    offered = []
    for name in READOUTS:
        try:
            check_readouts([name], loaded)
        except NexVarError:
            continue
        offered.append(name)
    return offered


def _heads(loaded: Loaded) -> list[str]:
    language = ["language"] if loaded.module.has_head else []
    tracks = ["tracks"] if has_tracks(loaded) else []
    return language + tracks + (["elements"] if loaded.module.elements else [])


def how_it_fits(card: Card) -> str:
    """`1.2 GB`, `9 GB with quantize=int8`, or `no: …`, for the memory that is free when it is asked first."""
    with _ONE_AT_A_TIME:
        return _how_it_fits(card.name)


@cache
def _how_it_fits(name: str) -> str:
    card = all_cards()[name]
    try:
        problem, setting = footprint.hindrance(card), footprint.best(card)
    except NexVarError as error:  # of a package whose architecture is broken
        return f"no: {error}"
    if problem is not None or setting is None:
        return f"no: {problem or 'not enough memory'}"
    size = machine.human_bytes(setting.bytes)
    return size if not setting.options else f"{size} with {setting}"


def genome(genome: Genome) -> dict[str, Any]:
    """id, contigs with length and circular, what else there is; of a chromosome in pieces, where the last ends."""
    fasta = genome.fasta
    return {
        "id": genome.id,
        "contigs": [
            {"name": name, "length": length, "circular": name in fasta.circular} for name, length in fasta.ends.items()
        ],
        "genes": genome.genes is not None,
        "known": genome.known is not None,
        "tracks": list(genome.tracks),
    }
