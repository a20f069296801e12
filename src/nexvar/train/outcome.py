"""What a task came to: the model that was kept, measured once on the test, and what it says of each of its rows.

out/metrics.json      {"valid": …, "test": …}: counts and metrics of the kept state
out/predictions.tsv   row, label as written, what the model says: the rows of split test
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar.files import write_bytes, write_tsv
from nexvar.train import heads
from nexvar.train.predict import Predictor
from nexvar.train.task import Task

METRICS, PREDICTIONS = "metrics.json", "predictions.tsv"


def outcome(task: Task, folder: Path, head: heads.HeadMaker = heads.linear) -> list[str]:
    """Writes both beside ``folder`` and returns lines for people."""
    model = Predictor(folder, str(task.loaded.device), head=head)
    measured: dict[str, Any] = {}
    for name, rows in (("valid", task.valid), ("test", task.test)):
        if len(rows):
            out_NK, places = _outputs(model, task, rows.tolist()), task.places(rows)
            metrics = task.kind.metrics(out_NK.double().numpy(), task.targets[places].numpy())
            measured[name] = {"rows": len(rows), **metrics}
    write_bytes(folder.parent / METRICS, f"{json.dumps(measured, indent=1)}\n".encode())
    if len(task.test):
        _write(folder.parent / PREDICTIONS, task, out_NK)
    return [f"{name}: {said(values)}" for name, values in measured.items()]


def said(values: Mapping[str, Any]) -> str:
    """Counts and metrics in one line."""
    return ", ".join(f"{key} {value:,}" if key == "rows" else f"{key} {value:.4g}" for key, value in values.items())


@torch.no_grad()
def _outputs(model: Predictor, task: Task, rows: list[int]) -> Tensor:
    """(labels of the rows, outputs)"""
    return torch.cat(model.outputs([task.tokens[i] for i in rows])).float()


def _write(path: Path, task: Task, out_NK: Tensor) -> None:
    """A line for each label of each row of the test; ``row`` and ``pos`` are 1-based."""
    per_base = task.part.per == "base"
    true = [f"true_{name}" for name in task.part.labels]
    outputs = iter(out_NK)
    rows = (
        [i + 1, *([pos] if per_base else []), *label, *task.kind.said(next(outputs)).values()]
        for i in task.test.tolist()
        for pos, label in enumerate(task.labels[i], 1)
    )
    write_tsv(path, ["row", *(["pos"] if per_base else []), *true, *task.kind.said(out_NK[0])], rows)
