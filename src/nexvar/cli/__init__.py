"""The command line. ``main`` is the program ``nexvar``; ``app`` its verbs (commands.py), imported when they are needed.

NOTE nothing is imported here but doors.py: a Ctrl-C in the first milliseconds is caught, too.
"""

from __future__ import annotations

from typing import Any

from nexvar import doors

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: everything a user can get wrong is one line on standard error and exit code 2."""
    doors.run(_command)
    raise SystemExit(0)


def _command() -> int | None:
    from nexvar.cli.commands import command

    return command()


def __getattr__(name: str) -> Any:
    if name == "app":
        from nexvar.cli.commands import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
