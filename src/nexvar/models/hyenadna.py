"""HyenaDNA (Nguyen et al. 2023, arXiv:2306.15794; HazyResearch/hyena-dna, LongSafari/hyenadna-*-hf). Causal.

    ids ─ embeddings ─ r ┬──────────────── + ── r ┬────────────── + ── r … ln_f ─ lm_head
                         └ norm1 ─ mixer ──┘      └ norm2 ─ mlp ──┘

    mixer   x0, x1, v = fir3(in_proj(n)) + bias;   out_proj(x0 * (k ∗ (x1 * v) + bias * (x1 * v)))
    k       implicit filter, as long as the input: a sine MLP of positional features z, times a window exp(-t |deltas|)
    mlp     fc2(gelu_tanh(fc1(n)))

What is unusual
- k depends on weights and length alone, and k for a length is the beginning of k for any longer one: it is computed
  once, for the next power of two, and kept as long as weights do not change and all layers fit ``KEPT_BYTES``.
- NOTE: z, t and deltas are read from the checkpoint, never recomputed: they belong to max_seq_len, not to the input.
- One ``freq`` serves all sines of a layer (checkpoints hold it once, at position 1 of the MLP).
- norm1 and norm2 have eps 1e-5 whatever the config says; only ln_f uses layer_norm_epsilon. The residual is float32.
- No attention mask exists officially, and official left padding shifts every result. Here ``mask_BL`` removes padding
  rows from both convolutions, so that real tokens see only real tokens; padding on the right needs no mask.
- The reference cannot decode. The cache here keeps what the long convolution has eaten: a new token is one dot product
  per channel with it, exactly.

Without gradients a layer walks pieces of the sequence, changes the residual in place, and convolves a few channels at
a time: beyond four (L, D) tensors nothing grows with the length.

Legend: B batch, L length, D width, V vocabulary, W width of the filter MLP, S = max_seq_len.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import GenomicModel, Memory, Output, check_taps, given_input, look_up
from nexvar.ops.fftconv import fft_conv
from nexvar.ops.fir import fir, last_inputs
from nexvar.ops.linear import Linear
from nexvar.ops.state import Cache, Taps, hide
from nexvar.ops.tracing import surely_all, tracing

KEEP_FLOAT32 = ("*.filter_fn.*",)
QUANTIZED = ("*.mixer.in_proj.weight", "*.mixer.out_proj.weight", "*.mlp.fc?.weight")
HEADS = ("lm_head.",)
MEMORY = Memory(13, mlp=0, rows=2048, block=2.4)  # its kept filters are part of the cache
KEPT_BYTES = 1 << 30  # filters of all layers that are kept between calls
CHANNELS = 16  # channels whose filters exist at a time where they are not kept: one cache line of float32
# Tokens of a batch that go through projections and MLP at once where no gradient is needed
ROWS, ROWS_DEVICE = 2048, 1 << 17
PREFIX = "hyena.backbone."


@dataclass(frozen=True)
class Config:
    """max_seq_len: the most tokens, [SEP] included, that the filters reach."""

    d_model: int
    n_layer: int
    d_inner: int
    max_seq_len: int
    vocab_size: int = 16
    emb_dim: int = 5
    filter_order: int = 64
    num_inner_mlps: int = 2
    short_filter_order: int = 3
    layer_norm_epsilon: float = 1e-5
    use_bias: bool = True

    @property
    def width(self) -> int:
        return self.d_model

    @property
    def mlp_width(self) -> int:
        return self.d_inner

    @property
    def vocabulary(self) -> int:
        return self.vocab_size

    @property
    def context(self) -> int:
        return self.max_seq_len

    @property
    def tokenizer(self) -> str:
        return "hyenadna"


# ----------------------------------------------------------------------------------------------------------- filter


class Filter(nn.Module):
    """The implicit filter of one layer. Everything in float32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, W, S = config.d_model, config.filter_order, config.max_seq_len
        self.max_length = S
        self.bias = nn.Parameter(torch.zeros(D))
        self.implicit_filter = nn.ModuleDict({"0": nn.Linear(config.emb_dim, W), "1": nn.Module()})
        self.implicit_filter["1"].freq = nn.Parameter(torch.ones(1, W))
        for i in range(config.num_inner_mlps):
            self.implicit_filter[str(2 * i + 2)] = nn.Linear(W, W)
        self.implicit_filter[str(2 * config.num_inner_mlps + 2)] = nn.Linear(W, D, bias=False)
        self.modulation: Any = nn.Module()
        self.pos_emb: Any = nn.Module()
        # Buffers, not parameters: the original trains them at learning rate 0. The values are the checkpoint's.
        self.modulation.register_buffer("deltas", torch.zeros(1, 1, D))
        self.pos_emb.register_buffer("t", torch.zeros(1, S, 1))
        self.pos_emb.register_buffer("z", torch.zeros(1, S, config.emb_dim))
        self._kept: tuple[tuple[Any, ...], Tensor] | None = None

    def features(self, length: int) -> Tensor:
        """(length, W): the sine MLP without its last layer."""
        freq = self.implicit_filter["1"].freq
        *hidden, _ = (module for name, module in self.implicit_filter.items() if name != "1")
        parts = []
        for x in self.pos_emb.z[0, :length].split(1 << 16):
            for linear in hidden:
                x = torch.sin(freq * linear(x))
            parts.append(x)
        return torch.cat(parts)

    def kernel(self, features_LW: Tensor, channels: slice = slice(None)) -> Tensor:
        """(D, L) or those ``channels`` of it. The skip connection is its first coefficient: bias joins k[0]."""
        last: Any = [*self.implicit_filter.values()][-1]
        t_L = self.pos_emb.t[0, : len(features_LW), 0]
        deltas_D = self.modulation.deltas[0, 0, channels]
        window = torch.exp(-deltas_D.abs()[:, None] * t_L) + 0.05
        k_DL = (last.weight[channels] @ features_LW.T) * window
        return torch.cat([k_DL[:, :1] + self.bias[channels, None], k_DL[:, 1:]], dim=1)

    def train(self, mode: bool = True) -> Filter:
        """NOTE: writing through ``weight.data`` leaves no trace, so what is kept never outlives training mode."""
        if mode:
            self._kept = None
        return super().train(mode)

    def forward(self, length: int, keep: bool) -> Tensor:
        """(D, length). With ``keep`` a longer one may be computed, kept and reused until a weight changes."""
        tensors = (*self.parameters(), *self.buffers())
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if not keep or self.training or trained or tracing():
            return self.kernel(self.features(length))
        # NOTE: `_version` counts changes in place, the address those that put another tensor there.
        key = tuple((x.data_ptr(), 0 if x.is_inference() else x._version, x.device) for x in tensors)
        if self._kept is None or self._kept[0] != key or self._kept[1].shape[1] < length:
            size = min(self.max_length, max(256, 1 << (length - 1).bit_length()))
            with torch.inference_mode(False), torch.no_grad():  # kept tensors must serve later training, too
                self._kept = key, self.kernel(self.features(size))
        return self._kept[1][:, :length]


