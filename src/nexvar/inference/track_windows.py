"""Tracks over stretches of any length, in windows that slide over them; and ``NexVar.predict_tracks``.

    stretch ── windows ── both strands ── TrackPredictor (tracks.py) ── their centres side by side, or blended

Every bin is computed in a window that holds ``overlap`` bases on either side of it. Blended, it is the mean of two such
windows, half a step apart, and each counts less the nearer the bin is to the end of what it computes: no seams.
Beyond the ends of a linear contig a window reads N. A contig shorter than the window gets a window of its own: the
shortest that computes all of it, or, of a ring, the longest within one turn.
N bins, K tracks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import groupby

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.inference.core.batching import Tally, default_batch_tokens
from nexvar.inference.core.sequences import not_a_base
from nexvar.inference.core.sliding import Grid, Rule, Segment, Sliding
from nexvar.inference.per_base import STRANDS
from nexvar.inference.tracks import TrackPredictor, track_predictor
from nexvar.weights.load import Loaded

Read = Callable[[str, int, int], str]  # (contig, start, end) -> its bases: A, C, G, T and N


@dataclass(frozen=True)
class PredictedTracks:
    """The tracks of one sequence of L bases. values_NK: float32, N = L / resolution rounded up: each bin's mean a base.

    names: of the K columns. resolution: bases of a bin; the last bin may be shorter.
    """

    names: tuple[str, ...]
    resolution: int
    values_NK: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """(N,): one track."""
        if name not in self.names:
            raise NexVarError(f"no track {name[:80]!r}", where="track", fix=f"one of {', '.join(self.names[:10])}")
        return self.values_NK[:, self.names.index(name)]


def predict_tracks(
    loaded: Loaded,
    seqs: Sequence[str],
    tracks: Sequence[str] | None = None,
    *,
    species: str | None = None,
    strand: str = "both",
    window: int | None = None,
    overlap: int | None = None,
    blend: bool = False,
    batch_tokens: int | None = None,
) -> list[PredictedTracks]:
    """See ``NexVar.predict_tracks``."""
    names = None if tracks is None else [arguments.text(n, "tracks") for n in arguments.a_list(tracks, "tracks")]
    predictor = track_predictor(loaded, species, names)
    arguments.one_of(strand, "strand", STRANDS)
    for value, where in ((window, "window"), (overlap, "overlap"), (batch_tokens, "batch_tokens")):
        if value is not None:
            arguments.whole(value, where, 0 if where == "overlap" else 1)
    texts = {f"seqs[{i}]": _bases(seq, f"seqs[{i}]") for i, seq in enumerate(arguments.a_list(seqs, "seqs"))}
    stretches = Stretches(predictor, predictor.rule(window, overlap), blend=arguments.flag(blend, "blend"))
    tokens, made = batch_tokens or default_batch_tokens(loaded), []
    for where, text in texts.items():
        whole = Segment(where, 0, len(text), 0, len(text))
        values_NK = stretches.values(
            [whole], lambda name, start, end: texts[name][start:end], strand=strand, batch_tokens=tokens
        )
        made.append(PredictedTracks(predictor.names, predictor.resolution, values_NK))
    return made


def of_fasta(fasta: Fasta) -> Read:
    """How a FASTA is read: whatever is not A, C, G or T is N."""
    return lambda contig, start, end: re.sub("[^ACGT]", "N", fasta.fetch(contig, start, end))


def _bases(text: object, where: str) -> str:
    """In upper case; NexVarError for what is none."""
    given = arguments.text(text, where, "give a string of bases")
    odd = next((i for i, letter in enumerate(given) if letter not in "ACGTNacgtn"), None)
    if odd is not None:
        raise not_a_base(given, odd, where)
    return given.upper()


@dataclass(frozen=True)
class Stretches:
    """How tracks are predicted over contigs. circular: names of those that are rings."""

    predictor: TrackPredictor
    rule: Rule
    circular: frozenset[str] = frozenset()
    blend: bool = False

    @cached_property
    def windows(self) -> TrackWindows:
        return TrackWindows(self.predictor, self.rule, self.circular)

    def aligned(self, segments: Sequence[Segment]) -> list[Segment]:
        """The segments, which are sorted, widened to whole bins: each bin once."""
        bins, made = self.predictor.resolution, list[Segment]()
        for s in segments:
            before = made[-1].end if made and made[-1].contig == s.contig else 0
            start = max(s.low + (s.start - s.low) // bins * bins, before)
            end = min(s.low + _up(s.end - s.low, bins), s.high)
            if start < end:
                made.append(Segment(s.contig, start, end, s.low, s.high))
        return made

    def starts(self, segment: Segment) -> np.ndarray:
        """(N,) int64: where the bins of an aligned segment begin; the last one ends with the segment."""
        return np.arange(segment.start, segment.end, self.predictor.resolution, dtype=np.int64)

    def values(
        self, part: Sequence[Segment], read: Read, *, strand: str, batch_tokens: int, tally: Tally | None = None
    ) -> np.ndarray:
        """(N, K) float32 of all bins of aligned segments, in order; long ones were cut by ``windows.parts``."""
        predict = partial(self.predictor.predict, strand=strand, batch_tokens=batch_tokens, tally=tally)
        values_NK = self.windows.values(part, read, predict)
        if not self.blend:
            return values_NK
        step = self.rule.window - self.rule.before - self.rule.after
        half = step // 2 // self.predictor.resolution * self.predictor.resolution
        between_NK = TrackWindows(self.predictor, self.rule, self.circular, half).values(part, read, predict)
        phase_N = np.concatenate([self.windows.phase(segment, self.starts(segment)) for segment in part])
        here_N1 = (1 - np.abs(2 * phase_N - 1)).astype(np.float32)[:, None]
        return here_N1 * values_NK + (1 - here_N1) * between_NK


class TrackWindows(Sliding):
    """The windows of segments. shift: bases by which the grid lies further to the left."""

    def __init__(self, predictor: TrackPredictor, rule: Rule, circular: frozenset[str], shift: int = 0) -> None:
        super().__init__(rule, circular)
        self.heads, self.shift = predictor.heads, shift
        self.rule_for = cache(self._rule_for)

    def grid(self, segment: Segment) -> Grid:
        rule, turns = self.rule_for(segment.high - segment.low, segment.contig in self.circular)
        low, high = segment.low, segment.high
        if turns:
            return Grid(low - self.shift, high, True, rule)
        margin = self.heads.margin(rule.window)
        return Grid(low - margin - self.shift, low + _up(high - low, self.heads.resolution) + margin, False, rule)

    def _rule_for(self, size: int, ring: bool) -> tuple[Rule, bool]:
        """The rule of a contig of so many bases, and whether its windows wrap around."""
        heads, wanted = self.heads, self.rule
        if ring and size > wanted.window:
            return wanted, True
        if ring:
            window = (size - 1) // heads.unit * heads.unit
            overlap = _up(max(heads.margin(window), min(wanted.before, window // 4)), heads.resolution)
            if window > 2 * overlap:
                return Rule(window, overlap, overlap), True
        for window in range(_up(size, heads.unit), wanted.window, heads.unit):
            if window - 2 * (margin := heads.margin(window)) >= _up(size, heads.resolution):
                return Rule(window, margin, margin), False
        return wanted, False

    def phase(self, segment: Segment, starts_N: np.ndarray) -> np.ndarray:
        """How far behind a seam each bin is, as a share of the step: 0 on it, 0.5 in the middle of a window."""
        grid = self.grid(segment)
        seam = grid.low + (0 if grid.circular else grid.rule.before)
        return (starts_N - seam) / grid.step % 1.0

    def values(
        self, part: Sequence[Segment], read: Read, predict: Callable[[list[str]], list[np.ndarray]]
    ) -> np.ndarray:
        """(N, K) float32: of all bins of the segments, in order."""
        texts, wanted = list[str](), list[list[slice]]()
        for (contig, low, high), segments in groupby(part, key=lambda s: (s.contig, s.low, s.high)):
            group = list(segments)
            rule, turns = self.rule_for(high - low, contig in self.circular)
            margin = self.heads.margin(rule.window)
            for _, window, ranges in self.windows(group):
                start = window.start if turns else max(window.start, low - margin)
                end = start + rule.window
                inside = (start, end) if turns else (max(start, low), min(end, high))
                texts.append("N" * (inside[0] - start) + read(contig, *inside) + "N" * (end - inside[1]))
                wanted.append([self._bins(a, b, start + margin) for a, b in ranges])
        values = predict(texts)
        return np.concatenate([v[bins] for v, ranges in zip(values, wanted, strict=True) for bins in ranges])

    def _bins(self, start: int, end: int, first: int) -> slice:
        bins = self.heads.resolution
        return slice((start - first) // bins, _up(end - first, bins) // bins)


def _up(bases: int, unit: int) -> int:
    """The next multiple."""
    return -(-bases // unit) * unit
