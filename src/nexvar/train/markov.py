"""Interpolated Markov models over A, C, G, T: the baseline that a sequence model must beat.

    p_k(x | last k bases) = (n(context, x) + a_k * p_{k-1}(x | last k-1 bases)) / (n(context) + a_k)

down to the uniform distribution; ``a_k`` weighs the shorter context (Bell, Cleary & Witten 1990). Contexts with a
letter other than A, C, G, T fall back to the bases after it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

CODE = np.full(256, 4, dtype=np.uint8)
CODE[list(b"ACGT")] = range(4)
CODE[list(b"acgt")] = range(4)


class Markov:
    """Counts of every (order + 1)-mer. Memory: 4 ** (order + 1) x 4 bytes, 268 MB at order 12."""

    def __init__(self, order: int, pseudo: float = 2.0) -> None:
        self.order, self.pseudo = order, pseudo
        self.counts = np.zeros(4 ** (order + 1), dtype=np.uint32)
        self._levels: list[np.ndarray] = []

    def fit(self, sequences: Iterable[np.ndarray], circular: bool = False) -> Markov:
        """Count ``sequences``, each (L,) uint8 letters; circular ones continue across their origin."""
        for letters in sequences:
            codes = CODE[letters]
            if circular:
                codes = np.concatenate([codes, codes[: self.order]])
            index, valid = _words(codes, self.order + 1)
            words, n = np.unique(index[valid], return_counts=True)
            self.counts[words] += n.astype(np.uint32)
        self._levels = []
        return self

    def log2_probabilities(self, letters: np.ndarray) -> np.ndarray:
        """(L, 4) float64: log2 p(base | the bases before) at every position of (L,) uint8 letters."""
        codes = CODE[letters]
        p = np.full((len(codes), 4), 0.25)
        for k, counts in enumerate(self.levels()):
            context, valid = _words(codes, k)
            rows = np.flatnonzero(valid[: len(codes)])
            where = rows + k  # a context of k bases predicts the base after it
            keep = where < len(codes)
            rows, where = rows[keep], where[keep]
            n = counts.reshape(-1, 4)[context[rows]].astype(np.float64)
            p[where] = (n + self.pseudo * p[where]) / (n.sum(1, keepdims=True) + self.pseudo)
        return np.log2(p)

    def bits(self, sequences: Iterable[np.ndarray]) -> tuple[float, int]:
        """Sum of -log2 p over every A, C, G and T of ``sequences``, and how many these are."""
        total, count = 0.0, 0
        for letters in sequences:
            codes = CODE[letters]
            at = np.flatnonzero(codes < 4)
            total -= float(self.log2_probabilities(letters)[at, codes[at]].sum())
            count += len(at)
        return total, count

    def bits_per_base(self, sequences: Iterable[np.ndarray]) -> float:
        """Mean -log2 p over every A, C, G and T of ``sequences``."""
        total, count = self.bits(sequences)
        return total / count

    def levels(self) -> list[np.ndarray]:
        """Counts of order 0 .. order; shorter contexts are sums of longer ones."""
        if not self._levels:
            levels = [self.counts]
            for k in range(self.order, 0, -1):
                levels.append(levels[-1].reshape(4, 4**k).sum(0, dtype=np.uint32))
            self._levels = levels[::-1]
        return self._levels


def _words(codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the k-mer that starts at each position (as base-4 number) and whether it holds only A, C, G, T."""
    count = max(len(codes) - k + 1, 0)
    index, valid = np.zeros(count, dtype=np.int64), np.ones(count, dtype=bool)
    for i in range(k):
        part = codes[i : i + count]
        valid &= part < 4
        index = index * 4 + np.minimum(part, 3)
    return index, valid
