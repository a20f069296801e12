"""What is drawn: one measured value, and the checks that all pictures share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexvar import arguments
from nexvar.errors import NexVarError

LONGEST_NAME = 60


@dataclass(frozen=True)
class Point:
    """One model on one column (a task, a set, a region), asked in one way (series: "zero-shot", "probe").

    value: NaN where it was not measured; note says why ("too few"). low, high: the 95 % interval, NaN for none.
    n: rows, or rows of class 1 and of class 0.
    """

    model: str
    column: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | tuple[int, int] | None = None
    series: str = ""
    note: str = ""

    @property
    def measured(self) -> bool:
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        return self.measured and not math.isnan(self.low) and not math.isnan(self.high)

    @property
    def absence(self) -> str:
        """Why there is no value, in two words."""
        return "too few" if "too few" in self.note else "not measured"

    @property
    def size(self) -> str:
        """n as text."""
        if self.n is None:
            return ""
        return " / ".join(f"{n:,}" for n in (self.n if isinstance(self.n, tuple) else (self.n,)))


def checked(points: Sequence[Point]) -> list[Point]:
    """The points with names short enough to draw; NexVarError for none, for two of one cell, for infinite values."""
    tidy: list[Point] = []
    seen: set[tuple[str, str, str]] = set()
    for point in arguments.a_list(points, "points", "figures.Point"):
        if not isinstance(point, Point):
            raise NexVarError(f"{arguments.described(point)} among them", where="points", fix="each is a figures.Point")
        cell = f"{point.model}, {point.column}"
        if (key := (point.model, point.column, point.series)) in seen:
            raise NexVarError("two values of one cell", where=cell, fix="one for each model, column and series")
        row = (point.value, point.low, point.high)
        if not all(isinstance(v, numbers.Real) and not math.isinf(v) for v in row) or point.low > point.high:
            raise NexVarError(
                f"{point.value} [{point.low}, {point.high}] cannot be drawn", where=cell, fix="numbers, NaN"
            )
        for n in point.n if isinstance(point.n, tuple) else (point.n or 0,):
            arguments.whole(n, f"{cell}: n", 0)
        seen.add(key)
        tidy.append(replace(point, model=shortened(point.model), column=shortened(point.column)))
    if not any(point.measured for point in tidy):
        raise NexVarError("nothing to draw", where="points", fix="give one measured value or more")
    return tidy


def one_series(points: Sequence[Point]) -> list[Point]:
    """Of points of several series, the series goes into the model's name."""
    points = checked(points)
    if len({point.series for point in points}) == 1:
        return points
    return [replace(point, model=f"{point.model}, {point.series}" if point.series else point.model) for point in points]


def names(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """(models, columns), each in the order they come."""
    return list(dict.fromkeys(p.model for p in points)), list(dict.fromkeys(p.column for p in points))


def shortened(name: str) -> str:
    """One line of at most ``LONGEST_NAME`` characters: both ends of a longer one."""
    name = " ".join(str(name).split())
    half = (LONGEST_NAME - 1) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
