"""How well scores separate two classes, each number with its uncertainty (two models compared: statistics.py).

Conventions: ``labels`` are 0/1 (1 = the class to be found), ``scores`` are higher for class 1,
finite; both (N,).
A class with fewer than ``FEW`` members gives ``TooFew``: an AUROC of nine variants is not a measurement.

Every metric is a function of the weighted counts of each class at each distinct score, from the highest score
down. Sorting happens once; a bootstrap draw only changes the weights, so a draw costs O(N).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nexvar import arguments
from nexvar.errors import NexVarError

FEW = 10
DRAWS, MAX_DRAWS = 1000, 1_000_000

# Class 1 and class 0 at each distinct score, the highest score first: (U,) each.
Counts = tuple[np.ndarray, np.ndarray]


class TooFew(NexVarError):
    """A class has fewer than ``FEW`` members."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}-{self.high:.3f}]"


# --- metrics of counts ---


def auroc_of(counts: Counts) -> float:
    """P(a random member of class 1 scores above a random member of class 0), ties counting half."""
    pos_U, neg_U = counts
    above_U = np.cumsum(pos_U) - pos_U / 2
    return float(neg_U @ above_U / (pos_U.sum() * neg_U.sum()))


def auprc_of(counts: Counts) -> float:
    """Average precision: the mean over class 1 of the precision at its score (no interpolation)."""
    pos_U, neg_U = counts
    hits_U = np.cumsum(pos_U)
    called_U = hits_U + np.cumsum(neg_U)
    precision_U = np.divide(hits_U, called_U, out=np.zeros_like(hits_U), where=called_U > 0)
    return float(pos_U @ precision_U / hits_U[-1])


def confusion_at_youden(counts: Counts) -> tuple[int, float, float, float, float]:
    """(index, TP, FP, FN, TN) where sensitivity + specificity is largest; of equals the highest threshold.

    Compared as TP × N − FP × P, which is exact in whole numbers: of two quotients that are equal, rounding picks one.
    """
    pos_U, neg_U = counts
    tp_U, fp_U = np.cumsum(pos_U), np.cumsum(neg_U)
    best = int(np.argmax(tp_U * fp_U[-1] - fp_U * tp_U[-1]))
    tp, fp = float(tp_U[best]), float(fp_U[best])
    return best, tp, fp, float(tp_U[-1]) - tp, float(fp_U[-1]) - fp


def f1_of(counts: Counts) -> float:
    """F1 at Youden's threshold."""
    _, tp, fp, fn, _ = confusion_at_youden(counts)
    return 2 * tp / (2 * tp + fp + fn)


def mcc_of(counts: Counts) -> float:
    """Matthews correlation coefficient at Youden's threshold; 0 where it is undefined."""
    _, tp, fp, fn, tn = confusion_at_youden(counts)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / root if root else 0.0


METRICS: dict[str, Callable[[Counts], float]] = {
    "auroc": auroc_of,
    "auprc": auprc_of,
    "mcc": mcc_of,
    "f1": f1_of,
}


# --- metrics of samples ---


