"""Test rows that the training rows hold already: the same sequence, or nearly, on either strand.

A test sequence is near a training sequence that holds a share of its distinct words of ``WORD`` bases (a word and its
reverse complement are one): containment, as in Broder 1997. Public benchmarks have such pairs (genomic_benchmarks:
two sets of nine, up to 38 % of the test); a model that remembers them looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nexvar.evals.probes.features import codes_of, words_of
from nexvar.genome.reference import reverse_complement

WORD = 11
NEAR = 0.7  # of a test sequence's words in one training sequence
SHORTEST = 3 * WORD  # bases; shorter sequences share words by chance, and are compared whole


@dataclass(frozen=True)
class Leaks:
    """exact, near: (T,) bool, of each test sequence; near includes exact ones."""

    exact: np.ndarray
    near: np.ndarray

    @property
    def line(self) -> str:
        """For people."""
        total = len(self.exact)
        if not self.near.any():
            return f"no test sequence of {total:,} stands in the training rows, nearly or exactly"
        return (
            f"of {total:,} test sequences {int(self.exact.sum()):,} stand in the training rows, "
            f"{int(self.near.sum()):,} at least nearly ({NEAR:.0%} of their {WORD}-mers in one of them)"
        )


def find(train: Sequence[str], test: Sequence[str]) -> Leaks:
    """Compare all test sequences with all training sequences."""
    known = {strandless(text) for text in train}
    exact = np.array([strandless(text) in known for text in test], dtype=bool)
    near = exact.copy()
    words, owners = _index(train)
    for i, text in enumerate(test):
        if not near[i] and len(text) >= SHORTEST:
            near[i] = _containment(_words(text), words, owners, len(train)) >= NEAR
    return Leaks(exact, near)


def strandless(text: str) -> str:
    """The same for a sequence and its reverse complement."""
    upper = text.upper()
    return min(upper, reverse_complement(upper))


def _words(text: str) -> np.ndarray:
    """The distinct words of either strand, sorted."""
    forward = words_of(codes_of(text), WORD)
    reverse = words_of(codes_of(reverse_complement(text.upper())), WORD)[::-1]
    return np.unique(np.minimum(forward, reverse))


def _index(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(every word of every sequence, sorted; the sequence it is of)."""
    each = [_words(text) if len(text) >= WORD else np.zeros(0, dtype=np.int64) for text in texts]
    words = np.concatenate([*each, np.zeros(0, dtype=np.int64)])
    owners = np.repeat(np.arange(len(each)), [len(w) for w in each])
    order = np.argsort(words, kind="stable")
    return words[order], owners[order]


def _containment(mine: np.ndarray, words: np.ndarray, owners: np.ndarray, count: int) -> float:
    """The largest share of ``mine`` that one of ``count`` sequences holds."""
    if not len(mine) or not count:
        return 0.0
    starts, ends = np.searchsorted(words, mine, "left"), np.searchsorted(words, mine, "right")
    held = [owners[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
    if not held:
        return 0.0
    return float(np.bincount(np.concatenate(held), minlength=count).max() / len(mine))
