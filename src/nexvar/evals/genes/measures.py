"""How well a score tells two classes of genes apart: AUROC with DeLong's interval, Youden's threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nexvar.evals.metrics import Estimate, Ranking, TooFew, confusion_at_youden, mcc_of
from nexvar.evals.statistics import delong_interval


@dataclass(frozen=True)
class Separation:
    """Class 1 from class 0 by one score, higher for class 1; the last three at Youden's threshold."""

    auroc: Estimate
    mcc: float
    sensitivity: float
    specificity: float


def separation(labels: np.ndarray, scores: np.ndarray) -> Separation:
    """labels: (N,) bool; scores: (N,) finite. ``TooFew``: fewer than ten of a class."""
    auroc = delong_interval(labels, scores)
    counts = Ranking(labels, scores).counts()
    _, tp, fp, fn, tn = confusion_at_youden(counts)
    return Separation(auroc, mcc_of(counts), tp / (tp + fn), tn / (tn + fp))


def lines(labels: Sequence[bool], scores: Mapping[str, Sequence[float]]) -> list[str]:
    """A table for people, a line for each score; one line where there are too few of a class."""
    wide = max(map(len, scores))
    shown = [f"{'':<{wide}}  AUROC [95 %]          MCC     sensitivity  specificity"]
    for name, values in scores.items():
        try:
            s = separation(np.array(labels, dtype=bool), np.array(values, dtype=np.float64))
        except TooFew as error:
            return [f"no AUROC: {error.what}; {error.fix}"]
        mcc = "" if math.isnan(s.mcc) else f"{s.mcc:.3f}"
        shown.append(f"{name:<{wide}}  {s.auroc}  {mcc:<6}  {s.sensitivity:<11.3f}  {s.specificity:.3f}")
    return shown
