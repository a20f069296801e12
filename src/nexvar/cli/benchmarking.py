"""nexvar benchmark: `nexvar benchmark TASK…` is short for `nexvar benchmark run TASK…`; doors beside it are verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import app, echo, importing, new_group, report, verb
from nexvar.cli.options import LoadOptions, Reads, Writes
from nexvar.doors import resumable

benchmark = new_group("Measure models on benchmarks.", otherwise="run")
app.add_typer(benchmark, name="benchmark")


@verb("list", group=benchmark)
def list_tasks() -> None:
    """The suites and their tasks: metric, kind, rows, and where the files are to be had."""
    from nexvar.evals.suites.tables import listing

    for line in listing():
        echo(line)


@verb("run", group=benchmark)
def run_tasks(
    *,
    tasks: Annotated[list[str], typer.Argument(help="suite/task, a whole suite, or a .toml", metavar="TASK"), Reads()],
    data: Annotated[Path, typer.Option(help="the folder where the tasks' files lie; nothing is downloaded"), Reads()],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a folder: tables, pictures, and what is finished"), Writes(tree=True)
    ],
    models: Annotated[
        list[str] | None, typer.Option("--models", "--model", help="name or folder (repeatable)"), Reads()
    ] = None,
    method: Annotated[str, typer.Option(help="probe, or finetune: with the task's own settings")] = "probe",
    layer: Annotated[list[str] | None, typer.Option(help="to choose among (repeatable); default: all blocks")] = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="each model once more, untrained")] = False,
    max_rows: Annotated[int, typer.Option(help="of each split at most, drawn by a hash; 0: all")] = 0,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 300,
    seed: Annotated[int, typer.Option(help="of folds, draws and random weights")] = 0,
    cache: Annotated[Path | None, typer.Option(help="a folder where embeddings are kept"), Writes(tree=True)] = None,
    workers: Annotated[int, typer.Option(help="processes, each with a model; with ray: tasks at once")] = 1,
    engine: Annotated[str, typer.Option(help="local, or ray: tasks of a cluster")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="of a running cluster; default: one is started here")] = None,
    load: LoadOptions,
) -> None:
    """Models x tasks, each cell once: probes beside baselines, with published numbers. The same command resumes."""
    with importing():
        from nexvar import arguments
        from nexvar.evals.suites.cell import Options
        from nexvar.evals.suites.run import Job, run
        from nexvar.evals.suites.task import find

    arguments.whole(draws, "--draws", 10, 100_000)
    job = Job(
        [task for name in dict.fromkeys(tasks) for task in find(name)],
        data,
        [load.choice(name) for name in models or ["nexvar_mito"]],
        output,
        method,
        Options(tuple(layer or ()), random_weights, arguments.whole(max_rows, "--max-rows", 0), seed, draws, cache),
        arguments.whole(workers, "--workers", 1, 1024),
        engine,
        ray_address,
        lambda line: echo(line, err=True),
    )
    with resumable():
        summary = run(job)
    report([f"{summary.computed} cells computed, {summary.kept} kept"])
    for error in summary.failed[1:]:
        echo(f"nexvar: {error}", err=True)
    if summary.failed:
        raise summary.failed[0]
