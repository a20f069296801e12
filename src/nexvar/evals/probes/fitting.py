"""Linear models on features, with everything that is chosen chosen inside the training rows.

    outer folds   which rows are predicted by a model that never saw them: the test, or each fold once
    inner folds   which layer and which strength of the penalty: rows of split valid, or three folds of groups

Regression: ridge, all strengths from one decomposition. Classes: logistic regression (scikit-learn), one for each label
of a multi-label task.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals.probes.features import Features
from nexvar.train.kinds import Kind, MultiLabel, Regression

RIDGE = tuple(10.0**p for p in range(-2, 7))  # the penalty, for standardised features
LOGISTIC = tuple(10.0**p for p in range(-4, 1))  # C, its inverse
INNER = 3
RANKED = ("auroc", "mean_auroc")
Fold = tuple[np.ndarray, np.ndarray]  # rows to fit on, rows to predict


@dataclass(frozen=True)
class Fitted:
    """out_NK: predictions of ``rows``, as a head's outputs. chosen: (layer, strength) of each outer fold."""

    rows: np.ndarray
    out_NK: np.ndarray
    chosen: list[tuple[str, float]]


def fit(
    features: Features,
    kind: Kind,
    targets: np.ndarray,
    outer: Sequence[Fold],
    inner: Callable[[np.ndarray], list[Fold]],
    metric: str,
) -> Fitted:
    """Predictions of every outer fold's rows. inner: rows to fit on -> folds of them to choose by."""
    rows, made, chosen = [], [], []
    for train, test in outer:
        folds = inner(train)
        best = max(
            ((_chosen_by(x_ND, kind, targets, folds, metric), layer) for layer, x_ND in features.items()),
            key=lambda found: found[0][0],
        )
        (_, strength), layer = best
        (out_NK,) = _predict(features[layer], kind, targets, train, np.concatenate([test, train]), [strength])
        out_MK, of_train_NK = np.split(out_NK, [len(test)])
        rows.append(test)
        if metric in RANKED and len(outer) > 1:
            out_MK = _on_one_scale(kind, out_MK, of_train_NK, targets[train])
        made.append(out_MK)
        chosen.append((layer, strength))
    return Fitted(np.concatenate(rows), np.concatenate(made), chosen)


def _on_one_scale(kind: Kind, out_MK: np.ndarray, of_train_NK: np.ndarray, train_N: np.ndarray) -> np.ndarray:
    """Outputs in units of those of the rows that were fitted on, so that folds can be ranked together.

    Of two classes they are measured from the middle between the classes of these rows: their mean would depend on the
    share of each class, which the fold that is left out changes. train_N: the classes of the rows that were fitted on.
    NOTE without it the folds' intercepts, and strengths that differ, would decide a pooled AUROC.
    """
    if isinstance(kind, MultiLabel):
        return (out_MK - of_train_NK.mean(0)) / np.maximum(of_train_NK.std(0), 1e-12)
    margin_M, of_train_N = out_MK[:, 1] - out_MK[:, 0], of_train_NK[:, 1] - of_train_NK[:, 0]  # of two classes
    middle = np.mean([of_train_N[train_N == k].mean() for k in np.unique(train_N)])
    scaled_M = (margin_M - middle) / max(of_train_N.std(), 1e-12)
    return np.stack([-scaled_M, scaled_M], 1) / 2


def _chosen_by(
    x_ND: np.ndarray, kind: Kind, targets: np.ndarray, folds: Sequence[Fold], metric: str
) -> tuple[float, float]:
    """(the best mean over the folds of the metric, its strength); the strongest penalty of equals."""
    strengths = _strengths(kind)
    values = np.zeros(len(strengths))
    for train, test in folds:
        for i, out_NK in enumerate(_predict(x_ND, kind, targets, train, test, strengths)):
            values[i] += kind.metrics(out_NK, targets[test]).get(metric, 0.0) / len(folds)
    order = range(len(strengths)) if not isinstance(kind, Regression) else reversed(range(len(strengths)))
    best = max(order, key=lambda i: round(float(values[i]), 9))
    return float(values[best]), strengths[best]


