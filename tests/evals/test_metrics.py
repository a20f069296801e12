"""The metrics: against scikit-learn and scipy, against brute force, and on real scores with known answers."""

from __future__ import annotations

import csv
import gzip
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.evals import metrics, statistics


def sample(seed: int, n: int = 300, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    scores = rng.normal(size=n) + labels
    return labels, np.round(scores) if ties else scores


@given(st.integers(0, 10**6), st.booleans())
def test_areas_and_correlation_match_scikit_learn_and_scipy(seed: int, ties: bool) -> None:
    labels, scores = sample(seed, ties=ties)
    assert metrics.auroc(labels, scores) == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))
    average_precision = sklearn.metrics.average_precision_score(labels, scores)
    assert metrics.auprc(labels, scores) == pytest.approx(average_precision)
    other = np.round(scores + np.arange(len(scores)) % 5)
    assert metrics.spearman(scores, other) == pytest.approx(scipy.stats.spearmanr(scores, other).statistic)


@given(st.integers(0, 10**6), st.booleans())
def test_f1_and_mcc_at_youdens_threshold_match_scikit_learn(seed: int, ties: bool) -> None:
    labels, scores = sample(seed, ties=ties)
    counts = metrics.Ranking(labels, scores).counts()
    called = scores >= metrics.youden_threshold(labels, scores)
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores)
    assert called[labels].mean() - called[~labels].mean() == pytest.approx((tpr - fpr).max())
    assert metrics.f1_of(counts) == pytest.approx(sklearn.metrics.f1_score(labels, called))
    assert metrics.mcc_of(counts) == pytest.approx(sklearn.metrics.matthews_corrcoef(labels, called))


