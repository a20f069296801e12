"""Caduceus against the official way of computing it: ``python benchmarks/caduceus.py [--full]``.

The opponent follows kuleshov-group/caduceus with mamba-ssm's ``selective_scan_ref``, what runs where no CUDA
extension is installed: every direction projects in and out by itself, and decays and inputs exist for the whole
sequence, (B, E, L, N). Width 256, same weights, same numbers; 1,024 bases (--full: up to 32,768).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import Row, compare, interleaved, report, timed_row
from nexvar.models.caduceus import Config, Mamba, Model


def official_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """(B, E, L) in the manner of selective_scan_ref."""
    decay = torch.exp(torch.einsum("bel,en->beln", dt, A))
    added = torch.einsum("bel,bnl,bel->beln", dt, B, u)
    state, ys = A.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + added[:, :, t]
        ys.append(torch.einsum("ben,bn->be", state, C[:, :, t]))
    return torch.stack(ys, dim=2) + u * D[:, None]


def official_mamba(way: Mamba, owner: Mamba, h_BLD: Tensor) -> Tensor:
    L = h_BLD.shape[1]
    x, z = F.linear(h_BLD, owner.in_proj.weight).transpose(1, 2).chunk(2, dim=1)
    x = F.silu(F.conv1d(x, way.conv1d.weight, way.conv1d.bias, padding=3, groups=x.shape[1])[..., :L])
    N = way.A_log.shape[1]
    dt, B, C = F.linear(x.transpose(1, 2), way.x_proj.weight).split([way.dt_proj.in_features, N, N], dim=-1)
    dt = F.softplus(F.linear(dt, way.dt_proj.weight, way.dt_proj.bias)).transpose(1, 2)
    y = official_scan(x, dt, -way.A_log.exp(), B.transpose(1, 2), C.transpose(1, 2), way.D) * F.silu(z)
    return F.linear(y.transpose(1, 2), owner.out_proj.weight)


def official_forward(model: Model, ids_BL: Tensor) -> Tensor:
    """Logits of a Ph model."""
    backbone: Any = model.caduceus["backbone"]
    weight = backbone.embeddings.word_embeddings.weight
    h, residual = F.embedding(ids_BL, weight), None
    for layer in backbone.layers:
        residual = h if residual is None else h + residual
        n, fwd, rev = layer.norm(residual), layer.mixer.mamba_fwd, layer.mixer.mamba_rev
        h = official_mamba(fwd, fwd, n) + official_mamba(rev, fwd, n.flip(1)).flip(1)
    return F.linear(backbone.norm_f(h + residual), weight)


def rows(full: bool) -> Iterator[Row]:
    layers = 4 if full else 2
    model = Model(Config(d_model=256, n_layer=layers)).eval()
    for length in (1024, 8192, 32768) if full else (1024,):
        ids = torch.randint(7, 11, (1, length))
        theirs = functools.partial(official_forward, model, ids)
        jobs = {
            "torch alone": functools.partial(ours, model, ids, "torch"),
            "C scan": functools.partial(ours, model, ids, "c"),
        }
        with torch.no_grad():
            for name, job in jobs.items():
                yield from compare(f"{layers} layers, {length:,} bases, {name}", job, "the official way", theirs)
        if length <= 8192:
            for name, job in jobs.items():
                times = interleaved({"both": functools.partial(train_step, model, job), "forward": no_grad(job)})
                yield timed_row(
                    f"{layers} layers, {length:,} bases, {name}, forward and backward", "the forward", times
                )


def no_grad(job: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.no_grad()(job)


def ours(model: Model, ids: Tensor, scan: str) -> Tensor:
    os.environ["NEXVAR_SCAN"] = scan
    logits = model(ids).logits
    assert logits is not None
    return logits


def train_step(model: Model, job: Callable[[], Tensor]) -> None:
    model.zero_grad(set_to_none=True)
    job().square().mean().backward()


if __name__ == "__main__":
    report(__doc__, rows)