def _strengths(kind: Kind) -> tuple[float, ...]:
    return RIDGE if isinstance(kind, Regression) else LOGISTIC


def _predict(x_ND: np.ndarray, kind: Kind, targets: np.ndarray, train: np.ndarray, test: np.ndarray,
             strengths: Sequence[float]) -> list[np.ndarray]:  # fmt: skip
    """(rows of the test, outputs) float64 for each strength."""
    centre, scale = x_ND[train].mean(0), x_ND[train].std(0)
    scale = np.where(scale > 1e-6 * np.abs(centre).max(initial=1e-12), scale, 1.0)
    fit_ND, ask_ND = (x_ND[train] - centre) / scale, (x_ND[test] - centre) / scale
    if len(train) < x_ND.shape[1]:  # what lies outside of the rows' own directions gets no weight: turn it away
        _, _, basis_ND = np.linalg.svd(fit_ND, full_matrices=False)
        fit_ND, ask_ND = fit_ND @ basis_ND.T, ask_ND @ basis_ND.T
    if isinstance(kind, Regression):
        return _ridge(fit_ND, targets[train], ask_ND, strengths)
    if isinstance(kind, MultiLabel):
        return [_multi_label(fit_ND, targets[train], ask_ND, strength) for strength in strengths]
    return [_classes(fit_ND, targets[train], ask_ND, strength, kind.outputs) for strength in strengths]


def _ridge(x_ND: np.ndarray, y_NK: np.ndarray, ask_MD: np.ndarray, strengths: Sequence[float]) -> list[np.ndarray]:
    """Each target on its rows with a value."""
    outputs = [np.zeros((len(ask_MD), y_NK.shape[1])) for _ in strengths]
    masks: dict[bytes, list[int]] = {}
    for k in range(y_NK.shape[1]):
        masks.setdefault((~np.isnan(y_NK[:, k])).tobytes(), []).append(k)
    for columns in masks.values():  # one decomposition for all targets that have the same rows
        known = ~np.isnan(y_NK[:, columns[0]])
        y, x = y_NK[known][:, columns], x_ND[known].astype(np.float64)
        values, vectors = np.linalg.eigh(x.T @ x)
        right = vectors.T @ (x.T @ (y - y.mean(0)))
        asked = ask_MD @ vectors
        for out_MK, strength in zip(outputs, strengths, strict=True):
            out_MK[:, columns] = asked @ (right / (np.maximum(values, 0)[:, None] + strength)) + y.mean(0)
    return outputs


def _classes(x_ND: np.ndarray, y_N: np.ndarray, ask_MD: np.ndarray, strength: float, classes: int) -> np.ndarray:
    """Log-probabilities; of a class that the fitted rows lack, next to none."""
    out_MK = np.full((len(ask_MD), classes), -50.0)
    there = np.unique(y_N)
    if len(there) == 1:
        out_MK[:, there[0]] = 0.0
        return out_MK
    p_MK = _logistic(strength, x_ND, y_N).predict_proba(ask_MD)
    out_MK[:, there] = np.log(np.maximum(p_MK, 1e-20))
    return out_MK


def _multi_label(x_ND: np.ndarray, y_NK: np.ndarray, ask_MD: np.ndarray, strength: float) -> np.ndarray:
    out_MK = np.zeros((len(ask_MD), y_NK.shape[1]))
    for k in range(y_NK.shape[1]):
        known = ~np.isnan(y_NK[:, k])
        if len(np.unique(y_NK[known, k])) == 2:
            out_MK[:, k] = _logistic(strength, x_ND[known], y_NK[known, k]).decision_function(ask_MD)
    return out_MK


def _logistic(strength: float, x_ND: np.ndarray, y_N: np.ndarray) -> Any:
    """scikit-learn's, fitted; it may stop before its last digit."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise NexVarError("scikit-learn is not installed", fix="pip install 'nexvar[sklearn]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=strength, max_iter=100).fit(x_ND, y_N)
