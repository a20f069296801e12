"""StripedHyena 2: NexVar / Evo 2 (Brixi et al. 2025; Ku et al. 2025, arXiv:2503.01868). Causal, one token a base.

    ids ─ embedding_layer ─ blocks of _striped_hyena.py ─ norm ─ E^T

    S  hcs         long filter = 7 coefficients by position (``fir``), no skip
    D  hcm         128 coefficients by lag (``block_fir``), + skip * input
    H  hcl         sum of 16 real exponentials per channel (float32), + skip * input
    *  attention

What is unusual
- RMSNorm adds eps outside the root.
- GELU in block 0 only; the other blocks multiply l1 and l2 without activation (``activation_everywhere`` is False).
- ``inv_freq`` is read from the checkpoint: it holds bf16-rounded values, and exact ones give other logits.
- Every layer has a state of fixed size but attention, so any input can be cut anywhere: the cached forward, decoding,
  and the uncached forward (which walks each Hyena block in pieces of ``ROWS`` tokens) are the same code.
- NOTE: official decoding applies the wrong coefficients to prompts shorter than a filter; ours starts from zeros.

Legend: B batch, L length, D width, V vocabulary, H heads, d head width, S poles, G filter groups, K coefficients.
A skip is the parameter ``D`` of its filter, and ``D`` a letter of ``pattern``: the official names.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import GenomicModel, Ia3, Memory, Output, Split, check_taps, given_input, look_up
from nexvar.models._striped_hyena import (
    ACTIVATIONS,
    AttentionBlock,
    Block,
    HyenaBlock,
    HyenaFilter,
    RMSNorm,
    RotaryFrequencies,
)
from nexvar.ops.fir import BlockFilter, block_filter, block_fir, fir, last_inputs
from nexvar.ops.iir import ModalFilter, modal_filter, modal_iir
from nexvar.ops.linear import Linear, linear
from nexvar.ops.state import Cache, HyenaState, Padding, Taps, hide
from nexvar.ops.static import Capture, StaticStep
from nexvar.ops.tracing import surely_all

KEEP_FLOAT32 = ("*.log_poles", "*.residues", "*.inv_freq", "*.fp8_scale")
QUANTIZED = ("*.l?.weight", "*.projections.weight", "*.out_filter_dense.weight", "*.Wqkv.weight", "*.out_proj.weight")
LORA_NAMES = {
    **dict.fromkeys(("query", "key", "value"), ("projections", "Wqkv")),
    "dense": ("out_filter_dense", "out_proj", "l1", "l2", "l3"),
}
IA3 = Ia3(fused=(r"inner_mha_cls\.Wqkv",), inputs=(r"mlp\.l3",))
HEADS = ("unembed.",)
MEMORY = Memory(12, mlp=0, rows=2048, block=3.3)
SPLIT = Split(
    rows={
        **dict.fromkeys(("projections.weight", "projections.bias", "Wqkv.weight", "Wqkv.bias"), 3),
        **dict.fromkeys(("mlp.l1.weight", "mlp.l2.weight"), 1),
    },
    columns=("out_filter_dense.weight", "out_proj.weight", "mlp.l3.weight"),
    channels={
        **dict.fromkeys(("filter.short_filter_weight", "filter.short_filter_bias"), 3),
        **dict.fromkeys(("filter.h", "filter.D", "filter.log_poles", "filter.poles", "filter.residues"), 1),
    },
    copies=("projections", "inner_mha_cls.Wqkv", "mlp"),
    sums=("out_filter_dense", "inner_mha_cls.out_proj", "mlp"),
    filters=("filter",),
)
# Tokens of a batch above which a forward without gradients carries its state over chunks of as many
LONG = {"cpu": 1 << 16, "cuda": 1 << 18}
LONG_FILTER = 128  # the official code takes filters from here on as true convolutions with a skip D


@dataclass(frozen=True)
class Config:
    """Sizes and layouts. ``pattern`` has one letter a layer: S hcs, D hcm, H hcl, * attention.

    The last four fields say how a checkpoint orders its rows; their defaults are this module's own order.
    """

    hidden_size: int
    pattern: str
    num_attention_heads: int
    inner_mlp_size: int
    vocab_size: int = 512
    state_size: int = 16
    short_filter_length: int = 3
    hcs_filter_length: int = 7
    hcs_filter_groups: int = 1
    hcm_filter_length: int = 128
    hcm_filter_groups: int = 1
    eps: float = 1e-6
    rotary_emb_base: float = 10000.0
    rotary_interpolation: float = 1.0
    max_seqlen: int = 8192
    mlp_activation: str = "gelu"
    activation_everywhere: bool = False
    tie_embeddings: bool = True
    qkv_proj_bias: bool = False
    short_filter_bias: bool = False
    hyena_out_proj_bias: bool = True
    mha_out_proj_bias: bool = True
    fp8_projections: bool = False
    inv_freq_in_checkpoint: bool = True
    interleave: bool = False  # projections: rows x2, x1, v of one channel are neighbours
    column_split_hyena: bool = False  # projections: rows are ordered (head, x2|x1|v, d)
    hyena_flip_x1x2: bool = False
    column_split: bool = False  # Wqkv: rows are ordered (head, q|k|v, d)

    def __post_init__(self) -> None:
        odd = set(self.pattern) - set("SDH*")
        if odd or not self.pattern:
            raise NexVarError(f"layer letters {sorted(odd)}", where="pattern", fix="use S, D, H and *")
        if self.hidden_size % self.num_attention_heads:
            raise NexVarError(
                f"{self.num_attention_heads} heads do not divide {self.hidden_size}", where="num_attention_heads"
            )
        for kind, groups in (("S", self.hcs_filter_groups), ("D", self.hcm_filter_groups)):
            if kind in self.pattern and self.hidden_size % groups:
                raise NexVarError(f"{groups} filter groups do not divide {self.hidden_size}", where="filter_groups")
        if self.mlp_activation not in ACTIVATIONS:
            raise NexVarError(f"activation {self.mlp_activation!r}", where="mlp_activation", fix="gelu or silu")

    tokenizer = context = None  # its checkpoints differ: the cards say it

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def mlp_width(self) -> int:
        return self.inner_mlp_size

    @property
    def vocabulary(self) -> int:
        return self.vocab_size

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def projections_bias(self) -> bool:
        return self.qkv_proj_bias


# ---------------------------------------------------------------------------------------------------- long filters


class ShortFilter(HyenaFilter):
    """S, hcs: a few coefficients per group of channels."""

    def __init__(self, config: Config, groups: int, length: int) -> None:
        super().__init__(config)
        self.repeats = config.hidden_size // groups
        self.h = nn.Parameter(torch.empty(groups, 1, length))

    def prepare(self) -> Tensor:
        return self.h[:, 0].repeat_interleave(self.repeats, 0)

    def long(self, u_BLD: Tensor, filter: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        return fir(u_BLD, filter, state), last_inputs(state, u_BLD, filter.shape[1] - 1)


class MediumFilter(HyenaFilter):
    """D, hcm: a hundred coefficients per group of channels, and a skip."""

    def __init__(self, config: Config, groups: int, length: int) -> None:
        super().__init__(config)
        self.h = nn.Parameter(torch.empty(groups, 1, length))
        self.D = nn.Parameter(torch.empty(config.hidden_size))

    def prepare(self) -> BlockFilter:
        return block_filter(self.h[:, 0])

    def long(self, u_BLD: Tensor, filter: BlockFilter, state: Tensor | None) -> tuple[Tensor, Tensor]:
        y_BLD = block_fir(u_BLD, filter, state) + u_BLD * self.D
        return y_BLD, last_inputs(state, u_BLD, filter.response_GK.shape[1] - 1)


class LongFilter(HyenaFilter):
    """H, hcl: a sum of real exponentials per channel, and a skip."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.log_poles = nn.Parameter(torch.empty(config.hidden_size, config.state_size, 1))
        self.residues = nn.Parameter(torch.empty(config.hidden_size, config.state_size))
        self.D = nn.Parameter(torch.empty(config.hidden_size))

    def prepare(self) -> ModalFilter:
        return modal_filter(self.log_poles[..., 0].float(), self.residues.float())

    def long(self, u_BLD: Tensor, filter: ModalFilter, state: Tensor | None) -> tuple[Tensor, Tensor]:
        y_BLD, state = modal_iir(u_BLD, filter, state)
        return y_BLD.to(u_BLD.dtype) + u_BLD * self.D, state.detach()


