"""DNABERT-2-117M (random weights), 8 x 512 tokens, full and padded: this package against the official way.

    python benchmarks/dnabert2.py [--rows 8] [--tokens 512] [--threads 2]

The naive contestant computes as the official bert_layers.py does without Triton: the linear layers on real tokens,
but scores, ALiBi biases and probabilities of all heads for padding too, in memory at once.
"""

from __future__ import annotations

import argparse
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import interleaved, matmul_rate, peak_above, table
from nexvar.models.dnabert2 import Config, Model


def last_hidden(model: Model, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """The same of this package."""
    return model(ids_BL, mask_BL=mask_BL, taps=[model.last_hidden], logits=False).taps[model.last_hidden]


def naive_forward(model: Model, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Last hidden state (B, L, D), zero at padding; every intermediate materialised."""
    heads = model.config.num_attention_heads
    (B, L), index_N = ids_BL.shape, mask_BL.flatten().nonzero().flatten()
    position = torch.arange(L, device=ids_BL.device)
    alibi_HLL = -(position[:, None] - position).abs() * model.slopes_H[:, None, None]
    bias_BHLL = alibi_HLL + (1.0 - mask_BL[:, None, None].to(torch.float32)) * -10000.0
    bert = model.bert
    x = bert.embeddings(ids_BL).flatten(0, 1)[index_N]
    for layer in bert.encoder.layer:
        qkv = _pad(_plain(layer.attention.self.Wqkv, x), index_N, B, L).unflatten(-1, (3, heads, -1))
        q, k, v = qkv[:, :, 0].permute(0, 2, 1, 3), qkv[:, :, 1].permute(0, 2, 3, 1), qkv[:, :, 2].permute(0, 2, 1, 3)
        scores = torch.matmul(q, k) / math.sqrt(q.shape[-1])
        probabilities = F.softmax(scores + bias_BHLL, dim=-1)
        mixed = torch.matmul(probabilities, v).permute(0, 2, 1, 3).reshape(B * L, -1)[index_N]
        output, mlp = layer.attention.output, layer.mlp
        x = output.LayerNorm(_plain(output.dense, mixed) + x)
        h = _plain(mlp.gated_layers, x)
        inner = model.config.intermediate_size
        x = mlp.layernorm(_plain(mlp.wo, F.gelu(h[:, :inner]) * h[:, inner:]) + x)
    return _pad(x, index_N, B, L)


def _plain(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _pad(x_ND: Tensor, index_N: Tensor, B: int, L: int) -> Tensor:
    return x_ND.new_zeros(B * L, x_ND.shape[-1]).index_copy(0, index_N, x_ND).view(B, L, -1)


def flops(config: Config, lengths: list[int]) -> float:
    """Multiply-adds times two of the encoder over rows of these many real tokens."""
    width, inner = config.hidden_size, config.intermediate_size
    linear = sum(lengths) * (4 * width**2 + 3 * width * inner)
    attention = sum(2 * n * n * width for n in lengths)
    return 2.0 * config.num_hidden_layers * (linear + attention)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12, help="fewer on a busy machine: the ratios stay the same")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = Model(Config(num_hidden_layers=args.layers)).eval().to(device, dtype)
    model.reset_buffers()
    ids_BL = torch.randint(5, 4096, (args.rows, args.tokens), device=device)
    full = [args.tokens] * args.rows
    padded = [args.tokens * (i + 1) // args.rows for i in range(args.rows)]  # 1/8, 2/8, … of the row: 56 % real
    rows, seconds = [], {}
    with torch.inference_mode():
        rate = matmul_rate(dtype)
        for name, lengths in (("full", full), ("padded", padded)):
            mask_BL = torch.arange(args.tokens, device=device) < torch.tensor(lengths, device=device)[:, None]
            ours = partial(last_hidden, model, ids_BL, mask_BL)
            theirs = partial(naive_forward, model, ids_BL, mask_BL)
            difference = float((ours() - theirs()).abs().max())
            times = interleaved({"nexvar": ours, "official style": theirs}, repeats=args.repeats)
            work = flops(model.config, lengths) / 1e9
            for who, job in (("nexvar", ours), ("official style", theirs)):
                t = times[who]
                base = t.wall if device == "cuda" else t.cpu
                faster = times["official style"].cpu / t.cpu, times["official style"].wall / t.wall
                rows.append(
                    [name, who, sum(lengths), t.wall, t.cpu, work / base / rate, peak_above(job) / 2**20, *faster]
                )
            seconds[name] = times["nexvar"]
            print(f"{name}: largest difference {difference:.1e}")
    shape = f"{args.layers} layers, {args.rows} x {args.tokens} tokens, {dtype}, {args.threads} threads"
    print(f"DNABERT-2-117M, {shape}, last hidden state")
    print(f"this machine's matmul: {rate:.0f} GFLOP per {'second' if device == 'cuda' else 'CPU-second'}")
    header = [
        "",
        "",
        "real tokens",
        "wall s",
        "cpu s",
        "of matmul rate",
        "peak MB above model",
        "x faster cpu",
        "x faster wall",
    ]
    print(table(header, rows))
    share = sum(padded) / sum(full)
    print(f"padded: {share:.0%} of the tokens in {seconds['padded'].cpu / seconds['full'].cpu:.0%} of the CPU time")


if __name__ == "__main__":
    main()
