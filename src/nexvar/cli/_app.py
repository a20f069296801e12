"""The application object, the decorator of a verb, and what several verbs share.

    @verb()
    def saturate(*, region: Region, model: Model = None, load: LoadOptions, scoring: ScoringOptions): ...

A parameter whose type is a dataclass (options.py) stands for all of its fields: each becomes an option of the command,
and the function gets the dataclass. So options that travel together are declared once.
"""

from __future__ import annotations

import dataclasses
import gc
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

from nexvar import __version__
from nexvar.errors import RESEARCH_ONLY, printable
from nexvar.paths import Read, Write, check_apart


def new_group(text: str, *, otherwise: str | None = None, **settings: Any) -> typer.Typer:
    """A set of verbs; ``otherwise`` is meant where the first word is none of them.

    NOTE no markup: it would swallow words in square brackets.
    """
    if otherwise is not None:
        settings["cls"] = type("Group", (_OneVerbMeant,), {"otherwise": otherwise})
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, **settings)


class _OneVerbMeant(TyperGroup):
    otherwise: str

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [self.otherwise, *args]
        return super().parse_args(ctx, args)


app = new_group(f"Genomic foundation models in plain PyTorch. {RESEARCH_ONLY}", pretty_exceptions_enable=False)


def _tell_version(asked: bool) -> None:
    if asked:
        echo(f"nexvar {__version__}")
        raise typer.Exit


@app.callback()
def _nexvar(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and stop", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


def verb(name: str | None = None, *, group: typer.Typer = app) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command; its docstring is the help, the first sentence of it the line in the list of verbs."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        text = " ".join((function.__doc__ or "").split())
        first = re.split(r"(?<=\.) (?=[A-Z])", text)[0]
        group.command(name or function.__name__, help=text, short_help=first)(_expanded(function))
        return function

    return register


def _expanded(function: Callable[..., None]) -> Callable[..., None]:
    """The function with the fields of its dataclass parameters as parameters of its own."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if dataclasses.is_dataclass(kind):
            groups[parameter.name] = kind
            types = get_type_hints(kind, include_extras=True)
            declared = [(field.name, types[field.name], field.default) for field in dataclasses.fields(kind)]
        else:
            declared = [(parameter.name, kind, parameter.default)]
        for name, annotation, default in declared:
            default = inspect.Parameter.empty if default is dataclasses.MISSING else default
            kw = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(name, kw, default=default, annotation=annotation))

    def run(**values: Any) -> None:
        _check_paths(parameters, values)
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
        function(**values)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _check_paths(parameters: Sequence[inspect.Parameter], values: dict[str, Any]) -> None:
    """What the options say of themselves (options.py: ``Reads``, ``Writes``), held against each other."""
    claimed: list[Read | Write] = []
    for parameter in parameters:
        value = values.get(parameter.name)
        given = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if hasattr(mark, "of"):
                claimed += [mark.of(each) for each in given]
    check_apart(
        [each for each in claimed if isinstance(each, Read)], [each for each in claimed if isinstance(each, Write)]
    )


@contextmanager
def importing() -> Iterator[None]:
    """Around the imports of torch and what needs it: the collector finds no garbage there, in a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def echo(text: object, err: bool = False) -> None:
    """Print lines; what a file put into them can neither move the cursor nor turn the order of letters around."""
    typer.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def report(lines: Sequence[str]) -> None:
    """What a person reads at the end of a run, on standard error."""
    for line in [*lines, RESEARCH_ONLY]:
        echo(line, err=True)
