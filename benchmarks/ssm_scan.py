"""The selective scan's implementations against its definition: ``python benchmarks/ssm_scan.py [--full]``.

One Mamba layer of Caduceus (E = 512 channels, N = 16 states) over 2,048 steps (--full: 8,192), both directions as rows;
forward, and forward plus backward; time and peak memory above the inputs. On a CUDA machine the device's, in bfloat16.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import Tensor

from _measure import Job, Row, interleaved, peak_above, report, timed_row
from nexvar.ops.ssm_scan import selective_scan


def problem(length: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    rows, channels, states = 2, 512, 16
    u, B, C = (torch.randn(rows, length, n) for n in (channels, states, states))
    dt, A = 0.1 * torch.rand(rows, length, channels), -16 * torch.rand(2, channels, states)
    D = torch.randn(2, channels)
    wide = [x.to(device, dtype).requires_grad_() for x in (u, dt)]
    return [*wide, A.to(device).requires_grad_(), *(x.to(device, dtype).requires_grad_() for x in (B, C)), D.to(device)]


def job(inputs: list[Tensor], backend: str, backward: bool) -> Job:
    def run() -> None:
        os.environ["NEXVAR_SCAN"] = backend
        if not backward:
            with torch.no_grad():
                selective_scan(*inputs)
            return
        y, _ = selective_scan(*inputs)
        torch.autograd.grad(y, [x for x in inputs if x.requires_grad], torch.ones_like(y))

    return run


def rows(full: bool) -> Iterator[Row]:
    length, cuda = 8192 if full else 2048, torch.cuda.is_available()
    inputs = problem(length, "cuda" if cuda else "cpu", torch.bfloat16 if cuda else torch.float32)
    fast = ["torch", "triton"] if cuda else ["torch", "c"]
    for what, backward in (("forward", False), ("forward and backward", True)):
        jobs = {name: job(inputs, name, backward) for name in ("naive", *fast)}
        times = interleaved(jobs, repeats=3)
        memory = {name: peak_above(job) / 1e6 for name, job in jobs.items()}
        for name in fast:
            case = f"{what} of {length:,} steps, {name}"
            yield timed_row(case, "naive", {who: times[who] for who in (name, "naive")})
            yield Row(case, "naive", memory[name], memory["naive"], "MB")


if __name__ == "__main__":
    report(__doc__, rows)
