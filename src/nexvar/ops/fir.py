"""Causal depthwise FIR filters, channels last, with the inputs before the first one as an optional state.

Two forms for two lengths; each takes its coefficients in the order in which checkpoints hold them:

    inputs                  …    x[t - 3]   x[t - 2]   x[t - 1]   x[t]   ->  y[t] = the sum of the products
    fir        kernel_DK    …    k[K - 4]   k[K - 3]   k[K - 2]   k[K - 1]     by position: the last one meets now
    block_fir  response_GK  …    h[3]       h[2]       h[1]       h[0]         by lag: the first one meets now

  fir        a few coefficients (3, 7): one depthwise convolution that reads x as it lies in memory, no transposes
  block_fir  a hundred, shared by groups of channels: time is cut into blocks of C and every block is a few (C, C)
             Toeplitz matrix products, since matmuls run at twenty times the rate of convolutions

Legend: B batch, L length, D channels, K coefficients, P = K - 1 past inputs, G groups of D / G channels with one
filter, C block length, N Toeplitz blocks that a filter spans.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.ops.arithmetic import is_raised
from nexvar.ops.precision import no_autocast

BLOCK = 64  # C: K = 128 costs 3 * 64 multiplications an output; 128 would cost 256, 32 would run at a lower rate


def last_inputs(past_BPD: Tensor | None, x_BLD: Tensor, count: int) -> Tensor:
    """The last ``count`` rows of past ++ x, with zeros before the beginning: the state after x, (B, count, D)."""
    L = x_BLD.shape[1]
    if count <= L:
        return x_BLD[:, L - count :].detach().clone()
    if past_BPD is None:
        return F.pad(x_BLD.detach(), (0, 0, count - L, 0))
    return torch.cat([past_BPD[:, L:], x_BLD.detach()], dim=1)


def fir_naive(x_BLD: Tensor, kernel_DK: Tensor, past_BPD: Tensor | None = None) -> Tensor:
    """The definition, as shifted adds in float32: ``y[t] = sum_k kernel[k] x[t - (K - 1) + k]``.

    past_BPD: the K - 1 inputs before x; None stands for zeros. Returns (B, L, D) in x's dtype.
    """
    L, K = x_BLD.shape[1], kernel_DK.shape[1]
    x = _with_past(x_BLD, past_BPD, K - 1).float()
    kernel = kernel_DK.float()
    y = x[:, :L] * kernel[:, 0]
    for k in range(1, K):
        y = y + x[:, k : k + L] * kernel[:, k]
    return y.to(x_BLD.dtype)


def fir(x_BLD: Tensor, kernel_DK: Tensor, past_BPD: Tensor | None = None) -> Tensor:
    """``fir_naive`` as one depthwise convolution where oneDNN has it (it also accumulates bf16 in float32)."""
    L, K = x_BLD.shape[1], kernel_DK.shape[1]
    if L == 1 and past_BPD is not None:  # a decoding step: K numbers a channel
        window = torch.cat([past_BPD, x_BLD], dim=1).float()
        return (window * kernel_DK.float().T).sum(1, keepdim=True).to(x_BLD.dtype)
    if x_BLD.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return fir_naive(x_BLD, kernel_DK, past_BPD)
    with no_autocast(x_BLD.device):
        if past_BPD is None:
            return _Fir.apply(x_BLD, kernel_DK, K - 1)[:, :L]
        return _Fir.apply(torch.cat([past_BPD, x_BLD], dim=1), kernel_DK, 0)


class _Fir(torch.autograd.Function):
    """A depthwise convolution with ``padding`` zeros at both ends. oneDNN's own gradient of the kernel takes ten times
    as long as the rest of the step (bf16: fifty), hence the backward here."""

    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, kernel_DK: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x_BLD, kernel_DK)
        ctx.padding = padding
        return _depthwise(x_BLD, kernel_DK, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy_BLD: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_BLD, kernel_DK = ctx.saved_tensors
        dx, dkernel = None, None
        if ctx.needs_input_grad[0]:
            dx = _depthwise(dy_BLD.contiguous(), kernel_DK.flip(1), kernel_DK.shape[1] - 1 - ctx.padding)
        if ctx.needs_input_grad[1]:
            dkernel = _kernel_gradient(x_BLD, dy_BLD, ctx.padding, kernel_DK.shape[1]).to(kernel_DK.dtype)
        return dx, dkernel, None


def _depthwise(x_BLD: Tensor, kernel_DK: Tensor, padding: int) -> Tensor:
    # A (B, L, D) tensor is an image of height 1 in the channels-last format: no copy.
    x = x_BLD.float() if is_raised(x_BLD) else x_BLD
    image = x.transpose(1, 2).unsqueeze(2)
    y = F.conv2d(image, kernel_DK.to(x.dtype)[:, None, None], padding=(0, padding), groups=len(kernel_DK))
    return y.squeeze(2).transpose(1, 2).to(x_BLD.dtype)


def _kernel_gradient(x_BLD: Tensor, dy_BLD: Tensor, padding: int, K: int, rows: int = 256) -> Tensor:
    """``[d, k] = sum_t dy[t] x[t + k - padding]``, over pieces of time that stay in the processor's cache."""
    B, L, D = dy_BLD.shape
    step = max(rows // B, 1)
    total = torch.zeros(K, D, device=x_BLD.device)
    for start in range(0, L, step):
        dy = dy_BLD[:, start : start + step].float()
        first, last = start - padding, start - padding + dy.shape[1] + K - 1
        x = x_BLD[:, max(first, 0) : last].float()
        x = F.pad(x, (0, 0, max(-first, 0), max(last - x_BLD.shape[1], 0)))
        for k in range(K):
            total[k] += (dy * x[:, k : k + dy.shape[1]]).sum((0, 1))
    return total.T


class BlockFilter(NamedTuple):
    """A long filter, ready for ``block_fir``."""

    response_GK: Tensor
    blocks_NGCC: Tensor  # blocks[n][g, j, i] = response[g, n C + i - j], or 0 where there is none


def block_filter(response_GK: Tensor, block: int = BLOCK) -> BlockFilter:
    """Cut impulse responses into Toeplitz blocks of ``block``."""
    count = -(-(response_GK.shape[1] + block - 1) // block)
    padded = F.pad(response_GK, (block - 1, count * block - response_GK.shape[1]))
    toeplitz = padded.unfold(-1, block, 1).flip(-1)  # (G, count * C, C): [g, i, j] = response[g, i - j]
    blocks = toeplitz.unflatten(1, (count, block)).permute(1, 0, 3, 2)
    return BlockFilter(response_GK, blocks.contiguous())


def block_fir_naive(u_BLD: Tensor, filter: BlockFilter, past_BPD: Tensor | None = None) -> Tensor:
    """The definition, by FFT in float32 as the official code does it: ``y[t] = sum_k response[k] u[t - k]``.

    past_BPD: the K - 1 inputs before u; None stands for zeros. Returns (B, L, D) in u's dtype.
    """
    response_DK = filter.response_GK.float().repeat_interleave(u_BLD.shape[2] // len(filter.response_GK), 0)
    K = response_DK.shape[1]
    u = _with_past(u_BLD, past_BPD, K - 1).float()
    n = u.shape[1] + K
    y = torch.fft.irfft(torch.fft.rfft(u, n, dim=1) * torch.fft.rfft(response_DK.T, n, dim=0), n, dim=1)
    return y[:, K - 1 : K - 1 + u_BLD.shape[1]].to(u_BLD.dtype)


def block_fir(u_BLD: Tensor, filter: BlockFilter, past_BPD: Tensor | None = None) -> Tensor:
    """``block_fir_naive`` through matrix products in u's dtype (products of bf16 are summed in float32 inside), or in
    float32 where that is faster."""
    B, L, D = u_BLD.shape
    N, G, C, _ = filter.blocks_NGCC.shape
    K = filter.response_GK.shape[1]
    if L == 1:  # a decoding step: one dot product of K inputs per channel
        window = _with_past(u_BLD, past_BPD, K - 1).float().view(B, K, G, D // G)
        y = (window * filter.response_GK.float().T.flip(0)[..., None]).sum(1)
        return y.view(B, 1, D).to(u_BLD.dtype)
    count = -(-L // C)
    front = (N - 1) * C
    x = u_BLD if past_BPD is None else torch.cat([past_BPD, u_BLD], dim=1)
    x = x.float() if is_raised(x) else x
    x = F.pad(x, (0, 0, front - (x.shape[1] - L), count * C - L))
    # Groups first, then blocks, so that blocks n … n + count of all channels are one matrix per group.
    x = x.view(B, N - 1 + count, C, G, D // G).permute(3, 1, 0, 4, 2).reshape(G, -1, C)
    rows = B * (D // G)
    blocks_NGCC = filter.blocks_NGCC.to(x.dtype)
    y = x[:, front // C * rows :] @ blocks_NGCC[0]
    for n in range(1, N):
        start = (N - 1 - n) * rows
        y = torch.baddbmm(y, x[:, start : start + count * rows], blocks_NGCC[n])
    return y.view(G, count, B, D // G, C).permute(2, 1, 4, 0, 3).reshape(B, count * C, D)[:, :L].to(u_BLD.dtype)


def _with_past(x_BLD: Tensor, past_BPD: Tensor | None, count: int) -> Tensor:
    """past ++ x, with zeros for a past that is not there."""
    return F.pad(x_BLD, (0, 0, count, 0)) if past_BPD is None else torch.cat([past_BPD, x_BLD], dim=1)
