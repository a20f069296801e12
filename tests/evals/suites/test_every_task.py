"""Every task that is shipped is valid, says where its files are to be had, and uses what a task can say."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.suites.task import HOME, SUITE, FineTune, Task, catalogue, find, read
from nexvar.train.kinds import KINDS

TOMLS = sorted(path for path in HOME.glob("*/*.toml") if path.name != SUITE)


@pytest.mark.parametrize("path", TOMLS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_task_is_valid(path) -> None:
    task = read(path)
    assert task.question and task.licence and task.source.startswith("https://") and task.length > 0
    for row in task.published:
        assert -1 <= row.value <= 1 and task.sources[row.source].cite
    assert "covid" not in path.read_text().lower() and "virus" not in path.read_text().lower()


def test_every_kind_measures_its_metrics() -> None:
    for name, kind in KINDS.items():
        targets = np.array([0, 1, 1] if name == "classification" else [[0.0], [1.0], [1.0]])
        names = ("a", "b") if name == "classification" else ("a",)
        measured = kind(names).metrics(np.random.default_rng(0).normal(size=(3, len(names))), targets)
        assert set(kind.METRICS) <= set(measured) and kind.MAIN in kind.METRICS


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Task)])
def test_every_field_has_a_meaning(name: str) -> None:
    assert name in ("name", "suite") or re.search(rf"\b{name}(, \w+)*:", Task.__doc__), "the docstring says what it is"
    default = FineTune() if name == "finetune" else None
    used = any(getattr(task, name) not in (default, "", (), {}) for task in catalogue().values())
    assert used, "a task says it"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("metrik = 'mcc'", "unknown key metrik: did you mean metric?"),
        ("length = 'long'", "length is 'long', not a whole number"),
        ("pair = 'both'", "pair is 'both'"),
        ("kind = 'ranking'", "kind is 'ranking'"),
        ("doors = [{ format = 'table', rows = '../x.tsv' }]", "leads out of the folder"),
        ("doors = [{ format = 'zip', rows = 'x.zip' }]", "format is 'zip'"),
        ("doors = [{ format = 'table', rows = 'x.tsv', train = 'y.tsv' }]", "one for rows"),
        ("published = [{ source = 'x', model = 'm', metric = 'mcc', value = 0.5 }]", "no source 'x'"),
        ("finetune = { lerning_rate = 1 }", "unknown key finetune.lerning_rate"),
        ("columns = { text = 'x' }", "columns has 'text'"),
        ("columns = 5", "columns is no table"),
        ("columns = { sequence = ['x'] }", "columns.sequence is"),
        ("columns = { label = 5 }", "columns.label is '5': the name of a column"),
        ("columns = { test = 'x' }", "columns.test is 'x': a table of sequence, label"),
        ("columns = { test = { sekwence = 'x' } }", "columns.test is"),
        ("columns = { train = { sequence = 1 } }", "columns.sequence is '1'"),
        ("columns = { labels = 'y' }", "columns.labels is 'y': a list"),
        ("columns = { labels = [['y']] }", "columns.labels is"),
        ("columns = { labels = ['a', 'b'] }", "columns.labels has 2 columns"),
        ("pair = 'difference'", "a pair needs columns.alternative"),
        ("metric = 'rocket'", "metric is 'rocket': one of accuracy, mcc"),
        ("length = -1", "length is -1"),
        ("strata = { column = 5 }", "strata has a column"),
        ("strata = { column = 'x', edges = ['a'] }", "edges is no list of numbers"),
        ("strata = { column = 'x', edges = [3, 1] }", "each above the one before"),
        ("strata = { column = 'x', edges = [nan] }", "each above the one before"),
        ("of = 'small/none'", "of is 'small/none'"),
        ("length = ", "no TOML"),
    ],
)
def test_a_task_that_is_wrong_is_one_line(change: str, says: str, tmp_path) -> None:
    good = {
        "question": "'q'", "kind": "'classification'", "outputs": "2", "metric": "'mcc'", "length": "10",
        "licence": "'CC0'", "source": "'https://example.org'", "doors": "[{ format = 'table', rows = 'x.tsv' }]",
    }  # fmt: skip
    good[change.partition(" = ")[0]] = change.partition(" = ")[2]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in good.items()))
    with pytest.raises(NexVarError, match=r"mine\.toml") as error:
        find(str(path))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_task_is_found_by_its_names() -> None:
    key = next(iter(catalogue()))
    assert [task.key for task in find(key)] == [key]
    assert {task.suite for task in find("small")} == {"small"}
    with pytest.raises(NexVarError, match="did you mean small/human_5ss_psi"):
        find("small/human_5s_psi")


def test_the_list_shows_every_task(capsys) -> None:
    app(["benchmark", "list"], standalone_mode=False)
    shown = capsys.readouterr().out
    for task in catalogue().values():
        assert f"  {task.name} " in shown and task.source in shown
