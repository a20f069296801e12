"""Attention, linear layers and gated MLPs: every fast path against its definition."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from nexvar.ops import attention as attention_module
from nexvar.ops import mlp
from nexvar.ops.attention import attention, attention_naive
from nexvar.ops.linear import Linear, linear, linear_naive
from nexvar.ops.mlp import gated_mlp


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(*[st.integers(1, n) for n in (3, 9, 3, 2)]),
    past=st.integers(0, 5),
    causal=st.booleans(),
    masked=st.booleans(),
    bias=st.booleans(),
    alibi=st.booleans(),
    small=st.booleans(),
)
def test_attention_equals_its_definition(monkeypatch, seed, shape, past, causal, masked, bias, alibi, small):
    """Fused, blocked and naive agree, whatever is hidden or added; a fully hidden row is zero."""
    monkeypatch.setattr(attention_module, "BIAS_ELEMENTS", {"cpu": 40 if small else 1 << 24})
    batch, length, kv_heads, groups = shape
    heads, keys = kv_heads * groups, length + past
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, length, heads, 4, generator=g)
    k, v = (torch.randn(batch, keys, kv_heads, 4, generator=g) for _ in range(2))
    options = {
        "causal": causal,
        "mask_BM": torch.rand(batch, keys, generator=g) > 0.4 if masked else None,
        "bias_HLM": torch.randn(heads, length, keys, generator=g) if bias else None,
        "alibi_H": torch.rand(heads, generator=g) if alibi else None,
    }
    if masked:
        options["mask_BM"][0] = False  # a row of padding
        options["mask_BM"][1:, 0] = True  # no other query is left without a key
    ours, (theirs, maps) = attention(q, k, v, **options), attention_naive(q, k, v, **options)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    if masked:
        assert not ours[0].any() and not maps[0].any()


@given(seed=st.integers(0, 2**16), rows=st.integers(1, 5), bias=st.booleans())
def test_linear_equals_its_definition(seed, rows, bias):
    g = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(rows, 64, 512, generator=g), torch.randn(768, 512, generator=g)  # large enough for oneDNN
    b = torch.randn(768, generator=g) if bias else None
    torch.testing.assert_close(linear(x, weight, b), linear_naive(x, weight, b), atol=2e-4, rtol=1e-5)


def test_linear_keeps_gradients():
    x, weight = torch.randn(256, 512, requires_grad=True), torch.randn(768, 512, requires_grad=True)
    linear(x, weight).sum().backward()
    assert x.grad is not None and weight.grad is not None


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_gated_mlp_in_blocks(monkeypatch, activation):
    monkeypatch.setattr(mlp, "ROWS", {"cpu": 3})
    project_in, project_out, x = nn.Linear(6, 8), nn.Linear(4, 6), torch.randn(2, 5, 6)
    whole = gated_mlp(x.requires_grad_(), project_in, project_out, activation)
    assert whole.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(gated_mlp(x, project_in, project_out, activation), whole)


def test_linear_is_an_ordinary_layer():
    """Same parameters and names as nn.Linear; adapters that subclass-check it find one."""
    layer = Linear(8, 4)
    assert isinstance(layer, nn.Linear) and set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(3, 8)
    torch.testing.assert_close(layer(x), nn.Linear.forward(layer, x))
