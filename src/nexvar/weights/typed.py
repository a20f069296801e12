"""Values from strangers' files against the types that a dataclass says: a config's, a card's, a task's."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from nexvar.errors import NexVarError

MAX_COUNT = 1 << 24  # the longest context of a released checkpoint is 2^20
MAX_NUMBER = 1e15
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
