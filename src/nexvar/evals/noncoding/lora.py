"""A model fine-tuned by LoRA on the alternative windows, fold by fold: train/, with the published settings.

Rank 8, alpha 16, dropout 0.05; a linear head on the mean of the last hidden state; AdamW, weight decay 0.01, one epoch
of warm-up, then linear decay, gradients clipped at 1, batches of 16. In each fold the epoch is chosen on groups of the
training rows that are held out (the published code takes the best epoch of the test fold). A run goes on where it was
killed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nexvar.evals.noncoding.probe import FOLDS
from nexvar.files import disk_errors, read_text, write_bytes, write_tsv
from nexvar.train.folds import PREDICTIONS
from nexvar.train.loop import pretrain

BATCH, MICRO = 16, 4
_RECIPE = """[model]
init = {model}
[task]
file = {file}
folds = {folds}
holdout = 0.2
metric = "auroc"
balance = true
[tune]
weights = "lora"
rank = 8
alpha = 16.0
dropout = 0.05
[optimizer]
kind = "adamw"
adam_lr = {rate}
weight_decay = 0.01
clip = 1.0
[schedule]
steps = {steps}
warmup = {epoch}
decay = {decay}
[run]
out = {out}
batch = {batch}
micro_batch = {micro}
seed = {seed}
device = {device}
log_every = {epoch}
save_every = {epoch}
eval_every = {epoch}
"""


def out_of_fold(
    model: str,
    texts: Sequence[str],
    positive_N: np.ndarray,
    group_N: np.ndarray,
    folder: Path,
    *,
    epochs: int,
    rate: float,
    seed: int,
    device: str = "auto",
) -> np.ndarray:
    """(N,) log-odds of every sequence, by the model of the fold that held it out. folder: of all that is written.

    model: its name or folder. NexVarError as from ``nexvar.train.pretrain``.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    task = folder / "task.tsv"
    write_tsv(task, ["sequence", "label", "group"], zip(texts, positive_N.astype(int), group_N, strict=True))
    epoch = max(1, len(texts) * (FOLDS - 1) // FOLDS * 4 // 5 // BATCH)
    recipe = folder / "recipe.toml"
    text = _RECIPE.format(
        model=json.dumps(model),
        file=json.dumps(str(task)),
        out=json.dumps(str(folder / "run")),
        device=json.dumps(device),
        folds=FOLDS,
        rate=rate,
        epoch=epoch,
        steps=epochs * epoch,
        decay=max(0, (epochs - 1) * epoch),
        batch=BATCH,
        micro=MICRO,
        seed=seed,
    )
    write_bytes(recipe, text.encode())
    out = pretrain(recipe)
    scores = np.full(len(texts), np.nan)
    for row in csv.DictReader(read_text(out / PREDICTIONS, limit=1 << 30).splitlines(), delimiter="\t"):
        p = np.clip(float(row["1"]), 1e-12, 1 - 1e-12)
        scores[int(row["row"]) - 1] = np.log(p) - np.log1p(-p)
    return scores