# ------------------------------------------------------------------------------------------------------------ cache


@dataclass
class State:
    """What a layer remembers: ``short``, the last projections, and every input of the long convolution so far.

    The inputs lie backwards and end at the buffer's end, so that the newest is always next to ``filter[:, 0]``.
    """

    filter_DS: Tensor
    length: int = 0
    short: Tensor | None = None  # (B, K - 1, 3D)
    inputs_DBS: Tensor | None = None

    def convolve(self, v_BLD: Tensor) -> Tensor:
        """The causal convolution of everything so far, at the new positions alone."""
        B, L, D = v_BLD.shape
        S, start = self.filter_DS.shape[1], self.length
        if self.inputs_DBS is None:
            self.inputs_DBS = v_BLD.new_empty(D, B, S)
        self.length = end = start + L
        self.inputs_DBS[:, :, S - end : S - start] = v_BLD.detach().flip(1).permute(2, 0, 1)
        if start == 0 and L > 1:
            return fft_conv(v_BLD, self.filter_DS[:, :L])
        if L <= 4:
            outs = [self._dot(t) for t in range(start, end)]
            return torch.stack(outs, dim=1).to(v_BLD.dtype)
        so_far = torch.cat([self.inputs_DBS[:, :, S - start :].flip(2).permute(1, 2, 0), v_BLD], dim=1)
        return fft_conv(so_far, self.filter_DS[:, :end], start)

    def _dot(self, t: int) -> Tensor:
        """(B, D): sum over s <= t of filter[t - s] v[s]."""
        assert self.inputs_DBS is not None
        S = self.filter_DS.shape[1]
        past_DBT = self.inputs_DBS[:, :, S - 1 - t :].to(self.filter_DS.dtype)
        return torch.bmm(self.filter_DS[:, None, : t + 1], past_DBT.mT)[:, 0].T

    def select(self, rows: Tensor) -> State:
        inputs = None
        if self.inputs_DBS is not None:
            inputs = self.inputs_DBS.new_empty(len(self.filter_DS), len(rows), self.filter_DS.shape[1])
            used = slice(self.filter_DS.shape[1] - self.length, None)
            inputs[:, :, used] = self.inputs_DBS[:, :, used].index_select(1, rows)
        short = None if self.short is None else self.short.index_select(0, rows)
        return State(self.filter_DS, self.length, short, inputs)