class Ranking:
    """Samples sorted once by score; ``counts(weights)`` then serves every metric and every bootstrap draw."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.labels, self.scores = checked(labels, scores)
        negated, self.group_N = np.unique(-self.scores, return_inverse=True)
        self.thresholds = -negated  # (U,) distinct scores, highest first

    def counts(self, weights_N: np.ndarray | None = None) -> Counts:
        weights_N = np.ones(len(self.labels)) if weights_N is None else weights_N
        size = len(self.thresholds)
        pos_U = np.bincount(self.group_N, weights_N * self.labels, size)
        return pos_U, np.bincount(self.group_N, weights_N, size) - pos_U


def checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(labels as bool, scores as float64); NexVarError for unequal lengths, other labels, NaN, or too few."""
    labels, scores = as_numbers(labels, "labels"), as_numbers(scores, "scores").astype(np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise NexVarError(f"{labels.shape} labels but {scores.shape} scores", fix="one label per score")
    if not np.isin(labels, (0, 1)).all():
        odd = labels[~np.isin(labels, (0, 1))][0]
        raise NexVarError(f"label {odd}", where="labels", fix="labels are 0 or 1")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise NexVarError(f"{bad} scores are not finite", where="scores", fix="drop variants without a score")
    labels = labels.astype(bool)
    for name, size in (("1", int(labels.sum())), ("0", int((~labels).sum()))):
        if size < FEW:
            raise TooFew(f"class {name} has {size} members", fix=f"at least {FEW} are needed")
    return labels, scores


def as_numbers(values: Any, where: str) -> np.ndarray:
    """Numbers or bools as an array of at least one dimension; NexVarError for anything else."""
    try:
        array = np.asarray(values)
        array = array if array.dtype.kind in "biufc" else array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(None)
    if array.ndim == 0 or array.dtype.kind not in "biuf" or isinstance(values, str | bytes):
        raise NexVarError(f"{where} is no row of numbers", where=where, fix="give an array of numbers")
    return array


def pair(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of finite numbers, equally long, as float64."""
    first, second = as_numbers(x, "x").astype(np.float64), as_numbers(y, "y").astype(np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise NexVarError(f"shapes {first.shape} and {second.shape}", where="x, y", fix="two rows of one length")
    for where, row in (("x", first), ("y", second)):
        if not np.isfinite(row).all():
            bad = int((~np.isfinite(row)).sum())
            raise NexVarError(f"{bad} values are not finite", where=where, fix="drop them on both sides")
    return first, second


def clusters_of(clusters: Any, size: int) -> np.ndarray:
    """(size,) int: the cluster of each sample, counted from 0."""
    array = np.array(arguments.a_list(clusters, "clusters", "names"), dtype=getattr(clusters, "dtype", None))
    if array.shape != (size,):
        raise NexVarError(f"shape {array.shape}", where="clusters", fix=f"one cluster for each of {size:,} samples")
    try:
        return np.unique(array, return_inverse=True)[1]
    except TypeError:  # names and numbers together have no order
        return np.unique([str(each) for each in array], return_inverse=True)[1]


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve."""
    return auroc_of(Ranking(labels, scores).counts())


def auprc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve, as average precision."""
    return auprc_of(Ranking(labels, scores).counts())


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The score t for which "score >= t" has the largest sensitivity + specificity."""
    ranking = Ranking(labels, scores)
    return float(ranking.thresholds[confusion_at_youden(ranking.counts())[0]])


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false positive rate, true positive rate), (U+1,) each, from (0, 0) to (1, 1)."""
    pos_U, neg_U = Ranking(labels, scores).counts()
    fpr, tpr = np.cumsum(neg_U) / neg_U.sum(), np.cumsum(pos_U) / pos_U.sum()
    return np.concatenate(([0.0], fpr)), np.concatenate(([0.0], tpr))


def pr_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision), (U,) each, from the highest threshold down."""
    pos_U, neg_U = Ranking(labels, scores).counts()
    hits_U = np.cumsum(pos_U)
    return hits_U / hits_U[-1], hits_U / (hits_U + np.cumsum(neg_U))


def midranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the mean of their ranks: (N,) float64."""
    x = as_numbers(x, "x")
    _, group, sizes = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of finite numbers; NaN if either side is constant or empty."""
    x, y = pair(x, y)
    if not len(x):
        return math.nan
    rank_x, rank_y = midranks(x), midranks(y)
    rank_x, rank_y = rank_x - rank_x.mean(), rank_y - rank_y.mean()
    root = math.sqrt(float(rank_x @ rank_x) * float(rank_y @ rank_y))
    return float(rank_x @ rank_y) / root if root else math.nan


# --- intervals ---


def draw_weights(labels: np.ndarray, rng: np.random.Generator, owner: np.ndarray | None = None) -> np.ndarray:
    """How often one bootstrap draw takes each sample: (N,).

    Stratified without ``owner``: each class is resampled to its own size. With ``owner`` (N,) int, the
    cluster of each sample, whole clusters are resampled, since variants of one gene are not independent.
    """
    if owner is not None:
        size = int(owner.max()) + 1
        return np.bincount(rng.integers(size, size=size), minlength=size)[owner].astype(np.float64)
    weights = np.empty(len(labels))
    for members in (np.flatnonzero(labels), np.flatnonzero(~labels)):
        weights[members] = np.bincount(rng.integers(len(members), size=len(members)), minlength=len(members))
    return weights


def draws_of_both_classes(
    labels: np.ndarray, draws: int, seed: int, clusters: np.ndarray | None
) -> Iterator[np.ndarray]:
    """``draws`` weight vectors that hold both classes (a cluster draw may lose one: it is drawn again)."""
    rng = np.random.default_rng(seed)
    owner = None if clusters is None else clusters_of(clusters, len(labels))
    if owner is not None and min(len(np.unique(owner[labels])), len(np.unique(owner[~labels]))) < 2:
        raise TooFew("a class lies in a single cluster", fix="cluster by something finer, or not at all")
    done = 0
    with _progress(draws) as bar:
        while done < draws:
            weights = draw_weights(labels, rng, owner)
            if weights[labels].any() and weights[~labels].any():
                done += 1
                yield weights
                bar.update()


def repeats(draws: object, seed: object) -> tuple[int, int]:
    """Both as whole numbers: 1 to ``MAX_DRAWS`` draws, a seed of 0 or more."""
    return arguments.whole(draws, "draws", 1, MAX_DRAWS), arguments.whole(seed, "seed", 0)


def _progress(draws: int) -> tqdm[Any]:
    return tqdm(total=draws, desc="bootstrap", unit="draw", delay=2, leave=False, disable=None)


def percentile_interval(value: float, samples: np.ndarray) -> Estimate:
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    metrics: tuple[str, ...] = tuple(METRICS),
    *,
    draws: int = DRAWS,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Each metric with its percentile interval. MCC and F1 choose their threshold anew in every draw, so that
    their intervals include that choice. Same seed, same interval."""
    ranking = Ranking(labels, scores)
    metrics = tuple(arguments.one_of(m, "metric", METRICS) for m in arguments.a_list(metrics, "metrics", "names"))
    draws, seed = repeats(draws, seed)
    sampled = np.empty((draws, len(metrics)))
    for row, weights in zip(sampled, draws_of_both_classes(ranking.labels, draws, seed, clusters), strict=True):
        counts = ranking.counts(weights)
        row[:] = [METRICS[name](counts) for name in metrics]
    whole = ranking.counts()
    return {
        name: percentile_interval(METRICS[name](whole), column) for name, column in zip(metrics, sampled.T, strict=True)
    }


def bootstrap_spearman(
    x: np.ndarray, y: np.ndarray, *, draws: int = DRAWS, seed: int = 0, clusters: np.ndarray | None = None
) -> Estimate:
    """Spearman's correlation with its percentile interval (samples, or whole clusters, resampled)."""
    x, y = pair(x, y)
    draws, seed = repeats(draws, seed)
    if len(x) < FEW:
        raise TooFew(f"{len(x)} values", fix=f"at least {FEW} are needed")
    rng = np.random.default_rng(seed)
    owner = np.arange(len(x)) if clusters is None else clusters_of(clusters, len(x))
    sampled = np.empty(draws)
    with _progress(draws) as bar:
        for i in range(draws):
            weights = draw_weights(np.ones(len(x), dtype=bool), rng, owner).astype(np.int64)
            sampled[i] = spearman(np.repeat(x, weights), np.repeat(y, weights))
            bar.update()
    return percentile_interval(spearman(x, y), sampled)
