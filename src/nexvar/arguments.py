"""What a caller gave a function, checked in one place: the value to go on with, or a NexVarError in one line.

Python's own complaints come late and from the inside (a TypeError in the middle of a model); these come at the call and
name the argument. NumPy's numbers and arrays, pandas' columns and generators are as good as Python's own numbers and
lists; a bool is no number, and one string is no list of strings.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Collection, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError


def described(value: object) -> str:
    """A value for an error's line: "'abc'", "2.5", "a list"."""
    if value is None or isinstance(value, (str, bytes, bool, numbers.Number)):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def a_list(values: object, where: str, of: str = "strings") -> list[Any]:
    """Any row of things as a list; NexVarError for one string, bytes, a mapping, a set, a table, a tensor, a number.

    What each thing must be is checked by who uses it.
    """
    odd = (str, bytes, bytearray, Mapping, Set, os.PathLike)
    flat = getattr(values, "ndim", 1) == 1 and not hasattr(values, "columns")
    if isinstance(values, odd) or not isinstance(values, Iterable) or not flat or hasattr(values, "read"):
        raise NexVarError(f"{_name(where)} is {described(values)}", where=where, fix=f"give a list of {of}")
    return list(values)


def whole(value: object, where: str, low: int | None = None, high: int | None = None) -> int:
    """An integer from ``low`` to ``high``, both included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise NexVarError(
            f"{_name(where)} is {described(value)}", where=where, fix=f"a whole number{_between(low, high)}"
        )
    integer = int(value)
    if (low is not None and integer < low) or (high is not None and integer > high):
        raise NexVarError(f"{_name(where)} is {integer}", where=where, fix=f"a whole number{_between(low, high)}")
    return integer


def wholes(options: object, **least: int) -> None:
    """Fields of ``options`` that are None or whole numbers, from ``least`` on; NexVarError names the option."""
    for name, low in least.items():
        if getattr(options, name) is not None:
            whole(getattr(options, name), f"--{name.replace('_', '-')}", low)


def number(value: object, where: str, good: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``, both included. good: what is allowed, for the error."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:  # type: ignore[operator,arg-type]
        raise NexVarError(f"{_name(where)} is {described(value)}", where=where, fix=good)
    return float(value)  # type: ignore[arg-type]


def pairs(values: object, where: str) -> list[tuple[int, int]]:
    """(layer from 1, number from 0) pairs."""
    checked = []
    for pair in a_list(values, where, "(layer, number) pairs"):
        both = a_list(pair, where, "(layer, number) pairs")
        if len(both) != 2:
            raise NexVarError(f"{len(both)} numbers", where=where, fix="give (layer, number) pairs")
        checked.append((whole(both[0], where), whole(both[1], where, 0)))
    return checked


def text(value: object, where: str, fix: str = "give a string") -> str:
    """A string of one letter or more."""
    if not isinstance(value, str) or not value:
        raise NexVarError(f"{_name(where)} is {described(value)}", where=where, fix=fix)
    return value


def one_of(value: object, where: str, choices: Collection[str]) -> str:
    """One of some strings."""
    if not isinstance(value, str) or value not in choices:
        raise NexVarError(f"no {_name(where)} {described(value)}", where=where, fix=f"one of {', '.join(choices)}")
    return value


def flag(value: object, where: str) -> bool:
    """True or False, and nothing that is merely like them."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # numpy's
        return bool(value)
    raise NexVarError(f"{_name(where)} is {described(value)}", where=where, fix="True or False")


def path(value: object, where: str) -> Path:
    """A path: a string or what is one by ``os.fspath``, not bytes."""
    if isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str) and str(value):
        return Path(value)
    raise NexVarError(f"{_name(where)} is {described(value)}", where=where, fix="give a path")


def _name(where: str) -> str:
    return where.rpartition(": ")[2].lstrip("-")


def _between(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return ""
    return f", {low} or more" if high is None else f" from {low} to {high}"
