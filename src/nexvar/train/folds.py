"""Cross-validation: one run a fold, each resumable, in ``out/fold-1`` … ; what all of them say of rows they never saw.

out/folds.json        each fold's metrics on its test, their mean and standard deviation
out/predictions.tsv   every row, as the fold that held it out sees it
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from nexvar.files import read_json, read_text, write_bytes
from nexvar.train.outcome import METRICS, PREDICTIONS
from nexvar.train.recipe import Recipe, TaskPart

SUMMARY = "folds.json"


def run(recipe: Recipe, train: Callable[[Recipe], Path]) -> Path:
    """Train every fold that is not finished; returns the folder of all."""
    assert isinstance(recipe.task, TaskPart)
    out, measured, lines = Path(recipe.run.out), [], list[str]()
    for fold in range(1, recipe.task.folds + 1):
        task: TaskPart = replace(recipe.task, fold=fold)
        folder = out / f"fold-{fold}"
        train(replace(recipe, task=task, run=replace(recipe.run, out=str(folder))))
        measured.append(read_json(folder / METRICS)["test"])
        head, *rows = read_text(folder / PREDICTIONS, limit=1 << 30).splitlines()
        lines += [head, *rows] if not lines else rows
    shared = [name for name in measured[0] if all(name in values for values in measured)]
    table = {name: [values[name] for values in measured] for name in shared}
    summary = {
        "folds": measured,
        "mean": {name: float(np.mean(values)) for name, values in table.items()},
        "sd": {name: float(np.std(values, ddof=1)) for name, values in table.items()},
    }
    write_bytes(out / SUMMARY, f"{json.dumps(summary, indent=1)}\n".encode())
    write_bytes(out / PREDICTIONS, ("\n".join(lines) + "\n").encode())
    return out
