"""StripedHyena 1: Evo 1 and 1.5 (Nguyen et al. 2024, Science 386). Causal, one token a base.

The frame is StripedHyena 2's (``_striped_hyena.py``: blocks, short FIR, gating, MLP, attention). What differs:

                           StripedHyena 2                        StripedHyena 1 (this file)
    layers                 S, D, H and *                         H and *
    long filter            16 real exponentials, ``log_poles``   8 complex ones, ``poles`` (not their logarithms)
    modal state            float32                               complex64
    biases                 of the output projections only        also of projections, Wqkv and the short FIR
    rows of projections    channel by channel (x2, x1, v)        head by head (x2 | x1 | v)
    rows of Wqkv           (head, q|k|v, d)                      (q|k|v, head, d)
    activation             GELU in block 0 only                  GELU in every block
    rotary frequencies     the checkpoint's (bf16-rounded)       exact: the checkpoint's must be ignored
    output head            a second copy in the file             absent from the file, tied to the embedding

NOTE: the official generator is wrong for prompts of one token and for forced prompts; ours is not.

Legend: D width, S poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import Memory, striped_hyena2
from nexvar.models._striped_hyena import HyenaFilter
from nexvar.ops.iir import ModalFilter, modal_filter, modal_iir

KEEP_FLOAT32 = ("*.poles", "*.residues")
QUANTIZED = striped_hyena2.QUANTIZED
LORA_NAMES, IA3 = striped_hyena2.LORA_NAMES, striped_hyena2.IA3
HEADS = striped_hyena2.HEADS
MEMORY = Memory(12, mlp=0, rows=2048, block=4.9)
SPLIT = striped_hyena2.SPLIT


@dataclass(frozen=True)
class Config(striped_hyena2.Config):
    """StripedHyena 2's fields with this family's values; ``pattern`` holds H and * only."""

    state_size: int = 8
    short_filter_bias: bool = True
    qkv_proj_bias: bool = True
    activation_everywhere: bool = True
    inv_freq_in_checkpoint: bool = False
    hyena_filter_groups: int = 1  # neighbouring channels that share one filter

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.pattern) - set("H*"):
            raise NexVarError(f"pattern {self.pattern!r}", where="pattern", fix="StripedHyena 1 has only H and *")
        if self.hidden_size % self.hyena_filter_groups:
            raise NexVarError(
                f"{self.hyena_filter_groups} does not divide {self.hidden_size}", where="hyena_filter_groups"
            )

    @property
    def projections_bias(self) -> bool:
        return True  # whatever qkv_proj_bias says of attention


class ComplexFilter(HyenaFilter):
    """H: the real part of a sum of complex exponentials per channel, and a skip."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.channels = config.hyena_filter_groups
        systems = config.hidden_size // self.channels
        self.poles = nn.Parameter(torch.empty(systems, config.state_size, 1, 2))  # (real, imaginary)
        self.residues = nn.Parameter(torch.empty(systems, config.state_size, 1, 2))
        self.D = nn.Parameter(torch.empty(config.hidden_size))

    def prepare(self) -> ModalFilter:
        poles, residues = (
            torch.view_as_complex(p.float())[..., 0].repeat_interleave(self.channels, 0)
            for p in (self.poles, self.residues)
        )
        return modal_filter(poles.log(), residues)

    def long(self, u_BLD: Tensor, filter: ModalFilter, state: Tensor | None) -> tuple[Tensor, Tensor]:
        y_BLD, state = modal_iir(u_BLD, filter, state)
        return y_BLD.to(u_BLD.dtype) + u_BLD * self.D, state.detach()


def init_parameter(name: str, p: Tensor, config: Config, rng: torch.Generator | None) -> None:
    """As StripedHyena 2's; modes at random frequencies, of equal energy, with memories of 2 to 8,192 bases."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "poles":
        decay = torch.empty(p.shape[:-1]).uniform_(math.log(1 / 8192), math.log(0.5), generator=rng).exp()
        angle = torch.empty(p.shape[:-1]).uniform_(-math.pi, math.pi, generator=rng)
        p.copy_(torch.view_as_real(torch.polar((-decay).exp(), angle)))
    elif leaf == "residues":
        p.copy_(torch.randn(p.shape, generator=rng) * 0.1 / math.sqrt(p.shape[1]))
    else:
        striped_hyena2.init_parameter(name, p, config, rng)


class Model(striped_hyena2.Model):
    """StripedHyena 2's model with complex filters."""

    config: Config

    def make_filter(self, letter: str) -> HyenaFilter:
        return ComplexFilter(self.config)

    def fresh_parameter(self, name: str, p: Tensor, generator: torch.Generator | None) -> None:
        init_parameter(name, p, self.config, generator)