@given(st.integers(10, 60), st.integers(10, 60), st.integers(1, 9), st.integers(0, 10**6))
def test_of_thresholds_with_equal_youden_the_highest_is_taken(ones: int, zeros: int, distinct: int, seed: int) -> None:
    """In whole numbers, where nothing is rounded."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([True, False], [ones, zeros])
    scores = rng.integers(0, distinct, len(labels)) / 10
    index = {
        float(t): Fraction(int((scores[labels] >= t).sum()), ones) - Fraction(int((scores[~labels] >= t).sum()), zeros)
        for t in sorted(set(scores), reverse=True)
    }
    assert metrics.youden_threshold(labels, scores) == max(index, key=lambda t: index[t])  # the first of equals


def test_rounding_chooses_no_threshold() -> None:
    """1/10 - 0/10 and 4/10 - 3/10 are equal; as floats the second is larger."""
    assert 4 / 10 - 3 / 10 > 1 / 10
    labels = np.repeat([True, False], 10)
    scores = np.array([3.0] + [2.0] * 3 + [0.0] * 6 + [2.0] * 3 + [0.0] * 7)
    assert metrics.youden_threshold(labels, scores) == 3.0


@given(st.integers(0, 10**6))
def test_auroc_turns_over_with_the_labels_and_ignores_monotone_maps(seed: int) -> None:
    labels, scores = sample(seed)
    area = metrics.auroc(labels, scores)
    assert metrics.auroc(~labels, scores) == pytest.approx(1 - area)
    assert metrics.auroc(labels, np.exp(scores / 3)) == pytest.approx(area)


def test_weights_are_repeats() -> None:
    labels, scores = sample(4, ties=True)
    weights = np.random.default_rng(0).integers(0, 4, len(labels))
    weighted = metrics.Ranking(labels, scores).counts(weights)
    repeated = metrics.Ranking(np.repeat(labels, weights), np.repeat(scores, weights)).counts()
    for name, metric in metrics.METRICS.items():
        assert metric(weighted) == pytest.approx(metric(repeated)), name


def test_curves_end_where_they_must_and_hold_the_area() -> None:
    labels, scores = sample(5, ties=True)
    fpr, tpr = metrics.roc_curve(labels, scores)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert sklearn.metrics.auc(fpr, tpr) == pytest.approx(metrics.auroc(labels, scores))
    recall, precision = metrics.pr_curve(labels, scores)
    assert recall[-1] == 1 and precision[-1] == pytest.approx(labels.mean())


def test_intervals_cover_the_truth_and_shrink_with_more_data() -> None:
    truth = scipy.stats.norm.cdf(1 / np.sqrt(2))  # AUROC of N(1, 1) against N(0, 1)
    inside, widths = 0, []
    for seed in range(60):
        labels, scores = sample(seed, n=200)
        boot = metrics.bootstrap(labels, scores, ("auroc",), draws=200, seed=seed)["auroc"]
        delong = statistics.delong_interval(labels, scores)
        inside += boot.low <= truth <= boot.high
        widths.append((boot.high - boot.low) / (delong.high - delong.low))
    assert 50 <= inside <= 60
    assert np.mean(widths) == pytest.approx(1, abs=0.1)
    large = metrics.bootstrap(*sample(0, n=5000), ("auroc",), draws=200)["auroc"]
    assert large.high - large.low < 0.04


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again, other = (metrics.bootstrap(*sample(3), draws=50, seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other


def test_clusters_of_copies_widen_the_interval() -> None:
    labels, scores = sample(7, n=120)
    copies = 10
    repeated = np.repeat(labels, copies), np.repeat(scores, copies)
    genes = np.repeat([f"gene{i}" for i in range(120)], copies)
    naive = metrics.bootstrap(*repeated, ("auroc",), draws=300)["auroc"]
    honest = metrics.bootstrap(*repeated, ("auroc",), draws=300, clusters=genes)["auroc"]
    assert (honest.high - honest.low) > 2 * (naive.high - naive.low)
    with pytest.raises(metrics.TooFew, match="single cluster"):
        metrics.bootstrap(labels, scores, clusters=labels.astype(int))


def test_spearman_interval_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    result = metrics.bootstrap_spearman(x, y, draws=200)
    assert result.low < result.value < result.high
    assert np.isnan(metrics.spearman(np.ones(20), x[:20]))


def test_bad_input_is_refused_in_one_line() -> None:
    labels, scores = sample(9)
    few = np.zeros(300, dtype=bool)
    few[:9] = True
    for bad_labels, bad_scores, words in [
        (few, scores, "class 1 has 9 members"),
        (~few, scores, "class 0 has 9 members"),
        (labels[:-1], scores, "one label per score"),
        (labels * 2, scores, "label 2"),
        (labels, np.where(np.arange(300) == 5, np.nan, scores), "1 scores are not finite"),
    ]:
        with pytest.raises(NexVarError, match=words):
            metrics.auroc(bad_labels, bad_scores)


# AUROC / AUPRC of the BRCA1 saturation genome editing variants (Findlay et al. 2018), loss of function
# against the rest, computed independently of this package from recorded Evo 2 1B scores and phyloP.
BRCA1 = {
    "all": (3893, 823, 0.729, 0.518, 0.781, 0.432),
    "without INT": (3644, 823, 0.737, 0.564, 0.793, 0.471),
    "coding": (2768, 584, 0.672, 0.462, 0.736, 0.369),
    "noncoding": (1125, 239, 0.874, 0.709, 0.887, 0.716),
    "Missense": (2086, 441, 0.597, 0.379, 0.724, 0.350),
    "Splice region": (446, 102, 0.839, 0.654, 0.772, 0.487),
    "Canonical splice": (143, 128, 0.699, 0.939, 0.853, 0.980),
}


@pytest.fixture(scope="module")
def brca1(data: Path) -> dict[str, np.ndarray]:
    with gzip.open(data / "brca1_findlay.hg19.tsv.gz", "rt") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("subset", BRCA1)
def test_recorded_evo2_scores_give_the_known_numbers(subset: str, brca1: dict[str, np.ndarray]) -> None:
    chosen = {
        "all": np.full(3893, True),
        "without INT": brca1["func_class"] != "INT",
    }.get(subset, (brca1["region"] == subset) | (brca1["consequence"] == subset))
    labels = (brca1["func_class"] == "LOF")[chosen]
    evo2 = -brca1["evo2_1b_delta"].astype(float)[chosen]  # a lower likelihood is worse
    phylop = brca1["phyloP"].astype(float)[chosen]
    measured = (
        int(chosen.sum()),
        int(labels.sum()),
        *(round(metric(labels, x), 3) for x in (evo2, phylop) for metric in (metrics.auroc, metrics.auprc)),
    )
    assert measured == BRCA1[subset]


def test_the_known_interval_on_brca1(brca1: dict[str, np.ndarray]) -> None:
    labels, scores = brca1["func_class"] == "LOF", -brca1["evo2_1b_delta"].astype(float)
    interval = metrics.bootstrap(labels, scores, ("auroc",), draws=500)["auroc"]
    assert (interval.low, interval.high) == (pytest.approx(0.707, abs=0.004), pytest.approx(0.753, abs=0.004))
    for consequence in ("Nonsense", "Synonymous", "Intronic", "5' UTR"):
        chosen = brca1["consequence"] == consequence
        with pytest.raises(metrics.TooFew):
            metrics.bootstrap(labels[chosen], scores[chosen])
