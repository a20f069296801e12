"""The baseline of interpolated Markov models."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nexvar.train.markov import Markov


def test_markov_is_the_formula() -> None:
    text = b"ACGACGTTACGA"
    m = Markov(2, pseudo=2.0).fit([np.frombuffer(text, dtype=np.uint8)])

    def p(context: bytes, base: bytes) -> float:
        lower = p(context[1:], base) if context else 0.25
        n = [text.count(context + b) if context else text[2:].count(b) for b in (b"A", b"C", b"G", b"T")]
        if len(context) == 1:  # counted as the ends of whole 3-mers
            n = [sum(text[i : i + 2] == context + b for i in range(1, len(text) - 1)) for b in (b"A", b"C", b"G", b"T")]
        return (n[b"ACGT".index(base)] + 2 * lower) / (sum(n) + 2)

    out = m.log2_probabilities(np.frombuffer(b"GACN", dtype=np.uint8))
    assert out[2, 1] == pytest.approx(math.log2(p(b"GA", b"C")))
    assert out[1, 0] == pytest.approx(math.log2(p(b"G", b"A")))
    assert np.allclose((2**out).sum(1), 1)
    constant = Markov(3).fit([np.full(500, ord("A"), dtype=np.uint8)])
    assert constant.bits_per_base([np.full(50, ord("A"), dtype=np.uint8)]) < 0.05
