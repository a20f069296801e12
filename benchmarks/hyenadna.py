"""HyenaDNA against the official way of computing it: ``python benchmarks/hyenadna.py [--full]``.

The opponent follows the Hugging Face port: channels first, the filters computed anew in every forward, one FFT of
length 2L over all channels. Width 256, same weights, same numbers; 8,192 bases (--full: up to 262,144, and a million
against a quarter of it, where the opponent does not fit).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import Row, compare, interleaved, report, run_once, timed_row
from nexvar.models.hyenadna import Config, Filter, Model


def official_filter(filter_fn: Filter, length: int) -> Tensor:
    """(L, D)."""
    freq: Any = filter_fn.implicit_filter["1"].freq
    *hidden, last = (m for name, m in filter_fn.implicit_filter.items() if name != "1")
    x = filter_fn.pos_emb.z[:, :length]
    for linear in hidden:
        x = torch.sin(freq * linear(x))
    decay = torch.exp(-filter_fn.pos_emb.t[:, :length] * filter_fn.modulation.deltas.abs())
    return (last(x) * (decay + 0.05))[0]


def official_mixer(mixer: Any, n_BLD: Tensor) -> Tensor:
    L = n_BLD.shape[1]
    u = F.linear(n_BLD, mixer.in_proj.weight, mixer.in_proj.bias).transpose(1, 2)
    conv = mixer.short_filter
    x0, x1, v = F.conv1d(u, conv.weight, conv.bias, padding=2, groups=u.shape[1])[..., :L].chunk(3, dim=1)
    v = v * x1
    k = official_filter(mixer.filter_fn, L).transpose(0, 1)
    k_f = torch.fft.rfft(k, n=2 * L) / (2 * L)
    y = torch.fft.irfft(torch.fft.rfft(v, n=2 * L) * k_f, n=2 * L, norm="forward")[..., :L]
    y = (y + v * mixer.filter_fn.bias[:, None]) * x0
    return F.linear(y.transpose(1, 2), mixer.out_proj.weight, mixer.out_proj.bias)


def official_forward(model: Model, ids_BL: Tensor) -> Tensor:
    backbone: Any = model.hyena["backbone"]
    h = F.embedding(ids_BL, backbone.embeddings.word_embeddings.weight)
    for layer in backbone.layers:
        h = official_mixer(layer.mixer, layer.norm1(h)) + h
        fc1, fc2 = layer.mlp.fc1, layer.mlp.fc2
        m = F.gelu(F.linear(layer.norm2(h), fc1.weight, fc1.bias), approximate="tanh")
        h = F.linear(m, fc2.weight, fc2.bias) + h
    return F.linear(backbone.ln_f(h), model.lm_head.weight)


def random_model(max_seq_len: int, width: int = 256, layers: int = 8) -> Model:
    """Random weights of a released shape, with z, t and deltas as the constructor of the official model makes them."""
    torch.manual_seed(0)
    model = Model(Config(d_model=width, n_layer=layers, d_inner=4 * width, max_seq_len=max_seq_len)).eval()
    t = torch.linspace(0, 1, max_seq_len)[:, None]
    angle = 2 * torch.pi * torch.arange(max_seq_len)[:, None] / max_seq_len * torch.linspace(1e-4, 1, 2)
    z = torch.cat([t, angle.cos(), -angle.sin()], dim=1)
    deltas = torch.linspace(-3.07, -15.35, width)
    for layer in model.hyena["backbone"].layers:  # type: ignore[union-attr]
        filter_fn = layer.mixer.filter_fn
        filter_fn.pos_emb.t[0], filter_fn.pos_emb.z[0], filter_fn.modulation.deltas[0, 0] = t, z, deltas
        torch.nn.init.normal_(filter_fn.bias)
        filter_fn.implicit_filter["1"].freq.data.fill_(10.0)
    return model


def rows(full: bool) -> Iterator[Row]:
    layers, lengths = (8, (8192, 65_536, 262_144)) if full else (4, (8192,))
    model = random_model(1_000_002 if full else max(lengths) + 2, layers=layers)
    for length in lengths:
        ids = torch.randint(7, 11, (1, length))
        mine, theirs = functools.partial(ours, model, ids), functools.partial(official_forward, model, ids)
        with torch.no_grad():
            yield from compare(f"{layers} layers, {length:,} bases", mine, "the official way", theirs, repeats=2)
        if length <= 8192:
            times = interleaved({"both": functools.partial(train_step, model, ids), "forward": torch.no_grad()(mine)})
            yield timed_row(f"{layers} layers, {length:,} bases, forward and backward", "the forward", times)
    if full:
        with torch.no_grad():
            long, short = (
                run_once(functools.partial(ours, model, torch.randint(7, 11, (1, n)))) for n in (1_000_000, 250_000)
            )
        yield Row(f"{layers} layers, 1,000,000 bases", "250,000 bases", long.cpu, short.cpu)
        yield Row(f"{layers} layers, 1,000,000 bases", "250,000 bases", long.memory / 1e6, short.memory / 1e6, "MB")


def ours(model: Model, ids: Tensor) -> Tensor:
    logits = model(ids).logits
    assert logits is not None
    return logits


def train_step(model: Model, ids: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    ours(model, ids).square().mean().backward()


if __name__ == "__main__":
    report(__doc__, rows)
