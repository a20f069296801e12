"""StripedHyena 2 computed the way the original code computes it on a CPU, from the weights of our ``Model``.

Channels first; filters expanded and flipped anew at every call; the long filter through a (D, 16, L) tensor; every
convolution an FFT or a conv1d over all channels at once; the prefill's state through a (B, D, 16, 2L) complex tensor;
one decoding step at a time. It is here to be compared with, in results and in cost.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.models._striped_hyena import AttentionBlock
from nexvar.models.striped_hyena2 import LongFilter, MediumFilter, Model
from nexvar.ops.norms import rms_norm_naive
from nexvar.ops.rotary import apply_rotary, rotary_tables

State = dict[int, dict[str, Tensor]]


@torch.no_grad()
def forward(model: Model, ids_BL: Tensor, state: State | None = None) -> Tensor:
    """Logits (B, L, V). An empty ``state`` is filled by the prefill; a filled one takes one token."""
    x = model.embedding_layer(ids_BL)
    for index, block in enumerate(model.each_block()):
        memory = None if state is None else state.setdefault(index, {})
        n = rms_norm_naive(x, block.pre_norm.scale, block.pre_norm.eps)
        if isinstance(block, AttentionBlock):
            y = attention(block.inner_mha_cls, n, memory)
        else:
            z = F.linear(n, block.projections.weight, block.projections.bias)
            step = memory is not None and "short" in memory
            y = (hyena_step if step else hyena)(block.filter, z, memory)
            y = F.linear(y, block.out_filter_dense.weight, block.out_filter_dense.bias)
        x = x + y
        n = rms_norm_naive(x, block.post_norm.scale, block.post_norm.eps)
        mlp = block.mlp
        gate, value = F.linear(n, mlp.l1.weight), F.linear(n, mlp.l2.weight)
        x = F.linear((mlp.act(gate) if mlp.activation else gate) * value, mlp.l3.weight) + x
    return rms_norm_naive(x, model.norm.scale, model.norm.eps) @ model.embedding_layer.weight.T


def interleaved(z_BEL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The original orders channels (d, x2|x1|v) and sorts them at every call; our weights are sorted already."""
    x2, x1, v = z_BEL.chunk(3, 1)
    mixed = torch.stack([x2, x1, v], 2).flatten(1, 2)
    sorted_again = torch.cat([mixed[:, 0::3], mixed[:, 1::3], mixed[:, 2::3]], 1)
    x2, x1, v = sorted_again.chunk(3, 1)
    return x2, x1, v


def hyena(filter: Any, z_BLE: Tensor, memory: dict[str, Tensor] | None) -> Tensor:
    L, dtype = z_BLE.shape[1], z_BLE.dtype
    z = z_BLE.permute(0, 2, 1)
    K = filter.short_filter_weight.shape[2]
    y = F.conv1d(z.float(), filter.short_filter_weight.float(), padding=K - 1, groups=z.shape[1])[..., :L]
    x2, x1, v = interleaved(y.to(dtype))
    u = x1 * v
    if isinstance(filter, LongFilter):
        time = torch.arange(L)
        modes = (filter.log_poles * time).exp()  # (D, 16, L)
        h = (filter.residues[..., None] * modes).sum(1)
        u_f = torch.fft.fft(u.float(), n=2 * L)
        h_f = torch.fft.rfft(h, n=2 * L)
        y = torch.fft.irfft(u_f[..., : L + 1] * h_f, n=2 * L)[..., :L].to(dtype)
        y = (y + u * filter.D[:, None]) * x2
        if memory is not None:
            modes_f = torch.fft.fft(modes, n=2 * L).repeat(len(u), 1, 1, 1)
            memory["inner"] = torch.fft.ifft(u_f[..., None, :] * modes_f, n=2 * L)[..., L - 1].real
    else:
        h = filter.h.repeat_interleave(u.shape[1] // len(filter.h), 0)
        K = h.shape[2]
        if isinstance(filter, MediumFilter):
            h_f = torch.fft.rfft(h[..., :L].float(), n=2 * L)[:, 0]
            y = torch.fft.irfft(torch.fft.rfft(u.float(), n=2 * L) * h_f, n=2 * L)[..., :L]
            y = x2 * (y + u.float() * filter.D[:, None]).to(dtype)
        else:
            y = x2 * F.conv1d(u.float(), h.float(), padding=K - 1, groups=u.shape[1])[..., :L].to(dtype)
        if memory is not None:
            memory["inner"] = u[..., -K + 1 :]
    if memory is not None:
        memory["short"] = z[..., -filter.short_filter_weight.shape[2] + 1 :]
    return y.permute(0, 2, 1)


def hyena_step(filter: Any, z_B1E: Tensor, memory: dict[str, Tensor]) -> Tensor:
    z, memory["short"] = fir_step(z_B1E[:, -1], memory["short"], filter.short_filter_weight[:, 0])
    x2, x1, v = (x[..., 0] for x in interleaved(z[..., None]))
    u = x1 * v
    if isinstance(filter, LongFilter):
        poles = filter.log_poles.exp()[..., 0][None]
        memory["inner"] = poles * memory["inner"] + u[..., None]
        y = x2 * ((filter.residues[None] * memory["inner"]).sum(-1) + filter.D * u)
        return y.to(z_B1E.dtype)[:, None]
    h = filter.h.repeat_interleave(u.shape[1] // len(filter.h), 0)[:, 0]
    medium = isinstance(filter, MediumFilter)
    y, memory["inner"] = fir_step(u, memory["inner"], h.flip(-1) if medium else h)
    if medium:
        y = y + (filter.D.float() * u).to(y.dtype)
    return (x2 * y)[:, None]


def fir_step(u_BD: Tensor, past_BDP: Tensor, taps_DK: Tensor) -> tuple[Tensor, Tensor]:
    taps, u, past = taps_DK.float()[None, :, -past_BDP.shape[2] - 1 :], u_BD.float(), past_BDP.float()
    y = taps[..., -1] * u + (past * taps[..., :-1]).sum(-1)
    if past.shape[2] < taps_DK.shape[1] - 1:
        return y.to(u_BD.dtype), torch.cat([past, u[..., None]], -1)
    past = torch.roll(past, -1, dims=2)
    past[..., -1] = u
    return y.to(u_BD.dtype), past


def attention(mha: Any, n_BLD: Tensor, memory: dict[str, Tensor] | None) -> Tensor:
    start = 0 if memory is None or "k" not in memory else memory["k"].shape[1]
    q, k, v = F.linear(n_BLD, mha.Wqkv.weight, mha.Wqkv.bias).unflatten(-1, (3, -1, mha.head_dim)).unbind(2)
    cos, sin = rotary_tables(mha.rotary_emb.inv_freq, start, n_BLD.shape[1], interpolation=mha.interpolation)
    q, k = apply_rotary(q, cos.to(q.dtype), sin.to(q.dtype)), apply_rotary(k, cos.to(q.dtype), sin.to(q.dtype))
    if start and memory is not None:
        k, v = torch.cat([memory["k"], k], 1), torch.cat([memory["v"], v], 1)
        scores = torch.einsum("bthd,bshd->bhts", q, k * q.shape[-1] ** -0.5)
        y = torch.einsum("bhts,bshd->bthd", scores.softmax(-1, dtype=v.dtype), v)
    else:
        heads = (x.transpose(1, 2) for x in (q, k, v))
        y = F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2)
    if memory is not None:
        memory["k"], memory["v"] = k, v
    return F.linear(y.flatten(2), mha.out_proj.weight, mha.out_proj.bias)
