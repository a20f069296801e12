"""Caduceus-Ph and Caduceus-PS (Schiff et al. 2024, arXiv:2403.03234; kuleshov-group/caduceus) and PlantCaduceus.

    ids ─ embeddings ─ x ─┬─────────────── + ── r ─┬─────────────── + ── r … norm_f ─ E^T
                          └ norm ─ mixer ─ h ┘     └ norm ─ mixer ─ h ┘

    mixer   BiMamba: out = mamba_fwd(n) + flip(mamba_rev(flip(n)))      (or their product, "ew_multiply")
    mamba   x, z = in_proj(n);  x = silu(causal conv1d(x));  dt, B, C = x_proj(x);  dt = softplus(dt_proj(dt))
            y = selective_scan(x, dt, A, B, C, D);  out_proj(y * silu(z))

What is unusual
- Both directions share in_proj and out_proj (``bidirectional_weight_tie``; checkpoint files hold them once), so they
  are computed once: out = out_proj((y_fwd + flip(y_rev)) * silu(z)).
- PS (``rcps``) runs the same weights over the sequence and its reverse complement and keeps both halves: hidden states
  are 2D wide, [forward | reverse complement, flipped in length and channels]. Here the second half is kept in its own
  frame as more batch rows ("strands"), which makes every layer an ordinary one; only taps and logits flip it back.
- NOTE: with ``fused_add_norm`` (all released PS checkpoints) the official PS block exchanges the two halves before
  every norm, without it does not: two different functions of the same weights. norm_f never exchanges them.
- NOTE: no attention mask exists and padding changes every position, so rows of one batch must have equal lengths
  (``pads_safely`` is False). Official batches are padded on the left all the same.
- A block's official output is its mixer's, without the residual. Taps: ``….layers.i`` (that output),
  ``….layers.i.norm``, ``….layers.i.residual`` (the stream a block returns beside it), ``….norm_f``; and the official
  ``hidden_states.k``: 0 the embeddings, k the output of block k - 1, the last one norm_f.

Without gradients the mixer walks pieces of the sequence, forward and reverse direction side by side, so that what it
needs beyond three (L, 2D) tensors does not grow with L.

Legend: B batch, L length, D width, E = 2D inner width, N states, V vocabulary, R rows = strands x B, T piece length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import GenomicModel, Memory, Output, check_taps, given_input, look_up
from nexvar.ops.fir import fir
from nexvar.ops.linear import Linear
from nexvar.ops.ssm_scan import selective_scan
from nexvar.ops.tracing import tracing

KEEP_FLOAT32 = ("*.A_log", "*.D")
QUANTIZED = ("*.in_proj.weight", "*.out_proj.weight")  # x_proj and dt_proj make the recurrence's steps
HEADS = ("lm_head.",)
MEMORY = Memory(11, mlp=0, fixed=17e6)
# R x T x E of one piece: on a CPU 4 MB, what a core's caches hold; on a device enough to keep it busy
PIECE_VALUES, PIECE_VALUES_DEVICE = 1 << 20, 1 << 26
PREFIX = "caduceus.backbone."


@dataclass(frozen=True)
class Config:
    """``complement_map[i]`` is the token id that token i becomes on the other strand; PS only, else ()."""

    d_model: int
    n_layer: int
    vocab_size: int = 16
    rcps: bool = False
    complement_map: tuple[int, ...] = ()
    fused_add_norm: bool = True
    rms_norm: bool = True
    norm_epsilon: float = 1e-5
    bidirectional: bool = True
    bidirectional_strategy: str = "add"
    bidirectional_weight_tie: bool = True
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int = 0  # 0: ceil(d_model / 16)
    bias: bool = False
    conv_bias: bool = True

    def __post_init__(self) -> None:
        if self.bidirectional_strategy not in ("add", "ew_multiply"):
            raise NexVarError(
                f"bidirectional_strategy {self.bidirectional_strategy!r}", where="config", fix="add or ew_multiply"
            )
        if self.rcps and sorted(self.complement_map) != list(range(self.vocab_size)):
            raise NexVarError(f"it does not map the {self.vocab_size} tokens onto themselves", where="complement_map")

    @property
    def width(self) -> int:
        return 2 * self.d_model if self.rcps else self.d_model

    @property
    def mlp_width(self) -> int:
        return 0

    @property
    def vocabulary(self) -> int:
        return self.vocab_size

    @property
    def inner(self) -> int:
        return self.expand * self.d_model

    @property
    def rank(self) -> int:
        return self.dt_rank or math.ceil(self.d_model / 16)

    @property
    def context(self) -> int:
        """The longest length a released checkpoint was trained on; the architecture itself has no limit."""
        return 512 if self.vocab_size == 8 else 131_072

    @property
    def tokenizer(self) -> str:
        """PlantCaduceus has seven tokens (padded to 8), Caduceus twelve (padded to 16)."""
        return "plantcaduceus" if self.vocab_size == 8 else "caduceus"


# ----------------------------------------------------------------------------------------------------------- layers


class Norm(nn.Module):
    """RMSNorm, or LayerNorm where the config says so; computed in float32, returned in the weight's dtype."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.eps = config.norm_epsilon
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.bias = None if config.rms_norm else nn.Parameter(torch.zeros(config.d_model))

    def forward(self, x: Tensor) -> Tensor:
        x, weight = x.float(), self.weight.float()
        if self.bias is not None:
            y = F.layer_norm(x, weight.shape, weight, self.bias.float(), self.eps)
        else:
            y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * weight
        return y.to(self.weight.dtype)


