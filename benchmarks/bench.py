"""Every benchmark that a CPU can run, one table: ``make bench``, or ``python benchmarks/bench.py [NAME ...]``.

Each script runs by itself, with its quick shapes. Every ratio stands beside the one in ``recorded.json``; what grew by
more than ``NOISE`` is named at the end. ``--record NOTE`` keeps the new values, NOTE being the state of the machine
("idle", "eight others at work"), and writes the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from _measure import HEADER, Row, matmul_rate, table
from nexvar.ops import arithmetic

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded.json"
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- written by benchmarks/bench.py --record -->", "<!-- /bench -->"
LEFT_OUT = {  # script: why `make bench` does not run it
    "bench": "is this one",
    "evo2_1b": "compares nothing: seconds of one shape",
    "gpu": "needs a CUDA machine",
    "nexvar_mito_auroc": "needs genomes and a table of variants",
    "nexvar_mito_bits": "needs genomes",
    "nexvar_mito_rest": "needs genomes",
    "nexvar_mito_sample": "needs genomes",
    "nexvar_mito_sisters": "needs genomes",
    "serve_load": "compares nothing: it holds a server to limits",
}
NOISE = 0.2  # ratios of runs in turn differ by this much from one day to the next
LIMIT_S = 900
UNITS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "i8mm", "sve"),
)


def machine() -> dict[str, Any]:
    """What decides how fast this machine is."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in reversed(lines))}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    rates = {name: round(matmul_rate(getattr(torch, name), 1024, 3)) for name in arithmetic.ARITHMETICS}
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instruction sets": " ".join(unit for unit in UNITS if unit in flags) or "not known here",
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "matmul, GFLOP per CPU-second": ", ".join(f"{name} {rate}" for name, rate in rates.items()),
        "products of bfloat16": f"in {arithmetic.cpu_products()}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def run(name: str) -> list[Row] | str:
    """The rows of one script, or what went wrong, in one line."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(rows)]
        try:
            done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"did not end in {LIMIT_S} s"
        if done.returncode or not rows.exists():
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Row(*row) for row in json.loads(rows.read_text())]


class Line(NamedTuple):
    """A line of the table."""

    benchmark: str
    row: Row
    recorded: float | None

    @property
    def grew(self) -> bool:
        return self.recorded is not None and self.row.ratio > (1 + NOISE) * self.recorded

    def cells(self) -> list[object]:
        change = "new" if self.recorded is None else f"{self.row.ratio / self.recorded - 1:+.0%}"
        return [self.benchmark, *self.row, self.row.ratio, self.recorded or "", change]

    def told(self) -> str:
        row = self.row
        return (
            f"MORE: {self.benchmark}, {row.case}, against {row.against}: {row.ratio:.3g}, recorded {self.recorded:.3g} "
            f"({row.unit})"
        )


def recorded_ratios(recorded: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """{(script, *key of the row): ratio}"""
    rows = [(name, Row(*row)) for name, rows in recorded["rows"].items() for row in rows]
    return {(name, *row.key): row.ratio for name, row in rows}


def features(of: dict[str, Any]) -> str:
    return table(("machine", ""), list(of.items()))


def page(recorded: dict[str, Any]) -> str:
    """docs/performance.md with the table of the recorded values."""
    rows = [[name, *row, Row(*row).ratio] for name, rows in recorded["rows"].items() for row in rows]
    parts = [features(recorded["machine"] | {"state": recorded["note"]}), table(("benchmark", *HEADER), rows)]
    text = "\n".join((BEGIN, "\n\n".join(parts), END))
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: text, PAGE.read_text(), flags=re.DOTALL)


def main() -> int:
    names = sorted(path.stem for path in HERE.glob("[a-z]*.py") if path.stem not in LEFT_OUT)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all, if none is given")
    parser.add_argument("--record", metavar="NOTE", help="keep the values; NOTE: the state of the machine")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.record and options.names:
        parser.error("--record keeps the values of one machine: all benchmarks, no names")
    recorded = json.loads(RECORDED.read_text())
    here, begun, found = machine(), time.monotonic(), dict[str, list[Row]]()
    ratios, lines, failed = recorded_ratios(recorded), list[Line](), list[str]()
    for name in options.names or names:
        print(f"--- {name}", file=sys.stderr)
        try:
            rows = run(name)
        except KeyboardInterrupt:
            failed.append(f"{name}: stopped, and what comes after it was not run")
            break
        if isinstance(rows, str):
            failed.append(f"{name}: {rows}")
            continue
        lines += [Line(name, row, ratios.get((name, *row.key))) for row in rows]
        found[name] = rows
    print(features(here), "\n")
    print(table(("benchmark", *HEADER, "recorded", "change"), [line.cells() for line in lines]), "\n")
    print(f"{len(lines)} comparisons in {(time.monotonic() - begun) / 60:.1f} minutes; recorded: {recorded['note']}")
    for line in lines:
        if line.grew:
            print(line.told())
    for line in failed:
        print(f"FAILED: {line}")
    if options.record and failed:
        print("nothing was recorded")
    elif options.record:
        recorded = {"machine": here, "note": options.record, "rows": found}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
        PAGE.write_text(page(recorded))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
