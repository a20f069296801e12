"""The selective scan's implementations against its definition: python benchmarks/ssm_scan.py [--length 8192]

One Mamba layer of Caduceus (E = 512 channels, N = 16 states), both directions as rows; forward, and forward plus
backward; CPU seconds and peak memory above the inputs. On a CUDA machine the same table for the device, in bf16.
"""

from __future__ import annotations

import argparse
import os

import torch
from torch import Tensor

from _measure import Job, interleaved, peak_above, table
from nexvar.ops import ssm_scan_cpu, ssm_scan_triton
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cuda = torch.cuda.is_available()
    inputs = problem(options.length, "cuda" if cuda else "cpu", torch.bfloat16 if cuda else torch.float32)
    fast = ["torch", "triton"] if cuda else ["torch", "c"]
    print(f"L {options.length}, {options.threads} threads")
    print(f"C: {ssm_scan_cpu.status()}; Triton: {ssm_scan_triton.status()}\n")
    rows: list[tuple[object, ...]] = []
    for backward in (False, True):
        jobs = {name: job(inputs, name, backward) for name in ("naive", *fast)}
        times = interleaved(jobs, options.repeats)
        for name, own in times.items():
            pass_ = "forward + backward" if backward else "forward"
            ratios = times["naive"].wall / own.wall, times["naive"].cpu / own.cpu
            rows.append((pass_, name, own.wall, own.cpu, *ratios, peak_above(jobs[name]) / 2**20))
    print(table(("pass", "scan", "wall s", "CPU s", "wall x", "CPU x", "MiB above"), rows))


if __name__ == "__main__":
    main()
