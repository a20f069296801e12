"""Genos-1.2B (random weights, bfloat16) against the eager way of computing it: ``python benchmarks/genos.py [--full]``.

1 x 512 tokens through 2 layers (--full: 1 x 1,024 through all 12).

The naive contestant computes as transformers' eager Mixtral does: key heads repeated, scores and probabilities of all
heads in memory with a causal mask, the experts one after the other over tokens found by a one-hot mask.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import Row, at_matmul_rate, compare, report
from nexvar.models.genos import Config, Model

GENOS_1_2B = Config(
    vocab_size=128,
    hidden_size=1024,
    num_hidden_layers=12,
    num_attention_heads=16,
    num_key_value_heads=8,
    intermediate_size=4096,
)


def last_hidden(model: Model, ids_BL: Tensor) -> Tensor:
    """Last hidden state (B, L, D) of this package."""
    return model(ids_BL, taps=[model.last_hidden], logits=False).taps[model.last_hidden]


def naive_forward(model: Model, ids_BL: Tensor) -> Tensor:
    """The same, every intermediate materialised."""
    B, L = ids_BL.shape
    body, dtype = model.model, model.lm_head.weight.dtype
    angles = torch.outer(torch.arange(L, device=ids_BL.device).float(), model.inv_freq)
    angles = torch.cat([angles, angles], -1)
    cos_Ld, sin_Ld = angles.cos().to(dtype), angles.sin().to(dtype)
    future = torch.full((L, L), torch.finfo(dtype).min, dtype=dtype, device=ids_BL.device).triu(1)
    x = body.embed_tokens(ids_BL)
    for layer in body.layers:
        attention, norm = layer.self_attn, partial(_norm, eps=model.config.rms_norm_eps)
        h = norm(x, layer.input_layernorm.weight)
        q, k, v = (
            p(h).view(B, L, -1, attention.d).transpose(1, 2)
            for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = (t * cos_Ld + _half_turned(t) * sin_Ld for t in (q, k))
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(attention.d) + future
        probabilities = F.softmax(scores, dim=-1, dtype=torch.float32).to(dtype)
        x = x + attention.o_proj(torch.matmul(probabilities, v).transpose(1, 2).reshape(B, L, -1))
        x = x + _experts_eager(layer.block_sparse_moe, norm(x, layer.post_attention_layernorm.weight))
    return norm(x, body.norm.weight)


def _experts_eager(moe: torch.nn.Module, x_BLD: Tensor) -> Tensor:
    x = x_BLD.flatten(0, 1)
    probabilities = F.linear(x, moe.gate.weight.to(x.dtype)).softmax(-1, dtype=torch.float32)
    weights, chosen = probabilities.topk(moe.k, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    hits = F.one_hot(chosen, len(moe.experts)).permute(2, 1, 0)
    out = torch.zeros_like(x)
    for number, expert in enumerate(moe.experts):
        slot, token = torch.where(hits[number])
        y = expert.w2(F.silu(expert.w1(x[token])) * expert.w3(x[token])) * weights[token, slot, None]
        out.index_add_(0, token, y.to(out.dtype))
    return out.view_as(x_BLD)


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    h = x.float()
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
    return weight * h.to(x.dtype)


def _half_turned(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


def flops(config: Config, tokens: int) -> float:
    """Multiply-adds times two of one row: projections, causal attention, the chosen experts."""
    width, heads = config.hidden_size, config.head_width
    q, kv = config.num_attention_heads * heads, config.num_key_value_heads * heads
    experts = config.num_experts_per_tok * 3 * width * config.intermediate_size
    per_token = 2 * width * q + 2 * width * kv + experts + tokens * q
    return 2.0 * config.num_hidden_layers * tokens * per_token


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    layers, tokens = (12, 1024) if full else (2, 512)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = dataclasses.replace(GENOS_1_2B, num_hidden_layers=layers)
    with torch.device("meta"):
        model = Model(config)
    model = model.to(torch.bfloat16).to_empty(device=device).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    for layer in model.model.layers:
        layer.block_sparse_moe.gate.float()
    model.reset_buffers()
    ids_BL = torch.randint(5, 9, (1, tokens), device=device)
    ours, theirs = partial(last_hidden, model, ids_BL), partial(naive_forward, model, ids_BL)
    found = list(compare(f"{layers} layers, {tokens:,} tokens", ours, "the eager way", theirs, apart=0.3))
    yield from found
    yield at_matmul_rate(found[0], flops(config, tokens), torch.bfloat16)


if __name__ == "__main__":
    report(__doc__, rows)
