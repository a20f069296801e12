"""A loaded model with a head of tracks whose every bin sees 8 bases on each side: windows can be compared exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from nexvar.inference.track_model import TrackModel, write_head
from nexvar.weights.load import Loaded
from tiny_masked import tiny_masked
from tiny_tracks import track_facts

SEES = 8


def tiny_tracked(folder: Path, resolution: int = 1, window: int = 60) -> Loaded:
    """Tracks "plus" and "minus", which are partners, and "both"."""
    loaded = tiny_masked("base")
    facts = track_facts("linear", resolution, window)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        head = TrackModel(loaded, facts).head
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_(0, 1)
    write_head(folder, facts, head.state_dict())
    return replace(loaded, folder=folder)
