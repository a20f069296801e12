"""Verbs -> functions, one file for each group of verbs. No logic; heavy imports inside the verbs."""

from __future__ import annotations

import warnings
from typing import Any

import typer

from nexvar.cli import (  # noqa: F401  they add their verbs
    annotation,
    attribution,
    benchmarking,
    checkpoints,
    embedding,
    evaluation,
    generation,
    genes,
    noncoding,
    probing,
    scoring,
    serving,
    tracking,
    training,
)
from nexvar.cli._app import app, echo
from nexvar.doors import EXIT_INTERRUPTED, Stop
from nexvar.errors import EXIT_BAD_INPUT, NexVarError

__all__ = ["app", "command"]

UsageError: Any = typer.BadParameter.__base__  # of click, which typer imports or carries with it, by version


def command() -> int | None:
    """Do what the command line says; the exit code."""
    warnings.showwarning = _told
    try:
        code: int | None = app(standalone_mode=False)
    except UsageError as error:
        what = error.format_message().rstrip(".")
        if not what or type(error).__name__ == "NoArgsIsHelpError":  # no verb was given: it is the help, or was printed
            if what:
                echo(what, err=True)
            return EXIT_BAD_INPUT
        path = error.ctx.command_path if error.ctx else "nexvar"
        raise NexVarError(what, fix=f"`{path} --help` lists what there is") from None
    except typer.Abort as error:
        if isinstance(error.__cause__, EOFError):  # which click takes for an end of typing
            raise error.__cause__ from None
        raise Stop(EXIT_INTERRUPTED) from None
    return code


def _told(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """One line, without the place in our source that Python puts before it."""
    echo(f"nexvar: {message}" if category is UserWarning else f"nexvar: {category.__name__}: {message}", err=True)
