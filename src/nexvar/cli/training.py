"""nexvar pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import app


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(help="a recipe.toml (see recipes/)")],
) -> None:
    """Train a model from scratch, or resume: the recipe says all."""
    from nexvar.train import pretrain as run

    run(recipe)
