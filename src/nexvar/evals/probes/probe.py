"""A task and frozen models -> what linear models find in their embeddings, beside what simple features find.

rows (train/labels.py) ─┬─ embeddings of each model ─┬─ fitting.py ─ predictions of unseen rows ─ metrics, intervals
                        ├─ baselines ────────────────┘
                        └─ leaks.py: which test rows the training rows hold, and every metric without them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.metrics import FEW, Estimate, percentile_interval
from nexvar.evals.probes import features, leaks
from nexvar.evals.probes.features import Features
from nexvar.evals.probes.fitting import INNER, Fitted, Fold, fit
from nexvar.inference.core.sequences import clean
from nexvar.train.kinds import KINDS, Classification, Kind, Regression
from nexvar.train.labels import TEST, TRAIN, VALID, Rows, check_folds, folds_of, read_rows
from nexvar.train.recipe import TaskPart
from nexvar.train.task import check
from nexvar.weights.load import Loaded

FOLDS = 5  # where a task has neither a test nor folds of its own
DRAWS = 300
RANDOM = ", random weights"  # behind a model's name
MOST_POSITIONS = 4000  # features of "base at each position"


@dataclass(frozen=True)
class Line:
    """One set of features on one task. chosen: (layer, strength) of each outer fold. apart: without near-duplicates."""

    features: str
    metric: str
    value: Estimate
    apart: Estimate | None
    others: dict[str, float]
    chosen: list[tuple[str, float]]
    fitted: Fitted

    @property
    def layer(self) -> str:
        """The one that was chosen most often."""
        names = [layer for layer, _ in self.chosen]
        return max(dict.fromkeys(names), key=names.count) if names else ""


@dataclass(frozen=True)
class Report:
    """rows: of the task; tested: indices of those that were predicted; kind: what their labels mean."""

    rows: Rows
    kind: Kind
    targets: np.ndarray
    lines: list[Line]
    leaks: leaks.Leaks
    design: str


def probe(
    part: TaskPart,
    models: Sequence[Loaded],
    *,
    layers: Sequence[str] = (),
    cache: str | Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
    draws: int = DRAWS,
    baselines: bool = True,
    pair: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Probe each model on one task; NexVarError for a task or a table that cannot be.

    part: kind, labels, pool, metric and folds of the task. layers: to choose among; none: all blocks and the last
    hidden state. random_weights: each model once more, drawn anew. baselines: simple features beside the models.
    pair: of rows with a second sequence, the features of both ("concatenate"), or what the second has more
    ("difference"; a row without one counts as it is). progress: called with a line as each set is begun.
    """
    check(part)
    seed = arguments.whole(seed, "seed", 0)
    if part.per != "sequence" or part.pool not in ("mean", "max", "last", "cls"):
        raise NexVarError("a probe reads whole sequences", where="task", fix='per = "sequence", pool = "mean"')
    reader = partial(clean, models[0]) if models else lambda text, where: text.upper()
    rows = read_rows(replace(part, holdout=0.0, folds=0, fold=0), reader, seed)
    kind, targets = _meaning(part, rows)
    metric = part.metric or kind.MAIN
    outer, design = _outer(part, rows, seed)
    sets = _of_models(rows, models, part, layers, cache, random_weights, seed, progress, pair)
    candidates = chain(sets, _baselines(rows, part, progress, pair) if baselines else ())
    return compare(rows, kind, targets, metric, outer, design, candidates, draws=draws, seed=seed)


