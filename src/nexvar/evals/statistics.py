"""Two models on the same labelled rows: which is better, by how much, and could it be chance?

    delong, delong_interval    AUROC, each row independent of the others; ties count half
    paired_bootstrap           any metric; rows or whole groups resampled, both models on the same draws
    mcnemar                    the calls of both: how often only one of them is right
    paired_values              values of the same folds or sets: paired t, Wilcoxon, Cohen's d
    compare, compare_all       AUROC, one ``Row`` a pair of models; ``with_q_values`` over the rows of a whole table

``labels`` and ``scores`` as in metrics.py. Every difference is a minus b, every p-value two-sided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals import metrics
from nexvar.evals.metrics import Estimate

Z_95 = 1.959964
SIGNIFICANT = 0.05  # of a q-value
DELONG, OF_GROUPS = "DeLong", "paired bootstrap of groups"
EFFECT_SIZES = ((0.2, "negligible"), (0.5, "small"), (0.8, "medium"), (math.inf, "large"))  # Cohen 1988


@dataclass(frozen=True)
class Comparison:
    """Model a minus model b: the difference with its 95 % interval, and the two-sided p-value."""

    difference: Estimate
    p: float


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of the two models calls rightly, and two p-values: binomial, and chi-squared with Yates'
    correction."""

    only_a: int
    only_b: int
    p_exact: float
    p_corrected: float


@dataclass(frozen=True)
class PairedValues:
    """a minus b over pairs. difference: its mean with the t interval. effect_size: the word for ``cohens_d``."""

    difference: Estimate
    p_t: float
    p_wilcoxon: float
    cohens_d: float
    effect_size: str


@dataclass(frozen=True)
class Row:
    """Two models on one set. NaN is what could not be measured, and ``note`` says why.

    n_pos, n_neg: rows that both models score. test: ``DELONG`` or ``OF_GROUPS``, which gave interval and p-value.
    q_value, significant: see ``with_q_values``.
    """

    dataset: str
    model_a: str
    model_b: str
    n_pos: int
    n_neg: int
    auroc_a: float = math.nan
    auroc_b: float = math.nan
    auroc_diff: float = math.nan
    ci_lower: float = math.nan
    ci_upper: float = math.nan
    p_value: float = math.nan
    q_value: float = math.nan
    significant: bool = False
    test: str = ""
    note: str = ""


# --- two models, one set ---


def delong(labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray) -> Comparison:
    """DeLong's test that two models have the same AUROC on the same rows, covariance included (DeLong et al. 1988;
    midrank algorithm of Sun & Xu 2014). It takes the rows for independent."""
    (auc_a, pos_a, neg_a), (auc_b, pos_b, neg_b) = (_placements(labels, scores) for scores in (scores_a, scores_b))
    difference, error = auc_a - auc_b, _standard_error(pos_a - pos_b, neg_a - neg_b)
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    return Comparison(Estimate(difference, difference - Z_95 * error, difference + Z_95 * error), p)


