"""Tracks that a model predicts for a stretch of a genome: the values of ``nexvar tracks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nexvar.cards import all_cards
from nexvar.genome.reference import Fasta
from nexvar.inference.core.batching import default_batch_tokens
from nexvar.inference.core.sliding import Segment
from nexvar.inference.track_windows import Stretches, of_fasta
from nexvar.inference.tracks import has_tracks, track_predictor
from nexvar.serve.errors import NotAvailable
from nexvar.serve.models import Models
from nexvar.weights.load import Loaded

STRAND = "both"


@dataclass(frozen=True)
class Predicted:
    """Tracks from ``start`` (0-based) on, each value for so many bases. values_KN: float32."""

    start: int
    resolution: int
    names: tuple[str, ...]
    values_KN: np.ndarray

    def by_base(self, start: int, end: int) -> np.ndarray:
        """(K, bases): a value for each base of [start, end)."""
        return np.repeat(self.values_KN, self.resolution, axis=1)[:, start - self.start : end - self.start]


def model_with_tracks(models: Models) -> str:
    """The name of the first loaded model that predicts tracks; NotAvailable."""
    for name, loaded in list(models.loaded.items()):
        if has_tracks(loaded):
            return name
    able = [card.name for card in all_cards().values() if card.config.get("conditions_vocab_size")]
    fix = f'start the server with one that does: --model {able[0]}, or a folder of [task] kind = "tracks"'
    raise NotAvailable("no loaded model predicts tracks", where="model", fix=fix)


def predict(
    loaded: Loaded,
    fasta: Fasta,
    contig: str,
    start: int,
    end: int,
    names: Sequence[str] | None = None,
    species: str | None = None,
) -> Predicted:
    """The tracks of [start, end), 0-based half-open, on a resolved contig, widened to whole bins.

    Raises NexVarError: an unknown track or species, more tracks than are predicted unnamed.
    """
    predictor = track_predictor(loaded, species, names)
    stretches = Stretches(predictor, predictor.rule(), frozenset(fasta.circular))
    part = stretches.aligned([Segment(contig, start, end, *fasta.span(contig, start, end))])
    tokens = default_batch_tokens(loaded)
    values_NK = stretches.values(part, of_fasta(fasta), strand=STRAND, batch_tokens=tokens)
    return Predicted(part[0].start, predictor.resolution, predictor.names, values_NK.T)
