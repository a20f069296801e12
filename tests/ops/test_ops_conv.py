"""Every fast convolution equals its definition, whole or cut anywhere, forward and backward."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar.ops.fftconv import fft_conv, fft_conv_naive, fft_size
from nexvar.ops.fir import block_filter, block_fir, block_fir_naive, fir, fir_naive, last_inputs
from nexvar.ops.iir import modal_filter, modal_iir, modal_iir_naive
from nexvar.ops.norms import rms_norm, rms_norm_naive

lengths, batches = st.integers(1, 300), st.integers(1, 3)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def modal(D=6, S=4, complex_poles=False):
    log_poles = -torch.rand(D, S, generator=torch.Generator().manual_seed(1)) * 0.5
    residues = randn(D, S, seed=2)
    if complex_poles:
        return torch.complex(log_poles, randn(D, S, seed=3)), torch.complex(residues, randn(D, S, seed=4))
    return log_poles, residues


def gradients(function, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    return torch.autograd.grad(y, inputs, randn(*y.shape, seed=9).to(y.dtype))


@given(lengths, batches, st.sampled_from([1, 2, 3, 7]), st.booleans())
def test_fir_is_its_definition(L, B, K, with_past):
    x, kernel = randn(B, L, 5), randn(5, K, seed=1)
    past = randn(B, K - 1, 5, seed=2) if with_past else None
    torch.testing.assert_close(fir(x, kernel, past), fir_naive(x, kernel, past), atol=1e-5, rtol=1e-5)


@given(st.integers(1, 60), batches, st.sampled_from([1, 3, 7]))
def test_fir_gradients(L, B, K):
    x, kernel = randn(B, L, 5), randn(5, K, seed=1)
    for fast, plain in zip(gradients(fir, x, kernel), gradients(fir_naive, x, kernel), strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_fir_gradients_over_several_pieces_of_time_in_bfloat16():
    x, kernel = randn(2, 700, 8), randn(8, 3, seed=1)
    plain = gradients(fir_naive, x, kernel)
    fast = gradients(fir, x.bfloat16(), kernel)
    assert fast[0].dtype == torch.bfloat16 and fast[1].dtype == torch.float32
    for f, p in zip(fast, plain, strict=True):
        assert (f.float() - p).abs().max() < 0.02 * p.abs().max()


@given(lengths, batches, st.sampled_from([5, 64, 65, 128, 200]), st.booleans())
def test_block_fir_is_its_definition(L, B, K, with_past):
    u, filter = randn(B, L, 6), block_filter(randn(3, K, seed=1) / K)
    past = randn(B, K - 1, 6, seed=2) if with_past else None
    torch.testing.assert_close(block_fir(u, filter, past), block_fir_naive(u, filter, past), atol=1e-5, rtol=1e-4)


def test_block_fir_order_of_taps_and_channels():
    kernel = torch.tensor([[1.0, 10.0, 100.0], [2.0, 0.0, 0.0]])
    u = torch.zeros(1, 5, 4)
    u[0, 1] = 1.0
    y = block_fir(u, block_filter(kernel))[0]
    assert y[:, 0].tolist() == y[:, 1].tolist() == [0, 1, 10, 100, 0]
    assert y[:, 2].tolist() == y[:, 3].tolist() == [0, 2, 0, 0, 0]


def test_block_fir_gradients():
    u, kernel = randn(2, 150, 6), randn(3, 128, seed=1) / 12
    fast = gradients(lambda u, h: block_fir(u, block_filter(h)), u, kernel)
    plain = gradients(lambda u, h: block_fir_naive(u, block_filter(h)), u, kernel)
    for f, p in zip(fast, plain, strict=True):
        torch.testing.assert_close(f, p, atol=1e-4, rtol=1e-4)


@given(st.one_of(lengths, st.integers(500, 700)), batches, st.booleans(), st.booleans())
def test_modal_iir_is_its_definition(L, B, with_state, complex_poles):
    filter = modal_filter(*modal(complex_poles=complex_poles))
    state = None
    if with_state:
        state = randn(B, 6, 4, seed=5).to(filter.log_poles_DS.dtype)
    u = randn(B, L, 6)
    y, after = modal_iir(u, filter, state)
    y_naive, after_naive = modal_iir_naive(u, filter, state)
    torch.testing.assert_close(y, y_naive, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after, after_naive, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [150, 600])
@pytest.mark.parametrize("complex_poles", [False, True])
def test_modal_iir_gradients(complex_poles, length):
    u = randn(2, length, 6)
    poles, residues = modal(complex_poles=complex_poles)
    fast = gradients(lambda u, p, r: modal_iir(u, modal_filter(p, r))[0], u, poles, residues)
    plain = gradients(lambda u, p, r: modal_iir_naive(u, modal_filter(p, r))[0], u, poles, residues)
    for f, p in zip(fast, plain, strict=True):
        assert (f - p).abs().max() < 1e-4 * p.abs().max()


def test_modal_iir_remembers_over_a_million_tokens():
    """A pole of time constant 10^6: the first token still counts after 2^20 of them, to float32 precision."""
    filter = modal_filter(torch.tensor([[-1e-6]]), torch.ones(1, 1))
    u = torch.zeros(1, 1 << 20, 1)
    u[0, 0] = 1.0
    y, state = modal_iir(u, filter)
    expected = torch.exp(torch.tensor(-1e-6, dtype=torch.float64) * ((1 << 20) - 1)).float()
    torch.testing.assert_close(y[0, -1, 0], expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(state[0, 0, 0], expected, rtol=1e-5, atol=0)


def test_modal_iir_stays_float32_under_autocast():
    filter = modal_filter(*modal())
    u = randn(1, 200, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = modal_iir(u, filter)
    torch.testing.assert_close(y, modal_iir(u, filter)[0], atol=0, rtol=0)


@given(st.lists(st.integers(1, 299), max_size=4), st.sampled_from(["fir", "block", "modal", "complex"]))
def test_an_input_can_be_cut_anywhere(cuts, kind):
    u, kernel, hundred = randn(2, 300, 6), randn(6, 7, seed=1), block_filter(randn(2, 128, seed=1) / 11)
    modes = modal_filter(*modal(complex_poles=kind == "complex"))

    def step(piece, state):
        if kind == "fir":
            return fir(piece, kernel, state), last_inputs(state, piece, 6)
        if kind == "block":
            return block_fir(piece, hundred, state), last_inputs(state, piece, 127)
        return modal_iir(piece, modes, state)

    edges = sorted({0, *cuts, 300})
    state, pieces = None, []
    for a, b in zip(edges, edges[1:], strict=False):
        y, state = step(u[:, a:b], state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), step(u, None)[0], atol=3e-5, rtol=1e-4)


@given(lengths, lengths, batches)
def test_fft_conv_is_its_definition(L, T, B):
    u, h = randn(B, L, 4), randn(4, T, seed=1) / T**0.5
    torch.testing.assert_close(fft_conv(u, h), fft_conv_naive(u, h), atol=1e-5, rtol=1e-4)


def test_fft_conv_gradients_and_blocks(monkeypatch):
    monkeypatch.setattr("nexvar.ops.fftconv.BLOCK_VALUES", 2 * 2 * 256)  # two channels a block
    u, h = randn(2, 120, 5), randn(5, 200, seed=1)
    torch.testing.assert_close(fft_conv(u, h), fft_conv_naive(u, h), atol=1e-4, rtol=1e-4)
    for fast, plain in zip(gradients(fft_conv, u, h), gradients(fft_conv_naive, u, h), strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-3, rtol=1e-4)


@given(st.integers(1, 90), lengths, st.data())
def test_fft_conv_of_the_last_outputs_alone(L, T, data):
    start = data.draw(st.integers(0, L - 1))
    u, h, late = randn(2, L, 3), randn(3, T, seed=1), functools.partial(fft_conv, start=start)
    torch.testing.assert_close(late(u, h), fft_conv_naive(u, h)[:, start:], atol=1e-4, rtol=1e-4)
    plain = gradients(functools.partial(fft_conv_naive, start=start), u, h)
    for fast, exact in zip(gradients(late, u, h), plain, strict=True):
        torch.testing.assert_close(fast, exact, atol=1e-3, rtol=1e-4)


@given(st.integers(1, 10**7))
def test_fft_size_is_large_enough_and_close(length):
    assert length <= fft_size(length) < max(1.34 * length, 4)


def test_rms_norm_adds_eps_outside_the_root():
    x = torch.tensor([[[3.0, 4.0]]])
    y = rms_norm(x, torch.tensor([1.0, 2.0]), 0.5)
    root = (25 / 2) ** 0.5
    torch.testing.assert_close(y[0, 0], torch.tensor([3.0, 8.0]) / (root + 0.5))
    x, scale = randn(2, 9, 16), randn(16, seed=1)
    torch.testing.assert_close(rms_norm(x, scale, 1e-3), rms_norm_naive(x, scale, 1e-3))
