"""What outsiders use, as text: public names of the package and every option of the command line.

python tests/interface.py        rewrites tests/interface.txt: part of a change that means to change it
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

SNAPSHOT = Path(__file__).with_suffix(".txt")
ABOUT = "# The names and options that outsiders use. Change them on purpose: python tests/interface.py\n"


def text() -> str:
    return ABOUT + "".join(f"{line}\n" for line in (*_python(), *_commands()))


def commands() -> Iterator[tuple[str, Any]]:
    """("nexvar eval variants", its click command), every verb and group."""
    from nexvar import cli

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{path} {name}", inner)

    yield from walk("nexvar", typer.main.get_command(cli.app))


def _python() -> Iterator[str]:
    import nexvar
    import nexvar.compat
    import nexvar.evals
    import nexvar.train

    yield "\n## nexvar"
    yield from sorted(nexvar.__all__)
    yield "\n## nexvar.NexVar"
    yield from _members(nexvar.NexVar)
    yield "\n## nexvar.train"
    yield from sorted(nexvar.train.__all__)
    for package in (nexvar.compat, nexvar.evals):
        for found in pkgutil.iter_modules(package.__path__):
            module = import_module(f"{package.__name__}.{found.name}")
            yield f"\n## {module.__name__}"
            yield from _names(module, signatures=package is nexvar.compat)


def _names(module: ModuleType, *, signatures: bool) -> Iterator[str]:
    """Public functions and classes that the module defines; with their parameters where others call them by those."""
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        yield _described(name, value) if signatures else name
        if signatures and inspect.isclass(value):
            yield from (f"    {line}" for line in _members(value))


def _members(owner: type) -> Iterator[str]:
    for name, value in sorted(vars(owner).items()):
        if name in ("__init__", "__call__") or not name.startswith("_"):
            yield _described(name, value)


def _described(name: str, value: object) -> str:
    """``name(parameters)`` with defaults and without types."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if not inspect.isfunction(value):
        return name
    signature = inspect.signature(value)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"


def _commands() -> Iterator[str]:
    for path, command in sorted(commands()):
        yield f"\n## {path}"
        arguments = [p for p in command.params if p.param_type_name == "argument"]  # their order counts
        options = sorted((p for p in command.params if p.param_type_name == "option"), key=_names_of)
        for parameter in (*arguments, *options):
            about = "required" if parameter.required else f"default {parameter.default!r}"
            many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
            yield f"{_names_of(parameter)}: {about}{', repeatable' if many else ''}"


def _names_of(parameter: Any) -> str:
    return ", ".join(sorted(parameter.opts + parameter.secondary_opts, key=lambda name: name.lstrip("-")))


if __name__ == "__main__":
    SNAPSHOT.write_text(text(), encoding="utf-8")
    print(f"{SNAPSHOT} is written")
