"""NT-v2-50M (random weights) against the remote code's way: ``python benchmarks/nucleotide_transformer.py [--full]``.

1 x 1,024 tokens (--full: 2 x 2,048), float32.

The naive contestant is written the way the hub's modeling_esm.py computes: scores, masks and probabilities for all
heads in memory, the rotary tables anew in every layer, every temporary at full length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import Row, at_matmul_rate, compare, report
from nexvar.models.nucleotide_transformer import Config, Model

NT_V2_50M = Config(
    vocab_size=4107,
    hidden_size=512,
    num_hidden_layers=12,
    num_attention_heads=16,
    intermediate_size=2048,
    max_position_embeddings=2050,
)


def naive_forward(model: Model, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Logits (B, L, V) of an NT v2 model, every intermediate materialised."""
    config = model.config
    bias_B11L = (1.0 - mask_BL[:, None, None].float()) * torch.finfo(torch.float32).min
    x_BLD = model.esm.embeddings.word_embeddings(ids_BL) * mask_BL[..., None]
    for layer in model.esm.encoder.layer:
        attention = layer.attention
        h = attention.LayerNorm(x_BLD)
        q, k, v = (
            _heads(h, p, config.num_attention_heads)
            for p in (attention.self.query, attention.self.key, attention.self.value)
        )
        q = q * q.shape[-1] ** -0.5
        angles = torch.outer(torch.arange(q.shape[2]).float(), model.inv_freq)
        angles = torch.cat([angles, angles], -1)
        q, k = (_rotate(t, angles.cos(), angles.sin()) for t in (q, k))
        scores = torch.matmul(q, k.transpose(-1, -2)) + bias_B11L
        mixed = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous().flatten(2)
        x_BLD = x_BLD + _plain(attention.output.dense, mixed)
        gate, value = _plain(layer.intermediate.dense, layer.LayerNorm(x_BLD)).chunk(2, -1)
        x_BLD = x_BLD + _plain(layer.output.dense, F.silu(gate) * value)
    head = model.lm_head
    h = _plain(head.dense, model.esm.encoder.emb_layer_norm_after(x_BLD))
    h = h * 0.5 * (1.0 + torch.erf(h / math.sqrt(2.0)))
    return F.linear(head.layer_norm(h), head.decoder.weight) + head.decoder.bias


def _plain(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _heads(x_BLD: Tensor, projection: torch.nn.Linear, heads: int) -> Tensor:
    return _plain(projection, x_BLD).unflatten(-1, (heads, -1)).permute(0, 2, 1, 3)


def _rotate(x_BHLd: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
    a, b = x_BHLd.chunk(2, -1)
    return x_BHLd * cos_Ld + torch.cat([-b, a], -1) * sin_Ld


def flops(config: Config, rows: int, tokens: int) -> float:
    """Multiply-adds times two of one forward: projections, attention, MLP, LM head."""
    width, inner = config.hidden_size, config.intermediate_size
    per_token = 4 * width**2 + 3 * width * inner + 2 * tokens * width
    head = width**2 + width * config.vocab_size
    return 2.0 * rows * tokens * (config.num_hidden_layers * per_token + head)


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    count, tokens = (2, 2048) if full else (1, 1024)
    model = Model(NT_V2_50M).eval()
    ids_BL = torch.randint(6, 4102, (count, tokens))
    mask_BL = torch.ones_like(ids_BL, dtype=torch.bool)
    ours, theirs = (lambda: model(ids_BL).logits), (lambda: naive_forward(model, ids_BL, mask_BL))
    found = list(compare(f"{count} x {tokens:,} tokens", ours, "the remote code's way", theirs))
    yield from found
    yield at_matmul_rate(found[0], flops(NT_V2_50M, count, tokens))


if __name__ == "__main__":
    report(__doc__, rows)
