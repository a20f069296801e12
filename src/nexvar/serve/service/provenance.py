"""What a reader of an answer must know of how its numbers were made."""

from __future__ import annotations

from typing import Any

from nexvar import __version__
from nexvar.inference.options import ScoreSettings
from nexvar.runs.partscorer import provenance_of
from nexvar.weights.load import Loaded

Provenance = dict[str, Any]


def provenance(
    loaded: Loaded, readout: str, *, strand: str | None = None, window: int | None = None, **settings: Any
) -> Provenance:
    """model, revision, window (bases, of variants), strand, dtype, readout, device, nexvar; and what else matters."""
    return {
        "model": loaded.card.name,
        "revision": loaded.card.origin,
        "window": window,
        "strand": strand,
        "dtype": loaded.precision,
        "readout": readout,
        "device": str(loaded.device),
        "nexvar": __version__,
        "settings": settings,
    }


def of_scores(loaded: Loaded, resolved: ScoreSettings) -> Provenance:
    """The provenance of variants' scores: what the headers of ``nexvar score``'s files say."""
    said = provenance_of(loaded, resolved)
    return provenance(loaded, said.readout, strand=said.strand, window=said.window, **said.settings)
