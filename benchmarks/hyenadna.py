"""HyenaDNA against the official way of computing it: python benchmarks/hyenadna.py [--lengths 8192 65536 262144]

The opponent follows the Hugging Face port: channels first, the filters computed anew in every forward, one FFT of
length 2L over all channels. Same weights; the difference of the logits is printed; turns taken in one process.
--alone LENGTH runs only ours, once, at a length where the opponent does not fit: time and memory above the model.
--decode PROMPT compares decoding with the cache to a forward per token.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import against, interleaved, run_once, table
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=[8192, 65536, 262144])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", type=int)
    parser.add_argument("--decode", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = random_model(max(*options.lengths, options.alone or 0, 1024) + 2)
    print(f"HyenaDNA, width 256, 8 layers, {options.threads} threads\n")
    if options.alone:
        alone(model, options.alone)
    elif options.decode:
        decode(options.decode)
    else:
        compare(model, options.lengths, options.repeats)


def compare(model: Model, lengths: list[int], repeats: int) -> None:
    rows: list[tuple[object, ...]] = []
    for length in lengths:
        ids = torch.randint(7, 11, (1, length))
        jobs = {
            "official style": functools.partial(official_forward, model, ids),
            "ours": functools.partial(ours, model, ids),
        }
        with torch.no_grad():
            if length <= 8192:
                ours(model, ids)  # the filters are kept from here on
            rows += [(length, *row) for row in against("official style", jobs, repeats)]
        if length <= 8192:
            step = interleaved({"step": functools.partial(train_step, model, ids)}, repeats)["step"]
            rows.append((length, "ours, forward + backward", step.wall, step.cpu, "", "", "", ""))
    print(table(("L", "contestant", "wall s", "CPU s", "wall x", "CPU x", "MiB above", "rel. diff"), rows))


def ours(model: Model, ids: Tensor) -> Tensor:
    logits = model(ids).logits
    assert logits is not None
    return logits


def train_step(model: Model, ids: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    ours(model, ids).square().mean().backward()


def alone(model: Model, length: int) -> None:
    ids = torch.randint(7, 11, (1, length))
    with torch.no_grad():
        run = run_once(functools.partial(ours, model, ids))
    print(table(("L", "wall s", "CPU s", "MiB above"), [(length, run.wall, run.cpu, run.memory / 2**20)]))


def decode(prompt: int, tokens: int = 32) -> None:
    model = random_model(prompt + tokens + 2)
    ids = torch.randint(7, 11, (1, prompt + tokens))

    def forward_per_token() -> None:
        for t in range(prompt, prompt + 4):  # four are enough to know the rate
            official_forward(model, ids[:, :t])

    cache = model.new_cache(1, prompt + tokens)
    model(ids[:, :prompt], cache=cache)
    steps = iter(range(prompt, prompt + tokens))

    def cached() -> None:
        for _ in range(4):
            t = next(steps)
            model(ids[:, t : t + 1], cache=cache)

    with torch.no_grad():
        times = interleaved({"a forward per token": forward_per_token, "cache": cached}, repeats=5)
    base = times["a forward per token"]
    rows = [(name, t.wall / 4, t.cpu / 4, base.wall / t.wall, base.cpu / t.cpu) for name, t in times.items()]
    print(table(("decoding", "wall s/token", "CPU s/token", "wall x", "CPU x"), rows))


if __name__ == "__main__":
    main()
