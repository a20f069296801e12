"""Tracks over a genome, in windows: which regions are for what, and what lies in a window.

    FASTA ──────────────── letters (L)                        regions: contigs, chr1:1-1000, BED files
    bigWigs, bedGraphs ─── sums of bins (N, K), and which bins count: those without N

Bins stand at multiples of the resolution from a contig's beginning. 0-based half-open.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.bed import Regions, parse_region, read_bed
from nexvar.genome.reference import Fasta, Interval
from nexvar.genome.signals import Signal
from nexvar.train.recipe import TracksPart
from nexvar.train.track_metrics import BED

PIECE = 1 << 20  # bases that a survey reads at once


@dataclass(frozen=True)
class Window:
    """text: A, C, G, T and N. sums_NK: float64, of each bin. keep_N: whether a bin has no N."""

    text: str
    sums_NK: np.ndarray
    keep_N: np.ndarray


class TrackFiles:
    """The recipe's genome and tracks, open and checked. cache: for bigWigs that are made of bedGraphs."""

    def __init__(self, part: TracksPart, cache: Path) -> None:
        self.part, self.fasta = part, Fasta(Path(part.fasta))
        cache.mkdir(parents=True, exist_ok=True)
        self.signals = [Signal(track.file, self.fasta, cache=cache) for track in part.tracks]
        for signal in self.signals:
            signal.check_counts()

    def window(self, place: Interval) -> Window:
        """What lies at whole bins."""
        text = re.sub("[^ACGT]", "N", self.fasta.fetch(place.chrom, place.start, place.end))
        known_L = np.frombuffer(text.encode(), np.uint8) != ord("N")
        values_LK = np.stack([s.values(place.chrom, place.start, place.end) for s in self.signals], 1)
        r = self.part.resolution
        return Window(text, values_LK.reshape(-1, r, len(self.signals)).sum(1), known_L.reshape(-1, r).all(1))

    def means(self, places: Sequence[Interval]) -> tuple[float, ...]:
        """Of each track the mean a base of bins that are not 0; NexVarError for a track that is 0 throughout."""
        totals_K, counts_K = np.zeros(len(self.signals)), np.zeros(len(self.signals))
        size = max(PIECE // self.part.resolution, 1) * self.part.resolution
        for place in places:
            for start in range(place.start, place.end, size):
                window = self.window(Interval(place.chrom, start, min(start + size, place.end)))
                sums_NK = window.sums_NK[window.keep_N]
                totals_K += sums_NK.sum(0)
                counts_K += (sums_NK > 0).sum(0)
        for track, total in zip(self.part.tracks, totals_K, strict=True):
            if not total > 0:
                what = f"{track.name} has no value in the regions to train on"
                raise NexVarError(what, where=track.file, fix="other regions in task.train, or another track")
        return tuple((totals_K / counts_K / self.part.resolution).tolist())

    # -- regions

    def regions(self) -> tuple[list[Interval], list[Interval], list[Interval]]:
        """To train on, to choose by, to test on: cut to whole bins, apart, each at least a window long."""
        part = self.part
        valid, test = self._named(part.valid, "valid"), self._named(part.test, "test")
        train = self._named(part.train, "train") if part.train else self._others([*valid, *test])
        named = (("train", train), ("valid", valid), ("test", test))
        for i, (one, here) in enumerate(named):
            for other, there in named[i + 1 :]:
                if both := _overlap(here, there):
                    what = f"{_said(both)} is in {one} and in {other}"
                    raise NexVarError(what, where=f"task.{other}", fix="regions apart from each other")
        if not train:
            raise NexVarError("no region to train on", where="task.train", fix="contigs, or a smaller window")
        return [self._whole(p) for p in train], [self._whole(p) for p in valid], [self._whole(p) for p in test]

    def _named(self, texts: Sequence[str], key: str) -> list[Interval]:
        """What the recipe names, merged; each must have a value in every file, and room for a window."""
        given: list[Interval] = []
        for text in texts:
            if text.endswith(BED):
                bed = read_bed(text, self.fasta)
                given += [Interval(c, *span) for c in self.fasta.contigs for span in bed.intervals(c)]
            else:
                try:
                    given.append(parse_region(text, self.fasta))
                except NexVarError as error:
                    raise NexVarError(error.what, where=f"task.{key}", fix=error.fix) from None
        merged = Regions(given)
        places = [Interval(c, *span) for c in self.fasta.contigs for span in merged.intervals(c)]
        for place in places:
            if (signal := next((s for s in self.signals if not s.has(place.chrom)), None)) is not None:
                what = f"contig {place.chrom} is not in it"
                raise NexVarError(what, where=signal.source, fix=f"leave it out of task.{key}")
            if not self._fits(place):
                what = f"{_said(place)} has {place.end - place.start:,} bases, a window {self.part.window:,}"
                raise NexVarError(what, where=f"task.{key}", fix="a smaller task.window, or leave it out")
        return places

    def _others(self, taken: Sequence[Interval]) -> list[Interval]:
        """Of contigs that all files have, what is not taken."""
        shared = [c for c in self.fasta.contigs if all(s.has(c) for s in self.signals)]
        if len(shared) < len(self.fasta.contigs):
            left = len(self.fasta.contigs) - len(shared)
            warnings.warn(f"{left:,} contigs of {self.fasta.path.name} are not in every track: left out", stacklevel=2)
        free: list[Interval] = []
        for contig in shared:
            for low, high in self.fasta.spans(contig):
                cuts = sorted((t.start, t.end) for t in taken if t.chrom == contig)
                for start, end in (*cuts, (high, high)):
                    if low < min(start, high):
                        free.append(Interval(contig, low, min(start, high)))
                    low = max(low, end)
        return [place for place in free if self._fits(place)]

    def _fits(self, place: Interval) -> bool:
        first, last = self._bins(place)
        return (last - first) * self.part.resolution >= self.part.window

    def _bins(self, place: Interval) -> tuple[int, int]:
        r = self.part.resolution
        return -(-place.start // r), place.end // r

    def _whole(self, place: Interval) -> Interval:
        first, last = self._bins(place)
        return Interval(place.chrom, first * self.part.resolution, last * self.part.resolution)

    # -- windows of a region

    def learned(self, places: Sequence[Interval]) -> list[Interval]:
        """Windows a stride apart, and one at the end of each region."""
        window, stride = self.part.window, self.part.stride or self.part.window // 2
        stride = max(stride // self.part.resolution, 1) * self.part.resolution
        made = []
        for place in places:
            starts = sorted({*range(place.start, place.end - window + 1, stride), place.end - window})
            made += [Interval(place.chrom, start, start + window) for start in starts]
        return made


@dataclass(frozen=True)
class Tile:
    """A window whose bins [first, last) are kept, and where the first of them stands among all that are measured."""

    place: Interval
    first: int
    last: int
    at: int


def tiles(places: Sequence[Interval], window: int, resolution: int) -> Iterator[Tile]:
    """Windows that overlap by a quarter, and of each the centre, so that every bin is kept once; edges of a region are
    kept by its first and last window."""
    N = window // resolution
    margin, at = N // 8, 0
    for place in places:
        bins, done, start = (place.end - place.start) // resolution, 0, 0
        while done < bins:
            start = min(start, bins - N)
            last = bins if start + N >= bins else start + N - margin
            begin = place.start + start * resolution
            yield Tile(Interval(place.chrom, begin, begin + window), done - start, last - start, at + done)
            done, start = last, last - margin
        at += bins


def _overlap(here: Sequence[Interval], there: Sequence[Interval]) -> Interval | None:
    """What two lists share first."""
    for a in here:
        for b in there:
            if a.chrom == b.chrom and max(a.start, b.start) < min(a.end, b.end):
                return Interval(a.chrom, max(a.start, b.start), min(a.end, b.end))
    return None


def _said(place: Interval) -> str:
    """1-based, as people write it."""
    return f"{place.chrom}:{place.start + 1:,}-{place.end:,}"
