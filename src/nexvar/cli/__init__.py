"""The command line: verbs -> functions, one file for each group of verbs. No logic; heavy imports inside the verbs."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

import typer

from nexvar.cli import checkpoints, embedding, evaluation, generation, scoring, training  # noqa: F401  they add their verbs
from nexvar.cli._app import app, echo
from nexvar.errors import EXIT_BAD_INPUT, NexVarError

__all__ = ["app", "main"]

UsageError: Any = typer.BadParameter.__base__  # of click, which typer imports or carries with it, by version


def main() -> None:
    """Entry point: everything a user can get wrong is one line on standard error and exit code 2."""
    warnings.showwarning = _told
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that temporary files are removed
    try:
        code = app(standalone_mode=False)
    except NexVarError as error:
        echo(f"nexvar: {error}", err=True)
        code = EXIT_BAD_INPUT
    except UsageError as error:
        if what := error.format_message().rstrip("."):  # empty where the help was printed: no verb was given
            command = error.ctx.command_path if error.ctx else "nexvar"
            echo(f"nexvar: {what}: `{command} --help` lists what there is", err=True)
        code = EXIT_BAD_INPUT
    except typer.Abort:
        echo("nexvar: interrupted", err=True)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    raise SystemExit(code)


def _told(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """One line, without the place in our source that Python puts before it."""
    echo(f"nexvar: {message}" if category is UserWarning else f"nexvar: {category.__name__}: {message}", err=True)