# ----------------------------------------------------------------------------------------------------------- layers


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm in float32, returned in the weight's dtype."""
    y = F.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
    return y.to(norm.weight.dtype)


class Mixer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        D, K = config.d_model, config.short_filter_order
        self.in_proj = Linear(D, 3 * D, bias=config.use_bias)
        self.out_proj = Linear(D, D, bias=config.use_bias)
        self.short_filter = nn.Conv1d(3 * D, 3 * D, K, groups=3 * D, padding=K - 1)
        self.filter_fn = Filter(config)
        self.bytes_per_base = 4 * D * config.n_layer  # of all layers' filters

    def keeps(self, length: int) -> bool:
        """Whether the filters of all layers fit ``KEPT_BYTES``, at up to twice this length (see ``Filter``)."""
        return self.bytes_per_base * 2 * length <= KEPT_BYTES

    def convolve(self, v_BLD: Tensor) -> Tensor:
        """k ∗ v + bias * v; in place, a few channels at a time, where the filters are too long to be kept."""
        L, D = v_BLD.shape[1:]
        if torch.is_grad_enabled() or self.keeps(L):
            return fft_conv(v_BLD, self.filter_fn(L, self.keeps(L)))
        features_LW = self.filter_fn.features(L)
        for start in range(0, D, CHANNELS):
            d = slice(start, start + CHANNELS)
            v_BLD[:, :, d] = fft_conv(v_BLD[:, :, d], self.filter_fn.kernel(features_LW, d))
        return v_BLD


