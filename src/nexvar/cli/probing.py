"""nexvar probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, verb
from nexvar.cli.options import LoadOptions, Reads, Writes


@verb()
def probe(
    *,
    task: Annotated[Path, typer.Option(help="a TSV, CSV or Parquet: sequence, labels, perhaps split, group"), Reads()],
    model: Annotated[
        list[str] | None, typer.Option(help="name or folder (repeatable); default: nexvar_mito"), Reads()
    ] = None,
    kind: Annotated[str, typer.Option(help="classification, multi-label or regression")] = "classification",
    labels: Annotated[str, typer.Option(help="the label columns, by comma")] = "label",
    pool: Annotated[str, typer.Option(help="mean, max, last or cls")] = "mean",
    layer: Annotated[list[str] | None, typer.Option(help="to choose among (repeatable); default: all blocks")] = None,
    metric: Annotated[str, typer.Option(help="default: mcc, mean_auroc or pearson, by kind")] = "",
    folds: Annotated[int, typer.Option(help="cross-validation; default: the rows of split test, else 5")] = 0,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="each model once more, untrained")] = False,
    cache: Annotated[Path | None, typer.Option(help="a folder where embeddings are kept"), Writes(tree=True)] = None,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 300,
    seed: Annotated[int, typer.Option(help="of folds, draws and random weights")] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="the table: .tsv or .md"), Writes()] = None,
    predictions: Annotated[Path | None, typer.Option(help="what every set says of unseen rows: .tsv"), Writes()] = None,
    load: LoadOptions,
) -> None:
    """Linear models on frozen embeddings, beside k-mers, composition and the majority; near-duplicates are reported."""
    from nexvar import arguments
    from nexvar.evals.probes import table
    from nexvar.evals.probes.probe import probe as run
    from nexvar.train.recipe import TaskPart
    from nexvar.weights.choice import loaded_model

    if output is not None:
        table.check(output)
    arguments.whole(draws, "--draws", 10, 100_000)
    part = TaskPart(str(task), labels.split(","), kind, pool=pool, metric=metric, folds=folds)
    models = [loaded_model(load.choice(name)) for name in model or ["nexvar_mito"]]
    report = run(
        part,
        models,
        layers=layer or (),
        cache=cache,
        random_weights=random_weights,
        seed=seed,
        draws=draws,
        progress=lambda line: echo(line, err=True),
    )
    if output is not None:
        table.write(output, task.name, report)
    if predictions is not None:
        table.write_predictions(predictions, report)
    for line in table.lines(task.name, report):
        echo(line)
