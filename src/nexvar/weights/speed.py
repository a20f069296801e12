"""How long a token takes on this machine: what the machine can do, measured shortly, and what the model's shapes ask.

    seconds a token = (2 x weights it meets + attention over the window) / products a second     measured here, now
                    + PASSES x layers x width / elementwise steps a second                       measured here, now

Of experts a token meets a few; in a U-Net's depths there are fewer positions than tokens. The constants were fitted to
single-threaded forwards of seven small models over 1,000 tokens on a CPU, which took 0.8 to 1.3 times of this.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nexvar.models import GenomicModel, block_taps
from nexvar.ops.arithmetic import is_raised

SHAPES = {"cpu": ((1024, 512, 1024), (2048, 256, 1024)), "cuda": ((8192, 4096, 4096), (32768, 1024, 4096))}
ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}
TURNS, LONGEST = 5, 0.3  # seconds of one kind of measurement, at most (and one turn of it)
PASSES = 10  # elementwise steps of a layer, per column: norms, gates, sums, short filters
UNCERTAIN = (0.5, 2.0)  # other programs, padding, kernels that are slower than a large product


@dataclass(frozen=True)
class Speed:
    """Of one device and dtype: floating-point operations a second in products, and elementwise results a second."""

    products: float
    elements: float


@dataclass(frozen=True)
class Work:
    """Of one token. products: operations in products with weights; attention: operations for every token it looks at;
    elements: results of elementwise steps."""

    products: float
    attention: float
    elements: float
    causal: bool

    def seconds(self, length: float, speed: Speed) -> float:
        """How long one token takes in a window of so many tokens."""
        seen = length / 2 if self.causal else length
        return (self.products + self.attention * seen) / speed.products + self.elements / speed.elements


def work(module: GenomicModel) -> Work:
    """What a token costs in this model; its shapes alone are looked at (it may be on the meta device)."""
    config: Any = module.config
    met = getattr(config, "num_experts_per_tok", 1) / getattr(config, "num_local_experts", 1)
    products = 0.0
    for name, weight in module.named_parameters():
        if "embed" not in name:  # a look-up
            products += 2 * weight.numel() * (met if ".experts." in name else 1) * module.positions_per_token(name)
    kinds = [type(part).__name__ for part in module.modules()]
    layers = kinds.count("_SelfAttention") or kinds.count("Attention") + kinds.count("_Attention")
    depth = len(block_taps(module.tap_names))
    elements = PASSES * depth * config.width
    if states := getattr(config, "d_state", 0):  # a selective scan updates every state of every column, both ways
        elements += 2 * states * config.inner * depth * (config.width // config.d_model)
    return Work(products, 4.0 * layers * config.width, float(elements), module.causal)


def measure(device: torch.device, dtype: torch.dtype) -> Speed:
    """This machine's speed now, in the arithmetic that products of ``dtype`` have here. Under a second; kept."""
    return _measure(device.type, dtype)


@functools.cache
@torch.inference_mode()
def _measure(kind: str, dtype: torch.dtype) -> Speed:
    size = "cuda" if kind == "cuda" else "cpu"
    rates = []
    for rows, inner, columns in SHAPES[size]:
        x, weight = (torch.full((n, inner), 0.01, device=kind, dtype=dtype) for n in (rows, columns))
        rates.append(2 * rows * inner * columns / _median(lambda x=x, w=weight: _product(x, w), kind))  # type: ignore[misc]
    flat = torch.full((ELEMENTS[size],), 0.01, device=kind, dtype=dtype)
    return Speed(statistics.mean(rates), len(flat) / _median(lambda: flat * flat, kind))


def _product(x: Tensor, weight: Tensor) -> Tensor:
    if is_raised(x):
        return torch.nn.functional.linear(x.float(), weight.float()).bfloat16()
    return torch.nn.functional.linear(x, weight)


def _median(job: Callable[[], object], kind: str) -> float:
    """Seconds of one call: the median of some, after one that prepares its kernels."""
    times: list[float] = []
    first = time.perf_counter()
    for turn in range(TURNS + 1):
        start = time.perf_counter()
        job()
        if kind == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if turn and time.perf_counter() - first > LONGEST:
            break
    return statistics.median(times[1:])


def human_time(seconds: float) -> str:
    """4000 -> "1.1 h"."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            count = seconds / size
            return f"{count:.1f} {unit}" if count < 10 else f"{count:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s or less"
