"""What an evaluation of scored variants found: rows of metrics by group, and the samples behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexvar.evals.metrics import Estimate


@dataclass(frozen=True)
class Row:
    """One group. ``estimates`` is empty where ``note`` says why; ``negatives`` is 0 for continuous labels."""

    group: str
    positives: int
    negatives: int
    estimates: dict[str, Estimate]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What ``run`` found: the rows, the samples behind them, and lines for the reader."""

    rows: list[Row]
    index: np.ndarray  # (N,) which rows of the labels file were used
    labels: np.ndarray  # (N,) bool, or float for continuous labels
    badness: np.ndarray  # (N,) higher = more likely class 1
    groups: np.ndarray  # (N,) str
    clusters: np.ndarray | None  # (N,) what a bootstrap draw takes whole
    against: np.ndarray | None  # (N,) the other model's badness
    score_name: str
    against_name: str
    notes: list[str]
