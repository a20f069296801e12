"""What can be learned from labels: each kind reads labels, has a loss and metrics, and says what outputs mean.

    classification   one class of several             (N, classes) logits    cross-entropy
    multi-label      each of several: yes or no       (N, labels) logits     binary cross-entropy
    regression       one number, or several           (N, targets)           half the squared error, standardised

N counts sequences, or bases where every base has its label. A missing label (an empty cell) of a multi-label or
regression task is not learned from and not measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.errors import NexVarError

YES_NO = {"1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "": float("nan")}
RESERVED = ("name", "label", "start", "end", "value")  # columns of what ``predict`` writes


@dataclass
class Kind(ABC):
    """names: classes, labels or targets. weights: what each counts in the loss, by name; 1 where none is said."""

    names: tuple[str, ...]
    weights: dict[str, float] = field(default_factory=dict)

    KIND = ""
    MAIN = ""  # the metric by which the best state is chosen: more is better
    METRICS: ClassVar[tuple[str, ...]] = ()  # of all outputs together; some need rows of every class

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(self.names)):
            fix = f"one of {', '.join(self.names[:20])}"
            raise NexVarError(f"a weight for {unknown[0]!r}", where="task.class_weights", fix=fix)
        if odd := next((name for name, weight in self.weights.items() if not 0 <= weight < float("inf")), None):
            what = f"the weight of {odd[:80]!r} is {self.weights[odd]}"
            raise NexVarError(what, where="task.class_weights", fix="a finite number, 0 or more")
        self.weights_K = torch.tensor([float(self.weights.get(name, 1.0)) for name in self.names])

    @property
    def outputs(self) -> int:
        return len(self.names)

    def weighted(self, weights: Mapping[str, float]) -> Kind:
        return replace(self, weights=dict(weights))

    @abstractmethod
    def targets(self, labels: Sequence[tuple[str, ...]], where: object) -> Tensor:
        """(N,) int64, or (N, K) float32 with NaN for what is missing. NexVarError names the label that is none."""

    @abstractmethod
    def loss(self, out_NK: Tensor, targets: Tensor) -> Tensor:
        """The sum over N."""

    @abstractmethod
    def metrics(self, out_NK: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Of everything that is held out; out_NK float64."""

    @abstractmethod
    def said(self, out_K: Tensor) -> dict[str, Any]:
        """For people: column -> value."""


