"""The frame of StripedHyena 1 and 2: what Evo 1 and Evo 2 share. The long filters, sizes and model are in their files.

    x ┬────────────────────────────────┬─ x ┬─────────────────────────────────┬─ x
      └ pre_norm ─ mixer (Hyena or *) ─┘    └ post_norm ─ l3(act(l1 ·) * l2 ·) ┘

    Hyena mixer    x2, x1, v = fir3(projections(n));  out_filter_dense(x2 * long(x1 * v))
    *  attention   rotary (NeoX halves), causal, all heads their own keys

Legend: B batch, L length, D width, E three widths, K coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.ops.attention import attention
from nexvar.ops.fir import fir, last_inputs
from nexvar.ops.fp8 import fp8_linear
from nexvar.ops.linear import Linear
from nexvar.ops.norms import rms_norm
from nexvar.ops.rotary import apply_rotary, inverse_frequencies, rotary_tables
from nexvar.ops.state import AttentionState, HyenaState, Padding, Taps, hide, in_pieces

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu}


def hyena_rows(config: Any) -> Tensor:
    """(3D,): row i of our ``projections`` (x2 | x1 | v) is row ``hyena_rows[i]`` of the checkpoint's."""
    D = config.hidden_size
    rows = torch.arange(3 * D)
    if config.interleave:
        rows = rows.view(D, 3).T.flatten()
    if config.column_split_hyena:
        rows = rows.view(config.num_attention_heads, 3, -1).transpose(0, 1).flatten()
    x2, x1, v = rows.chunk(3)
    return torch.cat([x1, x2, v]) if config.hyena_flip_x1x2 else torch.cat([x2, x1, v])


class RMSNorm(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.eps = config.eps
        self.scale = nn.Parameter(torch.ones(config.hidden_size))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return rms_norm(x_BLD, self.scale, self.eps)


class GatedMLP(nn.Module):
    def __init__(self, config: Any, index: int) -> None:
        super().__init__()
        D, inner = config.hidden_size, config.inner_mlp_size
        self.activation = index == 0 or config.activation_everywhere
        self.act = ACTIVATIONS[config.mlp_activation]
        self.l1 = Linear(D, inner, bias=False)
        self.l2 = Linear(D, inner, bias=False)
        self.l3 = Linear(inner, D, bias=False)

    def forward(self, x_BLD: Tensor, taps: Taps, name: str) -> Tensor:
        gate, value = taps(f"{name}.l1", self.l1(x_BLD)), taps(f"{name}.l2", self.l2(x_BLD))
        if self.activation:
            gate = self.act(gate)
        if torch.is_grad_enabled() or taps.wanted:
            gate = gate * value
        else:
            gate *= value  # the largest tensor of the block: no second one
        return taps(name, taps(f"{name}.l3", self.l3(gate)))


class Projections(Linear):
    """The Hyena input projection, in FP8 where the checkpoint was trained so."""

    fp8_scale: Tensor  # (2,) float32: of the input and of the weight

    def __init__(self, config: Any) -> None:
        super().__init__(config.hidden_size, 3 * config.hidden_size, bias=config.projections_bias)
        self.fp8 = config.fp8_projections
        if self.fp8:
            self.register_buffer("fp8_scale", torch.ones(2))

    def forward(self, x_BLD: Tensor) -> Tensor:
        if not self.fp8:
            return super().forward(x_BLD)
        return fp8_linear(x_BLD, self.weight, self.fp8_scale)


class HyenaFilter(nn.Module):
    """What all Hyena layers share: a short FIR over x2, x1 and v, then ``x2 * long(x1 * v)``."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        D, K = config.hidden_size, config.short_filter_length
        self.short_filter_weight = nn.Parameter(torch.empty(3 * D, 1, K))
        self.short_filter_bias = nn.Parameter(torch.empty(3 * D)) if config.short_filter_bias else None

    def prepare(self) -> Any:
        """What ``long`` needs of the weights, in the shape it needs it."""
        raise NotImplementedError

    def long(self, u_BLD: Tensor, filter: Any, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layer's own causal filter over u and its state after u."""
        raise NotImplementedError

    def forward(self, z_BLE: Tensor, state: HyenaState, mask_BL1: Tensor | None) -> Tensor:
        if state.filter is None:
            state.filter = self.prepare()
        K = self.short_filter_weight.shape[2]
        y_BLE = fir(z_BLE, self.short_filter_weight[:, 0], state.short)
        if self.short_filter_bias is not None:
            y_BLE = y_BLE + self.short_filter_bias
        state.short = last_inputs(state.short, z_BLE, K - 1)
        x2, x1, v = y_BLE.chunk(3, dim=-1)
        u_BLD = x1 * v if mask_BL1 is None else x1 * v * mask_BL1
        y_BLD, state.inner = self.long(u_BLD, state.filter, state.inner)
        return x2 * y_BLD


class RotaryFrequencies(nn.Module):
    """(d / 2,) float32: the checkpoint's where it has trustworthy ones, else exact (``inv_freq_in_checkpoint``)."""

    inv_freq: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.head_dim, self.base = config.head_dim, config.rotary_emb_base
        self.register_buffer("inv_freq", self.exact(), persistent=config.inv_freq_in_checkpoint)

    def exact(self) -> Tensor:
        return inverse_frequencies(self.head_dim, self.base)


class Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        D = config.hidden_size
        self.head_dim, self.interpolation = config.head_dim, config.rotary_interpolation
        self.Wqkv = Linear(D, 3 * D, bias=config.qkv_proj_bias)
        self.out_proj = Linear(D, D, bias=config.mha_out_proj_bias)
        self.rotary_emb = RotaryFrequencies(config)
        self.attend, self.first_position = attention, 0  # others where train/split.py cuts a sequence

    def forward(
        self, x_BLD: Tensor, state: AttentionState | None, mask_BL: Tensor | None, taps: Taps, name: str
    ) -> Tensor:
        start = self.first_position if state is None else state.length
        q, k, v = taps(f"{name}.Wqkv", self.Wqkv(x_BLD)).unflatten(-1, (3, -1, self.head_dim)).unbind(2)
        cos, sin = rotary_tables(self.rotary_emb.inv_freq, start, x_BLD.shape[1], interpolation=self.interpolation)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)  # NOTE: the official tables are rounded to bf16 too
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if state is not None:
            k, v, mask_BL = state.append(k, v, mask_BL)
        else:  # every query reads all keys of a head: let them be neighbours
            k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v))
        y_BLD = self.attend(q, k, v, causal=True, mask_BM=mask_BL).flatten(2)
        return taps(name, taps(f"{name}.out_proj", self.out_proj(y_BLD)))


