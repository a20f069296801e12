"""A linear layer in the arithmetic that this machine computes fastest; the weights stay as they are stored.

    float32    CPU            oneDNN, where torch's own choice is MKL: 60 to 90 % of oneDNN's rate on AMD processors
                              (measured on EPYC: 75 against 110 GFLOP per CPU-second at 4096 x 512 x 2048)
    bfloat16   CPU, few rows  a product that reads each weight once (``matvec.py``)
               CPU, no units  many rows: the weight is raised to float32 a panel at a time, which fits the cache
    all else                  ``F.linear``: CUDA, processors with bfloat16 units, training, compiled graphs

``arithmetic.py`` decides, by a measurement, whether bfloat16 has units here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.ops import matvec
from nexvar.ops.arithmetic import is_raised

WORTHWHILE = 1 << 24  # multiply-adds; below it oneDNN's per-call overhead shows
MATVEC_WORTHWHILE = 1 << 17  # weights; below it the call itself shows
PANEL_BYTES = 1 << 23  # of a weight in float32
PANEL_ROWS = 2048  # rows of the input that are in float32 at a time

linear_naive = F.linear


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x (..., I) @ weight^T + bias -> (..., O) in x's dtype; the same numbers as ``F.linear`` to its rounding."""
    if _onednn_pays(x, weight_OI, bias_O):
        return torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")
    rows = x.numel() // x.shape[-1]
    if 0 < rows <= matvec.MOST_ROWS and _matvec_pays(x, weight_OI, bias_O):
        return _in_registers(x, weight_OI, bias_O)
    if rows > matvec.MOST_ROWS and x.dtype == weight_OI.dtype and is_raised(x):
        if is_recorded(x, weight_OI, bias_O) or torch.compiler.is_compiling():
            bias = None if bias_O is None else bias_O.float()
            return F.linear(x.float(), weight_OI.float(), bias).to(x.dtype)
        return _of_bfloat16(x, weight_OI, bias_O)
    return F.linear(x, weight_OI, bias_O)


class Linear(nn.Linear):
    """``nn.Linear`` through ``linear``: same parameters, same names; adapters (LoRA) wrap it like any other."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def in_panels(x: Tensor, outputs: int, raised: Callable[[slice], Tensor], bias_O: Tensor | None) -> Tensor:
    """x (..., I) -> (..., O) in x's dtype: ``PANEL_ROWS`` rows of x by a panel of the weight at a time.

    raised: the weights of these outputs in float32. Products are computed and summed in float32 and rounded once; of
    bfloat16 rows in bfloat16, where the processor has units for it.
    """
    inputs = x.shape[-1]
    rows = x.reshape(-1, inputs)
    out = x.new_empty(len(rows), outputs)
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 and not is_raised(x) else torch.float32
    bias = None if bias_O is None else bias_O.to(dtype)
    size = _panel_outputs(inputs)
    for first in range(0, len(rows), PANEL_ROWS):
        piece = rows[first : first + PANEL_ROWS].to(dtype)
        for start in range(0, outputs, size):
            at = slice(start, min(start + size, outputs))
            y = linear(piece, raised(at).to(dtype), None if bias is None else bias[at])
            out[first : first + PANEL_ROWS, at] = y
    return out.view(*x.shape[:-1], outputs)


def _panel_outputs(inputs: int) -> int:
    return max(16, PANEL_BYTES // (4 * inputs) // 16 * 16)


def _of_bfloat16(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``in_panels`` of a bfloat16 weight; one buffer serves all panels."""
    outputs, inputs = weight_OI.shape
    panel_PI = weight_OI.new_empty(min(_panel_outputs(inputs), outputs), inputs, dtype=torch.float32)
    return in_panels(x, outputs, lambda at: panel_PI[: at.stop - at.start].copy_(weight_OI[at]), bias_O)


def _in_registers(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """The product of a few rows in float32, rounded once."""
    y = matvec.matvec_bfloat16(x.reshape(-1, x.shape[-1]).float(), weight_OI)
    y = y if bias_O is None else y.add_(bias_O.float())
    return y.to(x.dtype).view(*x.shape[:-1], len(weight_OI))


def _matvec_pays(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> bool:
    if x.device.type != "cpu" or not (x.dtype == weight_OI.dtype == torch.bfloat16):
        return False
    if weight_OI.numel() < MATVEC_WORTHWHILE or not weight_OI.is_contiguous() or torch.compiler.is_compiling():
        return False
    return not is_recorded(x, weight_OI, bias_O) and matvec.available()


def _onednn_pays(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> bool:
    if x.device.type != "cpu" or not (x.dtype == weight_OI.dtype == torch.float32):
        return False
    if x.numel() * weight_OI.shape[0] < WORTHWHILE or torch.compiler.is_compiling():
        return False
    # NOTE: the oneDNN op has no gradient; it would cut the graph silently.
    return torch.backends.mkldnn.is_available() and not is_recorded(x, weight_OI, bias_O)


def is_recorded(*tensors: Tensor | None) -> bool:
    """Whether autograd records what is computed of these."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
