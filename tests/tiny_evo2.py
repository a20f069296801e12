"""A random StripedHyena 2 with the layers that clients of Evo 2 ask for by number: attention at 3, and 24 in all."""

from __future__ import annotations

import torch

from nexvar.models.striped_hyena2 import Config, Model
from nexvar.tokenizers import ByteTokenizer
from nexvar.weights.load import Loaded
from tiny import tiny_card

CONFIG = Config(
    hidden_size=16, pattern="SDH*" * 6, num_attention_heads=2, inner_mlp_size=24, hcs_filter_groups=4,
    hcm_filter_groups=4, hcm_filter_length=128,
)  # fmt: skip


def tiny_evo2(seed: int = 0, name: str = "tiny_evo2") -> Loaded:
    model = Model(CONFIG)
    model.init_weights(torch.Generator().manual_seed(seed))
    card = tiny_card(name=name, config=CONFIG.__dict__)
    return Loaded(model.eval(), ByteTokenizer(), card, torch.device("cpu"), torch.float32)
