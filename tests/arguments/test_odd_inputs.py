"""What is no variant, no token id, no mask, no score and no label."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nexvar.evals import metrics, statistics, variants
from nexvar.genome.reference import Variant
from odd_values import (
    GENOME,
    LABELS,
    NO_FLOATS,
    SCORES,
    Column,
    refused,
    values,
)


@pytest.mark.parametrize(
    "bad", values(None, 5, b"x", "", [5], [None], [b"x"], {"a": 1}, True, [""], np.array([1]), object())
)
def test_what_is_no_variant_is_refused(model, bad):
    refused(lambda: model.score_variants(bad, GENOME, window=64))


@pytest.mark.parametrize("make", values(tuple, np.array, iter, Column))
def test_every_row_of_variants_is_as_good_as_a_list(model, make):
    rows = [list(model.score_variants(v, GENOME, window=64)) for v in (make(["chrM:100G>A"]), ["chrM:100G>A"])]
    assert rows[0] == rows[1]
    (row,) = model.score_variants(make([Variant("chrM", 99, "G", ("A",))]), GENOME, window=64)
    assert row.llr == rows[0][0].llr


IDS = torch.tensor([[65, 67, 71, 84]])


@pytest.mark.parametrize(
    "bad",
    values(
        None,
        "ACGT",
        [[65]],
        5,
        IDS.float(),
        IDS.bool(),
        IDS.to(torch.complex64),
        IDS[0],
        IDS[None],
        IDS - 100,
        IDS + 1000,
        IDS[:, :0],
        IDS[:0],
        np.array([[65]]),
    ),
)
def test_what_are_no_token_ids_is_refused(model, bad):
    refused(lambda: model(bad))


@pytest.mark.parametrize(
    "bad", values("x", 5, [1, 1, 1, 1], IDS[0], torch.ones(1, 3), torch.ones(2, 4), torch.ones(1, 4, 1))
)
def test_what_is_no_mask_is_refused(model, bad):
    refused(lambda: model(IDS, bad))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_token_ids_of_any_whole_dtype(model, dtype):
    torch.testing.assert_close(model(IDS.to(dtype))[0].logits, model(IDS)[0].logits)


@pytest.mark.parametrize("bad", values(*NO_FLOATS, SCORES[:5], SCORES.reshape(2, 20)))
def test_what_are_no_scores_is_refused(bad):
    for name in ("auroc", "auprc", "youden_threshold", "roc_curve", "pr_curve", "bootstrap"):
        refused(lambda name=name: getattr(metrics, name)(LABELS, bad))
        refused(lambda name=name: getattr(metrics, name)(bad, SCORES))
    for call in (
        lambda: metrics.spearman(SCORES, bad),
        lambda: metrics.bootstrap_spearman(bad, SCORES, draws=3),
        lambda: statistics.delong_interval(LABELS, bad),
        lambda: statistics.delong(LABELS, SCORES, bad),
        lambda: statistics.paired_bootstrap(LABELS, bad, SCORES, draws=3),
        lambda: variants.evaluate(bad, LABELS.astype(bool), draws=3),
    ):
        refused(call)


@pytest.mark.parametrize("bad", values("x", 5, [1], {}, [[1]] * 40))
def test_what_are_no_clusters_is_refused(bad):
    refused(lambda: metrics.bootstrap(LABELS, SCORES, draws=3, clusters=bad))
    refused(lambda: variants.evaluate(SCORES, LABELS.astype(bool), bad, draws=3))


def test_rows_of_labels_scores_and_clusters_may_be_of_any_kind():
    expected = metrics.bootstrap(LABELS, SCORES, draws=5, clusters=np.arange(40) % 8)
    for kind in (list, tuple, Column, torch.tensor):
        found = metrics.bootstrap(kind(LABELS.tolist()), kind(SCORES.tolist()), draws=5, clusters=np.arange(40) % 8)
        assert found == expected
    assert metrics.bootstrap(LABELS, SCORES, draws=5, clusters=[i if i % 2 else str(i) for i in range(40)])