class MLP(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.fc1 = Linear(config.d_model, config.d_inner)
        self.fc2 = Linear(config.d_inner, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.d_model)
        self.mixer = Mixer(config)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.mlp = MLP(config)

    def forward(
        self,
        r_BLD: Tensor,
        not_padding_BL1: Tensor | None,
        state: State | None,
        taps: Taps,
        name: str,
        pieces: list[slice],
    ) -> Tensor:
        """The residual after this block; the same memory if there are several ``pieces``."""
        mixer, dtype = self.mixer, self.norm1.weight.dtype
        bias: Any = mixer.short_filter.bias
        D, K = r_BLD.shape[2], mixer.short_filter.kernel_size[0]
        gate_value = r_BLD.new_empty(*r_BLD.shape[:2], 2 * D, dtype=dtype) if len(pieces) > 1 else None
        past = state.short if state is not None else None
        for at in pieces:
            inside = None if not_padding_BL1 is None else not_padding_BL1[:, at]
            u = hide(mixer.in_proj(taps(f"{name}.norm1", _norm(self.norm1, r_BLD[:, at]))), inside)
            y = fir(u, mixer.short_filter.weight[:, 0], past) + bias
            past = last_inputs(past, u, K - 1)
            gate, x1, v = y.chunk(3, dim=-1)
            value = hide(v * x1, inside)
            if gate_value is not None:
                gate_value[:, at, :D], gate_value[:, at, D:] = gate, value
        if gate_value is not None:
            gate, value = gate_value.chunk(2, dim=-1)
        if state is None:
            value = mixer.convolve(value)
        else:
            state.short, value = past, state.convolve(value)
        for at in pieces:
            mixed = taps(f"{name}.mixer", mixer.out_proj(value[:, at] * gate[:, at]))
            r = r_BLD[:, at] + mixed
            r = r + taps(f"{name}.mlp", self.mlp(taps(f"{name}.norm2", _norm(self.norm2, r))))
            taps(name, r)
            if len(pieces) == 1:
                return r
            r_BLD[:, at] = r
        return r_BLD


class Backbone(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(config.vocab_size, config.d_model)})
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)


# ------------------------------------------------------------------------------------------------------------ model


