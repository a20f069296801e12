"""A model folder with a head of tracks, small and untrained: for tests of what reads one."""

from __future__ import annotations

from pathlib import Path

import torch

from nexvar.inference.track_model import TrackFacts, TrackModel, write_head
from nexvar.train.init import fresh
from nexvar.weights.assemble import make_config
from nexvar.weights.load import load, save

NTV3 = {
    "num_downsamples": 2, "attention_heads": 2, "key_size": 4, "token_embed_dim": 3, "conv_init_embed_dim": 16,
    "embed_dim": 8, "ffn_embed_dim": 10, "num_layers": 1,
}  # fmt: skip


def track_facts(head: str = "genos", resolution: int = 4, window: int = 64) -> TrackFacts:
    """Two stranded tracks that are partners, and one of both strands."""
    return TrackFacts(
        ("plus", "minus", "both"), (1, 0, 2), ("+", "-", "."), resolution, window, head,
        (2.0, 3.0, 1.0), (0.75, 0.75, 1.0), 10.0,
    )  # fmt: skip


def write_track_model(folder: Path, facts: TrackFacts | None = None) -> Path:
    """NTv3's architecture at its smallest, every weight random."""
    facts = facts or track_facts()
    config = make_config("ntv3", NTV3, "config")
    trunk = fresh("ntv3", config, seed=0)
    card = {"tokenizer": "ntv3", "context": 1024, "objective": "masked"}
    save(folder, trunk, architecture="ntv3", config=config, card=card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = TrackModel(load(folder, device="cpu"), facts).head
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_(0, 0.3)
    write_head(folder, facts, head.state_dict())
    return folder