# ---------------------------------------------------------------------------------------------------- fresh values

_WRITES_RESIDUAL = ("out_filter_dense.weight", "inner_mha_cls.out_proj.weight", "mlp.l3.weight")


def init_parameter(name: str, p: Tensor, config: Config, rng: torch.Generator | None) -> None:
    """What recipes train from.

    What writes into the residual stream starts at zero (the network starts as its embedding: Muon likes that), every
    other matrix keeps variance, filters have unit energy and memories from one base to 4,000.
    """
    leaf, shape = name.rsplit(".", 1)[-1], p.shape

    def normal(std: float) -> Tensor:
        return torch.randn(shape, generator=rng) * std

    if name.endswith(_WRITES_RESIDUAL) or leaf.endswith("bias"):
        p.zero_()
    elif leaf in ("scale", "D"):
        p.fill_(1.0)
    elif leaf == "log_poles":
        rates = torch.logspace(0, -math.log10(4000.0), shape[1])
        p.copy_(-rates[None, :, None].expand(shape))
    elif leaf == "residues":
        p.copy_(normal(0.1 / math.sqrt(shape[1])))
    elif leaf == "h" and shape[-1] > 16:  # one envelope per group, of 4 to 64 bases
        spans = torch.logspace(2, 6, shape[0], base=2.0)[:, None]
        envelope = torch.exp(-torch.arange(shape[-1], dtype=torch.float32) / spans)
        p.copy_(normal(1.0) * (envelope / envelope.norm(dim=-1, keepdim=True))[:, None])
    elif leaf in ("h", "short_filter_weight"):
        p.copy_(normal(shape[-1] ** -0.5))
    elif name in ("embedding_layer.weight", "unembed.weight"):
        p.copy_(normal(0.02))
    else:
        p.copy_(normal(math.prod(shape[1:]) ** -0.5))


