"""The towers of a U-Net over sequences, each block steered by conditions such as a species.

    x = gelu(conv5(LN x)); x = x + gate * gelu(conv1(LN x))          LN(x) * prod(1 + scale_i) + sum(shift_i)
    down: then the mean of every two positions                       gate = prod(1 + g_i)
    up: conv5 doubles the length; then + skip

Blocks run over pieces of the sequence, so that what lies between their layers stays in cache and memory holds one
tensor per level. GELU is the tanh form. Module names are those of NTv3's checkpoints.
B batch, L length, C channels, E width of a condition, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.ops.conv1d import as_stored, conv1d, upsample_kernel
from nexvar.ops.linear import linear

LAYER_NORM_EPS = 1e-5
# Numbers per tensor while a block runs: what fits a CPU's cache, what hides a GPU's launches.
PIECE_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 27}

Kernel = tuple[Tensor, Tensor | None]


class Conditions:
    """The embedded conditions of a batch: vectors (B, E), and for each a mask (B,), True where it applies, or None."""

    def __init__(self, vectors: Sequence[Tensor], masks: Sequence[Tensor | None]) -> None:
        self.vectors, self.masks = vectors, masks

    def project(self, layers: nn.ModuleList) -> list[Tensor]:
        """(B, 1, O) of each condition; zero where it does not apply."""
        out = []
        for layer, vector_BE, mask_B in zip(layers, self.vectors, self.masks, strict=True):
            y_B1O = layer(vector_BE).unsqueeze(1)
            out.append(y_B1O if mask_B is None else y_B1O.masked_fill(~mask_B[:, None, None], 0.0))
        return out


def modulations(conditions: Sequence[int], outputs: int) -> nn.ModuleList | None:
    """One projection for each condition's width; None without conditions."""
    return nn.ModuleList(nn.Linear(width, outputs) for width in conditions) if conditions else None


class AdaptiveLayerNorm(nn.LayerNorm):
    """LayerNorm whose scale and shift the conditions change; a plain one without conditions."""

    def __init__(self, width: int, conditions: Sequence[int] = (), eps: float = LAYER_NORM_EPS) -> None:
        super().__init__(width, eps=eps)
        self.modulation_layers = modulations(conditions, 2 * width)

    def forward(self, input: Tensor, conditions: Conditions | None = None) -> Tensor:
        if conditions is None or self.modulation_layers is None:
            return super().forward(input)
        weight: Tensor = self.weight  # folded with the conditions' scale and shift: one pass over the input less
        bias: Tensor = self.bias
        shifts = []
        for both in conditions.project(self.modulation_layers):
            shift, scale = both.chunk(2, -1)
            weight, bias = weight * (1 + scale), bias * (1 + scale)
            shifts.append(shift)
        return torch.addcmul(bias + sum(shifts), F.layer_norm(input, self.normalized_shape, eps=self.eps), weight)


