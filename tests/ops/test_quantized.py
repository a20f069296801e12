"""Layers of int8 and int4 codes: every way to multiply them gives the numbers of the weights they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nexvar.ops import arithmetic, matvec
from nexvar.ops.quantized import Int4Linear, Int8Linear, QuantizedLinear

KINDS = ("int8", "int4-32", "int4-128")


def layer_of(kind: str, weight_OI: Tensor) -> QuantizedLinear:
    return Int8Linear(weight_OI) if kind == "int8" else Int4Linear(weight_OI, int(kind.partition("-")[2]))


@pytest.fixture(params=arithmetic.ARITHMETICS)
def products(request, monkeypatch):
    """Each arithmetic in turn, whatever this processor has: it was measured so."""
    monkeypatch.setenv(arithmetic.VARIABLE, request.param)
    monkeypatch.setattr(arithmetic, "_remembered", lambda probe: request.param)
    monkeypatch.setattr(arithmetic, "_told", None)
    arithmetic.cpu_products.cache_clear()
    yield request.param
    arithmetic.cpu_products.cache_clear()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 4, 7, 16, 17, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_rows_times_codes_are_rows_times_weights(products, kind, dtype, rows, compiled, monkeypatch):
    monkeypatch.setattr("nexvar.ops.linear.PANEL_BYTES", 1 << 15)  # several panels
    monkeypatch.setattr("nexvar.ops.linear.PANEL_ROWS", 24)
    if not compiled:
        monkeypatch.setattr(matvec, "available", lambda: False)
    draw = torch.Generator().manual_seed(rows)
    layer = layer_of(kind, torch.randn(70, 256, generator=draw).to(dtype))
    x = torch.randn(1, rows, 256, generator=draw).to(dtype)
    for bias in (None, torch.randn(70, generator=draw).to(dtype)):
        layer.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
        exact = F.linear(x.float(), layer.weights(slice(None)), None if bias is None else bias.float())
        y = layer(x)
        assert y.dtype == dtype and y.shape == (1, rows, 70)
        in_bfloat16 = dtype == torch.bfloat16 and products == "bfloat16"  # then weights are rounded, too
        tolerance = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
        in_16_bits = compiled and rows <= 16 and matvec.available()  # few rows times codes
        noise = 2**-7 if in_bfloat16 else 3e-4 if in_16_bits else 1e-5 if dtype == torch.float32 else 1e-4
        noise *= float(exact.abs().max()) if rows else 0
        torch.testing.assert_close(y.float(), exact, rtol=tolerance, atol=noise)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]), shift=st.sampled_from([0.0, 3.0]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_at_most_half_a_step_away(kind, dtype, seed, scale, shift):
    weight = ((torch.randn(5, 128, generator=torch.Generator().manual_seed(seed)) + shift) * scale).to(dtype)
    weight[2] = 0
    kept = weight.clone()
    got = layer_of(kind, weight).weights(slice(None))
    assert torch.equal(weight, kept)
    if kind == "int8":
        step = weight.float().abs().amax(1, keepdim=True) / 127
    else:
        groups = weight.float().unflatten(1, (-1, int(kind.partition("-")[2])))
        step = ((groups.amax(-1) - groups.amin(-1)) / 15)[..., None].expand_as(groups).flatten(1)
    rounding = 15 * 2.0**-9 if dtype == torch.bfloat16 and kind != "int8" else 1e-4  # of scale and of offset
    assert torch.all((got - weight.float()).abs() <= step * (0.5 + rounding) + weight.float().abs() * 2**-9 + 1e-12)
    assert torch.isfinite(got).all() and torch.equal(got[2], torch.zeros(128))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_layer_whose_scales_were_moved_to_another_dtype_multiplies_by_them(kind, dtype):
    """The compiled products read memory: numbers of another dtype there are other numbers."""
    layer = layer_of(kind, torch.randn(70, 256)).to(dtype)
    x = torch.randn(1, 256)
    exact = x @ layer.weights(slice(None)).float().T
    torch.testing.assert_close(layer(x), exact, rtol=1e-4, atol=3e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_input_alone(kind):
    layer = layer_of(kind, torch.randn(40, 128))
    x = torch.randn(3, 128, requires_grad=True)
    layer(x).square().sum().backward()
    weights = layer.weights(slice(None))
    torch.testing.assert_close(x.grad, 2 * (x.detach() @ weights.T) @ weights, rtol=1e-4, atol=1e-3)
    assert not list(layer.parameters())
