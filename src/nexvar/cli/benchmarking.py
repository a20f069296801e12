"""nexvar benchmark: `nexvar benchmark TASK…` is short for `nexvar benchmark run TASK…`; doors beside it are verbs."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from nexvar.cli._app import app, echo, new_group, verb


class TasksOrVerbs(TyperGroup):
    """A first word that is no verb is a task to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and "run" in self.commands and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


benchmark = new_group("Measure models on benchmarks.", cls=TasksOrVerbs)
app.add_typer(benchmark, name="benchmark")


@verb("list", group=benchmark)
def list_tasks() -> None:
    """The suites and their tasks: metric, kind, rows, and where the files are to be had."""
    from nexvar.evals.suites.tables import listing

    for line in listing():
        echo(line)
