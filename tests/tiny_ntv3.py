"""NTv3 at a size for tests: the golden checkpoints, and random weights for other configs."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file
from torch import Tensor

from nexvar.models.layouts.ntv3 import convert, from_official
from nexvar.models.ntv3 import Config, Model
from places import GOLDEN

TINY = Config(
    num_downsamples=2, attention_heads=2, key_size=4, token_embed_dim=3, conv_init_embed_dim=6, embed_dim=8,
    ffn_embed_dim=10, num_layers=2,
)  # fmt: skip


def official(folder: str) -> dict:
    """The official config.json of a golden folder."""
    return json.loads((GOLDEN / folder / "config.json").read_text())


def load(folder: str) -> tuple[Model, dict[str, Tensor]]:
    """(model, what the official code computed with the same weights) of a golden folder."""
    config = from_official(official(folder))
    with torch.device("meta"):
        model = Model(config)
    state = load_file(GOLDEN / folder / "weights.safetensors")
    model.load_state_dict(convert(state, config), strict=True, assign=True)
    model.reset_buffers()
    return model.eval(), load_file(GOLDEN / folder / "io.safetensors")


def random_model(config: Config, seed: int = 0) -> Model:
    """Every parameter random: modulation layers too, which a fresh network might leave at zero."""
    torch.manual_seed(seed)
    model = Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model.eval()


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)
