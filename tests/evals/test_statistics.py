"""Comparisons of two models: against their definitions, pair by pair and sum by sum, and against scipy."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.evals import metrics, statistics

SEEDS = st.integers(0, 10**6)


def sample(seed: int, n: int = 120, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, a, b): two models that are wrong together."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3 == 0)
    a = rng.normal(size=n) + labels
    b = 0.6 * a + rng.normal(size=n) + 0.3 * labels
    return (labels, np.round(a), np.round(b)) if ties else (labels, a, b)


def by_pairs(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """(AUROC a, AUROC b, variance of their difference) by DeLong's definition, every pair of rows looked at."""
    kernels = []
    for scores in (a, b):
        wins_PN = [[1.0 if p > n else 0.5 if p == n else 0.0 for n in scores[~labels]] for p in scores[labels]]
        kernels.append(np.array(wins_PN))
    areas = [kernel.mean() for kernel in kernels]
    variance = 0.0
    for axis in (1, 0):
        v10 = [kernel.mean(axis) - area for kernel, area in zip(kernels, areas, strict=True)]
        m = len(v10[0])
        s = [[sum(x * y for x, y in zip(v10[i], v10[j], strict=True)) / (m - 1) for j in (0, 1)] for i in (0, 1)]
        variance += (s[0][0] + s[1][1] - 2 * s[0][1]) / m
    return areas[0], areas[1], variance


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.booleans())
def test_delong_is_its_definition_with_ties_and_covariance(seed: int, ties: bool) -> None:
    labels, a, b = sample(seed, 60, ties)
    area_a, area_b, variance = by_pairs(labels, a, b)
    found = statistics.delong(labels, a, b)
    assert found.difference.value == pytest.approx(area_a - area_b)
    assert (found.difference.high - found.difference.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance))
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(abs(area_a - area_b) / math.sqrt(variance)))
    alone = statistics.delong_interval(labels, a)
    _, _, one = by_pairs(labels, a, np.zeros(len(a)))  # a constant: no variance, no covariance
    assert alone.value - alone.low == pytest.approx(1.959964 * math.sqrt(one))


@given(SEEDS, st.booleans())
def test_order_names_and_scale_of_scores_change_nothing(seed: int, ties: bool) -> None:
    labels, a, b = sample(seed, ties=ties)
    found = statistics.delong(labels, a, b)
    turned = statistics.delong(labels, b, a)
    assert turned.p == pytest.approx(found.p) and turned.difference.value == pytest.approx(-found.difference.value)
    assert turned.difference.low == pytest.approx(-found.difference.high)
    assert statistics.delong(labels, np.exp(a / 2), b**3 + 7) == found
    assert statistics.delong(~labels, -a, -b).p == pytest.approx(found.p)
    mixed = np.random.default_rng(seed).permutation(len(labels))
    assert statistics.delong(labels[mixed], a[mixed], b[mixed]).p == pytest.approx(found.p)
    assert statistics.delong(labels, a, a).p == 1


def test_without_covariance_and_with_strict_ties_it_would_be_another_test() -> None:
    """The two faults of the benchmark this stands in for: both would be seen here."""
    labels, a, b = sample(3, ties=True)
    found = statistics.delong(labels, a, b).difference
    apart = [statistics.delong_interval(labels, scores) for scores in (a, b)]
    no_covariance = math.hypot(*(each.value - each.low for each in apart))
    assert (found.high - found.low) / 2 < 0.9 * no_covariance
    strict = np.mean([p > n for p, n in product(a[labels], a[~labels])])
    assert apart[0].value > strict + 0.05


def test_p_values_of_equal_models_are_uniform() -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.arange(100) < 40
        shared = rng.normal(size=100) + labels
        p.append(statistics.delong(labels, shared + rng.normal(size=100), shared + rng.normal(size=100)).p)
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


def test_paired_bootstrap_sees_a_real_difference_and_not_a_false_one() -> None:
    rng = np.random.default_rng(0)
    labels, good, _ = sample(8, n=400)
    noisy = good + rng.normal(scale=2, size=len(good))
    better = statistics.paired_bootstrap(labels, good, noisy, draws=300)
    assert better.p < 0.01 and better.difference.low > 0
    assert statistics.delong(labels, good, noisy).p < 0.01
    twin = good + rng.normal(scale=1e-3, size=len(good))
    assert statistics.paired_bootstrap(labels, good, twin, draws=300).p > 0.05


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_a_coin_thrown_for_the_rows_where_one_is_right(only_a: int, only_b: int) -> None:
    labels = np.arange(only_a + only_b + 12) % 2
    a, b = labels.copy(), labels.copy()
    b[:only_a] ^= 1
    a[only_a : only_a + only_b] ^= 1
    a[-2:] ^= 1
    b[-2:] ^= 1  # both wrong: says nothing
    found = statistics.mcnemar(labels, a, b)
    n, least = only_a + only_b, min(only_a, only_b)
    exact = min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)
    chi2 = max(0, abs(only_a - only_b) - 1) ** 2 / n if n else 0
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_exact == pytest.approx(exact)
    assert found.p_corrected == pytest.approx(scipy.stats.chi2.sf(chi2, 1))


def test_paired_values_by_hand() -> None:
    """Five folds; t and the signed ranks from their definitions."""
    a, b = [0.80, 0.84, 0.79, 0.91, 0.88], [0.78, 0.79, 0.80, 0.84, 0.82]
    found = statistics.paired_values(a, b)
    apart = np.subtract(a, b)  # 0.02 0.05 -0.01 0.07 0.06
    t = apart.mean() / (apart.std(ddof=1) / math.sqrt(5))
    assert found.p_t == pytest.approx(2 * scipy.stats.t.sf(t, 4))
    assert found.difference.high - found.difference.value == pytest.approx(2.776445 * apart.mean() / t, rel=1e-5)
    as_rare = sum(
        1 for signs in product((0, 1), repeat=5) if sum(s * r for s, r in zip(signs, range(1, 6), strict=True)) <= 1
    )
    assert found.p_wilcoxon == pytest.approx(2 * as_rare / 2**5)  # ranks of the minus signs: 1
    pooled = math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2)
    assert found.cohens_d == pytest.approx(0.038 / pooled) and found.effect_size == "large"


