"""In which arithmetic this processor computes products of bfloat16 tensors. Storage and arithmetic are two choices.

Processors without bfloat16 units multiply bfloat16 matrices six to a hundred times slower than float32 ones. There,
products of many rows are computed in float32 (operands raised, sums in float32, the result rounded once: what units
for bfloat16 do too), while products of few rows, which are bound by reading the weights, stay in bfloat16.

    probe, once per machine (a tenth of a second, kept in the user's cache)  ──>  "bfloat16" or "float32"
    NEXVAR_CPU_MATMUL = bfloat16 | float32                                   ──>  overrides it; says so if that is slow
"""

from __future__ import annotations

import functools
import hashlib
import os
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar import files
from nexvar.errors import NexVarError
from nexvar.ops import compiled
from nexvar.threads import one_thread

VARIABLE = "NEXVAR_CPU_MATMUL"
ARITHMETICS = ("bfloat16", "float32")
FEW_ROWS = 16  # up to here a product costs what reading the weights costs, in either arithmetic
PROBE_ROWS, PROBE_WIDTH, PROBE_TURNS = 256, 512, 5
_told: str | None = None  # the arithmetic that ``use`` was given
CLEARLY = 1.25  # bfloat16 is chosen where float32 takes this many times as long; in doubt float32


def is_raised(x: Tensor) -> bool:
    """Whether products of many rows of ``x`` are computed in float32: bfloat16 on a CPU that has no units for it."""
    return in_float32(x.dtype, x.device)


def in_float32(dtype: torch.dtype, device: torch.device) -> bool:
    """``is_raised`` of tensors of that dtype there."""
    return dtype == torch.bfloat16 and device.type == "cpu" and cpu_products() == "float32"


def use(arithmetic: str) -> None:
    """From now on this process has that arithmetic, whatever a probe says: a worker has its parent's."""
    global _told
    os.environ[VARIABLE] = _told = arithmetic
    cpu_products.cache_clear()


@functools.cache
def cpu_products() -> str:
    """ "bfloat16" or "float32": the arithmetic of this CPU's bfloat16 products; NexVarError for a wrong override."""
    wanted = os.environ.get(VARIABLE) or "auto"
    if wanted in ARITHMETICS:
        if wanted == "bfloat16" != _told and _remembered(_probe) != wanted:
            slow = "this processor multiplies bfloat16 matrices more slowly than float32 ones; unset it"
            warnings.warn(f"{VARIABLE}=bfloat16: {slow}", stacklevel=2)
        return wanted
    if wanted != "auto":
        fix = f"auto, {' or '.join(ARITHMETICS)}"
        raise NexVarError(f"no arithmetic {wanted!r}", where=f"the environment variable {VARIABLE}", fix=fix)
    return _remembered(_probe)


def _probe() -> str:
    """Time both arithmetics in turn on a small product: CPU seconds of one thread, which others do not disturb."""
    draw = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, PROBE_WIDTH, generator=draw) for n in (PROBE_ROWS, PROBE_WIDTH))
    stored_x, stored_weight = x.bfloat16(), weight.bfloat16()
    jobs: dict[str, Callable[[], object]] = {
        "bfloat16": lambda: F.linear(stored_x, stored_weight),
        "float32": lambda: F.linear(stored_x.float(), stored_weight.float()).bfloat16(),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with one_thread(), torch.inference_mode():
        for turn in range(PROBE_TURNS + 1):
            for name, job in jobs.items():
                start = time.thread_time()
                job()
                if turn:  # the first call of each prepares its kernels
                    times[name].append(time.thread_time() - start)
    return _faster(times)


def _faster(times: dict[str, list[float]]) -> str:
    """Medians: what disturbs less than half of the turns does not count."""
    medians = {name: statistics.median(seen) for name, seen in times.items()}
    return "bfloat16" if medians["bfloat16"] * CLEARLY < medians["float32"] else "float32"


def _remembered(probe: Callable[[], str]) -> str:
    """The answer of an earlier process on this processor with this torch, so that one machine has one arithmetic."""
    machine = f"{compiled.processor()} {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"
    machine += os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    answer = ""
    with suppress(OSError, NexVarError):  # no cache to read or to write: the answer is this process's alone
        path = compiled.cache_folder() / f"products-{hashlib.sha256(machine.encode()).hexdigest()[:16]}"
        if path.exists() and (known := path.read_text()) in ARITHMETICS:
            return known
        answer = probe()
        files.write_bytes(path, answer.encode())
    return answer or probe()
