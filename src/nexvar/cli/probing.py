"""nexvar probe: `nexvar probe --task …` is short for `nexvar probe run --task …`; nexvar probe exons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nexvar.cli._app import app, echo, new_group, verb
from nexvar.cli.options import LoadOptions, Model, Reads, Writes

if TYPE_CHECKING:
    from nexvar.evals.probes.probe import Report

probing = new_group("Linear models on embeddings.", otherwise="run")
app.add_typer(probing, name="probe")
Cache = Annotated[Path | None, typer.Option(help="a folder where embeddings are kept"), Writes(tree=True)]
Layers = Annotated[list[str] | None, typer.Option(help="to choose among (repeatable); default: all blocks")]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="each model once more, untrained")]
Draws = Annotated[int, typer.Option(help="bootstrap draws")]
Table = Annotated[Path | None, typer.Option("-o", "--output", help="the table: .tsv or .md"), Writes()]
Predictions = Annotated[Path | None, typer.Option(help="what every set says of unseen rows: .tsv"), Writes()]


@verb("run", group=probing)
def probe(
    *,
    task: Annotated[Path, typer.Option(help="a TSV, CSV or Parquet: sequence, labels, perhaps split, group"), Reads()],
    model: Annotated[
        list[str] | None, typer.Option(help="name or folder (repeatable); default: nexvar_mito"), Reads()
    ] = None,
    kind: Annotated[str, typer.Option(help="classification, multi-label or regression")] = "classification",
    labels: Annotated[str, typer.Option(help="the label columns, by comma")] = "label",
    pool: Annotated[str, typer.Option(help="mean, max, last or cls")] = "mean",
    layer: Layers = None,
    metric: Annotated[str, typer.Option(help="default: mcc, mean_auroc or pearson, by kind")] = "",
    folds: Annotated[int, typer.Option(help="cross-validation; default: the rows of split test, else 5")] = 0,
    random_weights: RandomWeights = False,
    cache: Cache = None,
    draws: Draws = 300,
    seed: Annotated[int, typer.Option(help="of folds, draws and random weights")] = 0,
    output: Table = None,
    predictions: Predictions = None,
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
    _told(task.name, report, output, predictions)


@verb(group=probing)
def exons(
    *,
    fasta: Annotated[Path | None, typer.Option(help="the genome of the annotation"), Reads()] = None,
    annotation: Annotated[
        Path | None, typer.Option("--gff3", "--gtf", "--bed", help="where exons are; genes are held out whole"), Reads()
    ] = None,
    positions: Annotated[
        Path | None,
        typer.Option(help="a table as Evo 2's samplePositions.tsv: the test, or alone each species in turn"),
        Reads(),
    ] = None,
    window: Annotated[int | None, typer.Option(help="bases of each side; default: 8192, or the context")] = None,
    count: Annotated[int, typer.Option(help="positions to draw, half of them in exons")] = 2000,
    folds: Annotated[int, typer.Option(help="of clusters of genes")] = 5,
    layer: Layers = None,
    random_weights: RandomWeights = False,
    cache: Cache = None,
    draws: Draws = 300,
    seed: Annotated[int, typer.Option(help="of positions, folds, draws and random weights")] = 0,
    output: Table = None,
    predictions: Predictions = None,
    model: Model = None,
    load: LoadOptions,
) -> None:
    """Exon or not, from the embeddings on either side of a position; beside k-mers, GC and the last 16 bases."""
    from nexvar.evals.genes.exons import probe_exons
    from nexvar.evals.probes import table

    if output is not None:
        table.check(output)
    report = probe_exons(
        load.choice(model),
        fasta=fasta,
        annotation=annotation,
        table=positions,
        window=window,
        count=count,
        folds=folds,
        layers=layer or (),
        random_weights=random_weights,
        cache=cache,
        draws=draws,
        seed=seed,
        progress=lambda line: echo(line, err=True),
    )
    _told("exons", report, output, predictions)


def _told(name: str, report: Report, output: Path | None, predictions: Path | None) -> None:
    """Write what was asked for, and show the table."""
    from nexvar.evals.probes import table

    if output is not None:
        table.write(output, name, report)
    if predictions is not None:
        table.write_predictions(predictions, report)
    for line in table.lines(name, report):
        echo(line)
