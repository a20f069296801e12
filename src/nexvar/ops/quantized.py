"""Linear layers whose weights are int8 or int4 codes, on CPUs: a few rows multiply the codes, many rows a raised panel.

    int8  code * scale           codes (O, I) and a scale per row, whose largest magnitude is 127
    int4  code * scale + offset  packed (O, I / 2), both per group of inputs, whose extremes are 0 and 15

Few rows are bound by reading the weights (``matvec.py``), so that smaller ones are faster. Many rows go through
``linear.in_panels`` in the arithmetic that this processor has for their dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.ops import matvec
from nexvar.ops.arithmetic import FEW_ROWS
from nexvar.ops.linear import in_panels, is_recorded

PIECE = 1 << 20  # weights that are quantised at a time


class QuantizedLinear(nn.Module):
    """What both share. x (..., I) -> (..., O) in x's dtype; gradients reach x, not the weights."""

    bias: Tensor | None

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.out_features, self.in_features = outputs, inputs
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if is_recorded(x, self.bias) or torch.compiler.is_compiling():
            bias = None if self.bias is None else self.bias.float()
            return F.linear(x.float(), self.weights(slice(None)), bias).to(x.dtype)
        if not 0 < rows <= FEW_ROWS or not matvec.available():
            return in_panels(x, self.out_features, self.weights, self.bias)
        y = self.product(x.reshape(-1, self.in_features).float())
        y = y if self.bias is None else y.add_(self.bias.float())
        return y.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def weights(self, outputs: slice) -> Tensor:
        """What the codes of these outputs stand for: (outputs, I) float32."""
        raise NotImplementedError

    def product(self, x_NI: Tensor) -> Tensor:
        """x (N, I) float32, few rows -> (N, O) float32, without the bias."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(QuantizedLinear):
    """A scale per output, float32."""

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__(*weight_OI.shape)
        self.register_buffer("codes", torch.empty(weight_OI.shape, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(len(weight_OI)))
        for at in _pieces(weight_OI):
            exact = weight_OI[at].float()
            self.scale[at] = _nonzero(exact.abs().amax(1) / 127)
            self.codes[at] = (exact / self.scale[at, None]).round_().clamp_(-127, 127).to(torch.int8)

    codes: Tensor
    scale: Tensor

    def weights(self, outputs: slice) -> Tensor:
        return self.codes[outputs].float().mul_(self.scale[outputs, None])

    def product(self, x_NI: Tensor) -> Tensor:
        return matvec.matvec_int8(x_NI, self.codes, self.scale.float())


class Int4Linear(QuantizedLinear):
    """A scale and an offset per ``group`` inputs, both in the weight's dtype: two bytes each for bfloat16."""

    def __init__(self, weight_OI: Tensor, group: int) -> None:
        super().__init__(*weight_OI.shape)
        outputs, inputs = weight_OI.shape
        self.register_buffer("packed", torch.empty(outputs, inputs // 2, dtype=torch.uint8))
        self.register_buffer("scale", weight_OI.new_empty(outputs, inputs // group))
        self.register_buffer("offset", weight_OI.new_empty(outputs, inputs // group))
        for at in _pieces(weight_OI):
            exact = weight_OI[at].float().unflatten(1, (-1, group))
            low, high = exact.aminmax(dim=-1)
            self.offset[at] = low
            self.scale[at] = _nonzero(((high - low) / 15).to(weight_OI.dtype))
            codes = (exact - self.offset[at, :, None].float()).div_(self.scale[at, :, None].float())
            codes = codes.round_().clamp_(0, 15).to(torch.uint8)
            self.packed[at] = matvec.pack_int4(codes.flatten(1), group)

    packed: Tensor
    scale: Tensor
    offset: Tensor

    def weights(self, outputs: slice) -> Tensor:
        return matvec.unpack_int4(self.packed[outputs], self.scale[outputs].float(), self.offset[outputs].float())

    def product(self, x_NI: Tensor) -> Tensor:
        scale, offset = (t if t.dtype == torch.bfloat16 else t.float() for t in (self.scale, self.offset))
        return matvec.matvec_int4(x_NI, self.packed, scale, offset)


def _nonzero(scale: Tensor) -> Tensor:
    """1 where all weights are the same: what is divided by it is 0."""
    return torch.where(scale == 0, 1, scale)


def _pieces(weight_OI: Tensor) -> list[slice]:
    """Rows that are quantised at a time: temporaries are small beside a layer."""
    step = max(1, PIECE // weight_OI.shape[1])
    return [slice(start, start + step) for start in range(0, len(weight_OI), step)]
