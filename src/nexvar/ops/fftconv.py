"""Causal convolution with a filter as long as the input, by FFT, block by block over channels.

A whole-tensor FFT holds three (B, D, 2L) complex spectra at once; a block of channels holds a few per cent of that,
and its backward recomputes the spectra instead of keeping them.

Legend: B batch, L length, D channels, T length of the filter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK_VALUES = 1 << 21  # spectrum values per block of channels: 16 MB a spectrum


def fft_conv_naive(u_BLD: Tensor, h_DT: Tensor) -> Tensor:
    """The definition: ``y[t] = sum_{r <= t} h[t - r] u[r]`` by one FFT in float32; (B, L, D) in u's dtype."""
    L, n = u_BLD.shape[1], u_BLD.shape[1] + h_DT.shape[1]
    u_BDL = u_BLD.float().transpose(1, 2)
    y = torch.fft.irfft(torch.fft.rfft(u_BDL, n) * torch.fft.rfft(h_DT.float(), n), n)
    return y[..., :L].transpose(1, 2).to(u_BLD.dtype)


def fft_conv(u_BLD: Tensor, h_DT: Tensor) -> Tensor:
    """``fft_conv_naive`` by blocks of channels, in bounded memory, forward and backward."""
    with torch.autocast(u_BLD.device.type, enabled=False):
        return _FftConv.apply(u_BLD, h_DT)


def fft_size(length: int) -> int:
    """The smallest 2^a, 3 * 2^a or 5 * 2^a that is at least ``length``: the sizes that FFTs like."""
    power = 1 << (length - 1).bit_length()
    return min(s for s in (power, power * 3 // 4, power * 5 // 8) if s >= length and s * 8 % power == 0)


class _FftConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u_BLD: Tensor, h_DT: Tensor) -> Tensor:
        ctx.save_for_backward(u_BLD, h_DT)
        B, L, D = u_BLD.shape
        h_DT = h_DT[:, :L]
        n = fft_size(L + h_DT.shape[1] - 1)
        y_BLD = torch.empty_like(u_BLD, memory_format=torch.contiguous_format)
        for d in _channel_blocks(B, D, n):
            u_f = torch.fft.rfft(_channels_first(u_BLD, d), n)
            y = torch.fft.irfft(u_f.mul_(torch.fft.rfft(h_DT[d].float(), n)), n)
            y_BLD[:, :, d] = y[..., :L].transpose(1, 2)
        return y_BLD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy_BLD: Tensor) -> tuple[Tensor | None, Tensor | None]:
        u_BLD, h_DT = ctx.saved_tensors
        B, L, D = u_BLD.shape
        T = min(h_DT.shape[1], L)
        n = fft_size(L + T - 1)
        du_BLD = torch.empty_like(u_BLD) if ctx.needs_input_grad[0] else None
        dh_DT = torch.zeros_like(h_DT) if ctx.needs_input_grad[1] else None
        for d in _channel_blocks(B, D, n):
            dy_f = torch.fft.rfft(_channels_first(dy_BLD, d), n)
            if dh_DT is not None:
                u_f = torch.fft.rfft(_channels_first(u_BLD, d), n)
                dh_DT[d, :T] = torch.fft.irfft((u_f.conj() * dy_f).sum(0), n)[:, :T].to(h_DT.dtype)
            if du_BLD is not None:
                h_f = torch.fft.rfft(h_DT[d, :T].float(), n)
                du_BLD[:, :, d] = torch.fft.irfft(dy_f.mul_(h_f.conj()), n)[..., :L].transpose(1, 2).to(u_BLD.dtype)
        return du_BLD, dh_DT


def _channel_blocks(B: int, D: int, n: int) -> list[slice]:
    size = max(1, BLOCK_VALUES // (B * n))
    return [slice(d, min(d + size, D)) for d in range(0, D, size)]


def _channels_first(x_BLD: Tensor, channels: slice) -> Tensor:
    return x_BLD[:, :, channels].transpose(1, 2).to(torch.float32).contiguous()
