"""NTv3's options (both kinds of upsampling, several conditions, no skips) against its docstring's picture, plainly."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.models.ntv3 import Model
from nexvar.ops import unet
from tiny_ntv3 import TINY, close, random_model


def reference_forward(model: Model, ids_BL: Tensor, conditions: list[Tensor], masks: list[Tensor | None]) -> Tensor:
    """The docstring's picture, plainly: channels first, no pieces, no shared work."""
    config, core = model.config, model.core

    def norm(x_BLC, layer):
        x = F.layer_norm(x_BLC, x_BLC.shape[-1:], layer.weight, layer.bias, layer.eps)
        scale, shift = torch.ones(()), torch.zeros(())
        for vector, mask, modulation in zip(conditions, masks, layer.modulation_layers or (), strict=False):
            t, s = modulation(vector)[:, None].chunk(2, -1)
            keep = torch.ones(len(vector), 1, 1) if mask is None else mask[:, None, None].float()
            scale, shift = scale * (1 + s * keep), shift + t * keep
        return x * scale + shift

    def gate(layers):
        total = torch.ones(())
        for vector, mask, modulation in zip(conditions, masks, layers or (), strict=False):
            keep = torch.ones(len(vector), 1, 1) if mask is None else mask[:, None, None].float()
            total = total * (1 + modulation(vector)[:, None] * keep)
        return total

    def gelu(x):
        return F.gelu(x, approximate="tanh")

    def conv(x_BLC, layer, transposed=False):
        weight = layer.weight.transpose(0, 1) if transposed else layer.weight
        return F.conv1d(x_BLC.mT, weight, layer.bias, padding=weight.shape[-1] // 2).mT

    def residual(x, block, transposed):
        branch = gelu(conv(norm(x, block.conv_block.layer_norm), block.conv_block.conv, transposed))
        return x + gate(block.modulation_layers) * branch

    x = gelu(conv(core.embed_layer(ids_BL), core.stem.conv))
    skips = []
    for block in core.conv_tower_blocks:
        skips.append(x)
        x = residual(gelu(conv(norm(x, block.conv.layer_norm), block.conv.conv)), block.res_conv, False)
        x = F.avg_pool1d(x.mT, 2).mT
    for block in core.transformer_blocks:
        a, h = block.sa_layer, norm(x, block.self_attention_layer_norm)
        q, k, v = (
            p.linear(h).unflatten(-1, (a.heads, -1)).transpose(1, 2) for p in (a.query_head, a.key_head, a.value_head)
        )
        angles = torch.outer(
            torch.arange(x.shape[1]).float(), 10_000.0 ** -(torch.arange(0, q.shape[-1], 2) / q.shape[-1])
        )
        turn = torch.polar(torch.ones_like(angles), angles)
        q, k = (torch.complex(*t.chunk(2, -1)) * turn for t in (q, k))
        q, k = (torch.cat([t.real, t.imag], -1) for t in (q, k))
        x = x + a.mha_output((torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v).transpose(1, 2).flatten(2))
        g, value = block.fc1(norm(x, block.final_layer_norm)).chunk(2, -1)
        x = x + gate(block.modulation_layers) * block.fc2(F.silu(g) * value)
    for block in core.deconv_tower_blocks:
        h = norm(x, block.conv.layer_norm)
        if config.deconv_upsample_type == "repeat+conv":
            y = conv(h.repeat_interleave(2, 1), block.conv.conv)
        else:
            first = 1 if config.deconv_phase == "odd" else 0
            up = h.new_zeros(len(h), 2 * h.shape[1], h.shape[2])
            up[:, first::2] = h
            y = conv(up, block.conv.conv, transposed=True)
        x = residual(gelu(y), block.res_conv, True)
        if config.use_skip_connection:
            x = x + skips.pop()
    h = gelu(x)
    for layer in core.lm_head.hidden_layers:
        h = gelu(layer(h))
    return core.lm_head.head(h)


OPTIONS = {
    "repeat": {},
    "zeros, odd": {"deconv_upsample_type": "conv_transpose"},
    "zeros, even": {"deconv_upsample_type": "conv_transpose", "deconv_phase": "even"},
    "no skips, head layers": {"use_skip_connection": False, "num_hidden_layers_head": 2},
    "other sizes": {"num_downsamples": 3, "conv_init_embed_dim": 5, "embed_dim": 12, "attention_heads": 3},
    "two conditions": {"conditions_vocab_size": (7, 4)},
    "two conditions, zeros": {"conditions_vocab_size": (7, 4), "deconv_upsample_type": "conv_transpose"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_options_against_the_plain_picture(name):
    config = dataclasses.replace(TINY, **OPTIONS[name])
    model = random_model(config)
    ids = torch.randint(0, 11, (3, 48))
    given_ids = [torch.randint(0, size, (3,)) for size in config.conditions_vocab_size]
    masks: list[Tensor | None] = [None, torch.tensor([True, False, True])][: len(given_ids)]
    conditions = [table(i) for table, i in zip(getattr(model.core, "cond_tables", ()), given_ids, strict=True)]
    out = model(ids, condition_ids=given_ids or None, condition_masks=masks or None, heads=True)
    close(out.logits, reference_forward(model, ids, conditions, masks), atol=2e-5)
    assert set(out.extras) == {f"condition_{i}_logits" for i in range(len(given_ids))}


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_pieces_give_what_one_piece_gives(monkeypatch, name):
    """However small the pieces that the towers run over, and with gradients (one piece)."""
    config = dataclasses.replace(TINY, **OPTIONS[name])
    model, ids = random_model(config), torch.randint(0, 11, (2, 200))
    kwargs = {"condition_ids": [torch.tensor([1, 2])] * len(config.conditions_vocab_size) or None}
    with torch.enable_grad():
        whole = model(ids, taps=model.tap_names, **kwargs)
    monkeypatch.setattr(unet, "PIECE_ELEMENTS", {"cpu": 1, "cuda": 1})
    pieces = model(ids, taps=model.tap_names, **kwargs)
    close(pieces.logits, whole.logits, atol=2e-5)
    for tap in model.tap_names:
        close(pieces.taps[tap], whole.taps[tap], atol=2e-5)
