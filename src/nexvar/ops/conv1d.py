"""Dense convolutions along channels-last sequences: same length, and twice the length.

No transposes: a (B, L, C) tensor is a channels-last image of height 1, which oneDNN and cuDNN convolve where it lies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.ops.arithmetic import is_raised


def conv1d_naive(x_BLI: Tensor, weight_OIk: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """The definition, k odd: out[t] = sum_j weight[:, :, j] x[t + j - k // 2] + bias; zeros beyond the ends."""
    k, length = weight_OIk.shape[-1], x_BLI.shape[1]
    padded = F.pad(x_BLI, (0, 0, k // 2, k // 2))
    out = sum(padded[:, j : j + length] @ weight_OIk[..., j].t() for j in range(k))
    assert isinstance(out, Tensor)
    return out if bias_O is None else out + bias_O


def conv1d(x_BLI: Tensor, weight_OIk: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x (B, L, I), weight (O, I, k), k odd -> (B, L, O): ``conv1d_naive``."""
    if x_BLI.is_cuda and x_BLI.dtype == torch.float32:
        return conv1d_naive(x_BLI, weight_OIk, bias_O)  # NOTE: cuDNN would use TF32, three digits, by default
    if is_raised(x_BLI):
        bias = None if bias_O is None else bias_O.float()
        return conv1d(x_BLI.float(), weight_OIk.float(), bias).to(x_BLI.dtype)
    image_BI1L = x_BLI.transpose(1, 2).unsqueeze(2)
    weight_OI1k = weight_OIk.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    out_BO1L = F.conv2d(image_BI1L, weight_OI1k, bias_O, padding=(0, weight_OIk.shape[-1] // 2))
    return out_BO1L.squeeze(2).transpose(1, 2)


def upsample_conv1d_naive(
    x_BLI: Tensor, weight_OIk: Tensor, bias_O: Tensor | None = None, *, kind: str = "repeat", phase: str = "odd"
) -> Tensor:
    """Twice the length, then ``conv1d_naive``: kind "repeat" doubles every position, kind "zeros" puts them at the
    odd (or, with phase "even", the even) positions between zeros."""
    if kind == "repeat":
        return conv1d_naive(x_BLI.repeat_interleave(2, dim=1), weight_OIk, bias_O)
    zeros = torch.zeros_like(x_BLI)
    pair = (x_BLI, zeros) if phase == "even" else (zeros, x_BLI)
    return conv1d_naive(torch.stack(pair, dim=2).flatten(1, 2), weight_OIk, bias_O)


def upsample_kernel(
    weight_OI5: Tensor, bias_O: Tensor | None = None, *, kind: str = "repeat", phase: str = "odd"
) -> tuple[Tensor, Tensor | None]:
    """A kernel (2 O, I, 3) and bias (2 O,) that give ``upsample_conv1d_naive`` for k = 5 with 60 % of its work.

    Output 2i and output 2i + 1 each see only x[i - 1 .. i + 1]: one ``conv1d`` with 3 taps and 2 O channels, whose
    output read as (B, 2L, O) is already interleaved.
    """
    w0, w1, w2, w3, w4 = weight_OI5.unbind(-1)
    none = torch.zeros_like(w0)
    if kind == "repeat":
        even, odd = (w0 + w1, w2 + w3, w4), (w0, w1 + w2, w3 + w4)
    elif phase == "odd":
        even, odd = (w1, w3, none), (w0, w2, w4)
    else:
        even, odd = (w0, w2, w4), (none, w1, w3)
    weight = torch.cat([torch.stack(even, -1), torch.stack(odd, -1)])
    return weight, None if bias_O is None else torch.cat([bias_O, bias_O])


def as_stored(weight_OIk: Tensor) -> Tensor:
    """The same weight, laid out as ``conv1d`` reads it: worth it before many calls."""
    return weight_OIk.transpose(1, 2).contiguous().transpose(1, 2)
