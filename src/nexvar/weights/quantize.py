"""Smaller weights: int8 and int4, NF4 (bitsandbytes, for QLoRA). Activations keep the model's dtype.

    int8  one scale per row; 8 bits              int4  scale and offset per 128, 64 or 32 inputs; about 4.25 to 5 bits
    nf4   4-bit normal-float codes, blocks of 64, their scales quantised too; about 4.13 bits; gradients pass through

Which layers: the linear ones that the architecture names in ``QUANTIZED`` (attention and MLP projections). Filters,
norms, routers, embeddings, heads and whatever feeds a recurrence keep their precision, and so does an FP8 projection,
whose scales belong to the exact weights.

On CPUs int8 and int4 are NexVar's own (``ops/quantized.py``), elsewhere torchao's.
Layers are quantised one at a time while the checkpoint is read, so that memory never holds the unquantised model.
NOTE: int4 on CUDA goes through torchao's tinygemm kernel, in bfloat16 only; it was not run here.
"""

from __future__ import annotations

import fnmatch
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.ops.quantized import Int4Linear, Int8Linear
from nexvar.weights import machine

METHODS = ("int8", "int4", "nf4")
GROUPS = (128, 64, 32)  # inputs that share a scale in int4: the largest that divides a layer's
# Of devices other than CPUs; NF4 on all.
PACKAGES = {"int8": "torchao", "int4": "torchao", "nf4": "bitsandbytes"}


@dataclass(frozen=True)
class Quantizer:
    """Puts quantised layers into a module, one at a time. ``check`` first."""

    method: str
    patterns: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype

    def put(self, module: nn.Module, name: str, weight_OI: Tensor, dtype: torch.dtype) -> bool:
        """If ``name`` is a weight to quantise, replace its layer by a quantised one (its bias is left as it is)."""
        if not is_quantized(module, name, self.patterns):
            return False
        if self.method == "nf4" and not nf4_fits(*weight_OI.shape):
            return False
        path = name.removesuffix(".weight")
        old = module.get_submodule(path)
        weight_OI = weight_OI.to(self.device, dtype).contiguous()
        new = self._nf4(weight_OI) if self.method == "nf4" else self._codes(weight_OI)
        new._parameters["bias"] = old._parameters["bias"]
        module.set_submodule(path, new)
        if self.device.type == "cpu":
            machine.trim_heap()  # the quantizers' temporaries would pile up to several times the result
        return True

    def _nf4(self, weight_OI: Tensor) -> nn.Module:
        bnb: Any = importlib.import_module("bitsandbytes")
        outputs, inputs = weight_OI.shape
        with torch.device("meta"):
            layer: nn.Module = bnb.nn.Linear4bit(inputs, outputs, compute_dtype=self.dtype, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(weight_OI, requires_grad=False, quant_type="nf4", module=layer).to(self.device)
        return layer

    def _codes(self, weight_OI: Tensor) -> nn.Module:
        group = int4_group(*weight_OI.shape) if self.method == "int4" else None
        if self.device.type != "cpu":
            return _torchao(weight_OI, group)
        return Int8Linear(weight_OI) if group is None else Int4Linear(weight_OI, group)


def _torchao(weight_OI: Tensor, group: int | None) -> nn.Module:
    """int4 in groups of inputs, or int8 without."""
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    with torch.device("meta"):
        layer = nn.Linear(weight_OI.shape[1], weight_OI.shape[0])
    layer.weight = nn.Parameter(weight_OI, requires_grad=False)
    packing: Any = "tile_packed_to_4d"
    config = (
        Int8WeightOnlyConfig(set_inductor_config=False)
        if group is None
        else Int4WeightOnlyConfig(group, int4_packing_format=packing, set_inductor_config=False)
    )
    quantize_(layer, config)
    return layer


def quantizer(method: str | None, architecture: str, device: torch.device, dtype: torch.dtype) -> Quantizer | None:
    """The ``Quantizer`` for a method, None for none; NexVarError for an unknown or impossible one."""
    if method is None:
        return None
    if method not in METHODS:
        raise NexVarError(f"no quantisation {method!r}", where="quantize", fix=f"one of {', '.join(METHODS)}, or None")
    if method != "int8" and device.type not in ("cpu", "cuda"):
        raise NexVarError(f"{method} runs on CPUs and CUDA, not on {device}", where="quantize", fix="int8")
    if method == "int4" and device.type == "cuda" and dtype != torch.bfloat16:
        raise NexVarError("int4 on CUDA computes in bfloat16", where="quantize", fix='dtype="bfloat16"')
    _import(method, device)
    return Quantizer(method, models.get(architecture).QUANTIZED, device, dtype)


def _import(method: str, device: torch.device) -> None:
    package = PACKAGES[method]
    if package == "torchao" and device.type == "cpu":
        return
    try:
        with _quiet("torchao", "torch.utils._pytree"):
            importlib.import_module("torchao.quantization" if package == "torchao" else package)
    except ImportError as error:
        raise NexVarError(
            f"{method} needs {package} ({error})", where="quantize", fix="pip install 'nexvar[quantize]'"
        ) from error


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """No warnings of these loggers: torchao lists every kernel that was built for another machine."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def is_quantized(module: nn.Module, name: str, patterns: tuple[str, ...]) -> bool:
    """Does ``name`` (``….weight``) belong to a linear layer that the patterns name and that is not FP8?"""
    if not name.endswith(".weight") or not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
        return False
    layer = module.get_submodule(name.removesuffix(".weight"))
    return isinstance(layer, nn.Linear) and not getattr(layer, "fp8", False)


def stored(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that a parameter consists of: itself, or codes and scales of a quantised one."""
    return [getattr(tensor, name) for name in getattr(tensor, "tensor_data_names", ())] or [tensor]


def int4_group(outputs: int, inputs: int) -> int | None:
    """Inputs per scale in int4; None where the kernels cannot pack the layer, which then becomes int8."""
    return next((g for g in GROUPS if inputs % g == 0), None) if outputs % 16 == 0 else None


def nf4_fits(outputs: int, inputs: int) -> bool:
    """Can bitsandbytes' kernels pack the layer? One that they cannot keeps its precision."""
    return outputs % 32 == 0 and inputs % 64 == 0


def weight_bytes(outputs: int, inputs: int, method: str | None, itemsize: int) -> float:
    """Bytes of one linear layer's weight as ``method`` stores it; itemsize: of the model's dtype.

    NF4: once used on a CPU; elsewhere its scales stay quantised, which is 3 % less.
    """
    count = outputs * inputs
    if method is None or (method == "nf4" and not nf4_fits(outputs, inputs)):
        return count * itemsize
    if method == "nf4":
        return count * (1 / 2 + 2 / 64)
    group = int4_group(outputs, inputs) if method == "int4" else None
    return count + 4 * outputs if group is None else count * (1 / 2 + 2 * itemsize / group)
