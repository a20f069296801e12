"""Values from strangers' files against the types that a dataclass says: a config's, a card's, a task's."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.files import check_inside, read_json

MAX_COUNT = 1 << 24  # the longest context of a released checkpoint is 2^20
MAX_NUMBER = 1e15
# Whole numbers by what their names say they are: a billion layers could not even be outlined
LIMITS = {"theta": int(MAX_NUMBER), "base": int(MAX_NUMBER), "layer": 10_000, "vocab": 1 << 20}
MAX_TEXT = 10_000  # characters; a citation has some hundred
MAX_ITEMS = 100_000


def check_types(
    cls: type, values: Mapping[str, Any], where: object, *, most: int = MAX_COUNT, official: bool = False
) -> None:
    """NexVarError for the first of ``values`` that is not what ``cls`` says of the field of its name.

    Whole numbers are -1 … ``most``, others finite; JSON's lists may stand for tuples. official: not a
    file of ours: null (for "the default"), lists and tables are left to whoever translates them.
    """
    hints = _hints(cls)
    for name, value in values.items():
        if name not in hints or (official and (value is None or typing.get_origin(hints[name]) in (list, tuple, dict))):
            continue
        if not fits(value, hints[name], most):
            raise NexVarError(f"{name} is {str(value)[:80]!r}, not {describe(hints[name], most)}", where=where)


def json_values(cls: type, path: Path, what: str, fix: str) -> dict[str, Any]:
    """A value for each field of the dataclass, from a JSON file of ours; NexVarError, which begins with ``what``, where
    one is not there or not what ``cls`` says of it."""
    try:
        values = read_json(check_inside(path))
    except NexVarError as error:
        raise NexVarError(f"{what} ({error.what})", where=path, fix=fix) from error
    names = [field.name for field in dataclasses.fields(cls)]
    if missing := [name for name in names if name not in values]:
        raise NexVarError(f"{what} (no {', '.join(missing)})", where=path, fix=fix)
    check_types(cls, values, path)
    return {name: values[name] for name in names}


class Bounded(dict[str, Any]):
    """A config.json of others, for who translates it: a whole number of absurd size is a NexVarError once it is read.

    What nobody reads may be anything: such files also say how many tokens a model has seen.
    """

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        check_size(name, value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        value = super().get(name, default)
        check_size(name, value)
        return value


def check_size(name: str, value: Any) -> None:
    """NexVarError for a whole number that is too large for what its name says it counts; in lists and tables, too."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_size(f"{name}: {key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_size(name, inner)
    elif type(value) is int:
        leaf = name.rpartition(": ")[2]
        most = next((limit for word, limit in LIMITS.items() if word in leaf), MAX_COUNT)
        if abs(value) > most:
            raise NexVarError(f"{name} is {str(value)[:40]}", fix=f"at most {most} make sense")


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def fits(value: Any, hint: Any, most: int = MAX_COUNT) -> bool:
    """Whether a value of a JSON file is of a type such as ``tuple[int, ...]`` or ``dict[str, list[str]] | None``."""
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return any(fits(value, choice, most) for choice in arguments)
    if kind in (list, tuple):
        inner = arguments[0] if arguments else Any
        return isinstance(value, (list, tuple)) and len(value) <= MAX_ITEMS and all(fits(v, inner, most) for v in value)
    if kind is dict:
        inner = arguments[1]
        return isinstance(value, dict) and len(value) <= MAX_ITEMS and all(fits(v, inner, most) for v in value.values())
    if hint is bool or hint is type(None):
        return isinstance(value, hint)
    if hint is int:
        return type(value) is int and -1 <= value <= most
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value) and abs(value) <= MAX_NUMBER
    if hint is str:
        return isinstance(value, str) and len(value) <= MAX_TEXT
    return True


def describe(hint: Any, most: int = MAX_COUNT) -> str:
    """The type, for people."""
    names = {int: f"a whole number up to {most}", float: "a number", bool: "true or false", str: "a text",
             type(None): "null"}  # fmt: skip
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return " or ".join(describe(choice, most) for choice in arguments)
    if kind in (list, tuple):
        return f"a list of which each is {describe(arguments[0], most)}" if arguments else "a list"
    return names.get(hint, "a table" if kind is dict else "of the right kind")