def compare(
    rows: Rows,
    kind: Kind,
    targets: np.ndarray,
    metric: str,
    outer: Sequence[Fold],
    design: str,
    candidates: Iterable[tuple[str, Features]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Report:
    """What linear models find in each set of features, on the same folds. design: a line that says what these are.

    candidates: (name, features); without any features the majority, or the mean. What is chosen (a layer, a penalty) is
    chosen inside of the rows that are fitted on, whole groups held out.
    """
    found = leaks_of(rows, outer, np.concatenate([test for _, test in outer]))
    lines = []
    for name, layers in candidates:
        inner = partial(_inner, rows, seed)
        fitted = fit(layers, kind, targets, outer, inner, metric) if layers else _constant(kind, targets, outer)
        lines.append(line_of(name, metric, kind, targets, rows, fitted, found.near, draws, seed))
    return Report(rows, kind, targets, lines, found, design)


def _meaning(part: TaskPart, rows: Rows) -> tuple[Kind, np.ndarray]:
    labels = list(rows.labels)
    if part.kind == Regression.KIND:
        kind: Kind = Regression(tuple(part.labels)).standardised_by(labels, part.file)
    elif part.kind == Classification.KIND:
        classes = sorted({label for (label,) in labels})
        if len(classes) < 2:
            raise NexVarError("only one class", where=part.file, fix="two labels or more")
        kind = Classification(tuple(classes))
    else:
        kind = KINDS[part.kind](tuple(part.labels))
    targets = kind.targets(labels, part.file).double().numpy()
    return kind, targets.astype(np.int64) if part.kind == Classification.KIND else targets


def _outer(part: TaskPart, rows: Rows, seed: int) -> tuple[list[Fold], str]:
    """What is fitted on and what is predicted, and a line that says so."""
    test = rows.of(TEST)
    if len(test) and not part.folds:
        train = np.flatnonzero(rows.split != TEST)
        return [(train, test)], f"{len(train):,} training rows, {len(test):,} test rows, as the file says"
    count = part.folds or FOLDS
    among = rows.split != TEST
    if part.kind == Classification.KIND:
        check_folds(rows, among, count, part.file)
    fold = folds_of(rows.groups, among, count, seed, part.file)
    folds = [(np.flatnonzero(among & (fold != i)), np.flatnonzero(fold == i)) for i in range(count)]
    return folds, f"{int(among.sum()):,} rows in {count} folds; groups stay together"


def _inner(rows: Rows, seed: int, train: np.ndarray) -> list[Fold]:
    """Of the rows that are fitted on, which choose: those of split valid, else three folds."""
    words = rows.split[train]
    if (words == VALID).any():
        return [(train[words == TRAIN], train[words == VALID])]
    groups = [rows.groups[i] for i in train]
    fold = folds_of(groups, np.ones(len(train), dtype=bool), INNER, seed + 1, "the training rows")
    return [(train[fold != i], train[fold == i]) for i in range(INNER)]


def leaks_of(rows: Rows, outer: Sequence[Fold], tested: np.ndarray) -> leaks.Leaks:
    """Of each fold against what it was fitted on."""
    each = [leaks.find([rows.texts[i] for i in train], [rows.texts[i] for i in test]) for train, test in outer]
    return leaks.Leaks(np.concatenate([e.exact for e in each]), np.concatenate([e.near for e in each]))


def _of_models(
    rows: Rows,
    models: Sequence[Loaded],
    part: TaskPart,
    layers: Sequence[str],
    cache: str | Path | None,
    random_weights: bool,
    seed: int,
    progress: Callable[[str], None],
    pair: str,
) -> Iterator[tuple[str, Features]]:
    """Name and features of every line of the table that is a model's."""
    for loaded in models:
        progress(f"{loaded.card.name}: embeddings of {len(rows.texts):,} sequences")
        embedded = partial(features.of_model, loaded, pool=part.pool, layers=layers, cache=cache)
        yield loaded.card.name, features.of_rows(rows, embedded, pair)
        if random_weights:
            name = f"{loaded.card.name}{RANDOM}"
            progress(name)
            drawn = features.with_random_weights(loaded, seed)
            embedded = partial(features.of_model, drawn, pool=part.pool, layers=layers, cache=None)
            yield name, features.of_rows(rows, embedded, pair)


def _baselines(
    rows: Rows, part: TaskPart, progress: Callable[[str], None], pair: str
) -> Iterator[tuple[str, Features]]:
    """Those of simple features; none at all: the majority, or the mean."""
    progress("baselines")
    yield "k-mers, 1 to 5", features.of_rows(rows, lambda texts: {"": features.kmers(texts)}, pair)
    if (
        4 * len(rows.texts[0]) <= MOST_POSITIONS
        and len({len(text) for text in rows.texts + rows.alternatives} - {0}) == 1
    ):
        yield "base at each position", features.of_rows(rows, lambda texts: {"": features.positions(texts)}, pair)
    yield "GC and length", features.of_rows(rows, lambda texts: {"": features.composition(texts)}, pair)
    yield "majority" if part.kind == Classification.KIND else "mean", {}


def _constant(kind: Kind, targets: np.ndarray, outer: Sequence[Fold]) -> Fitted:
    """The same answer for all: the commonest class, the mean."""
    made = []
    for train, test in outer:
        if targets.ndim == 1:
            answer = np.log(np.bincount(targets[train], minlength=kind.outputs) / len(train) + 1e-12)
        else:
            answer = np.nanmean(targets[train], 0)
        made.append(np.tile(answer, (len(test), 1)))
    return Fitted(np.concatenate([test for _, test in outer]), np.concatenate(made), [])


def line_of(
    name: str,
    metric: str,
    kind: Kind,
    targets: np.ndarray,
    rows: Rows,
    fitted: Fitted,
    near: np.ndarray,
    draws: int,
    seed: int,
) -> Line:
    """What predictions come to. near: of the predicted rows, those that stand in the training rows."""
    truth, out_NK = targets[fitted.rows], fitted.out_NK
    measured = kind.metrics(out_NK, truth)
    if metric in kind.METRICS and metric not in measured:
        what = f"no {metric}: a class is missing among the {len(truth):,} rows that are predicted"
        raise NexVarError(what, where="the test", fix="rows of every class")
    if metric not in measured:
        raise NexVarError(f"no metric {metric!r}", where="task.metric", fix=f"one of {', '.join(measured)}")
    groups = np.unique([rows.groups[i] for i in fitted.rows], return_inverse=True)[1]
    whole = interval(metric, kind, truth, out_NK, groups, draws, seed)
    apart, without = ~near, None
    if near.any() and apart.sum() >= FEW and metric in kind.metrics(out_NK[apart], truth[apart]):
        without = interval(metric, kind, truth[apart], out_NK[apart], groups[apart], draws, seed)
    others = {key: value for key, value in measured.items() if key != metric}
    return Line(name, metric, whole, without, others, fitted.chosen, fitted)


def interval(
    metric: str, kind: Kind, targets: np.ndarray, out_NK: np.ndarray, groups: np.ndarray, draws: int, seed: int
) -> Estimate:
    """The metric with its 95 % interval, whole groups resampled."""
    rng, owners = np.random.default_rng(seed), np.unique(groups, return_inverse=True)[1]
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners))
    starts = np.r_[0, ends[:-1]]
    drawn = []
    for _ in range(draws):
        picked = rng.integers(len(ends), size=len(ends))
        rows = np.concatenate([order[starts[g] : ends[g]] for g in picked]) if len(order) > len(ends) else order[picked]
        drawn.append(kind.metrics(out_NK[rows], targets[rows]).get(metric, np.nan))
    return percentile_interval(kind.metrics(out_NK, targets)[metric], np.array(drawn))