class Mamba(nn.Module):
    """The parameters of one direction. ``projections`` False: in_proj and out_proj are the other direction's."""

    def __init__(self, config: Config, projections: bool) -> None:
        super().__init__()
        D, E, N, R = config.d_model, config.inner, config.d_state, config.rank
        if projections:
            self.in_proj = Linear(D, 2 * E, bias=config.bias)
            self.out_proj = Linear(E, D, bias=config.bias)
        self.conv1d = nn.Conv1d(E, E, config.d_conv, groups=E, padding=config.d_conv - 1, bias=config.conv_bias)
        self.x_proj = Linear(E, R + 2 * N, bias=False)
        self.dt_proj = Linear(R, E)
        self.A_log = nn.Parameter(torch.empty(E, N).copy_(torch.arange(1, N + 1).float().log()))
        self.D = nn.Parameter(torch.ones(E))

    def scan_inputs(self, x_RTE: Tensor, past_RPE: Tensor | None) -> tuple[Tensor, ...]:
        """u, dt (R, T, E), B, C (R, T, N) of a piece; ``past`` are the d_conv - 1 values before it."""
        u = fir(x_RTE, self.conv1d.weight[:, 0], past_RPE)
        u = F.silu(u if self.conv1d.bias is None else u + self.conv1d.bias)
        N = self.A_log.shape[1]
        dt, B, C = self.x_proj(u).split([self.dt_proj.in_features, N, N], dim=-1)
        return u, F.softplus(self.dt_proj(dt).float()), B, C