# ------------------------------------------------------------------------------------------------------------ model


class Model(GenomicModel):
    """See the module's docstring; ``models/__init__.py: GenomicModel`` is the contract."""

    config: Config
    last_hidden = "norm"
    token_embedding = "embedding_layer"
    causal = True
    pads_safely = True
    rc_equivariant = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding_layer = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(self.make_block(i, letter) for i, letter in enumerate(config.pattern))
        self.norm = RMSNorm(config)
        if not config.tie_embeddings:
            self.unembed = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tap_names = ("embedding_layer", *(t for block in self.each_block() for t in block.tap_names), "norm")
        if self.norm.scale.device.type != "meta":
            self.init_weights()

    def make_block(self, index: int, letter: str) -> HyenaBlock | AttentionBlock:
        if letter == "*":
            return AttentionBlock(self.config, index)
        return HyenaBlock(self.config, index, self.make_filter(letter))

    def make_filter(self, letter: str) -> HyenaFilter:
        c = self.config
        if letter == "H":
            return LongFilter(c)
        groups, length = (
            (c.hcs_filter_groups, c.hcs_filter_length) if letter == "S" else (c.hcm_filter_groups, c.hcm_filter_length)
        )
        return (MediumFilter if length >= LONG_FILTER else ShortFilter)(c, groups, length)

    def each_block(self) -> list[Any]:
        return list(self.blocks)

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: Cache | None = None,
        logits: bool | slice = True,
    ) -> Output:
        """Logits (B, L, V) and taps (B, L, D) of ids (B, L) int64; with a cache, of the tokens after the cached ones.

        mask_BL: True = real token. Padding may be on the right (harmless) or on the left (then it is hidden).
        """
        check_taps(taps, self.tap_names)
        given = given_input(ids_BL, embeds_BLD, self.config.width)
        B, L = given.shape[:2]
        if cache is not None:
            cache.check_room(B, L)
        elif (chunk := self._chunk(given, mask_BL, logits)) < L:
            return self._in_chunks(given, taps, logits, chunk)
        keep = Taps(frozenset(taps))
        pad = Padding.of(mask_BL, cache is not None)
        x_BLD = hide(keep("embedding_layer", look_up(self.embedding_layer, ids_BL, embeds_BLD)), pad.rows_BL1)
        for index, block in enumerate(self.each_block()):
            x_BLD = keep(block.name, block(x_BLD, None if cache is None else cache.layers[index], pad, keep))
        if cache is not None:
            cache.length += L
        x_BLD = keep("norm", self.norm(x_BLD))
        scores = None
        if logits is not False:
            scores = self._head(x_BLD if logits is True else x_BLD[:, logits])
        return Output(scores, keep.result(taps), {})

    def _head(self, x_BLD: Tensor) -> Tensor:
        tied = self.config.tie_embeddings
        return linear(x_BLD, self.embedding_layer.weight) if tied else self.unembed(x_BLD)

    def decoder(self, cache: Cache, capture: Capture | None) -> Callable[[Tensor], Tensor]:
        """Neighbouring Hyena blocks are one static step; attention, whose keys and values grow, runs as ever."""
        steps: list[Callable[[Tensor], Tensor]] = []
        pairs = zip(self.each_block(), cache.layers, strict=True)
        for static, group in itertools.groupby(pairs, key=lambda pair: isinstance(pair[1], HyenaState)):
            run = functools.partial(_in_turn, list(group))
            steps.append(StaticStep(run, [state for _, state in run.args[0]], capture) if static else run)

        def step(ids_B1: Tensor) -> Tensor:
            cache.check_room(*ids_B1.shape)
            x_B1D = self.embedding_layer(ids_B1)
            for each in steps:
                x_B1D = each(x_B1D)
            cache.length += 1
            return self._head(self.norm(x_B1D))

        return step

    def _chunk(self, given: Tensor, mask_BL: Tensor | None, logits: bool | slice) -> int:
        """Tokens of a chunk, for inputs so long that the activations of a whole one would be a burden."""
        padded = mask_BL is not None and not surely_all(mask_BL)
        if torch.is_grad_enabled() or padded or (isinstance(logits, slice) and logits.step not in (None, 1)):
            return given.shape[1]
        return max(LONG.get(given.device.type, LONG["cpu"]) // len(given), 1)

    def _in_chunks(self, given: Tensor, taps: Sequence[str], logits: bool | slice, chunk: int) -> Output:
        """The same forward through all layers chunk by chunk, the state carried over: nothing but attention's keys and
        values, and what was asked for, grows with the length."""
        B, L = given.shape[:2]
        cache, outs = self.new_cache(B, L), []
        first, last, _ = logits.indices(L) if isinstance(logits, slice) else (0, L if logits else 0, 1)
        for start in range(0, L, chunk):
            piece = given[:, start : start + chunk]
            at = slice(max(first - start, 0), min(last - start, piece.shape[1]))
            wanted = at if at.start < at.stop else False
            outs.append(self(**_named(piece), taps=taps, cache=cache, logits=wanted))
        scores = [out.logits for out in outs if out.logits is not None]
        joined = {name: torch.cat([out.taps[name] for out in outs], 1) for name in taps}
        if logits is False:
            return Output(None, joined, {})
        if not scores:  # an empty slice
            return Output(self(**_named(given[:, :1]), logits=slice(0, 0)).logits, joined, {})
        return Output(torch.cat(scores, 1), joined, {})

    @classmethod
    def layers_by_kind(cls, config: Config) -> list[tuple[int, Config]]:
        """Layers of a letter are alike. Without FP8: the shapes are the same, and it cannot run on the meta device."""
        kinds = {letter: config.pattern.count(letter) for letter in config.pattern}
        return [(count, replace(config, pattern=k, fp8_projections=False)) for k, count in kinds.items()]

    def new_cache(self, batch_size: int, max_length: int) -> Cache:
        """An empty cache for up to ``max_length`` tokens; use it without gradients."""
        return Cache(batch_size, max_length, [block.new_state(max_length) for block in self.each_block()])

    def reset_buffers(self) -> None:
        """Recompute every non-persistent buffer in float32, on the parameters' device."""
        if not self.config.inv_freq_in_checkpoint:
            for rotary in self.rotaries():
                rotary.inv_freq = rotary.exact().to(self.norm.scale.device)

    def rotaries(self) -> Iterator[RotaryFrequencies]:
        return (module for module in self.modules() if isinstance(module, RotaryFrequencies))

    def fresh_parameter(self, name: str, p: Tensor, generator: torch.Generator | None) -> None:
        init_parameter(name, p, self.config, generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Random values of a model that is only run: those of ``init_parameter``, but what writes into the
        residual stream, zero where training starts, is drawn at 1 / depth: every layer has its say."""
        width, depth = self.config.hidden_size, len(self.blocks)
        for name, p in self.named_parameters():
            self.fresh_parameter(name, p, generator)
            if name.endswith(_WRITES_RESIDUAL):
                p.normal_(std=2 / (depth * math.sqrt(width)), generator=generator)
        for rotary in self.rotaries():
            rotary.inv_freq.copy_(rotary.exact())


def _in_turn(pairs: list[tuple[Block, Any]], x_BLD: Tensor) -> Tensor:
    """Blocks with their states, one after the other."""
    for block, state in pairs:
        x_BLD = block(x_BLD, state, Padding(), Taps(frozenset()))
    return x_BLD


def _named(given: Tensor) -> dict[str, Tensor]:
    """ids or embeddings, as the arguments of a forward."""
    return {"embeds_BLD" if given.is_floating_point() else "ids_BL": given}
