"""Functional tracks that a model with track heads predicts for a stretch of a genome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nexvar.cards import all_cards
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.models.ntv3 import central
from nexvar.serve.errors import NotAvailable
from nexvar.serve.models import Models
from nexvar.weights.load import Loaded


def track_names(loaded: Loaded, species: str = "human") -> list[str]:
    """The tracks of a species that the model predicts; [] for one without track heads."""
    return list(getattr(loaded.module.config, "bigwigs_per_species", {}).get(species, []))


def model_with_tracks(models: Models) -> str:
    """The name of the first loaded model with track heads; NotAvailable."""
    for name, loaded in list(models.loaded.items()):
        if track_names(loaded):
            return name
    able = [card.name for card in all_cards().values() if card.config.get("conditions_vocab_size")]
    fix = f"start the server with one that has them, such as --model {', '.join(able[:3])}"
    raise NotAvailable("no loaded model has track heads", where="model", fix=fix)


@torch.inference_mode()
def predict(
    loaded: Loaded,
    fasta: Fasta,
    contig: str,
    start: int,
    end: int,
    names: Sequence[str],
    species: str = "human",
) -> dict[str, np.ndarray]:
    """name -> float32 (end - start,), a value for each base of [start, end), 0-based half-open, on a resolved contig.

    The stretch lies in the middle of the model's window, which alone has tracks; beyond a contig's ends stands N.
    Raises NexVarError: an unknown track, a window longer than the model's context or than a circular contig.
    """
    known = track_names(loaded, species)
    for name in names:
        if name not in known:
            fix = f"such as {', '.join(known[:3])}" if known else "load a model with track heads"
            raise NexVarError(f"{loaded.card.name} has no track {name[:80]!r} of {species}", where="track", fix=fix)
    module = loaded.module
    window, centre = _window(module, end - start)
    if window > loaded.card.context:
        what = f"{end - start:,} bases need a window of {window:,}, {loaded.card.name} reads {loaded.card.context:,}"
        raise NexVarError(what, where="region", fix="a shorter region")
    text = _padded(fasta, contig, start - centre.start, start - centre.start + window)
    ids_1L = torch.tensor([loaded.tokenizer.encode(text, special=False).ids], device=loaded.device)
    species_1 = module.species_ids(species).to(loaded.device)
    tracks_LT = module(ids_1L, species_ids_B=species_1, heads=True).extras["bigwig_tracks_logits"][0]
    columns = torch.tensor([known.index(name) for name in names], device=loaded.device)
    values_TL = tracks_LT[: end - start, columns].float().T.cpu().numpy()
    return dict(zip(names, values_TL, strict=True))


def _window(module: Any, length: int) -> tuple[int, slice]:
    """The shortest window, a multiple of the model's unit, whose central part has ``length`` bases; and that part."""
    fraction, unit = module.config.keep_target_center_fraction, module.config.unit
    window = -(-length // unit) * unit
    while (centre := central(window, fraction, module.reference)).stop - centre.start < length:
        window += unit
    return window, centre


def _padded(fasta: Fasta, contig: str, start: int, end: int) -> str:
    """[start, end) with N where the contig has no bases."""
    if contig in fasta.circular:
        return fasta.fetch(contig, start, end)
    low, high = fasta.span(contig, max(start, 0), end)
    inside = fasta.fetch(contig, max(start, low), min(end, high))
    return "N" * max(low - start, 0) + inside + "N" * max(end - high, 0)