class BiMamba(nn.Module):
    """mamba_fwd and, unless the model reads one way only, mamba_rev, which reads from the end."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        tied = config.bidirectional_weight_tie
        self.multiply = config.bidirectional_strategy == "ew_multiply"
        self.inner, self.past = config.inner, config.d_conv - 1
        self.mamba_fwd = Mamba(config, projections=True)
        self.mamba_rev = Mamba(config, projections=not tied) if config.bidirectional else None

    def forward(self, residual_RLD: Tensor, norm: Norm) -> Tensor:
        """The mixer's output (R, L, D) for ``norm(residual)``."""
        R, L, _ = residual_RLD.shape
        room = PIECE_VALUES if residual_RLD.device.type == "cpu" else PIECE_VALUES_DEVICE
        size = L if torch.is_grad_enabled() else max(64, room // (R * self.inner))
        pieces = [slice(start, min(start + size, L)) for start in range(0, L, size)]
        ways = [self.mamba_fwd] if self.mamba_rev is None else [self.mamba_fwd, self.mamba_rev]
        own = [way if hasattr(way, "in_proj") else self.mamba_fwd for way in ways]
        xz = {owner: self._project(owner, norm, residual_RLD, pieces) for owner in dict.fromkeys(own)}
        one_output = len(xz) == 1 and not self.multiply

        # The two directions walk from both ends; ``outs`` collects in place what each contributes to a position.
        outs: list[Tensor | None] = [None] if one_output else [None] * len(ways)
        A_GEN = torch.stack([-way.A_log.float().exp() for way in ways])
        D_GE = torch.stack([way.D.float() for way in ways])
        state = None
        for piece in pieces:
            inputs = []
            for way, owner in zip(ways, own, strict=True):
                x, past = self._read(xz[owner], piece, reverse=way is self.mamba_rev)
                inputs.append(way.scan_inputs(x, past))
            u, dt, B, C = (torch.cat(parts) for parts in zip(*inputs, strict=True))
            y, state = selective_scan(u, dt, A_GEN, B, C, D_GE, state)
            for i, (y_RTE, way, owner) in enumerate(zip(y.chunk(len(ways)), ways, own, strict=True)):
                at = piece
                if way is self.mamba_rev:
                    at, y_RTE = slice(L - piece.stop, L - piece.start), y_RTE.flip(1)
                if one_output:
                    outs[0] = _accumulate(outs[0], y_RTE, at, L)
                else:
                    gate = F.silu(xz[owner][:, at, self.inner :])
                    outs[i] = _accumulate(outs[i], owner.out_proj(y_RTE * gate), at, L)
        first, *others = (out for out in outs if out is not None)
        if one_output:
            project, z = own[0].out_proj, xz[own[0]][..., self.inner :]
            out = _joined(pieces, lambda at: project(first[:, at] * F.silu(z[:, at])))
            return out if project.bias is None else out + (len(ways) - 1) * project.bias
        for other in others:
            first = first * other if self.multiply else first + other
        return first

    @staticmethod
    def _project(owner: Mamba, norm: Norm, residual_RLD: Tensor, pieces: Sequence[slice]) -> Tensor:
        return _joined(pieces, lambda at: owner.in_proj(norm(residual_RLD[:, at])))

    def _read(self, xz_RLF: Tensor, piece: slice, *, reverse: bool) -> tuple[Tensor, Tensor | None]:
        """x of a piece in reading order and the values just before it (None at the beginning)."""
        x_RLE, L, P = xz_RLF[..., : self.inner], xz_RLF.shape[1], self.past
        if not reverse:
            return x_RLE[:, piece], x_RLE[:, piece.start - P : piece.start] if piece.start else None
        end = L - piece.start
        x = x_RLE[:, L - piece.stop : end].flip(1)
        return x, x_RLE[:, end : end + P].flip(1) if piece.start else None


def _joined(pieces: Sequence[slice], compute: Callable[[slice], Tensor]) -> Tensor:
    """``compute`` of every piece, side by side along the length."""
    if len(pieces) == 1:
        return compute(pieces[0])
    out = None
    for piece in pieces:
        part = compute(piece)
        out = part.new_empty(len(part), pieces[-1].stop, part.shape[2]) if out is None else out
        out[:, piece] = part
    assert out is not None
    return out


def _accumulate(total: Tensor | None, part: Tensor, at: slice, length: int) -> Tensor:
    """``total`` with ``part`` added at ``at``; in place where there are several pieces, which is without gradients."""
    if part.shape[1] == length:
        return part if total is None else total + part
    if total is None:
        total = part.new_zeros(len(part), length, part.shape[2])
    total[:, at] += part
    return total


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mixer = BiMamba(config)
        self.norm = Norm(config)

    def forward(self, residual_RLD: Tensor) -> Tensor:
        return self.mixer(residual_RLD, self.norm)


class Embeddings(nn.Module):
    """``word_embeddings.weight`` and, for PS, ``word_embeddings.complement_map``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.d_model)
        if config.rcps:
            self.word_embeddings.register_buffer("complement_map", torch.tensor(config.complement_map))

    @property
    def weight(self) -> Tensor:
        return self.word_embeddings.weight

    def forward(self, ids_BL: Tensor) -> Tensor:
        """PS: the sequences and their reverse complements, (B, L, 2D) as in the official module."""
        complement: Any = self.word_embeddings.complement_map
        return _official(self.word_embeddings(torch.cat([ids_BL, complement[ids_BL.flip(1)]])))


class Backbone(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.norm_f = Norm(config)


class Head(nn.Module):
    """The language-model head has no weight of its own: it is tied to the embedding."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.rcps:
            self.register_buffer("complement_map", torch.tensor(config.complement_map))


# ------------------------------------------------------------------------------------------------------------ model


class Model(GenomicModel):
    """See the module's docstring. ``last_hidden`` is the final normed state, (B, L, D), or (B, L, 2D) for PS."""

    config: Config
    causal = False
    pads_safely = False
    last_hidden = f"{PREFIX}norm_f"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.caduceus = nn.ModuleDict({"backbone": Backbone(config)})
        self.lm_head = Head(config)
        self.rc_equivariant = config.rcps
        self.token_embedding = f"{PREFIX}embeddings" if config.rcps else f"{PREFIX}embeddings.word_embeddings"
        official = [f"{PREFIX}embeddings", *(f"{PREFIX}layers.{i}" for i in range(config.n_layer))]
        official[-1] = self.last_hidden  # the reference does not return the last block's output, only norm_f of it
        self._aliases = {f"hidden_states.{k}": name for k, name in enumerate(official)}
        self._aliases |= {f"{PREFIX}layers.{i}.mixer": f"{PREFIX}layers.{i}" for i in range(config.n_layer)}
        blocks = (f"{PREFIX}layers.{i}{part}" for i in range(config.n_layer) for part in ("", ".norm", ".residual"))
        self.tap_names = (f"{PREFIX}embeddings", *blocks, self.last_hidden, *self._aliases)

    @property
    def _backbone(self) -> Any:
        return self.caduceus["backbone"]

    def reset_buffers(self) -> None:
        """Nothing to recompute: the complement maps are in the checkpoint."""

    def positions_per_token(self, parameter: str) -> float:
        """PS runs the same weights over both strands."""
        return 2.0 if self.config.rcps else 1.0

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: Any | None = None,
        logits: bool | slice = True,
    ) -> Output:
        """Logits (B, L, V) in float32. mask_BL may only be all True: Caduceus knows no mask (see above)."""
        check_taps(taps, self.tap_names)
        if cache is not None:
            raise NexVarError("Caduceus reads in both directions and has no cache", where="cache", fix="a causal model")
        if mask_BL is not None and tracing():
            torch._assert_async(mask_BL.all(), "Caduceus has no attention mask: batch sequences of equal length")
        elif mask_BL is not None and not bool(mask_BL.all()):
            raise NexVarError(
                "Caduceus has no attention mask, and padding would change every result",
                where="mask",
                fix="batch sequences of equal length",
            )
        wanted = {self._aliases.get(name, name) for name in taps}
        recorded: dict[str, Tensor] = {}

        def tap(name: str, value: Tensor) -> None:
            if name in wanted:
                recorded[name] = _official(value) if self.config.rcps else value

        backbone = self._backbone
        given_input(ids_BL, embeds_BLD, self.config.width)
        if self.config.rcps:
            hidden = _own_frames(look_up(backbone.embeddings, ids_BL, embeds_BLD))
        else:
            hidden = look_up(backbone.embeddings.word_embeddings, ids_BL, embeds_BLD)
        tap(f"{PREFIX}embeddings", hidden)
        residual = hidden.float()  # NOTE: float32 whatever the weights: a bf16 stream would lose what small h adds
        for i, layer in enumerate(backbone.layers):
            name = f"{PREFIX}layers.{i}"
            if i > 0:
                residual = residual + hidden
            if self.config.rcps and self.config.fused_add_norm:
                residual = _exchange_strands(residual)
            tap(f"{name}.residual", residual)
            if f"{name}.norm" in wanted:
                tap(f"{name}.norm", layer.norm(residual))
            hidden = layer(residual)
            tap(name, hidden)
        residual = residual + hidden
        if self.last_hidden in wanted:
            tap(self.last_hidden, backbone.norm_f(residual))
        scores = None if logits is False else self._logits(residual, logits)
        return Output(scores, {name: recorded[self._aliases.get(name, name)] for name in taps}, {})

    def _logits(self, residual_RLD: Tensor, at: bool | slice) -> Tensor:
        """Tied head; PS adds what the other strand says of the complementary tokens."""
        backbone = self._backbone
        weight_VD = backbone.embeddings.word_embeddings.weight
        picked = at if isinstance(at, slice) else slice(None)
        if not self.config.rcps:
            return F.linear(backbone.norm_f(residual_RLD[:, picked]), weight_VD).float()
        forward, reverse = residual_RLD.chunk(2)
        ours = F.linear(backbone.norm_f(forward[:, picked]), weight_VD)
        theirs = F.linear(backbone.norm_f(reverse.flip(1)[:, picked]), weight_VD[self.lm_head.complement_map])
        return ours.float() + theirs.float()