def add_gated(x: Tensor, branch: Tensor, layers: nn.ModuleList | None, conditions: Conditions | None) -> Tensor:
    """x + prod(1 + g_i) * branch; x + branch without conditions."""
    if conditions is None or layers is None:
        return x + branch
    gate, *others = (1 + g for g in conditions.project(layers))
    for other in others:
        gate = gate * other
    return torch.addcmul(x, branch, gate)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class ConvBlock(nn.Module):
    """gelu(conv(LN(x))), k odd. up: "repeat" or "zeros" doubles the length (see ``ops.conv1d.upsample_conv1d_naive``).

    NOTE: NTv3 stores the up tower's 1-wide convolutions, and its 5-wide ones of kind "zeros", as (inputs, outputs, k).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        k: int,
        *,
        conditions: Sequence[int] = (),
        up: str | None = None,
        phase: str = "odd",
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.layer_norm = AdaptiveLayerNorm(inputs, conditions)
        self.up, self.phase, self.transposed = up, phase, transposed
        self.conv: nn.Conv1d | nn.ConvTranspose1d
        self.conv = (nn.ConvTranspose1d if transposed else nn.Conv1d)(inputs, outputs, k)

    def kernel(self) -> Kernel:
        """Weight (O, inputs, k), or (2 O, inputs, 3) where the length doubles, and bias, ready for ``conv1d``."""
        weight: Tensor = self.conv.weight.transpose(0, 1) if self.transposed else self.conv.weight
        bias = self.conv.bias
        if self.up is not None:
            weight, bias = upsample_kernel(weight, bias, kind=self.up, phase=self.phase)
        return as_stored(weight), bias

    def forward(
        self, x_BLC: Tensor, kernel: Kernel, conditions: Conditions | None, inside_BL: Tensor | None = None
    ) -> Tensor:
        h = self.layer_norm(x_BLC, conditions)
        weight, bias = kernel
        if weight.shape[-1] == 1:
            return gelu(linear(h, weight[..., 0], bias))
        if inside_BL is not None:  # beyond a row's end there is nothing, as beyond the end of an unpadded row
            h = h * inside_BL[..., None]
        y = gelu(conv1d(h, weight, bias))
        return y if self.up is None else y.reshape(len(y), 2 * y.shape[1], -1)


class _Residual(nn.Module):
    def __init__(self, width: int, conditions: Sequence[int], transposed: bool) -> None:
        super().__init__()
        self.conv_block = ConvBlock(width, width, 1, conditions=conditions, transposed=transposed)
        self.modulation_layers = modulations(conditions, width)

    def forward(self, x_BLC: Tensor, kernel: Kernel, conditions: Conditions | None) -> Tensor:
        branch = self.conv_block(x_BLC, kernel, conditions)
        return add_gated(x_BLC, branch, self.modulation_layers, conditions)


class TowerBlock(nn.Module):
    """One level of a tower. up: None halves the length, "repeat" and "zeros" double it."""

    def __init__(
        self, inputs: int, outputs: int, *, conditions: Sequence[int] = (), up: str | None = None, phase: str = "odd"
    ) -> None:
        super().__init__()
        self.up = up
        self.conv = ConvBlock(inputs, outputs, 5, conditions=conditions, up=up, phase=phase, transposed=up == "zeros")
        self.res_conv = _Residual(outputs, conditions, transposed=up is not None)

    def forward(
        self,
        x_BLC: Tensor,
        conditions: Conditions | None = None,
        *,
        inside_BL: Tensor | None = None,
        skip_BLC: Tensor | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, L, C) -> (B, L / 2, O) or (B, 2L, O) + skip; and, with ``keep``, what it was before halving or skip.

        inside_BL: False beyond the end of a row that is shorter than L.
        """
        wide, narrow = self.conv.kernel(), self.res_conv.conv_block.kernel()
        factor = 1 if self.up is None else 2
        outs, before = [], []
        for first, start, stop, last in _pieces(x_BLC):
            inside = None if inside_BL is None else inside_BL[:, first:last]
            y = self.conv(x_BLC[:, first:last], wide, conditions, inside)
            y = self.res_conv(y[:, (start - first) * factor : (stop - first) * factor], narrow, conditions)
            if keep:
                before.append(y)
            if self.up is None:
                y = (y[:, 0::2] + y[:, 1::2]) * 0.5
            elif skip_BLC is not None:
                y = y + skip_BLC[:, start * factor : stop * factor]
            outs.append(y)
        return _join(outs), _join(before) if keep else None


def _pieces(x_BLC: Tensor) -> Iterator[tuple[int, int, int, int]]:
    """(first, start, stop, last): positions start .. stop, with the 2 neighbours a 5-wide convolution sees.

    With gradients there is one piece: the graph keeps every intermediate anyway.
    """
    batch, length, width = x_BLC.shape
    most = PIECE_ELEMENTS.get(x_BLC.device.type, PIECE_ELEMENTS["cuda"])
    size = length if torch.is_grad_enabled() else max(16, most // (batch * width) // 2 * 2)
    for start in range(0, length, size):
        stop = min(start + size, length)
        yield max(0, start - 2), start, stop, min(length, stop + 2)


def _join(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
