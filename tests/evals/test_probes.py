"""Probes: choices stay inside the training rows, baselines stand beside, near-duplicates are found."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled import labelled_table, random_dna
from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.probes import features, fitting, leaks
from nexvar.evals.probes.probe import probe
from nexvar.genome.reference import reverse_complement
from nexvar.train.kinds import Classification, MultiLabel, Regression
from nexvar.train.recipe import TaskPart
from nexvar.weights.load import load
from places import GOLDEN

DNA = st.text("ACGT", min_size=40, max_size=60)


@pytest.fixture(scope="module")
def model():
    return load(GOLDEN / "hyenadna_tiny", device="cpu")


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [{"sequence": random_dna(rng, 40 + i % 5, 0.3 + 0.4 * (i % 2)), "label": "rich" if i % 2 else "poor",
             "split": "test" if i % 4 < 2 else "train"} for i in range(120)]  # fmt: skip
    return labelled_table(tmp_path / "rich.tsv", rows)


# -- features, leaks


@settings(deadline=None, max_examples=20)
@given(DNA)
def test_kmers_are_counted(text: str) -> None:
    row = features.kmers([text])[0]
    assert row[:4] * len(text) == pytest.approx([text.count(base) for base in "ACGT"], abs=1e-4)
    for k, start in ((2, 4), (3, 20)):
        word = text[7 : 7 + k]
        at = start + sum("ACGT".index(c) * 4 ** (k - 1 - i) for i, c in enumerate(word))
        many = sum(text.startswith(word, i) for i in range(len(text)))
        assert row[at] * len(text) == pytest.approx(many, abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(DNA, DNA)
def test_duplicates_are_found_on_either_strand(one: str, other: str) -> None:
    changed = one[:20] + {"A": "C", "C": "A", "G": "T", "T": "G"}[one[20]] + one[21:]
    found = leaks.find([other, one], [reverse_complement(one), changed + one[:5]])
    assert found.exact.tolist() == [True, changed + one[:5] == other] and found.near[0]


def test_nearly_equal_sequences_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(1)
    train = [random_dna(rng, 300) for _ in range(50)]
    moved = random_dna(rng, 30) + train[7][20:290]
    found = leaks.find(train, [reverse_complement(moved), random_dna(rng, 300), random_dna(rng, 9)])
    assert found.near.tolist() == [True, False, False] and not found.exact.any()
    assert "of 3 test sequences 0 stand in the training rows, 1 at least nearly" in found.line


# -- fitting


def test_ridge_is_scikit_learns() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(2)
    x, ask, y = rng.normal(size=(60, 8)), rng.normal(size=(9, 8)), rng.normal(size=(60, 2))
    x -= x.mean(0)
    mine = fitting._ridge(x, y, ask, [0.1, 10.0])
    for out, alpha in zip(mine, [0.1, 10.0], strict=True):
        np.testing.assert_allclose(out, Ridge(alpha=alpha).fit(x, y).predict(ask), atol=1e-8)


def test_a_missing_label_is_not_learned_from() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    y[:5, 1] = np.nan
    out = fitting._ridge(x, y, x, [1.0])[0]
    np.testing.assert_allclose(out[:, 1:], fitting._ridge(x[5:], y[5:, 1:], x, [1.0])[0])


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_what_the_test_says_changes_no_prediction(kind: str) -> None:
    """Layers and strengths are chosen in the training rows: other labels of the test give the same predictions."""
    rng = np.random.default_rng(4)
    signal = rng.normal(size=(90, 1))
    x = {"signal": np.c_[signal, rng.normal(size=(90, 3))], "noise": rng.normal(size=(90, 4))}
    y = {"classification": (signal[:, 0] > 0).astype(np.int64), "multi-label": (signal > 0).astype(float),
         "regression": signal}[kind]  # fmt: skip
    meaning = {"classification": Classification(("a", "b")), "multi-label": MultiLabel(("a",)),
               "regression": Regression(("a",), {}, (0.0,), (1.0,))}[kind]  # fmt: skip
    outer = [(np.arange(60), np.arange(60, 90))]

    def inner(train: np.ndarray) -> list[fitting.Fold]:
        return [(train[train % 3 != i], train[train % 3 == i]) for i in range(3)]

    found = fitting.fit(x, meaning, y, outer, inner, meaning.MAIN)
    assert found.chosen[0][0] == "signal"
    shuffled = y.copy()
    shuffled[60:] = rng.permutation(shuffled[60:])
    np.testing.assert_array_equal(found.out_NK, fitting.fit(x, meaning, shuffled, outer, inner, meaning.MAIN).out_NK)
    assert meaning.metrics(found.out_NK, y[60:])[meaning.MAIN] > 0.7


# -- probes


def test_a_probe_with_its_baselines(model, rich: Path, tmp_path: Path) -> None:
    report = probe(TaskPart(str(rich)), [model], random_weights=True, draws=20, cache=tmp_path / "kept")
    found = {line.features: line for line in report.lines}
    assert set(found) == {
        model.card.name,
        f"{model.card.name}, random weights",
        "k-mers, 1 to 5",
        "GC and length",
        "majority",
    }
    assert found["GC and length"].value.value > 0.7 and found["majority"].value.value == 0.0
    assert (
        found["k-mers, 1 to 5"].value.low <= found["k-mers, 1 to 5"].value.value <= found["k-mers, 1 to 5"].value.high
    )
    assert all(len(line.fitted.rows) == 60 for line in report.lines)
    again = probe(TaskPart(str(rich)), [model], random_weights=True, draws=20, cache=tmp_path / "kept")
    for one, other in zip(report.lines, again.lines, strict=True):
        assert one.value == other.value


def test_folds_predict_every_row_once_and_keep_groups(model, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = [{"sequence": random_dna(rng, 30), "label": i / 7, "group": i // 3} for i in range(60)]
    part = TaskPart(str(labelled_table(tmp_path / "x.tsv", rows)), kind="regression", folds=4)
    report = probe(part, [model], layers=[model.module.last_hidden], draws=10)
    for line in report.lines:
        assert sorted(line.fitted.rows.tolist()) == list(range(60))


def test_duplicates_across_the_split_are_said_and_left_out(model, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = [{"sequence": random_dna(rng, 60), "label": i % 2, "split": "train"} for i in range(40)]
    rows += [
        {"sequence": reverse_complement(str(row["sequence"])), "label": row["label"], "split": "test"}
        for row in rows[:20]
    ]
    rows += [{"sequence": random_dna(rng, 60), "label": i % 2, "split": "test"} for i in range(20)]
    report = probe(TaskPart(str(labelled_table(tmp_path / "x.tsv", rows))), [model], draws=10)
    assert report.leaks.exact.sum() == 20
    assert all(line.apart is not None for line in report.lines)


def test_the_command_writes_a_table_and_predictions(
    rich: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = tmp_path / "t.md", tmp_path / "p.tsv"
    command = ["probe", "--task", str(rich), "--model", str(GOLDEN / "hyenadna_tiny"), "--draws", "10", "-o", str(out)]
    app([*command, "--predictions", str(said)], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "GC and length" in shown and "as the file says" in shown
    assert out.read_text().splitlines()[0].startswith("| rich.tsv | mcc [95 %]")
    with said.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 60 and {row["true_0"] for row in rows} == {"rich", "poor"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "ranking"}, "no kind 'ranking'"),
        ({"pool": "site"}, "a probe reads whole sequences"),
        ({"labels": ["colour"]}, "no colour: columns sequence, colour"),
        ({"metric": "aurok"}, "no metric 'aurok'.*accuracy"),
        ({"folds": 500}, "class 'poor' has 30 groups for 500 folds"),
        ({"folds": 1}, "fold 0 of 1"),
        ({"folds": -3}, "fold 0 of -3"),
        ({"labels": ["label", "sequence"]}, "2 columns of classes"),
        ({"kind": "regression"}, "label 'poor' is no number"),
    ],
)
def test_a_bad_task_is_one_line(model, rich: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(NexVarError, match=says) as error:
        probe(TaskPart(**{"file": str(rich), **change}), [model], draws=10)
    assert "\n" not in str(error.value)


def test_a_seed_below_zero_is_one_line(model, rich: Path) -> None:
    with pytest.raises(NexVarError, match="seed is -1: a whole number, 0 or more"):
        probe(TaskPart(file=str(rich)), [model], seed=-1)


@pytest.mark.parametrize("kind", [Classification(("no", "yes")), MultiLabel(("one", "two"))])
def test_folds_that_are_fitted_apart_are_ranked_together(kind) -> None:
    """One weak feature, a strong penalty, classes unequal by fold: the folds' intercepts must not count."""
    rng = np.random.default_rng(0)
    yes = np.concatenate([np.arange(60) < n for n in (10, 30, 50)])
    x_ND = (yes + rng.normal(0, 0.3, 180))[:, None].astype(np.float32)
    targets = yes.astype(int) if isinstance(kind, Classification) else np.stack([yes, ~yes], 1).astype(float)
    fold = np.arange(180) // 60
    outer = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(3)]
    metric = "auroc" if isinstance(kind, Classification) else "mean_auroc"
    fitted = fitting.fit({"": x_ND}, kind, targets, outer, lambda train: [(train[::2], train[1::2])], metric)
    assert kind.metrics(fitted.out_NK, targets[fitted.rows])[metric] > 0.95