def delong_interval(labels: np.ndarray, scores: np.ndarray) -> Estimate:
    """AUROC with DeLong's 95 % interval. It has no width where the classes are apart completely."""
    auc, pos, neg = _placements(labels, scores)
    half = Z_95 * _standard_error(pos, neg)
    return Estimate(auc, max(0.0, auc - half), min(1.0, auc + half))


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(AUROC, for each of class 1 the share of class 0 below it, for each of class 0 that of 1 above it)."""
    labels, scores = metrics.checked(labels, scores)
    rank_N = metrics.midranks(scores)
    n_pos, n_neg = int(labels.sum()), int((~labels).sum())
    below = (rank_N[labels] - metrics.midranks(scores[labels])) / n_neg
    above = 1 - (rank_N[~labels] - metrics.midranks(scores[~labels])) / n_pos
    return float(below.mean()), below, above


def _standard_error(pos: np.ndarray, neg: np.ndarray) -> float:
    """Of the mean of both classes' placements, or of the differences of two models' placements."""
    return math.sqrt(float(np.var(pos, ddof=1) / len(pos) + np.var(neg, ddof=1) / len(neg)))


def paired_bootstrap(
    labels: np.ndarray,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    metric: str = "auroc",
    *,
    draws: int = metrics.DRAWS,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> Comparison:
    """The difference of a metric, both models on the same draws; of rows, or of whole clusters (genes).

    p is twice the share of draws on the other side of zero, never below 2 / (draws + 1).
    """
    a, b = metrics.Ranking(labels, scores_a), metrics.Ranking(labels, scores_b)
    score = metrics.METRICS[arguments.one_of(metric, "metric", metrics.METRICS)]
    draws, seed = metrics.repeats(draws, seed)
    drawn = metrics.draws_of_both_classes(a.labels, draws, seed, clusters)
    sampled = np.fromiter((score(a.counts(w)) - score(b.counts(w)) for w in drawn), np.float64, draws)
    tail = min(int((sampled <= 0).sum()), int((sampled >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (draws + 1))
    return Comparison(metrics.percentile_interval(score(a.counts()) - score(b.counts()), sampled), p)


def mcnemar(labels: np.ndarray, calls_a: np.ndarray, calls_b: np.ndarray) -> McNemar:
    """McNemar's test that two models are right equally often (McNemar 1947). labels, calls: 0 or 1, (N,) each."""
    truth, a = metrics.pair(labels, calls_a)
    _, b = metrics.pair(labels, calls_b)
    for where, row in (("labels", truth), ("calls_a", a), ("calls_b", b)):
        if not np.isin(row, (0, 1)).all():
            raise NexVarError(f"{row[~np.isin(row, (0, 1))][0]:g} among them", where=where, fix="each is 0 or 1")
    only_a, only_b = int(((a == truth) & (b != truth)).sum()), int(((b == truth) & (a != truth)).sum())
    apart = only_a + only_b
    if not apart:
        return McNemar(0, 0, 1.0, 1.0)
    chi2 = max(0, abs(only_a - only_b) - 1) ** 2 / apart
    return McNemar(only_a, only_b, float(_scipy().binomtest(only_a, apart).pvalue), math.erfc(math.sqrt(chi2 / 2)))