class Model(GenomicModel):
    """See the module's docstring. Taps: ``….embeddings``, ``….layers.i`` (the residual after block i) and its
    ``.norm1``, ``.mixer``, ``.norm2``, ``.mlp``; ``….ln_f``; and the official ``hidden_states.k``: 0 the embeddings,
    k block k - 1, n_layer + 1 ln_f."""

    config: Config
    causal = True
    pads_safely = True
    rc_equivariant = False
    bounded_forward = True
    last_hidden = f"{PREFIX}ln_f"
    token_embedding = f"{PREFIX}embeddings.word_embeddings"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.hyena = nn.ModuleDict({"backbone": Backbone(config)})
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        blocks = [f"{PREFIX}layers.{i}" for i in range(config.n_layer)]
        parts = [f"{block}{part}" for block in blocks for part in ("", ".norm1", ".mixer", ".norm2", ".mlp")]
        official = (f"{PREFIX}embeddings", *blocks, self.last_hidden)
        self._aliases = {f"hidden_states.{k}": name for k, name in enumerate(official)}
        self.tap_names = (f"{PREFIX}embeddings", *parts, self.last_hidden, *self._aliases)

    def reset_buffers(self) -> None:
        """Nothing to recompute: z, t and deltas are in the checkpoint."""

    @classmethod
    def layers_by_kind(cls, config: Config) -> list[tuple[int, Config]]:
        """All layers are alike."""
        return [(config.n_layer, replace(config, n_layer=1))]

    def new_cache(self, batch_size: int, max_length: int) -> Cache:
        """Filters of ``max_length`` and room for as many inputs: 8 * D * max_length bytes a layer (row 1)."""
        self._check_length(max_length)
        layers = []
        for layer in self._backbone.layers:
            with torch.no_grad():
                layers.append(State(layer.mixer.filter_fn(max_length, layer.mixer.keeps(max_length))))
        return Cache(batch_size, max_length, layers)

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
        """Logits (B, L, V) in float32. NexVarError for more than max_seq_len tokens."""
        check_taps(taps, self.tap_names)
        given = given_input(ids_BL, embeds_BLD, self.config.width)
        B, L = given.shape[:2]
        self._check_length(L + (cache.length if cache is not None else 0))
        if cache is not None:
            cache.check_room(B, L)
        not_padding_BL1 = None if mask_BL is None or surely_all(mask_BL) else mask_BL.bool()[..., None]
        rows = ROWS if given.device.type == "cpu" else ROWS_DEVICE
        step = L if torch.is_grad_enabled() else max(64, rows // B)
        pieces = [slice(start, min(start + step, L)) for start in range(0, L, step)]
        tap = Taps(frozenset(self._aliases.get(name, name) for name in taps))

        backbone = self._backbone
        hidden = look_up(backbone.embeddings["word_embeddings"], ids_BL, embeds_BLD)
        wanted = f"{PREFIX}embeddings" in tap.wanted
        r_BLD = tap(f"{PREFIX}embeddings", hidden).to(torch.float32, copy=wanted)
        for i, layer in enumerate(backbone.layers):
            state = cache.layers[i] if cache is not None else None
            r_BLD = layer(r_BLD, not_padding_BL1, state, tap, f"{PREFIX}layers.{i}", pieces)
        if cache is not None:
            cache.length += L
        scores = self._head(r_BLD, tap, logits, pieces)
        recorded = tap.result(list(tap.wanted))
        return Output(scores, {name: recorded[self._aliases.get(name, name)] for name in taps}, {})

    def _head(self, r_BLD: Tensor, tap: Taps, logits: bool | slice, pieces: list[slice]) -> Tensor | None:
        """ln_f, which is a tap, and the logits, piece by piece; without that tap only where logits are wanted."""
        norm, scores = self._backbone.ln_f, []
        if self.last_hidden not in tap.wanted:
            if logits is False:
                return None
            if isinstance(logits, slice):
                return self.lm_head(_norm(norm, r_BLD[:, logits])).float()
        for at in pieces:
            hidden = tap(self.last_hidden, _norm(norm, r_BLD[:, at]))
            if logits is not False:
                scores.append(self.lm_head(hidden).float())
        if not scores:
            return None
        return torch.cat(scores, dim=1)[:, logits if isinstance(logits, slice) else slice(None)]

    def _check_length(self, length: int) -> None:
        if length > self.config.max_seq_len:
            raise NexVarError(
                f"{length:,} tokens, but this HyenaDNA reads at most {self.config.max_seq_len:,}",
                where="sequence length",
                fix="a shorter sequence or window, or a HyenaDNA with a longer context (up to hyenadna_large_1m)",
            )

    @property
    def _backbone(self) -> Any:
        return self.hyena["backbone"]


# ------------------------------------------------------------------------------------------------------ fresh values


def init_parameter(name: str, p: Tensor, config: Config, rng: torch.Generator) -> None:
    """GPT-2's, as the original trained: 0.02, less for what writes into the residual stream; sines of frequency 10."""
    if name.endswith("freq"):
        p.fill_(10.0)
    elif name.endswith("filter_fn.bias"):
        p.normal_(generator=rng)
    elif "filter" not in name and name.endswith("bias"):
        p.zero_()
    elif "filter" not in name and p.ndim == 2:
        depth = 2 * config.n_layer if name.endswith(("out_proj.weight", "fc2.weight")) else 1
        p.normal_(std=0.02 / math.sqrt(depth), generator=rng)


def init_buffers(model: Model) -> None:
    """Positions and decay rates of the implicit filters: buffers that a checkpoint brings and a fresh model needs."""
    config = model.config
    S, bands = config.max_seq_len, (config.emb_dim - 1) // 2
    t_S1 = torch.linspace(0, 1, S)[:, None]
    angles = torch.linspace(1e-4, bands - 1, bands) * (2 * math.pi * torch.arange(S)[:, None] / S)
    deltas = torch.linspace(math.log(0.01) / 1.5, math.log(0.01) / 0.3, config.d_model)
    values = {"t": t_S1, "z": torch.cat([t_S1, angles.cos(), -angles.sin()], dim=1), "deltas": deltas[None]}
    for name, buffer in model.named_buffers():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in values:
            buffer.copy_(values[leaf][None])
