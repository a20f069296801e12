"""nexvar recipes, pretrain, finetune, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, verb
from nexvar.cli.options import Device, Reads, SpreadsheetSafe, Writes
from nexvar.errors import NexVarError

Recipe = Annotated[Path, typer.Argument(help="a recipe.toml (see `nexvar recipes`)"), Reads()]
Track = Annotated[str, typer.Option(help="wandb or trackio, beside the log files; default: the recipe's run.track")]


@verb()
def recipes(
    name: Annotated[str, typer.Argument(help="one of them; default: list all")] = "",
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a file to edit; - is standard output"), Writes()
    ] = Path("-"),
) -> None:
    """List the recipes that come with NexVar, or copy one, to begin with."""
    from nexvar import files
    from nexvar.recipes import about, all_recipes, get

    if not name:
        for each, path in all_recipes().items():
            echo(f"{each:24}{about(path)}")
    elif str(output) == "-":
        echo(get(name).read_text(encoding="utf-8").rstrip())
    elif output.exists():
        raise NexVarError("is there already", where=output, fix="another name, or delete it")
    else:
        files.write_bytes(output, get(name).read_bytes())


@verb()
def pretrain(recipe: Recipe, track: Track = "") -> None:
    """Train a model from scratch or from a checkpoint, or resume: the recipe says all."""
    from nexvar.train import pretrain as run

    run(recipe, track)


@verb()
def finetune(recipe: Recipe, track: Track = "") -> None:
    """Fine-tune a trained model ([model] init) on labels or tracks ([task]) or on a corpus, or resume."""
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