def paired_values(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> PairedValues:
    """Values of two models on the same folds, seeds or sets: Student's paired t, Wilcoxon's signed ranks, Cohen's d
    (the mean difference over the pooled standard deviation).

    Folds of one set share their training rows: there both p-values are too small, and say the least of all tests here.
    """
    first, second = metrics.pair(a, b)
    if len(first) < 2:
        raise NexVarError(f"{len(first)} pairs", where="a, b", fix="two or more are needed")
    apart = first - second
    mean = float(apart.mean())
    if np.ptp(apart) <= 1e-12 * max(1.0, np.abs(first).max(), np.abs(second).max()):  # all equal but for rounding
        mean = mean if abs(mean) > 1e-12 else 0.0
        half, p_t = 0.0, float(mean == 0)
    else:
        half = float(_scipy().t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / math.sqrt(len(apart)))
        p_t = float(_scipy().ttest_rel(first, second).pvalue)
    p_wilcoxon = float(_scipy().wilcoxon(apart).pvalue) if mean or np.ptp(apart) else 1.0
    pooled = math.sqrt(float(first.var(ddof=1) + second.var(ddof=1)) / 2)
    d = mean / pooled if pooled else (0.0 if not mean else math.copysign(math.inf, mean))
    word = next(word for most, word in EFFECT_SIZES if abs(d) < most or most == math.inf)
    return PairedValues(Estimate(mean, mean - half, mean + half), p_t, p_wilcoxon, d, word)


def _scipy() -> Any:
    try:
        import scipy.stats
    except ModuleNotFoundError:
        raise NexVarError("scipy is not installed", fix="pip install 'nexvar[sklearn]'") from None
    return scipy.stats


# --- a table of comparisons ---


def compare(
    labels: np.ndarray,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    *,
    names: tuple[str, str] = ("a", "b"),
    dataset: str = "",
    groups: Sequence[Any] | np.ndarray | None = None,
    draws: int = metrics.DRAWS,
    seed: int = 0,
) -> Row:
    """AUROC of a minus b, on the rows that both score (NaN: no score; the note counts what is left out).

    groups: (N,) what is not independent of each other (genes): they are drawn whole; without, DeLong's test. Too few
    rows of a class: a Row without numbers, and the reason in its note.
    """
    truth, a = metrics.as_numbers(labels, "labels"), metrics.as_numbers(scores_a, "scores_a").astype(np.float64)
    b = metrics.as_numbers(scores_b, "scores_b").astype(np.float64)
    if truth.ndim != 1 or not truth.shape == a.shape == b.shape:
        raise NexVarError(f"{truth.shape} labels, but {a.shape} and {b.shape} scores", fix="one of each for every row")
    both = np.isfinite(a) & np.isfinite(b)
    left_out = [f"{int((~both).sum()):,} rows lack a score"] if not both.all() else []
    truth, a, b = truth[both], a[both], b[both]
    row = Row(dataset, *names, int((truth == 1).sum()), int((truth == 0).sum()), note="; ".join(left_out))
    try:
        if groups is None:
            found = delong(truth, a, b)
        else:
            of_rows = metrics.clusters_of(groups, len(both))[both]
            found = paired_bootstrap(truth, a, b, draws=draws, seed=seed, clusters=of_rows)
    except metrics.TooFew as few:
        return replace(row, note="; ".join([*left_out, f"too few: {few.what}"]))
    return replace(
        row, auroc_a=metrics.auroc(truth, a), auroc_b=metrics.auroc(truth, b), auroc_diff=found.difference.value,
        ci_lower=found.difference.low, ci_upper=found.difference.high, p_value=found.p,
        test=DELONG if groups is None else OF_GROUPS,
    )  # fmt: skip


def compare_all(
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    *,
    against: str | None = None,
    dataset: str = "",
    groups: Sequence[Any] | np.ndarray | None = None,
    draws: int = metrics.DRAWS,
    seed: int = 0,
) -> list[Row]:
    """``compare`` of every pair of models, or of each with the model ``against``. scores: model -> (N,)."""
    if against is None:
        chosen = list(itertools.combinations(scores, 2))
    else:
        arguments.one_of(against, "against", scores)
        chosen = [(name, against) for name in scores if name != against]
    options: dict[str, Any] = {"dataset": dataset, "groups": groups, "draws": draws, "seed": seed}
    return [compare(labels, scores[a], scores[b], names=(a, b), **options) for a, b in chosen]


def with_q_values(rows: Sequence[Row]) -> list[Row]:
    """The rows of a whole table, each with its q-value over all of them; significant: q < ``SIGNIFICANT``."""
    q_R = benjamini_hochberg([row.p_value for row in rows])
    return [replace(row, q_value=float(q), significant=bool(q < SIGNIFICANT)) for row, q in zip(rows, q_R, strict=True)]


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """(R,) q-values: the smallest false discovery rate at which each test is called (Benjamini & Hochberg 1995).
    NaN is a test that was not made: it stays NaN and does not count."""
    p_R = metrics.as_numbers(p, "p").astype(np.float64)
    made = np.flatnonzero(~np.isnan(p_R))
    if p_R.ndim != 1 or not ((p_R[made] >= 0) & (p_R[made] <= 1)).all():
        raise NexVarError("p-values lie between 0 and 1", where="p", fix="give a row of p-values; NaN for none")
    q_R = np.full(len(p_R), math.nan)
    order = made[np.argsort(p_R[made])]
    scaled = p_R[order] * len(order) / np.arange(1, len(order) + 1)
    q_R[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return q_R