def _official(x_RLD: Tensor) -> Tensor:
    """PS: rows of strands -> the official (B, L, 2D), whose second half is flipped in length and channels."""
    forward, reverse = x_RLD.chunk(2)
    return torch.cat([forward, reverse.flip(1, 2)], dim=-1)


def _own_frames(x_BLD: Tensor) -> Tensor:
    """The inverse of ``_official``."""
    forward, reverse = x_BLD.chunk(2, dim=-1)
    return torch.cat([forward, reverse.flip(1, 2)])


def _exchange_strands(x_RLD: Tensor) -> Tensor:
    """Swap the halves as the fused PS block does: each strand gets the other's rows, flipped in length and channels."""
    return x_RLD.unflatten(0, (2, -1)).flip(0, 2, 3).flatten(0, 1)


# ------------------------------------------------------------------------------------------------------ fresh values


def init_parameter(name: str, p: Tensor, config: Config, rng: torch.Generator) -> None:
    """Mamba's: time steps log-uniform in 0.001 .. 0.1, small embeddings, less for what feeds the residual."""
    if name.endswith("word_embeddings.weight"):
        p.normal_(std=0.02, generator=rng)
    elif name.endswith("dt_proj.weight"):
        p.uniform_(-(config.rank**-0.5), config.rank**-0.5, generator=rng)
    elif name.endswith("dt_proj.bias"):
        dt = torch.exp(torch.empty_like(p).uniform_(math.log(1e-3), math.log(0.1), generator=rng))
        p.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt
    elif name.endswith("out_proj.weight"):
        p.div_(math.sqrt(config.n_layer))
