"""Dense convolutions along sequences, and those that double the length, against their definitions."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from hypothesis import given

from nexvar.ops.conv1d import conv1d, conv1d_naive, upsample_conv1d_naive, upsample_kernel


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    width=st.sampled_from([1, 3, 5, 15]),
)
def test_convolution_equals_its_definition(seed, shape, width):
    g = torch.Generator().manual_seed(seed)
    batch, length, inputs, outputs = shape
    x, weight = torch.randn(batch, length, inputs, generator=g), torch.randn(outputs, inputs, width, generator=g)
    bias = torch.randn(outputs, generator=g)
    expected = F.conv1d(x.mT, weight, bias, padding=width // 2).mT
    torch.testing.assert_close(conv1d(x, weight, bias), expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(conv1d_naive(x, weight, bias), expected, atol=2e-5, rtol=0)


@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 9),
    kind=st.sampled_from(["repeat", "zeros"]),
    phase=st.sampled_from(["odd", "even"]),
)
def test_doubling_convolution_equals_its_definition(seed, length, kind, phase):
    g = torch.Generator().manual_seed(seed)
    x, weight, bias = torch.randn(2, length, 3, generator=g), torch.randn(4, 3, 5, generator=g), torch.randn(4)
    ours = conv1d(x, *upsample_kernel(weight, bias, kind=kind, phase=phase)).reshape(2, 2 * length, 4)
    torch.testing.assert_close(ours, upsample_conv1d_naive(x, weight, bias, kind=kind, phase=phase), atol=2e-5, rtol=0)
