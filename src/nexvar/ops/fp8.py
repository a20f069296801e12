"""FP8 (E4M3) linear layers with constant scales: what TransformerEngine's delayed scaling computes at inference.

    x ─ * scale[0] ─ clamp ±448 ─ e4m3 ┐
                                       ├─ product, accumulated ─ / (scale[0] * scale[1]) ─ x's dtype
    W ─ * scale[1] ─ clamp ±448 ─ e4m3 ┘  (W is rounded to bfloat16 first)

Evo 2 1B, 20B and 40B were trained this way and are wrong without it. How the products are accumulated matters:
- float32 accumulation (``fp8_linear`` on CPUs, MPS and GPUs other than Hopper) serves the 1B checkpoint; CPUs keep
  a byte a weight, read it as it is for a few rows (``matvec.py``) and raise a panel at a time to float32 for many;
- 20B and 40B need the narrow accumulator of Hopper GPUs: there ``torch._scaled_mm(use_fast_accum=True)`` runs, and
  ``fp8_linear_hopper_naive`` models it bit for bit (a reference for tests, a thousand times too slow to serve).

NOTE: the CUDA and MPS branches were written without such a device at hand and are untested there. Scale updates
during training are not implemented: the scales are the checkpoint's.

Legend: M rows, K inputs, N outputs.
Sources: NVIDIA TransformerEngine (delayed scaling), arXiv:2512.07004 (accumulator).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from nexvar.ops import matvec
from nexvar.ops.arithmetic import FEW_ROWS
from nexvar.ops.linear import in_panels

E4M3_MAX = 448.0
HOPPER_GROUP = 32  # products that Hopper's tensor cores align and add at once
HOPPER_FRACTION = 13  # bits kept below the largest exponent
PIECE = 1024  # rows of a weight that are quantised at a time

# weight -> (its version, the scale's version, its codes): quantised once, again after an optimiser step
_weights = WeakTensorKeyDictionary()


def quantize_e4m3(x: Tensor, scale: Tensor) -> Tensor:
    """e4m3(clamp(x * scale, ±448)), round to nearest even; any shape -> float8_e4m3fn of the same."""
    return (x.float() * scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def code_values(x: Tensor, scale: Tensor) -> Tensor:
    """The same codes as float32 values, by arithmetic on the exponent bits alone: for devices without float8 (MPS)."""
    x = (x.float() * scale).clamp(-E4M3_MAX, E4M3_MAX)
    exponent = (((x.view(torch.int32) >> 23) & 255) - 127).clamp(min=-6)
    step = ((exponent - 3 + 127) << 23).view(torch.float32)  # 2^(exponent - 3): e4m3 keeps three bits
    return torch.round(x / step) * step


def fp8_linear_naive(x: Tensor, weight_NK: Tensor, scale: Tensor) -> Tensor:
    """(…, K) -> (…, N) in x's dtype, accumulated in float64. scale: (2,) float32, of the input and of the weight."""
    x_codes = quantize_e4m3(x, scale[0]).double()
    w_codes = quantize_e4m3(weight_NK.bfloat16(), scale[1]).double()
    return ((x_codes @ w_codes.T) * _unscale(scale).double()).to(x.dtype)


def fp8_linear(x: Tensor, weight_NK: Tensor, scale: Tensor) -> Tensor:
    """The same with float32 accumulation, or the GPU's own FP8 product; the weight is quantised once and kept.

    Gradients pass through the rounding as if it were the identity (straight-through), computed in x's dtype.
    """
    y: Tensor = _Fp8Linear.apply(x, weight_NK, scale)
    return y


def fp8_linear_hopper_naive(x: Tensor, weight_NK: Tensor, scale: Tensor) -> Tensor:
    """The same through Hopper's accumulator, in x's dtype. Slow: for tests and for understanding."""
    x_codes = quantize_e4m3(x, scale[0]).reshape(-1, x.shape[-1])
    raw = hopper_matmul_naive(x_codes, quantize_e4m3(weight_NK.bfloat16(), scale[1]))
    return (raw * _unscale(scale)).to(x.dtype).view(*x.shape[:-1], -1)


