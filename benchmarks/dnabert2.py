"""DNABERT-2-117M (random weights) against the official way: ``python benchmarks/dnabert2.py [--full]``.

8 x 256 tokens through 2 layers (--full: 8 x 512 through all 12), without padding and with.

The naive contestant computes as the official bert_layers.py does without Triton: the linear layers on real tokens,
but scores, ALiBi biases and probabilities of all heads for padding too, in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import Row, at_matmul_rate, compare, report
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


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    layers, count, tokens = (12, 8, 512) if full else (2, 8, 256)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = Model(Config(num_hidden_layers=layers)).eval().to(device, dtype)
    model.reset_buffers()
    ids_BL = torch.randint(5, 4096, (count, tokens), device=device)
    padded = [tokens * (i + 1) // count for i in range(count)]  # 1/8, 2/8, … of the row: 56 % real
    for name, lengths in (("all real", [tokens] * count), ("56 % real", padded)):
        mask_BL = torch.arange(tokens, device=device) < torch.tensor(lengths, device=device)[:, None]
        ours = partial(last_hidden, model, ids_BL, mask_BL)
        theirs = partial(naive_forward, model, ids_BL, mask_BL)
        case = f"{layers} layers, {count} x {tokens} tokens, {name}"
        found = list(compare(case, ours, "the official way", theirs, apart=1e-3 if dtype == torch.float32 else 0.1))
        yield from found
        yield at_matmul_rate(found[0], flops(model.config, lengths), dtype)


if __name__ == "__main__":
    report(__doc__, rows)