class Classification(Kind):
    KIND, MAIN = "classification", "mcc"
    METRICS = ("accuracy", "mcc", "f1", "auroc")

    def __post_init__(self) -> None:
        super().__post_init__()
        columns = (*RESERVED, *self.names)
        if twice := [name for name in self.names if columns.count(name) > 1]:
            what = f"two columns would be called {twice[0][:80]!r}"
            raise NexVarError(what, where="classes", fix="name the classes apart")

    def targets(self, labels: Sequence[tuple[str, ...]], where: object) -> Tensor:
        index = {name: i for i, name in enumerate(self.names)}
        if odd := next((label for (label,) in labels if label not in index), None):
            raise NexVarError(f"label {odd[:80]!r} is in no row to train on", where=where, fix="rows of split train")
        return torch.tensor([index[label] for (label,) in labels])

    def loss(self, out_NK: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(out_NK, targets, self.weights_K.to(out_NK.device), reduction="sum")

    def metrics(self, out_NK: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        said, K = out_NK.argmax(1), self.outputs
        measured = {
            "accuracy": float((said == targets).mean()),
            "mcc": correlation(np.eye(K)[said], np.eye(K)[targets]),
            "f1": float(np.mean([_f1(said == k, targets == k) for k in range(K)])),
        }
        if K == 2:
            return measured | _named("auroc", auroc(out_NK[:, 1] - out_NK[:, 0], targets == 1))
        p_NK = np.exp(out_NK - np.logaddexp.reduce(out_NK, axis=1, keepdims=True))
        each = [auroc(p_NK[:, k], targets == k) for k in range(K)]  # each class against the rest
        return measured | _named("auroc", None if None in each else _mean(each))

    def said(self, out_K: Tensor) -> dict[str, Any]:
        p = out_K.softmax(-1).tolist()
        return {"label": self.names[int(out_K.argmax())], **dict(zip(self.names, p, strict=True))}


class MultiLabel(Kind):
    KIND, MAIN = "multi-label", "mean_auroc"
    METRICS = ("mean_auroc", "f1")

    def targets(self, labels: Sequence[tuple[str, ...]], where: object) -> Tensor:
        for i, row in enumerate(labels):
            if odd := next((value for value in row if value.lower() not in YES_NO), None):
                what = f"label {odd[:80]!r}"
                raise NexVarError(what, where=f"{where}, sequence {i + 1}", fix="0 or 1; empty where it is not known")
        return torch.tensor([[YES_NO[value.lower()] for value in row] for row in labels])

    def loss(self, out_NK: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        each = F.binary_cross_entropy_with_logits(
            out_NK, targets.nan_to_num(), pos_weight=self.weights_K.to(out_NK.device), reduction="none"
        )
        return (each * known).sum() / self.outputs

    def metrics(self, out_NK: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        areas: dict[str, float] = {}
        scores = []
        for k, name in enumerate(self.names):
            known = ~np.isnan(targets[:, k])
            areas |= _named(f"auroc_{name}", auroc(out_NK[known, k], targets[known, k] == 1))
            scores.append(_f1(out_NK[known, k] > 0, targets[known, k] == 1))
        return {**_named("mean_auroc", _mean(areas.values())), "f1": float(np.mean(scores)), **areas}

    def said(self, out_K: Tensor) -> dict[str, Any]:
        return dict(zip(self.names, out_K.sigmoid().tolist(), strict=True))


@dataclass
class Regression(Kind):
    """A value is ``scale`` x output + ``centre``, of each target."""

    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    KIND, MAIN = "regression", "pearson"
    METRICS = ("pearson", "spearman")

    def targets(self, labels: Sequence[tuple[str, ...]], where: object) -> Tensor:
        values = np.array([[_number(v, f"{where}, sequence {i + 1}") for v in row] for i, row in enumerate(labels)])
        return torch.tensor((values - self.centre) / self.scale, dtype=torch.float32)

    def standardised_by(self, labels: Sequence[tuple[str, ...]], where: object) -> Regression:
        """With mean 0 and standard deviation 1 over these rows."""
        values = np.array([[_number(v, f"{where}, sequence {i + 1}") for v in row] for i, row in enumerate(labels)])
        if empty := [name for name, column in zip(self.names, values.T, strict=True) if np.isnan(column).all()]:
            raise NexVarError(f"no row to train on has a value of {empty[0][:80]!r}", where=where)
        scale = tuple(float(x) or 1.0 for x in np.nanstd(values, 0))
        return Regression(self.names, self.weights, tuple(map(float, np.nanmean(values, 0))), scale)

    def loss(self, out_NK: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        each = 0.5 * (out_NK - targets.nan_to_num()).square() * self.weights_K.to(out_NK.device)
        return (each * known).sum() / self.outputs

    def metrics(self, out_NK: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        each: dict[str, list[float]] = {"pearson": [], "spearman": []}
        for k in range(self.outputs):
            known = ~np.isnan(targets[:, k])
            said, true = out_NK[known, k], targets[known, k]
            each["pearson"].append(correlation(said, true))
            each["spearman"].append(correlation(ranks(said), ranks(true)))
        measured = {name: float(np.mean(values)) for name, values in each.items()}
        if self.outputs > 1:
            for name, values in each.items():
                measured |= {f"{name}_{target}": value for target, value in zip(self.names, values, strict=True)}
        return measured

    def said(self, out_K: Tensor) -> dict[str, Any]:
        values = out_K.double() * torch.tensor(self.scale) + torch.tensor(self.centre)
        return dict(zip(self.names if self.outputs > 1 else ("value",), values.tolist(), strict=True))


KINDS: dict[str, type[Kind]] = {kind.KIND: kind for kind in (Classification, MultiLabel, Regression)}


def balanced(kind: Kind, targets: Tensor) -> dict[str, float]:
    """Weights that make rare classes count as much as frequent ones: N / (K n) of a class; of a label, its noes per
    yes."""
    if isinstance(kind, Regression):
        raise NexVarError("a regression has no classes", where="task.class_weights", fix="remove it")
    if isinstance(kind, MultiLabel):
        yes, no = (targets == 1).sum(0), (targets == 0).sum(0)
        return {name: float(n / max(int(y), 1)) for name, y, n in zip(kind.names, yes, no, strict=True)}
    counts = torch.bincount(targets, minlength=kind.outputs).clamp(min=1)
    return {name: len(targets) / (kind.outputs * int(n)) for name, n in zip(kind.names, counts, strict=True)}


def from_facts(kind: str, names: Sequence[str], facts: Mapping[str, Any]) -> Kind:
    """As ``task.json`` describes it."""
    if kind == Regression.KIND:
        return Regression(tuple(names), {}, tuple(facts["centre"]), tuple(facts["scale"]))
    return KINDS[kind](tuple(names))


def _number(label: str, where: str) -> float:
    if label == "":
        return float("nan")
    try:
        value = float(label)
    except ValueError:
        value = float("inf")
    if not np.isfinite(value):
        raise NexVarError(f"label {label[:80]!r} is no number", where=where, fix='kind = "classification"')
    return value


# -- measures


def ranks(x: np.ndarray) -> np.ndarray:
    """1-based ranks, ties averaged."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; of one-hot rows it is Matthews' coefficient for any number of classes. 0 if one is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm else 0.0


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """None where only one class is there."""
    n = int(positive.sum())
    if n in (0, len(positive)):
        return None
    return float((ranks(scores)[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def _f1(said: np.ndarray, true: np.ndarray) -> float:
    both = int((said & true).sum())
    return 2 * both / max(int(said.sum()) + int(true.sum()), 1)


def _named(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _mean(values: Any) -> float | None:
    known = list(values)
    return float(np.mean(known)) if known else None
