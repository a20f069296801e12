"""How soon the command line answers: ``python benchmarks/startup.py [--full]``.

A score of one variant by the built-in model, and the help, against the imports that neither can be quicker than. CPU
seconds of whole processes, on one thread, the lowest of 3 (--full: 10).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from _measure import Row, report
from _nexvar_mito import RCRS


def cpu_seconds(arguments: list[str]) -> float:
    before = _of_children()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True)
    return _of_children() - before


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rows(full: bool) -> Iterator[Row]:
    lowest: dict[str, float] = {}
    for turn in range(10 if full else 3):
        with tempfile.TemporaryDirectory() as folder:
            score = ["score", "chrM:3243A>G", "--fasta", str(RCRS), "-o", f"{folder}/{turn}.tsv"]
            for name, arguments in {
                "score": ["-m", "nexvar", *score],
                "torch": ["-c", "import torch"],
                "help": ["-m", "nexvar", "--help"],
                "python": ["-c", "pass"],
            }.items():
                lowest[name] = min(cpu_seconds(arguments), lowest.get(name, float("inf")))
    yield Row("nexvar score of one variant", "python -c 'import torch'", lowest["score"], lowest["torch"])
    yield Row("nexvar --help", "python -c pass", lowest["help"], lowest["python"])


if __name__ == "__main__":
    report(__doc__, rows)
