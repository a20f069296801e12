"""One cell of a benchmark: one model on one task by one method -> rows of the long table, a Parquet file's bytes.

A cell is computed in this process, in a worker, or on a cluster, and written by the process that the user started. It
says in its metadata what it was made of; where another one lies already, it is kept if it was made of the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nexvar.evals import made_of
from nexvar.evals.metrics import FEW, Estimate
from nexvar.evals.probes.probe import RANDOM, Report, interval, probe
from nexvar.evals.suites.cell import Cell
from nexvar.evals.suites.finetune import finetuned
from nexvar.train.labels import TEST
from nexvar.weights.choice import ModelChoice, loaded_model
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.hub import sha256
from nexvar.weights.load import Loaded

METHODS = ("probe", "finetune")
BASELINES = "baselines"  # the method of a cell without a model
ALL, APART = "all", "without near-duplicates"


@dataclass(frozen=True)
class Row:
    """One number. rows: of which part of the test; low, high: of its 95 % interval, NaN where none was made."""

    suite: str
    task: str
    model: str
    method: str
    metric: str
    value: float
    low: float
    high: float
    rows: str
    n: int
    n_train: int
    layer: str
    seed: int
    max_rows: int


def compute(cell: Cell) -> bytes | None:
    """The rows of a cell as Parquet; None where what is there was made of the same. NexVarError where it was not."""
    loaded = None if cell.model is None else _model(cell.model)
    identity = _identity(cell, loaded)
    if cell.kept is not None:
        where = f"{cell.task.key}, {identity['model'] or BASELINES}"
        made_of.check_same(cell.kept, identity, where, "another --output, or delete this one")
        return None
    if cell.method == "finetune":
        assert loaded is not None
        report = finetuned(cell, loaded)
    else:
        report = _probed(cell, loaded)
    import pyarrow as pa

    return made_of.with_facts(pa.Table.from_pylist([asdict(row) for row in rows_of(report, cell)]), identity)


def _probed(cell: Cell, loaded: Loaded | None) -> Report:
    options = cell.options
    return probe(
        replace(cell.task.part, file=str(cell.table)),
        [] if loaded is None else [loaded],
        layers=options.layers,
        cache=options.cache,
        random_weights=options.random_weights,
        seed=options.seed,
        draws=options.draws,
        baselines=loaded is None,
        pair=cell.task.pair,
    )


def rows_of(report: Report, cell: Cell) -> list[Row]:
    """Every number of a report: the task's metric with intervals, in each stratum too, and the other metrics."""
    found, strata, options = [], _strata(cell.table), cell.options
    n_train = int((report.rows.split != TEST).sum())
    for line in report.lines:
        random = line.features.endswith(RANDOM)
        method = BASELINES if cell.model is None else "random weights" if random else cell.method

        def row(metric: str, value: Estimate, part: str, n: int, line: Any = line, method: str = method) -> Row:
            name = line.features.removesuffix(RANDOM)
            return Row(cell.task.suite, cell.task.name, name, method, metric, value.value, value.low, value.high, part,
                       n, n_train, line.layer, options.seed, options.max_rows)  # fmt: skip

        tested, out_NK = line.fitted.rows, line.fitted.out_NK
        found.append(row(line.metric, line.value, ALL, len(tested)))
        if line.apart is not None:
            found.append(row(line.metric, line.apart, APART, int((~report.leaks.near).sum())))
        nan = float("nan")
        found += [row(metric, Estimate(value, nan, nan), ALL, len(tested)) for metric, value in line.others.items()]
        groups = np.unique([report.rows.groups[i] for i in tested], return_inverse=True)[1]
        for name in sorted({word for i in tested for word in strata[i].split("+") if word}):
            inside = np.array([name in strata[i].split("+") for i in tested])
            said, truth = out_NK[inside], report.targets[tested][inside]
            if inside.sum() >= FEW and line.metric in report.kind.metrics(said, truth):
                value = interval(line.metric, report.kind, truth, said, groups[inside], options.draws, options.seed)
                found.append(row(line.metric, value, name, int(inside.sum())))
    return found


def _strata(table: Path) -> list[str]:
    import pyarrow.parquet as pq

    strata: list[str] = pq.read_table(table, columns=["stratum"])["stratum"].to_pylist()
    return strata


@lru_cache(maxsize=1)
def _model(choice: ModelChoice) -> Loaded:
    """The cells of one model come one after another."""
    return loaded_model(choice)


def _identity(cell: Cell, loaded: Loaded | None) -> dict[str, str]:
    """Of what a result is made, by words for people."""
    options = {name: str(value) for name, value in asdict(cell.options).items() if name != "cache"}
    model = "" if loaded is None else f"{loaded.card.name} {fingerprint(loaded)} {loaded.precision}"
    finetune = {"finetune": str(cell.task.finetune)} if cell.method == "finetune" else {}
    return {"task": cell.task.digest, "files": sha256(cell.table), "model": model, "method": cell.method,
            **options, **finetune}  # fmt: skip


def read_identity(path: Path) -> dict[str, str]:
    """Of what the result in a file was made; NexVarError for a file that is none."""
    return {name: str(value) for name, value in made_of.read_facts(path).items()}


def read_rows(path: Path) -> list[Row]:
    """The rows of a cell, or of the long table."""
    import pyarrow.parquet as pq

    return [Row(**row) for row in pq.read_table(path).to_pylist()]
