"""SegmentNT: a Nucleotide Transformer v2 and a U-Net over its tokens; elements of the genome at every base.

    ids (B, 1 + T), <cls> first ── trunk of nucleotide_transformer.py ── without <cls>: x (B, T, D)
    unet._downsample_blocks.i   silu(conv3), silu(conv3) = skip i ── mean of every two positions    D * 2^i channels
    unet._upsample_blocks.i     silu(convT3), silu(convT3) at the low resolution ── each position twice ── + skip
    unet.final_block            silu(conv3), conv3 ── silu ── fc ── logits (B, 6 T, elements, 2): absent, present

    row 6 i + j is base j of token i; the probability of an element is the softmax's last value, each for itself

Unusual:
- There is no language model: ``logits`` are those of the elements, as in the official code; ``has_head`` is False.
- T is a multiple of 2^levels (4: 24 bases). Nothing fills it up.
- Rotary frequencies have the base 10,000 s^(d / (d - 2)), s the rescaling factor (NTK-aware): the config's up to the
  length that it was trained with, beyond it tokens / 2,048, as the authors' notebook does; it can be set.
- N, and a tail shorter than a 6-mer, are tokens of one letter, and have six rows as any other: rows and bases no longer
  line up. Authors: no N. ``model.annotate`` reads the stretches between them.
- Padding is hidden from the trunk, but the U-Net mixes it into the last 20 to 23 tokens of a row (two levels). As in
  the PyTorch code; the JAX code gives other numbers there. Rows of one length agree everywhere.
- ``JAX_LAYER_NORM_EPS`` of the trunk's file: the JAX package's LayerNorms have epsilon 1e-5, the config says 1e-12.

Sources: github.com/instadeepai/nucleotide-transformer (JAX); hf.co/InstaDeepAI/segment_nt; de Almeida et al. 2025,
doi:10.1038/s41592-025-02881-2.
B batch, L tokens with <cls>, T without, D width, C channels, E elements.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.models import Memory, Output
from nexvar.models import nucleotide_transformer as nt
from nexvar.ops.conv1d import conv1d
from nexvar.ops.linear import Linear
from nexvar.ops.rotary import inverse_frequencies, rotary_tables
from nexvar.ops.tracing import tracing

KEEP_FLOAT32 = nt.KEEP_FLOAT32
QUANTIZED = nt.QUANTIZED
LORA_TARGETS = nt.LORA_TARGETS
IA3 = nt.IA3
MEMORY = Memory(10, mlp=0, rows=1024, block=4.5)
BASES_PER_TOKEN = 6
TRUNK_TOKENS = 2048  # that the trunk was pre-trained on: what a rescaling factor of 1 stands for


@dataclass(frozen=True)
class Config(nt.Config):
    """Names as in the official config.json. features: elements in the order of the output. num_layers_head: levels."""

    features: tuple[str, ...] = ()
    num_layers_head: int = 2
    rescaling_factor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.features or len(set(self.features)) < len(self.features):
            what = "features are not there" if not self.features else "the same feature twice"
            raise NexVarError(what, where="config", fix="the names of the elements")
        if not 1 <= self.num_layers_head <= 10:
            raise NexVarError(f"num_layers_head {self.num_layers_head}", where="config", fix="1 to 10")
        _check_factor(self.rescaling_factor, "config")
        if self.position_embedding_type != "rotary" or self.head_width < 4:
            what = f"{self.position_embedding_type} positions in heads of {self.head_width}"
            raise NexVarError(what, where="config", fix="rotary positions in heads of 4 or more")

    @property
    def context(self) -> int:
        """What the authors read at most, 50 kb, in whole blocks: positions have no end."""
        return 50_000 // self.unit * self.unit

    @property
    def unit(self) -> int:
        """Bases of which an input has a multiple."""
        return BASES_PER_TOKEN * 2**self.num_layers_head


def _check_factor(factor: object, where: str) -> None:
    if factor is not None:
        arguments.number(factor, where, "a rescaling factor above 0", 1e-6)


class _Convolutions(nn.Module):
    """Two convolutions of three positions, each with its SiLU but the last one of the final block."""

    def __init__(self, inputs: int, outputs: int, *, up: bool = False, final: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose1d if up else nn.Conv1d
        self.conv_layers = nn.ModuleList(kind(width, outputs, 3, padding=1) for width in (inputs, outputs))
        self.up, self.final = up, final

    def forward(self, x_BLC: Tensor) -> Tensor:
        layer: nn.Module
        for i, layer in enumerate(self.conv_layers):
            weight: Tensor = layer.weight  # type: ignore[assignment]
            # a transposed convolution that keeps the length is one with the kernel turned round
            kernel = weight.transpose(0, 1).flip(-1) if self.up else weight
            x_BLC = conv1d(x_BLC, kernel, layer.bias)  # type: ignore[arg-type]
            if not (self.final and i):
                x_BLC = F.silu(x_BLC)
        return x_BLC


class _UNet(nn.Module):
    """x (B, T, D) -> (B, T, D), T a multiple of 2^levels."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        channels = [width * 2**i for i in range(levels)]
        down = zip([width, *channels], channels, strict=False)
        up = zip([channels[-1], *reversed(channels)], reversed(channels), strict=False)
        self._downsample_blocks = nn.ModuleList(_Convolutions(a, b) for a, b in down)
        self._upsample_blocks = nn.ModuleList(_Convolutions(a, b, up=True) for a, b in up)
        self.final_block = _Convolutions(width, 2 * (width // 2), final=True)

    def forward(self, x_BTC: Tensor, levels: dict[str, Tensor] | None) -> Tensor:
        """levels: gets what every block gives, under the names "down.i.skip", "up.i.out", …"""
        skips = []

        def tell(blocks: dict[str, Tensor]) -> None:
            if levels is not None:
                levels.update(blocks)

        for i, block in enumerate(self._downsample_blocks):
            skip = block(x_BTC)
            x_BTC = (skip[:, 0::2] + skip[:, 1::2]) * 0.5
            skips.append(skip)
            tell({f"down.{i}.skip": skip, f"down.{i}.pooled": x_BTC})
        for i, block in enumerate(self._upsample_blocks):
            out = block(x_BTC).repeat_interleave(2, dim=1)
            x_BTC = out + skips.pop()
            tell({f"up.{i}.out": out, f"up.{i}.sum": x_BTC})
        x_BTC = self.final_block(x_BTC)
        tell({"final": x_BTC})
        return x_BTC


class Model(nt.Model):
    """See the module's docstring. Taps are those of the trunk."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.elements = config.features
        self.element_unit = config.unit
        self._rescaling_factor: float | None = None

    def _make_head(self, config: nt.Config) -> None:
        assert isinstance(config, Config)
        self.unet = _UNet(config.hidden_size, config.num_layers_head)
        self.fc = Linear(config.hidden_size, BASES_PER_TOKEN * 2 * len(config.features))

    @property
    def has_head(self) -> bool:
        """No language-model head: what ``logits`` are of, ``elements`` says."""
        return False

    def positions_per_token(self, parameter: str) -> float:
        """At how many positions a token a parameter of the U-Net works: less at every level."""
        parts = parameter.split(".")
        if parts[0] != "unet" or parts[1] == "final_block":
            return 1.0
        level = int(parts[2])
        return 2.0 ** -(level if parts[1] == "_downsample_blocks" else self.config.num_layers_head - level)

    @property
    def rescaling_factor(self) -> float | None:
        """The factor for every length; None, as it is at first: by the number of tokens (``factor_for``)."""
        return self._rescaling_factor

    @rescaling_factor.setter
    def rescaling_factor(self, factor: float | None) -> None:
        _check_factor(factor, "rescaling_factor")
        self._rescaling_factor = factor

    def factor_for(self, tokens: int) -> float:
        """The rescaling factor of a forward of so many tokens, <cls> counted."""
        trained = self.config.rescaling_factor or 1.0
        if self._rescaling_factor is not None:
            return self._rescaling_factor
        return trained if tokens <= round(trained * TRUNK_TOKENS) + 1 else tokens / TRUNK_TOKENS

    def rope(self, tokens: int) -> tuple[Tensor, Tensor] | None:
        width, factor = self.config.head_width, self.factor_for(tokens)
        if factor == 1.0:
            return super().rope(tokens)
        base = nt.ROTARY_BASE * factor ** (width / (width - 2))
        return rotary_tables(inverse_frequencies(width, base).to(self.inv_freq.device), 0, tokens)

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: None = None,
        logits: bool | slice = True,
        attentions: Sequence[int] = (),
        levels: bool = False,
    ) -> Output:
        """ids (B, 1 + T) with <cls> first -> logits of the elements (B, 6 T, E, 2).

        embeds_BLD, mask_BL, attentions: as in the trunk. logits: a slice is one over the 6 T rows.
        levels: with logits, ``extras["unet"]`` gets what every block of the U-Net gives, (B, positions, C) each.
        Raises NexVarError for a T that is no multiple of 2^levels, an unknown tap or layer, or a cache.
        """
        x_BLD, mask_BL, kept, extras = self.trunk(ids_BL, embeds_BLD, mask_BL, taps, cache, attentions)
        if logits is False:
            return Output(None, kept, extras)
        tokens, multiple = x_BLD.shape[1] - 1, 2**self.config.num_layers_head
        if not tokens or tokens % multiple:
            what = f"{tokens} tokens behind <cls>, no multiple of {multiple}"
            raise NexVarError(
                what, where="input_ids", fix=f"cut the sequence to a multiple of {self.element_unit} bases"
            )
        self._warn(ids_BL, mask_BL)
        blocks: dict[str, Tensor] | None = {} if levels else None
        scores = self.fc(F.silu(self.unet(x_BLD[:, 1:], blocks)))
        scores = scores.unflatten(-1, (BASES_PER_TOKEN, len(self.elements), 2)).flatten(1, 2)
        if levels:
            extras["unet"] = blocks
        return Output(scores if logits is True else scores[:, logits], kept, extras)

    def element_logits(self, ids_BL: Tensor, species: str | None = None) -> Tensor:
        scores = self(ids_BL).logits
        assert isinstance(scores, Tensor)
        return scores

    def _warn(self, ids_BL: Tensor | None, mask_BL: Tensor | None) -> None:
        """A line where rows are not what they seem; the numbers are the official code's."""
        if tracing():
            return
        if mask_BL is not None and not bool(mask_BL.all()):
            warnings.warn("padding changes the elements of the tokens beside it: give rows of one length", stacklevel=4)
        letters = self.config.vocab_size - len("ATCGN")  # the last tokens
        if ids_BL is not None and bool((ids_BL[:, 1:] >= letters).any()):
            what = "an N, or a tail shorter than a 6-mer, is one token a letter, and has six rows: rows are no bases"
            warnings.warn(f"{what}; model.annotate tells them apart", stacklevel=4)
