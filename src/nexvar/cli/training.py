"""nexvar pretrain, finetune, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, verb
from nexvar.cli.options import Device, Reads, SpreadsheetSafe, Writes

Recipe = Annotated[Path, typer.Argument(help="a recipe.toml (see recipes/)"), Reads()]
Track = Annotated[str, typer.Option(help="wandb or trackio, beside the log files; default: the recipe's run.track")]


@verb()
def pretrain(recipe: Recipe, track: Track = "") -> None:
    """Train a model from scratch or from a checkpoint, or resume: the recipe says all."""
    from nexvar.train import pretrain as run

    run(recipe, track)


@verb()
def finetune(recipe: Recipe, track: Track = "") -> None:
    """Fine-tune a trained model ([model] init) on labelled sequences ([task]) or on a corpus, or resume."""
    from nexvar.train import pretrain as run

    run(recipe, track)


@verb()
def predict(
    model: Annotated[Path, typer.Argument(help="the model folder of a fine-tuning run with a [task]"), Reads()],
    fasta: Annotated[Path, typer.Argument(help="FASTA of the sequences"), Reads()],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help=".tsv, .parquet; .bw of every base"),
        Writes(),
    ],
    device: Device = "auto",
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """What a fine-tuned head says of every sequence: its label and probabilities, or its value."""
    from nexvar.train.predict import predict_file

    echo(predict_file(model, fasta, output, device=device, spreadsheet_safe=spreadsheet_safe), err=True)
