"""The FP8 linear layer: codes, float32 accumulation, Hopper's accumulator, gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from nexvar.ops import fp8


@pytest.fixture(scope="module")
def reference(golden) -> dict[str, Tensor]:
    return load_file(golden / "fp8_linear" / "io.safetensors")


def test_codes_are_the_reference_bits(reference):
    x_codes = fp8.quantize_e4m3(reference["x"], reference["scale_fwd"][0])
    w_codes = fp8.quantize_e4m3(reference["w"], reference["scale_fwd"][1])
    assert torch.equal(x_codes.view(torch.uint8), reference["x_codes"])
    assert torch.equal(w_codes.view(torch.uint8), reference["w_codes"])


def test_codes_by_arithmetic_are_the_same():
    """What devices without float8 use: every code, every midpoint between two codes, and random values."""
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    codes = codes[codes.isfinite()].sort().values
    middles = (codes[1:] + codes[:-1]) / 2
    near = torch.cat([middles.nextafter(codes[1:]), middles.nextafter(codes[:-1])])
    values = torch.cat([codes, middles, near, torch.randn(10_000) * 100, torch.tensor([1e9, -1e9, 1e-30])])
    one = torch.ones(())
    assert torch.equal(fp8.code_values(values, one), fp8.quantize_e4m3(values, one).float())


@pytest.mark.parametrize("linear", [fp8.fp8_linear, fp8.fp8_linear_naive])
def test_float32_accumulation(reference, linear):
    x, w, scale = reference["x"], reference["w"], reference["scale_fwd"][:2]
    y = linear(x.float(), w, scale)
    expected = reference["y_fp32acc"]
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-6 * expected.abs().max().item())
    torch.testing.assert_close(linear(x, w, scale), expected.bfloat16(), rtol=0.01, atol=1e-5)


def test_hopper_accumulation_bit_for_bit(reference):
    a, b = (reference[k].view(torch.float8_e4m3fn) for k in ("x_codes", "w_codes"))
    assert torch.equal(fp8.hopper_matmul_naive(a, b), reference["y_hopper_raw"])
    y = fp8.fp8_linear_hopper_naive(reference["x"], reference["w"], reference["scale_fwd"][:2])
    assert torch.equal(y, reference["y_hopper_bf16"])


def test_hopper_loses_what_float32_keeps():
    a = torch.tensor([[448.0] + [2.0**-6] * 63]).to(torch.float8_e4m3fn)
    b = torch.ones(1, 64).to(torch.float8_e4m3fn)
    assert fp8.hopper_matmul_naive(a, b).item() == 448.0  # 63/64 fell below the thirteenth bit
    assert (a.double() @ b.double().T).item() > 448.9


def test_every_code_moved_to_float16s_places_is_its_value():
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    codes = codes[codes.float().isfinite()]
    assert torch.equal(fp8.float8_values(codes), codes.float())


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("where", ["x", "weight"])
def test_what_is_no_number_stays_none(rows, where):
    x, w = torch.randn(rows, 32), torch.randn(8, 32)
    (x if where == "x" else w)[0, 3] = float("nan")
    y = fp8.fp8_linear(x, w, torch.ones(2))
    assert y[0].isnan().all() if where == "x" else y[:, 0].isnan().all()
    assert torch.equal(y.isnan(), fp8.fp8_linear_naive(x, w, torch.ones(2)).isnan())


def test_a_cpu_keeps_one_byte_a_weight():
    w = torch.randn(8, 32)
    fp8.fp8_linear(torch.randn(2, 32), w, torch.ones(2))
    assert fp8._weights[w][1].dtype.itemsize == 1


def test_weight_is_rounded_to_bfloat16_first():
    """The 20B checkpoint stores its projections in float32; the official path rounds them twice."""
    w = torch.tensor([[1.0 + 2**-4 - 2**-12]])  # bf16 rounds it up to a tie, which e4m3 then rounds to even
    y = fp8.fp8_linear(torch.ones(1, 1), w, torch.ones(2))
    assert y.item() == fp8.quantize_e4m3(w.bfloat16(), torch.ones(())).float().item()


def test_weight_is_quantised_once_and_again_after_a_change(monkeypatch):
    calls = []
    original = fp8.quantize_e4m3
    monkeypatch.setattr(fp8, "quantize_e4m3", lambda v, s: (calls.append(tuple(v.shape)), original(v, s))[1])
    x, w, scale = torch.randn(3, 8), torch.nn.Parameter(torch.randn(4, 8)), torch.ones(2)
    first = fp8.fp8_linear(x, w, scale)
    assert torch.equal(fp8.fp8_linear(x, w, scale), first)
    assert calls.count((4, 8)) == 1
    with torch.no_grad():
        w += 1
    torch.testing.assert_close(fp8.fp8_linear(x, w, scale), fp8.fp8_linear_naive(x, w, scale))
    assert not torch.equal(fp8.fp8_linear(x, w, scale), first)


def test_gradients_pass_through_the_rounding():
    torch.manual_seed(0)
    x, w = torch.randn(2, 5, 16, requires_grad=True), torch.randn(6, 16, requires_grad=True)
    scale = torch.tensor([100.0, 120.0])
    grad = torch.randn(2, 5, 6)
    fp8.fp8_linear(x, w, scale).backward(grad)
    x2, w2 = x.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
    (x2 @ w2.T).backward(grad)
    assert x.grad is not None and w.grad is not None
    torch.testing.assert_close(x.grad, x2.grad, rtol=0.1, atol=0.2)
    torch.testing.assert_close(w.grad, w2.grad, rtol=0.1, atol=0.3)


@given(seed=st.integers(0, 2**16), rows=st.integers(1, 40), inputs=st.integers(1, 70), outputs=st.integers(1, 9))
def test_fast_equals_naive(seed, rows, inputs, outputs):
    generator = torch.Generator().manual_seed(seed)
    x, w = (torch.randn(n, inputs, generator=generator) for n in (rows, outputs))
    scale = torch.rand(2, generator=generator) * 500 + 1
    y, expected = fp8.fp8_linear(x, w, scale), fp8.fp8_linear_naive(x, w, scale)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5 * (1 + expected.abs().max().item()))
    doubled = fp8.fp8_linear(x * 2, w, scale * torch.tensor([0.5, 1.0]))  # a power of two only moves the exponent
    torch.testing.assert_close(doubled, 2 * y, rtol=1e-5, atol=1e-5)
