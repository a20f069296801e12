"""Measuring on a shared machine: interleaved contestants, CPU time, peak memory, this machine's matmul rate.

Wall times vary threefold when others use the machine, CPU times by a fifth: every claim here is a ratio of
two contestants that took turns in one process.

A benchmark is a script with a function ``rows(full)`` that yields a ``Row`` for every comparison, and
``report(__doc__, rows)`` at its end, which makes it a command; ``bench.py`` runs them all.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nexvar.errors import NexVarError

Job = Callable[[], object]


class Row(NamedTuple):
    """What ``case`` takes (``ours``) and what it stands against takes (``other``), of runs in turn; less is better.

    Words and unit stay the same, shapes included: under them the ratio is recorded and found again.
    """

    case: str
    against: str
    ours: float
    other: float
    unit: str = "CPU-s"

    @property
    def ratio(self) -> float:
        return self.ours / self.other

    @property
    def key(self) -> tuple[str, str, str]:
        return self.case, self.against, self.unit


HEADER = ("case", "against", "ours", "other", "unit", "ratio")


def report(page: str | None, rows: Callable[..., Iterable[Row]], *files: str) -> None:
    """The command line of a benchmark: run it, and print each row at once and all of them as a table.

    ``rows`` is called with ``full`` and with an optional path for each name of ``files``.
    """
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = parser.add_mutually_exclusive_group()
    shapes.add_argument("--quick", action="store_true", help="small shapes, what `make bench` runs (the default)")
    shapes.add_argument("--full", action="store_true", help="the shapes of the tables in docs/performance.md")
    parser.add_argument("--threads", type=int, default=1, help="1 is the steadiest on a busy machine (the default)")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    for name in files:
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads is {options.threads}: 1 or more")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    found = []
    try:
        for row in rows(options.full, **{name: getattr(options, name) for name in files}):
            found.append(row)
            print(f"{row.case}, against {row.against}: {row.ratio:.3g} ({row.unit})", flush=True)
            if options.json:
                options.json.write_text(json.dumps(found))
    except NexVarError as error:
        parser.error(str(error))
    print("\n" + table(HEADER, [(*row, row.ratio) for row in found]))


class Timing(NamedTuple):
    """Lowest of the repeats, in seconds (others on the machine only add); ``cpu``: user + system, all threads."""

    wall: float
    cpu: float


def interleaved(jobs: dict[str, Job], repeats: int = 3, warmup: int = 1) -> dict[str, Timing]:
    """Run the jobs in turn (a, b, a, b, …) and return each one's lowest times."""
    for _ in range(warmup):
        for job in jobs.values():
            job()
    seen: dict[str, list[Timing]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            gc.collect()
            _synchronize()
            wall, cpu = time.perf_counter(), time.process_time()
            job()
            _synchronize()
            seen[name].append(Timing(time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timing(min(t.wall for t in ts), min(t.cpu for t in ts)) for name, ts in seen.items()}


def peak_above(job: Job) -> int:
    """Bytes of memory that ``job`` needs beyond what the process holds before it (the model, the inputs).

    CUDA: torch's own counter. Otherwise the kernel's high-water mark of resident memory (Linux only).
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # otherwise freed arenas count as "before"
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the present VmRSS
    before = _status_bytes("VmRSS")
    job()
    return max(_status_bytes("VmHWM") - before, 4096)  # a page: less cannot be told from nothing


class Run(NamedTuple):
    """One run: what the job returned, seconds, and bytes above what the process held before."""

    result: Any
    wall: float
    cpu: float
    memory: int


def run_once(job: Job) -> Run:
    """Time and memory of the same run, for jobs too long to be run for each."""
    found: list[tuple[object, float, float]] = []

    def timed() -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        result = job()
        _synchronize()
        found.append((result, time.perf_counter() - wall, time.process_time() - cpu))

    memory = peak_above(timed)
    return Run(*found[0], memory)


def compare(case: str, ours: Job, against: str, other: Job, *, repeats: int = 3, apart: float = 1e-3) -> Iterator[Row]:
    """Time and peak memory of two jobs that return the same tensor; an error if theirs differ by more than ``apart``,
    relative to the largest value."""
    expected = other().float()
    difference = float((ours().float() - expected).abs().max() / expected.abs().max())
    if not difference <= apart:
        raise SystemExit(f"{case}: the contestants differ by {difference:.1e}")
    yield timed_row(case, against, interleaved({"ours": ours, "other": other}, repeats, warmup=0))
    yield Row(case, against, peak_above(ours) / 1e6, peak_above(other) / 1e6, "MB")


def timed_row(case: str, against: str, times: dict[str, Timing]) -> Row:
    """Of two contestants, ours first: CPU seconds, or seconds where a GPU computes."""
    mine, theirs = times.values()
    if torch.cuda.is_available():
        return Row(case, against, mine.wall, theirs.wall, "s")
    return Row(case, against, mine.cpu, theirs.cpu)


def at_matmul_rate(row: Row, flops: float, dtype: torch.dtype = torch.float32) -> Row:
    """The time of ``row`` against that of as many operations at this machine's matmul rate."""
    return Row(row.case, "its operations at the matmul rate", row.ours, flops / 1e9 / matmul_rate(dtype), row.unit)


def matmul_rate(dtype: torch.dtype = torch.float32, size: int = 1536, repeats: int = 5) -> float:
    """The best rate of a square matmul of this machine now, in GFLOP per CPU-second (per second on CUDA)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats + 1):
        _synchronize()
        start = time.perf_counter() if device == "cuda" else time.process_time()
        a @ b
        _synchronize()
        end = time.perf_counter() if device == "cuda" else time.process_time()
        times.append(end - start)
    return 2 * size**3 / min(times[1:]) / 1e9


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats get three significant digits."""
    cells = [[_cell(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