@pytest.mark.parametrize(("shift", "p", "d"), [(0.0, 1.0, 0.0), (0.25, 0.0, math.inf)])
def test_pairs_all_equally_far_apart(shift: float, p: float, d: float) -> None:
    values = np.array([0.5, 0.5, 0.5, 0.5])
    found = statistics.paired_values(values + shift, values)
    assert (found.p_t, found.cohens_d, found.difference.value) == (p, d, shift)


@given(st.lists(st.floats(0, 1), max_size=30), SEEDS)
def test_q_values_are_the_least_rate_at_which_a_test_is_called(p: list[float], seed: int) -> None:
    """By the procedure's own words: sort, find the largest k with p(k) <= k q / m, call the first k."""
    q = statistics.benjamini_hochberg(p)
    ordered = sorted(p)
    for mine, value in zip(q, p, strict=True):
        rates = [ordered[k - 1] * len(p) / k for k in range(1, len(p) + 1) if ordered[k - 1] >= value]
        assert mine == pytest.approx(min(rates))
    if p:
        np.testing.assert_allclose(q, scipy.stats.false_discovery_control(p))
    order = np.random.default_rng(seed).permutation(len(p))
    np.testing.assert_allclose(statistics.benjamini_hochberg(np.array(p)[order]), q[order])
    holes = statistics.benjamini_hochberg([math.nan, *p, math.nan])
    assert np.isnan(holes[[0, -1]]).all()
    np.testing.assert_allclose(holes[1:-1], q)


def test_a_table_of_comparisons() -> None:
    labels, a, b = sample(1, 150)
    rows = statistics.compare_all(labels, {"A": a, "B": b, "none": np.zeros(150)}, dataset="N1")
    assert [(row.model_a, row.model_b) for row in rows] == [("A", "B"), ("A", "none"), ("B", "none")]
    assert rows[1].auroc_b == 0.5 and rows[1].auroc_diff == pytest.approx(metrics.auroc(labels, a) - 0.5)
    few = statistics.compare(labels[:12], a[:12], b[:12], dataset="tiny")
    table = statistics.with_q_values([*rows, few])
    np.testing.assert_allclose(
        [row.q_value for row in table], [*statistics.benjamini_hochberg([r.p_value for r in rows]), math.nan]
    )
    assert table[1].significant and table[1].q_value >= table[1].p_value
    assert "too few: class" in few.note and math.isnan(few.auroc_diff) and not table[-1].significant
    against = statistics.compare_all(labels, {"A": a, "B": b, "C": a + b}, against="B")
    assert [(row.model_a, row.model_b) for row in against] == [("A", "B"), ("C", "B")]


def test_a_row_without_a_score_is_left_out_on_both_sides() -> None:
    labels, a, b = sample(2, 150)
    groups = np.arange(150) // 3
    holes = a.copy()
    holes[::10] = math.nan
    there = np.isfinite(holes)
    found = statistics.compare(labels, holes, b)
    alone = statistics.compare(labels[there], a[there], b[there])
    assert found.p_value == alone.p_value and found.n_pos + found.n_neg == 135
    assert found.note == "15 rows lack a score" and alone.note == ""
    clustered = statistics.compare(labels, holes, b, groups=groups, draws=50)
    assert clustered.test == "paired bootstrap of groups"
    assert (
        clustered.p_value
        == statistics.compare(labels[there], a[there], b[there], groups=groups[there], draws=50).p_value
    )


def test_groups_of_copies_widen_the_interval() -> None:
    labels, a, b = (np.repeat(x, 8) for x in sample(5, 60))
    gene = np.repeat(np.arange(60), 8)
    honest, naive = statistics.compare(labels, a, b, groups=gene, draws=200), statistics.compare(labels, a, b)
    assert honest.ci_upper - honest.ci_lower > 2 * (naive.ci_upper - naive.ci_lower)


LABELS, A, B = sample(0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.compare(LABELS, A[:-1], B), "119,"),
        (lambda: statistics.compare(LABELS + 1, A, B), "label 2"),
        (lambda: statistics.compare(LABELS, A, B, groups=[1, 2]), "one cluster for each of 120"),
        (lambda: statistics.compare_all(LABELS, {"A": A}, against="B"), "no against 'B'"),
        (lambda: statistics.delong(LABELS, A, np.full(120, math.nan)), "120 scores are not finite"),
        (lambda: statistics.delong(np.zeros(120), A, B), "class 1 has 0 members"),
        (lambda: statistics.mcnemar(LABELS, LABELS, A), "calls_b"),
        (lambda: statistics.mcnemar(LABELS, LABELS[1:], LABELS), "shapes"),
        (lambda: statistics.paired_values([0.5], [0.6]), "1 pairs"),
        (lambda: statistics.paired_values([0.5, math.nan], [0.6, 0.7]), "not finite"),
        (lambda: statistics.benjamini_hochberg([0.2, 1.2]), "between 0 and 1"),
        (lambda: statistics.benjamini_hochberg("0.2"), "p is no row of numbers"),
    ],
)
def test_what_cannot_be_compared_is_one_line(call, words: str) -> None:
    with pytest.raises(NexVarError, match=words) as refused:
        call()
    assert "\n" not in str(refused.value)
