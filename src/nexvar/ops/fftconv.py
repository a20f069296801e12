"""Causal convolution with a filter as long as the input, by FFT, block by block over channels.

A whole-tensor FFT holds three (B, D, 2L) complex spectra at once; a block of channels holds a few per cent of that,
and its backward recomputes the spectra instead of keeping them.

Legend: B batch, L length, D channels, T length of the filter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.ops.precision import no_autocast

BLOCK_VALUES = 1 << 21  # spectrum values per block of channels: 16 MB a spectrum
TRANSPOSED = 16  # channels at least that are transposed together: a cache line of float32


def fft_conv_naive(u_BLD: Tensor, h_DT: Tensor, start: int = 0) -> Tensor:
    """The definition: ``y[t] = sum_{r <= t} h[t - r] u[r]`` by one FFT in float32; y[start:], (B, L - start, D)."""
    L, n = u_BLD.shape[1], u_BLD.shape[1] + h_DT.shape[1]
    u_BDL = u_BLD.float().transpose(1, 2)
    y = torch.fft.irfft(torch.fft.rfft(u_BDL, n) * torch.fft.rfft(h_DT.float(), n), n)
    return y[..., start:L].transpose(1, 2).to(u_BLD.dtype)


def fft_conv(u_BLD: Tensor, h_DT: Tensor, start: int = 0) -> Tensor:
    """``fft_conv_naive`` by blocks of channels, in bounded memory, forward and backward.

    start: outputs before it are not wanted, which lets the FFT be shorter: they are where it may wrap around.
    """
    with no_autocast(u_BLD.device):
        return _FftConv.apply(u_BLD, h_DT[:, : u_BLD.shape[1]], start)


def fft_size(length: int) -> int:
    """The smallest 2^a, 3 * 2^a or 5 * 2^a that is at least ``length``: the sizes that FFTs like."""
    power = 1 << (length - 1).bit_length()
    return min(s for s in (power, power * 3 // 4, power * 5 // 8) if s >= length and s * 8 % power == 0)


class _FftConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u_BLD: Tensor, h_DT: Tensor, start: int) -> Tensor:
        B, L, D = u_BLD.shape
        n = fft_size(max(L, L + h_DT.shape[1] - 1 - start))
        ctx.save_for_backward(u_BLD, h_DT)
        ctx.start, ctx.n = start, n
        y_BLD = u_BLD.new_empty(B, L - start, D)
        for channels, blocks in _channel_blocks(B, D, n):
            u_BdL = _channels_first(u_BLD, channels)
            y_BdL = u_BdL if start == 0 else u_BdL.new_empty(B, u_BdL.shape[1], L - start)
            for d in blocks:
                u_f = torch.fft.rfft(u_BdL[:, d], n)
                h_f = torch.fft.rfft(h_DT[channels][d].float(), n)
                y_BdL[:, d] = torch.fft.irfft(u_f.mul_(h_f), n)[..., start:L]
            y_BLD[:, :, channels] = y_BdL.transpose(1, 2)
        return y_BLD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy_BLD: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        u_BLD, h_DT = ctx.saved_tensors
        n, (B, L, D), T = ctx.n, u_BLD.shape, h_DT.shape[1]
        du_BLD = torch.empty_like(u_BLD) if ctx.needs_input_grad[0] else None
        dh_DT = torch.empty_like(h_DT) if ctx.needs_input_grad[1] else None
        for channels, blocks in _channel_blocks(B, D, n):
            dy_BdL = F.pad(_channels_first(dy_BLD, channels), (ctx.start, 0))
            u_BdL = _channels_first(u_BLD, channels) if dh_DT is not None else None
            for d in blocks:
                dy_f = torch.fft.rfft(dy_BdL[:, d], n)
                if dh_DT is not None and u_BdL is not None:
                    u_f = torch.fft.rfft(u_BdL[:, d], n)
                    dh = torch.fft.irfft((u_f.conj() * dy_f).sum(0), n)[:, :T]
                    dh_DT[channels][d] = dh.to(h_DT.dtype)
                if du_BLD is not None:
                    h_f = torch.fft.rfft(h_DT[channels][d].float(), n)
                    dy_BdL[:, d] = torch.fft.irfft(dy_f.mul_(h_f.conj()), n)[..., :L]
            if du_BLD is not None:
                du_BLD[:, :, channels] = dy_BdL.transpose(1, 2).to(u_BLD.dtype)
        return du_BLD, dh_DT, None


def _channel_blocks(B: int, D: int, n: int) -> Iterator[tuple[slice, list[slice]]]:
    """Groups of channels to transpose together and, within each, blocks whose spectra exist together."""
    size = max(1, BLOCK_VALUES // (B * n))
    group = max(size, TRANSPOSED)
    for start in range(0, D, group):
        width = min(group, D - start)
        yield slice(start, start + width), [slice(d, min(d + size, width)) for d in range(0, width, size)]


def _channels_first(x_BLD: Tensor, channels: slice) -> Tensor:
    """A float32 copy (B, d, L), never the caller's memory: results are written over it."""
    return x_BLD[:, :, channels].transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