class Block(nn.Module):
    """The residual frame of both kinds: ``x + mixer(norm(x))``, then ``x + mlp(norm(x))``."""

    mixer_taps: tuple[str, ...]

    def __init__(self, config: Any, index: int) -> None:
        super().__init__()
        self.name = f"blocks.{index}"
        self.pre_norm, self.post_norm = RMSNorm(config), RMSNorm(config)
        self.mlp = GatedMLP(config, index)
        inner = ("pre_norm", *self.mixer_taps, "post_norm", "mlp.l1", "mlp.l2", "mlp.l3", "mlp")
        self.tap_names = (*(f"{self.name}.{tap}" for tap in inner), self.name)

    def feed_forward(self, x_BLD: Tensor, taps: Taps) -> Tensor:
        n_BLD = taps(f"{self.name}.post_norm", self.post_norm(x_BLD))
        return x_BLD + self.mlp(n_BLD, taps, f"{self.name}.mlp")


class HyenaBlock(Block):
    mixer_taps = ("projections", "filter", "out_filter_dense")

    def __init__(self, config: Any, index: int, filter: HyenaFilter) -> None:
        super().__init__(config, index)
        D = config.hidden_size
        self.projections = Projections(config)
        self.filter = filter
        self.out_filter_dense = Linear(D, D, bias=config.hyena_out_proj_bias)
        self.config = config

    def new_state(self, capacity: int) -> HyenaState:
        return HyenaState()

    def forward(self, x_BLD: Tensor, state: HyenaState | None, pad: Padding, taps: Taps) -> Tensor:
        state = HyenaState() if state is None else state

        def piece(x_BLD: Tensor, rows: slice) -> Tensor:
            mask_BL1 = None if pad.rows_BL1 is None else pad.rows_BL1[:, rows]
            z_BLE = hide(self.projections(taps(f"{self.name}.pre_norm", self.pre_norm(x_BLD))), mask_BL1)
            if f"{self.name}.projections" in taps.wanted:  # as the official module orders its channels
                taps(f"{self.name}.projections", z_BLE[..., hyena_rows(self.config).argsort()])
            y_BLD = taps(f"{self.name}.filter", self.filter(z_BLE, state, mask_BL1))
            y_BLD = taps(f"{self.name}.out_filter_dense", self.out_filter_dense(y_BLD))
            return self.feed_forward(hide(x_BLD + y_BLD, mask_BL1), taps)

        return in_pieces(piece, x_BLD)


class AttentionBlock(Block):
    mixer_taps = ("inner_mha_cls.Wqkv", "inner_mha_cls.out_proj", "inner_mha_cls")

    def __init__(self, config: Any, index: int) -> None:
        super().__init__(config, index)
        self.inner_mha_cls = Attention(config)

    def new_state(self, capacity: int) -> AttentionState:
        return AttentionState(capacity)

    def forward(self, x_BLD: Tensor, state: AttentionState | None, pad: Padding, taps: Taps) -> Tensor:
        n_BLD = taps(f"{self.name}.pre_norm", self.pre_norm(x_BLD))
        y_BLD = self.inner_mha_cls(n_BLD, state, pad.keys_BL, taps, f"{self.name}.inner_mha_cls")
        x_BLD = hide(x_BLD + y_BLD, pad.rows_BL1)
        return in_pieces(lambda x_BLD, rows: self.feed_forward(x_BLD, taps), x_BLD)