def hopper_matmul_naive(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """(M, N) float32: a @ b^T of float8_e4m3fn codes as Hopper's FP8 tensor cores accumulate it.

    Per 32 products: align them and the accumulator to the largest exponent, cut each to 13 fraction bits (towards
    zero), add exactly, cut the sum to 13 fraction bits. A product's exponent is the sum of its factors' exponents;
    a subnormal factor counts as -6 (its exponent field; not verified on a GPU).
    """
    a, b = a_MK.double(), b_NK.double()
    a_exp, b_exp = ((torch.frexp(v).exponent - 1).clamp(min=-6) for v in (a, b))
    total = a.new_zeros(a.shape[0], b.shape[0])
    for k in range(0, a.shape[1], HOPPER_GROUP):
        group = slice(k, k + HOPPER_GROUP)
        product = a[:, None, group] * b[None, :, group]
        exponent = a_exp[:, None, group] + b_exp[None, :, group]
        nowhere = torch.iinfo(exponent.dtype).min
        largest = exponent.masked_fill(product == 0, nowhere).amax(-1)
        largest = torch.maximum(largest, (torch.frexp(total).exponent - 1).masked_fill(total == 0, nowhere))
        unit = torch.exp2((largest - HOPPER_FRACTION).clamp(min=-1000).double())
        total = ((product / unit[..., None]).trunc().sum(-1) + (total / unit).trunc()) * unit
        own = torch.exp2((torch.frexp(total).exponent - 1 - HOPPER_FRACTION).double())
        total = torch.where(total == 0, 0.0, (total / own).trunc() * own)
    return total.float()


def _unscale(scale: Tensor) -> Tensor:
    return (1 / scale[0]) * (1 / scale[1])


def _native(device: torch.device) -> bool:
    """Has this device its own FP8 product? (Ada, Hopper and later)"""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def float8_values(codes: Tensor) -> Tensor:
    """Finite float8_e4m3fn codes as float32: their bits in float16's places, four times as fast as torch does it."""
    bits = codes.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(-0x4080)
    return bits.view(torch.float16).float().mul_(256)


def _codes(x: Tensor, scale: Tensor) -> Tensor:
    """Codes in the form the device multiplies: float8, or their values in float32."""
    if x.device.type == "mps":
        return code_values(x, scale)
    codes = quantize_e4m3(x, scale)
    return codes if _native(x.device) else codes.float()


def _weight_codes(weight_NK: Tensor, scale: Tensor) -> Tensor:
    """(N, K) codes of a weight, kept until it changes."""

    def make() -> Tensor:
        if weight_NK.device.type != "cpu" or torch.compiler.is_compiling():
            return _codes(weight_NK.detach().bfloat16(), scale[1])
        codes = torch.cat([quantize_e4m3(w.detach().bfloat16(), scale[1]) for w in weight_NK.split(PIECE)])
        return codes if (codes.view(torch.uint8) & 127).amax() < 127 else codes.float()  # else some are no numbers

    if torch.compiler.is_compiling() or weight_NK.is_inference():  # neither has a version to compare
        return make()
    version = (weight_NK._version, weight_NK.data_ptr(), scale._version, scale.data_ptr())
    kept = _weights.get(weight_NK)
    if kept is None or kept[0] != version:
        kept = (version, make())
        _weights[weight_NK] = kept
    codes: Tensor = kept[1]
    return codes


def _product(x: Tensor, weight_NK: Tensor, scale: Tensor) -> Tensor:
    x_codes = _codes(x, scale[0])
    w_codes = _weight_codes(weight_NK, scale)
    if w_codes.dtype == torch.float8_e4m3fn and x.device.type == "cpu":
        return (_of_bytes(x_codes, w_codes) * _unscale(scale)).to(x.dtype)
    if not _native(x.device):
        return ((x_codes @ w_codes.T) * _unscale(scale)).to(x.dtype)
    rows = x_codes.reshape(-1, x.shape[-1])
    padding = -len(rows) % 16  # cuBLAS multiplies FP8 in multiples of 16
    if padding:
        rows = torch.cat([rows, rows.new_zeros(padding, rows.shape[1])])
    hopper = torch.cuda.get_device_capability(x.device) == (9, 0)
    y = torch._scaled_mm(
        rows,
        w_codes.T,
        scale_a=1 / scale[0],
        scale_b=1 / scale[1],
        out_dtype=x.dtype if x.dtype.itemsize == 2 else torch.float32,
        use_fast_accum=hopper,
    )
    return y[: len(rows) - padding].view(*x.shape[:-1], -1).to(x.dtype)


def _of_bytes(x_codes: Tensor, w_codes_NK: Tensor) -> Tensor:
    """x_codes (…, K) float32, on a CPU -> (…, N) float32."""
    rows = x_codes.reshape(-1, x_codes.shape[-1])
    if 0 < len(rows) <= FEW_ROWS and matvec.available():
        return matvec.matvec_float8(rows, w_codes_NK).view(*x_codes.shape[:-1], -1)
    return in_panels(x_codes, len(w_codes_NK), lambda at: float8_values(w_codes_NK[at]), None)


class _Fp8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_NK: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight_NK, scale)
        return _product(x, weight_NK, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight_NK, scale = ctx.saved_tensors
        grad = grads[0]
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ (_weight_codes(weight_NK, scale).float() / scale[1]).to(grad.dtype)
        if ctx.needs_input_grad[1]:
            rows = (_codes(x, scale[0]).float() / scale[0]).to(grad.dtype).reshape(-1, x.shape[-1])
            grad_w = (grad.reshape(-1, grad.shape[-1]).T @ rows).to(weight_NK.dtype)
        return grad_x, grad_w, None
