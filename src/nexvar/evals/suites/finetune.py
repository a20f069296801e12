"""A cell by fine-tuning: the task's own settings as a recipe of training, its state chosen on valid, the test once.

OUT/runs/<cell>/recipe.toml      what is trained, as `nexvar pretrain` reads it; a run that is killed goes on
OUT/runs/<cell>/model            the model and its head, as `nexvar predict` reads them
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nexvar.errors import NexVarError
from nexvar.evals.probes.fitting import Fitted
from nexvar.evals.probes.probe import Report, leaks_of, line_of
from nexvar.evals.suites.cell import Cell
from nexvar.files import write_bytes
from nexvar.inference.core.sequences import clean
from nexvar.train import heads, pretrain
from nexvar.train.labels import TEST, TRAIN, read_rows
from nexvar.train.predict import Predictor
from nexvar.weights.load import Loaded

EVALUATIONS = 10  # of a run, on split valid
MICRO_BATCH = 8  # sequences of one forward, at most


def finetuned(cell: Cell, loaded: Loaded) -> Report:
    """Train, or go on; what the kept state says of the test."""
    task, options = cell.task, cell.options
    if task.pair:
        raise NexVarError("a task of pairs", where=task.key, fix="--method probe")
    part = replace(task.part, file=str(cell.table))
    rows = read_rows(replace(part, holdout=0.0), partial(clean, loaded), options.seed)
    if not len(test := rows.of(TEST)):
        raise NexVarError("no test rows", where=task.key, fix="--method probe, which takes folds")
    cell.folder.mkdir(parents=True, exist_ok=True)
    recipe = cell.folder / "recipe.toml"
    write_bytes(recipe, recipe_text(cell, len(rows.of(TRAIN)), str(loaded.device)).encode())
    predictor = Predictor(pretrain(recipe), str(loaded.device))
    tokens = [heads.tokens_of(predictor.loaded, rows.texts[i], part.pool, rows.sites[i]) for i in test]
    out_NK = torch.cat(predictor.outputs(tokens)).double().numpy()
    kind = predictor.kind
    targets = kind.targets(list(rows.labels), part.file).double().numpy()
    if task.kind == "classification":
        targets = targets.astype("int64")
    found = leaks_of(rows, [(np.flatnonzero(rows.split != TEST), test)], test)
    fitted = Fitted(test, out_NK, [])
    line = line_of(loaded.card.name, part.metric, kind, targets, rows, fitted, found.near, options.draws, options.seed)
    return Report(rows, kind, targets, [line], found, "")


def recipe_text(cell: Cell, training: int, device: str) -> str:
    """The TOML of a recipe; training: rows of split train."""
    task, settings = cell.task, cell.task.finetune
    steps = max(1, math.ceil(settings.epochs * training / settings.batch))
    steps = min(steps, settings.steps or steps)
    assert cell.model is not None
    tune: dict[str, Any] = {"weights": settings.weights}
    if settings.weights == "lora":
        tune |= {name: getattr(settings, name) for name in ("rank", "alpha", "dropout", "targets")}
    learned = {"labels": task.labels, "kind": task.kind, "pool": task.pool, "metric": task.metric}
    micro = max(size for size in range(1, min(MICRO_BATCH, settings.batch) + 1) if settings.batch % size == 0)
    often = max(1, steps // EVALUATIONS)
    tables: dict[str, dict[str, Any]] = {
        "model": {"init": str(cell.model.source)},
        "task": {"file": str(cell.table), **learned},
        "tune": tune,
        "optimizer": {"kind": "adamw", "adam_lr": settings.lr, "weight_decay": settings.weight_decay},
        "schedule": {"kind": "cosine", "steps": steps, "warmup": min(settings.warmup, steps // 2)},
        "run": {"out": str(cell.folder), "batch": settings.batch, "micro_batch": micro, "seed": cell.options.seed,
                "device": device, "eval_every": often, "save_every": often, "log_every": often},
    }  # fmt: skip
    lines = []
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)
