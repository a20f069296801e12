"""Models x tasks: every cell computed once, here, in worker processes or on a Ray cluster; then the tables.

    OUT/tasks/<suite>.<task>.parquet               a task's rows, read from the user's files and checked
    OUT/cells/<suite>.<task>.<method>[.<model>].parquet   each written whole, as soon as it is there
    OUT/results.parquet, results.md, results.html         of all cells; heat.png, forest.png

A run that is killed goes on with the cells that are missing. A cell that was made of other files, another model or
other options is refused; one that cannot be computed is told at the end, and the others stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from nexvar import cards
from nexvar.doors import Packed, packed, unpacked
from nexvar.errors import NexVarError
from nexvar.evals.suites import read, tables
from nexvar.evals.suites.cell import Cell, Options
from nexvar.evals.suites.cells import BASELINES, METHODS, compute, read_identity
from nexvar.evals.suites.task import TRACKS, Task
from nexvar.files import write_bytes
from nexvar.runs.lock import locked
from nexvar.runs.partscorer import default_threads
from nexvar.weights.choice import BUILT_IN, ModelChoice
from nexvar.weights.sources import as_folder

Result = tuple[Cell, "bytes | None | Packed"]  # what a cell came to: rows, nothing new, or an error


@dataclass(frozen=True)
class Job:
    """data: the folder of the tasks' files. output: the folder of the run. engine: "local" or "ray"."""

    tasks: Sequence[Task]
    data: Path
    models: Sequence[ModelChoice]
    output: Path
    method: str = "probe"
    options: Options = Options()
    workers: int = 1
    engine: str = "local"
    ray_address: str | None = None
    progress: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Summary:
    computed: int
    kept: int
    failed: list[NexVarError]


def run(job: Job) -> Summary:
    """Compute what is missing and write the tables; NexVarError for what no cell could be made of."""
    if job.method not in METHODS:
        raise NexVarError(f"no method {job.method!r}", where="--method", fix=f"one of {', '.join(METHODS)}")
    if job.engine not in ("local", "ray"):
        raise NexVarError(f"no engine {job.engine!r}", where="--engine", fix="local or ray")
    tasks = {task.key: task for task in job.tasks}
    for task in job.tasks:
        if task != tasks[task.key]:
            raise NexVarError(f"two tasks are called {task.key}", where="TASK", fix="rename one, or its folder")
        if task.kind == TRACKS:
            raise NexVarError("a task of tracks", where=task.key, fix="this command reads labels of whole sequences")
    for model in job.models:
        if as_folder(model.source or BUILT_IN) is None:
            cards.get(str(model.source or BUILT_IN))
    job = replace(job, tasks=list(tasks.values()))  # a suite, and one of its tasks once more
    names = [_called(model) for model in job.models]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise NexVarError(f"two models are called {twice!r}", where="--models", fix="rename a folder")
    with locked(job.output):
        cells = list(_plan(job))
        computed, kept, failed = 0, 0, list[NexVarError]()
        for cell, result in _compute(job, cells):
            name = f"{cell.task.key}, {cell.method}" + (f" of {cell.model.source}" if cell.model else "")
            if isinstance(result, bytes):
                write_bytes(place(job.output, cell), result)
                computed += 1
                job.progress(f"{name}: done")
            elif result is None:
                kept += 1
            else:
                failed.append(unpacked(result))
        if computed or kept:
            job.progress(f"written to {', '.join(tables.write_all(job.output, job.tasks))}")
        return Summary(computed, kept, failed)


def _plan(job: Job) -> Iterator[Cell]:
    """Every cell, those of one model together; the tasks' files are read before any is computed."""
    (job.output / "tasks").mkdir(exist_ok=True)
    (job.output / "cells").mkdir(exist_ok=True)
    files = {}
    for task in job.tasks:
        job.progress(f"{task.key}: reading its files")
        table = read.load(task, job.data, job.options.max_rows, job.options.seed)
        files[task.key] = job.output / "tasks" / f"{task.suite}.{task.name}.parquet"
        read.write(task, table, files[task.key])
    for model in (None, *job.models):
        for task in job.tasks:
            method = BASELINES if model is None else job.method
            name = f"{task.suite}.{task.name}.{method}" + ("" if model is None else f".{_called(model)}")
            cell = Cell(task, method, model, files[task.key], job.output / "runs" / name, job.options)
            there = place(job.output, cell)
            yield replace(cell, kept=read_identity(there)) if there.exists() else cell


def place(output: Path, cell: Cell) -> Path:
    """Where a cell is kept."""
    return output / "cells" / f"{cell.folder.name}.parquet"


def _called(model: ModelChoice) -> str:
    return re.sub(r"[^\w.+-]", "_", Path(model.source or BUILT_IN).name)


# -- where cells are computed


def _compute(job: Job, cells: Sequence[Cell]) -> Iterator[Result]:
    if job.engine == "ray":
        from nexvar.runs.ray_executor import on_cluster

        yield from on_cluster(attempt, cells, job.workers, job.ray_address)
    elif job.workers > 1:
        yield from _in_processes(cells, job.workers)
    else:
        yield from map(attempt, cells)


def attempt(cell: Cell) -> Result:
    """A cell computed, or why not, in plain values."""
    try:
        return cell, compute(cell)
    except Exception as error:
        return cell, packed(error)


def _in_processes(cells: Iterable[Cell], workers: int) -> Iterator[Result]:
    threads = default_threads(workers)
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        try:
            for future in as_completed([pool.submit(attempt, cell) for cell in cells]):
                yield future.result()
        except BrokenProcessPool:
            fix = "fewer workers; the finished cells are kept: the same command resumes"
            raise NexVarError("a worker was killed", where="--workers", fix=fix) from None
