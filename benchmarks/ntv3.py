"""NTv3-8M (random weights) against the hub code's way of computing it: ``python benchmarks/ntv3.py [--full]``.

8,192 bases (--full: 32,768), float32.

The naive contestant is written the way the hub's PyTorch code computes: channels-first convolutions between transposes
for every LayerNorm, LayerNorms by hand, positions repeated before the doubling convolutions, attention in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _measure import Row, compare, report
from nexvar.models.ntv3 import Config, Model
from nexvar.ops.unet import ConvBlock, TowerBlock


def naive_forward(model: Model, ids_BL: Tensor) -> Tensor:
    """Logits (B, L, V) of a pre-trained model, every intermediate at full length."""
    core = model.core
    x_BCL = F.gelu(_conv(core.embed_layer(ids_BL).permute(0, 2, 1), core.stem.conv), approximate="tanh")
    skips = []
    for block in core.conv_tower_blocks:
        skips.append(x_BCL)
        x_BCL = F.avg_pool1d(_tower(x_BCL, block), 2, 2)
    x_BLD = x_BCL.permute(0, 2, 1)
    for block in core.transformer_blocks:
        attention = block.sa_layer
        h = _layer_norm(x_BLD, block.self_attention_layer_norm)
        q, k, v = (
            _plain(head.linear, h).unflatten(-1, (attention.heads, -1))
            for head in (attention.query_head, attention.key_head, attention.value_head)
        )
        angles = torch.outer(torch.arange(q.shape[1]).float(), model.inv_freq)[:, None]
        q, k = (_rotate(t, angles.cos(), angles.sin()).permute(0, 2, 1, 3) for t in (q, k))
        weights = F.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)
        mixed = (weights @ v.permute(0, 2, 1, 3)).permute(0, 2, 1, 3).contiguous().flatten(2)
        x_BLD = x_BLD + _plain(attention.mha_output, mixed)
        gate, value = _plain(block.fc1, _layer_norm(x_BLD, block.final_layer_norm)).chunk(2, -1)
        x_BLD = x_BLD + _plain(block.fc2, F.silu(gate) * value)
    x_BCL = x_BLD.permute(0, 2, 1)
    for block in core.deconv_tower_blocks:
        x_BCL = _tower(x_BCL, block) + skips.pop()
    return _plain(core.lm_head.head, F.gelu(x_BCL.permute(0, 2, 1), approximate="tanh"))


def _tower(x_BCL: Tensor, block: TowerBlock) -> Tensor:
    x_BCL = _conv_block(x_BCL, block.conv)
    return x_BCL + _conv_block(x_BCL, block.res_conv.conv_block)


def _conv_block(x_BCL: Tensor, block: ConvBlock) -> Tensor:
    h = _layer_norm(x_BCL.permute(0, 2, 1), block.layer_norm).permute(0, 2, 1)
    if block.up == "repeat":
        h = torch.repeat_interleave(h, 2, dim=-1)
    return F.gelu(_conv(h, block.conv), approximate="tanh")


def _conv(x_BCL: Tensor, conv: nn.Conv1d | nn.ConvTranspose1d) -> Tensor:
    if isinstance(conv, nn.ConvTranspose1d):
        return F.conv_transpose1d(x_BCL, conv.weight, conv.bias)
    return F.conv1d(x_BCL, conv.weight, conv.bias, padding="same")


def _layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + norm.eps) * norm.weight + norm.bias


def _plain(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    length = 32_768 if full else 8192
    model = Model(Config()).eval()
    ids_BL = torch.randint(6, 10, (1, length))
    ours, theirs = (lambda: model(ids_BL).logits), (lambda: naive_forward(model, ids_BL))
    yield from compare(f"{length:,} bases", ours, "the hub code's way", theirs)


if __name__ == "__main__":
    report(__doc__, rows)
