"""Sliding windows over contigs: in which window each base is computed.

A window has W bases, and every base is computed in one window that holds at least ``overlap`` bases before it: in
reading direction, or on both sides for what is read from both (masked models, both strands in one window).

    window 0   ========................          ====  computed here
    window 1                 ++++========        ++++  overlap: context only
    window 2                           ++++====  ends where the contig ends

Fewer stand before it only at the ends of a linear contig. The windows lie on a grid that the contig, W and the overlap
alone decide, so that a base has the same value whatever regions are asked for. Circular contigs have no ends: their
windows wrap around. A contig of no more than W bases is one window; if it is circular, windows are one turn of it and
the overlap a quarter of it at most.

Models that read whole blocks have windows of a multiple of ``unit`` bases: a shorter contig has those of the largest
multiple that fits, its overlap in proportion; it has at least one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nexvar.errors import NexVarError


@dataclass(frozen=True)
class Rule:
    """before, after: how many bases a window holds on either side of what is computed in it; ``after`` is its right."""

    window: int
    before: int
    after: int
    unit: int = 1

    @classmethod
    def of(cls, window: int, overlap: int | None, direction: str, unit: int = 1) -> Rule:
        """direction: "forward" or "reverse" for what reads one way, else "both". NexVarError for too much overlap."""
        overlap = window // 4 if overlap is None else overlap
        sides = 2 if direction == "both" else 1
        if sides * overlap >= window:
            most = (window - 1) // sides
            raise NexVarError(f"{overlap:,} of a window's {window:,} bases" + (", on both sides" if sides == 2 else ""),
                              where="--overlap", fix=f"at most {most:,}")  # fmt: skip
        return cls(window, 0 if direction == "reverse" else overlap, 0 if direction == "forward" else overlap, unit)


@dataclass(frozen=True)
class Window:
    """[start, end) is read, [first, last) computed in it. On circular contigs start and end may lie beyond the ends."""

    start: int
    end: int
    first: int
    last: int


class Grid:
    """The windows over [low, high) of a contig, from left to right; what they compute covers it, each base once."""

    def __init__(self, low: int, high: int, circular: bool, rule: Rule) -> None:
        self.low, self.high, self.circular = low, high, circular
        size = high - low
        if rule.unit > 1 and size < rule.window:
            fits = size // rule.unit * rule.unit
            before, after = (min(-(-n * fits // rule.window), (fits - 1) // 2) for n in (rule.before, rule.after))
            rule = Rule(fits, before, after, rule.unit)
        elif circular and size <= rule.window:
            rule = Rule(size, min(rule.before, size // 4), min(rule.after, size // 4))
        self.rule = rule
        self.step = rule.window - rule.before - rule.after
        if circular:
            self.count = -(-size // self.step)
        else:
            self.count = max(1, -(-(size - rule.before - rule.after) // self.step))

    def window(self, k: int) -> Window:
        """Number k, from 0.

        A linear grid begins at the left end; where only what follows counts (a strand read from right to left) it is
        the mirror image, and begins at the right end.
        """
        rule, low, high = self.rule, self.low, self.high
        if self.circular:
            first = low + k * self.step
            start = first - rule.before
            return Window(start, start + rule.window, first, min(first + self.step, high))
        if rule.after and not rule.before:
            mirror = _linear(self.count - 1 - k, high - low, rule.after, 0, rule.window, self.count)
            return Window(high - mirror.end, high - mirror.start, high - mirror.last, high - mirror.first)
        here = _linear(k, high - low, rule.before, rule.after, rule.window, self.count)
        return Window(low + here.start, low + here.end, low + here.first, low + here.last)

    def over(self, start: int, end: int) -> range:
        """The numbers of the windows that compute bases of [start, end)."""
        return range(self._of(start), self._of(end - 1) + 1)

    def _of(self, position: int) -> int:
        """The window that computes a base: by arithmetic but for the grid's ends, where a window computes more."""
        rule = self.rule
        if self.circular:
            return (position - self.low) // self.step
        if rule.after and not rule.before:
            return self.count - 1 - min(max(self.high - 1 - position - rule.after, 0) // self.step, self.count - 1)
        return min(max(position - self.low - rule.before, 0) // self.step, self.count - 1)


def _linear(k: int, size: int, before: int, after: int, window: int, count: int) -> Window:
    step = window - before - after
    start = max(min(k * step, size - window), 0)
    first = 0 if k == 0 else k * step + before
    last = size if k == count - 1 else (k + 1) * step + before
    return Window(start, min(start + window, size), first, last)


@dataclass(frozen=True)
class Segment:
    """[start, end) of a contig, whose windows lie on the grid over [low, high)."""

    contig: str
    start: int
    end: int
    low: int
    high: int


class Sliding:
    """The windows of segments. circular: contigs' names."""

    def __init__(self, rule: Rule, circular: frozenset[str]) -> None:
        self.rule, self.circular = rule, circular

    def grid(self, segment: Segment) -> Grid:
        return Grid(segment.low, segment.high, segment.contig in self.circular, self.rule)

    def parts(self, segments: Sequence[Segment], bases: int) -> list[list[Segment]]:
        """Consecutive pieces of the segments, of about so many bases; long ones are cut where a window's work ends."""
        parts: list[list[Segment]] = [[]]
        room = bases
        for segment in segments:
            grid, start = self.grid(segment), segment.start
            while start < segment.end:
                if room <= 0:
                    parts.append([])
                    room = bases
                upto = min(start + room, segment.end)
                end = min(grid.window(grid.over(upto - 1, upto)[0]).last, segment.end)
                parts[-1].append(Segment(segment.contig, start, end, segment.low, segment.high))
                room -= end - start
                start = end
        return parts

    def windows(self, part: Sequence[Segment]) -> Iterator[tuple[str, Window, list[tuple[int, int]]]]:
        """(contig, window, ranges of the contig to compute in it), in order; none twice in a row."""
        key: tuple[str, Window] | None = None
        ranges: list[tuple[int, int]] = []
        for segment in part:
            grid = self.grid(segment)
            for k in grid.over(segment.start, segment.end):
                window = grid.window(k)
                if key is not None and key != (segment.contig, window):
                    yield *key, ranges
                    ranges = []
                key = segment.contig, window
                ranges.append((max(window.first, segment.start), min(window.last, segment.end)))
        if key is not None:
            yield *key, ranges
