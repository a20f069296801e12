"""Elements of the genome at every base, from models with an element head (SegmentNT, post-trained NTv3).

    sequence ── stretches that the model can read ── windows (core/sliding.py) ── probabilities (L, elements)
             ── threshold ── segments

Models of k-mers cannot read an N: it moves the frame of all that follows, so rows and bases no longer line up. The
stretches between Ns are read each for itself, and Ns have no value; nor have stretches shorter than one block of the
model. A window is a multiple of the block; where a contig is not, its last window begins a little earlier. NTv3 reads
N, but tells only the middle of each window: the outermost bases of a contig have no value.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.batching import Tally, default_batch_tokens, in_batches
from nexvar.inference.core.sequences import clean, encoding, other_strand
from nexvar.inference.core.sliding import Rule, Segment, Sliding
from nexvar.weights.load import Loaded

STRANDS = ("forward", "reverse", "both")
THRESHOLD = 0.5  # "present" is then the likelier of the two classes


@dataclass(frozen=True)
class Elements:
    """probs_LE: float32, (bases, elements), the probability that a base is in an element, each for itself; NaN where
    the model has none."""

    names: tuple[str, ...]
    probs_LE: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """(bases,) of one element."""
        return self.probs_LE[:, self.names.index(arguments.one_of(name, "element", self.names))]

    def segments(self, threshold: float = THRESHOLD, *, gap: int = 0, min_length: int = 1) -> list[Found]:
        """The stretches of each element, by start; see ``Caller``."""
        caller = Caller(self.names, threshold, gap=gap, min_length=min_length)
        return [*caller.add("", 0, self.probs_LE), *caller.end()]


@dataclass(frozen=True, order=True)
class Found:
    """One stretch of an element: [start, end), 0-based. mean, peak: of the probabilities of its bases at or above the
    threshold."""

    start: int
    end: int
    element: str
    mean: float
    peak: float
    contig: str = ""


def annotate(
    loaded: Loaded,
    seqs: Sequence[str],
    *,
    window: int | None = None,
    overlap: int | None = None,
    strand: str = "forward",
    species: str | None = None,
    batch_tokens: int | None = None,
) -> list[Elements]:
    """The probabilities of every base of sequences of any length; see docs/annotation.md.

    window, overlap: ``rule_for``. strand: "forward" as the authors do, "reverse", or "both": the mean.
    species: of models that ask for one. batch_tokens: about how many tokens run together; it changes no result.
    Raises NexVarError: a model without elements, no sequence, a letter that is no base, none long enough.
    """
    rule = rule_for(loaded, window, overlap)
    arguments.one_of(strand, "strand", STRANDS)
    check_species(loaded, species)
    if batch_tokens is not None:
        batch_tokens = arguments.whole(batch_tokens, "batch_tokens", 1)
    texts = [clean_any(loaded, seq, f"seqs[{i}]") for i, seq in enumerate(arguments.a_list(seqs, "seqs"))]
    sliding, jobs = Sliding(rule, frozenset()), []
    results = [np.full((len(text), len(loaded.module.elements)), np.nan, dtype=np.float32) for text in texts]
    for i, text in enumerate(texts):
        stretches = [Segment("", a, b, a, b) for a, b in readable(loaded, text)]
        if not stretches:
            raise too_short(loaded, f"seqs[{i}]")
        jobs += [(i, window) for _, window, _ in sliding.windows(stretches)]
    windows = [texts[i][window.start : window.end] for i, window in jobs]
    tokens = batch_tokens or default_batch_tokens(loaded)
    for (i, place), probs in zip(jobs, compute(loaded, windows, strand=strand, species=species, batch_tokens=tokens),
                                 strict=True):  # fmt: skip
        results[i][place.first : place.last] = probs[place.first - place.start : place.last - place.start]
    return [Elements(tuple(loaded.module.elements), probs) for probs in results]


def clean_any(loaded: Loaded, text: object, where: str) -> str:
    """``clean`` of a text of any length: windows cut it."""
    if not isinstance(text, str) or len(text) <= loaded.card.context:
        return clean(loaded, text, where)
    step = loaded.card.context
    return "".join(clean(loaded, text[i : i + step], f"{where}, from {i:,} on") for i in range(0, len(text), step))


def check(loaded: Loaded) -> None:
    """NexVarError for a model that annotates nothing."""
    if not loaded.module.elements:
        what = f"{loaded.card.name} has no element head: it annotates nothing"
        raise NexVarError(what, where="model", fix="segment_nt, or a post-trained NTv3 with its head")


def check_species(loaded: Loaded, species: str | None) -> None:
    """NexVarError for a species that the model does not know."""
    if species is not None:
        if not hasattr(loaded.module, "species_ids"):
            raise NexVarError(f"{loaded.card.name} takes no species", where="species", fix="leave it away")
        loaded.module.species_ids(species)


def rule_for(loaded: Loaded, window: int | None = None, overlap: int | None = None) -> Rule:
    """Windows of ``window`` bases (default: the model's; a multiple of its block), each base at least ``overlap`` bases
    from a window's end (default: a quarter; more where the model tells only the middle)."""
    check(loaded)
    unit, card = loaded.module.element_unit, loaded.card
    default = min(loaded.module.element_window or card.window, card.context) // unit * unit
    size = default if window is None else arguments.whole(window, "--window", 1)
    if size > card.context:
        what = f"window of {size:,} bases, but the context of {card.name} is {card.context:,}"
        raise NexVarError(what, where="--window", fix=f"at most {card.context // unit * unit:,}")
    if size % unit or not size:
        what = f"window of {size:,} bases, {card.name} reads blocks of {unit}"
        raise NexVarError(what, where="--window", fix=f"a multiple of {unit}, such as {max(size // unit, 1) * unit:,}")
    margin = (size - loaded.module.told(size) + 1) // 2
    overlap = max(size // 4, margin) if overlap is None else arguments.whole(overlap, "--overlap", 0)
    if overlap < margin:
        what = f"{overlap:,} bases, but {card.name} tells the middle {loaded.module.told(size):,} of {size:,}"
        raise NexVarError(what, where="--overlap", fix=f"{margin:,} or more")
    return Rule.of(size, overlap, "both", unit)


def readable(loaded: Loaded, text: str, start: int = 0) -> list[tuple[int, int]]:
    """[start, end) of the stretches of a text that are read, where the text itself begins at ``start``."""
    if loaded.tokenizer.base_ids() is not None:  # a token for each base: N is one of them
        found = [(start, start + len(text))]
    else:
        found = [(start + match.start(), start + match.end()) for match in re.finditer("[ACGT]+", text)]
    return [(a, b) for a, b in found if b - a >= loaded.module.element_unit]


def too_short(loaded: Loaded, where: object) -> NexVarError:
    """For a sequence, or a file, of which nothing is long enough."""
    unit = loaded.module.element_unit
    return NexVarError(f"no {unit} bases in a row without N, the block of {loaded.card.name}", where=where,
                       fix=f"give {unit} bases or more")  # fmt: skip


def compute(
    loaded: Loaded,
    texts: Sequence[str],
    *,
    strand: str,
    species: str | None,
    batch_tokens: int,
    tally: Tally | None = None,
) -> list[np.ndarray]:
    """(L, E) float32 of each text, clean and a multiple of the block; NaN outside of what the model tells."""
    rows: list[list[int]] = []
    turns = ("forward", "reverse") if strand == "both" else (strand,)
    for text in texts:
        rows += [encoding(loaded, other_strand(text) if turn == "reverse" else text).ids for turn in turns]

    @torch.inference_mode()
    def run(batch: list[int]) -> list[np.ndarray]:
        ids = torch.tensor([rows[i] for i in batch], device=loaded.device)
        logits = loaded.module.element_logits(ids, species).float()
        return list(logits.softmax(-1)[..., 1].cpu().numpy())

    told = in_batches(loaded, [len(row) for row in rows], batch_tokens, run, tally or Tally(), pads=False)
    results = []
    for i, text in enumerate(texts):
        probs = np.full((len(turns), len(text), len(loaded.module.elements)), np.nan, dtype=np.float32)
        for t, turn in enumerate(turns):
            values = told[i * len(turns) + t]
            first = (len(text) - len(values)) // 2
            probs[t, first : first + len(values)] = values
            if turn == "reverse":
                probs[t] = probs[t, ::-1].copy()
        results.append(probs.mean(0))
    return results


class Caller:
    """Probabilities, piece by piece in order, -> stretches of each element at or above ``threshold``, by their starts.

    gap: so many bases between two stretches of an element, at most, join them. min_length: shorter ones are left out.
    Kept in memory: what has not ended, and what began after it.
    """

    def __init__(self, names: Sequence[str], threshold: float, *, gap: int = 0, min_length: int = 1) -> None:
        self.threshold = arguments.number(threshold, "--threshold", "from 0 to 1", 0, 1)
        self.gap = arguments.whole(gap, "--gap", 0)
        self.min_length = arguments.whole(min_length, "--min-length", 1)
        self.names, self.contig = names, ""
        self._open: dict[int, tuple[int, int, float, int, float]] = {}  # element: start, end, sum, count, peak
        self._ready: list[Found] = []

    def add(self, contig: str, start: int, probs_NE: np.ndarray) -> Iterator[Found]:
        """The probabilities of the N bases from ``start`` on; what is certain by now."""
        if contig != self.contig:
            yield from self.end()
            self.contig = contig
        for e in range(len(self.names)):
            probs_N = probs_NE[:, e]
            above = np.concatenate(([False], probs_N >= self.threshold, [False]))
            edges = np.flatnonzero(above[1:] != above[:-1])
            for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                values = probs_N[a:b]
                self._extend(e, start + a, start + b, float(values.sum(dtype=np.float64)), float(values.max()))
            if e in self._open and self._open[e][1] + self.gap < start + len(probs_N):
                self._close(e)
        first = min((start for start, *_ in self._open.values()), default=None)
        while self._ready and (first is None or self._ready[0].start < first):
            yield heapq.heappop(self._ready)

    def _extend(self, e: int, start: int, end: int, total: float, peak: float) -> None:
        if e in self._open and start <= self._open[e][1] + self.gap:
            began, _, before, count, top = self._open[e]
            self._open[e] = began, end, before + total, count + end - start, max(top, peak)
            return
        self._close(e)
        self._open[e] = start, end, total, end - start, peak

    def _close(self, e: int) -> None:
        if e in self._open:
            start, end, total, count, peak = self._open.pop(e)
            if end - start >= self.min_length:
                heapq.heappush(self._ready, Found(start, end, self.names[e], total / count, peak, self.contig))

    def end(self) -> Iterator[Found]:
        """What is left."""
        for e in list(self._open):
            self._close(e)
        while self._ready:
            yield heapq.heappop(self._ready)
