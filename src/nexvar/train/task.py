"""Fine-tuning on labelled sequences: rows, what their labels mean, and a head on a trained model.

    labels.py  file ── rows, each of train, valid or test        kinds.py  labels ── targets, loss, metrics
    heads.py   sequence ── tokens ── trunk ── head ── outputs    predict.py  a run's folder ── what it says of sequences

``loop.Run`` trains it; the state that does best on valid is what a run's folder holds, and the test is taken once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.files import write_bytes
from nexvar.inference.core.sequences import clean
from nexvar.train import heads
from nexvar.train.grid import REPLICAS, WINDOWS, Grid
from nexvar.train.kinds import KINDS, Classification, Kind, Regression, balanced
from nexvar.train.labels import TEST, TRAIN, VALID, Rows, check_folds, read_rows
from nexvar.train.recipe import RunPart, Stage, TaskPart
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.hub import sha256
from nexvar.weights.load import Loaded

LOSS = "valid_loss"


class Task:
    """One fine-tuning task: its model, its rows, its loss. Sample ``i`` is a pure function of (seed, i)."""

    def __init__(
        self,
        part: TaskPart,
        loaded: Loaded,
        grid: Grid,
        run: RunPart,
        head: heads.HeadMaker = heads.linear,
        *,
        freeze: bool = False,
    ) -> None:
        check(part)
        self.part, self.loaded, self.grid, self.run = part, loaded, grid, run
        rows = read_rows(part, partial(clean, loaded), run.seed)
        heads.check_pool(loaded, part.pool)
        self.train, self.valid, self.test = rows.of(TRAIN), rows.of(VALID), rows.of(TEST)
        self.contents = {"task.file": sha256(Path(part.file))}
        self.counts = {"train": len(self.train), "held_out": len(self.valid), "test": len(self.test)}
        self.tokens, self.labels = self._read(rows)
        ends = np.cumsum([len(each) for each in self.labels])
        self.spans = list(
            zip(np.r_[0, ends[:-1]].tolist(), ends.tolist(), strict=True)
        )  # of each row's labels in targets
        self.kind = self._kind(rows)
        self.targets = self.kind.targets([label for each in self.labels for label in each], part.file)
        if part.balance:
            self.kind = self.kind.weighted(balanced(self.kind, self.targets[self.places(self.train)]))
        self.metric = self._metric()
        lengths = [len(row.ids) for row in self.tokens]
        self.unit = sum(lengths) / len(lengths)  # tokens of what the log counts
        if run.shard and grid.size(*REPLICAS) > 1 and not loaded.module.pads_safely and len(set(lengths)) > 1:
            what = f"{loaded.card.name} reads unequal lengths one after another: shards would wait for each other"
            raise NexVarError(what, where="run.shard", fix="shard = false, or sequences of one length")
        per_base = part.per == "base"
        self.model = heads.TaskModel(loaded, self.kind.outputs, part.pool, per_base=per_base, freeze=freeze, head=head)

    def _read(self, rows: Rows) -> tuple[list[heads.Tokens], list[list[tuple[str, ...]]]]:
        """Of every row its tokens, and its labels: one, or one for each base or token."""
        if self.part.per == "sequence":
            tokens = [
                heads.tokens_of(self.loaded, text, self.part.pool, site)
                for text, site in zip(rows.texts, rows.sites, strict=True)
            ]
            return tokens, [[label] for label in rows.labels]
        labels = [_each(row, f"{self.part.file}, sequence {i + 1}") for i, row in enumerate(rows.labels)]
        return [
            heads.tokens_of_bases(self.loaded, text, len(each), f"{self.part.file}, sequence {i + 1}")
            for i, (text, each) in enumerate(zip(rows.texts, labels, strict=True))
        ], labels

    def _kind(self, rows: Rows) -> Kind:
        part = self.part
        learned = [label for i in self.train for label in self.labels[i]]
        if part.kind == Regression.KIND:
            return Regression(tuple(part.labels), part.class_weights).standardised_by(learned, part.file)
        if part.kind != Classification.KIND:
            return KINDS[part.kind](tuple(part.labels), part.class_weights)
        classes = sorted({label for (label,) in learned})
        if len(classes) < 2:
            raise NexVarError("only one class to train on", where=part.file, fix="two labels or more")
        if part.folds and part.per == "sequence":
            check_folds(rows, rows.split != "", part.folds, "task.folds")
        return Classification(tuple(classes), part.class_weights)

    def _metric(self) -> str:
        """What the best state is chosen by."""
        if not len(self.valid):
            return LOSS
        places = self.places(self.valid)
        there = [LOSS, *self.kind.metrics(np.zeros((len(places), self.kind.outputs)), self.targets[places].numpy())]
        name = self.part.metric or (self.kind.MAIN if self.kind.MAIN in there else LOSS)
        if name not in there:
            raise NexVarError(f"no metric {name!r}", where="task.metric", fix=f"one of {', '.join(there[:12])}")
        return name

    # -- training

    def sample(self, i: int) -> int:
        """The row of sample ``i``: every epoch is a permutation of the rows."""
        epoch, place = divmod(i, len(self.train))
        rng = np.random.Generator(np.random.Philox(key=self.run.seed, counter=[0, 0, 2, epoch]))
        return int(self.train[rng.permutation(len(self.train))[place]])

    def loss(self, forward: Any, first: int, stage: Stage) -> tuple[Tensor, Tensor]:
        """One micro-batch from sample ``first`` on: what to differentiate, and (nats or halved squared errors, labels,
        labels) float64."""
        rows = [self.sample(i) for i in range(first, first + stage.micro_batch)]
        out_NK, targets = self._outputs(forward, rows), self.targets[self.places(rows)].to(self.loaded.device)
        total = self.kind.loss(out_NK, targets)
        return total, torch.tensor([float(total.detach()), len(out_NK), len(out_NK)], dtype=torch.float64)

    def _outputs(self, forward: Any, rows: Sequence[int]) -> Tensor:
        bf16 = self.run.autocast(self.loaded.device)
        return heads.outputs(forward, self.loaded, [self.tokens[i] for i in rows], bf16)

    def places(self, rows: Sequence[int] | np.ndarray) -> list[int]:
        """Where the targets of these rows stand."""
        return [place for i in rows for place in range(*self.spans[i])]

    # -- measuring

    def evaluate(self, forward: Any, stage: Stage, limit: int | None) -> dict[str, float]:
        """Metrics and loss of the rows of split valid, all of them."""
        out_NK, targets = self.outputs(forward, stage, self.valid), self.targets[self.places(self.valid)]
        loss = float(self.kind.loss(out_NK, targets)) / len(out_NK)
        return {**self.kind.metrics(out_NK.double().numpy(), targets.numpy()), LOSS: loss}

    def better(self, measured: Mapping[str, float], than: float | None) -> float | None:
        """What was measured, if it is better than the best so far; else None."""
        value = measured[self.metric]
        ahead = than is None or (value < than if self.metric == LOSS else value > than)
        return value if ahead else None

    @torch.no_grad()
    def outputs(self, forward: Any, stage: Stage, rows: np.ndarray) -> Tensor:
        """(labels of these rows, outputs) float32 on the CPU, in all processes."""
        N, others, index = len(rows), self.grid.size(*WINDOWS), self.grid.index(*WINDOWS)
        counts = [self.spans[i][1] - self.spans[i][0] for i in rows]
        ends = np.cumsum(counts)
        out_NK = torch.zeros(int(ends[-1]) if N else 0, self.kind.outputs)
        step = stage.micro_batch * others
        for start in range(0, N, step):  # NOTE shards compute together: as many batches in every process
            mine = [start + index * stage.micro_batch + j for j in range(stage.micro_batch)]
            batch = self._outputs(forward, [int(rows[i % N]) for i in mine]).float().cpu()
            for i, part in zip(mine, batch.split([counts[i % N] for i in mine]), strict=True):
                if i < N:
                    out_NK[ends[i] - counts[i] : ends[i]] = part
        return self.grid.sum(out_NK, *WINDOWS)

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """The head and what it says, beside the model."""
        folder.mkdir(parents=True, exist_ok=True)
        head = {name.removeprefix("head."): t for name, t in weights.items() if name.startswith("head.")}
        safetensors.write(head, folder / "head.safetensors")
        kind = self.kind
        facts = {
            "kind": kind.KIND, "per": self.part.per, "pool": self.part.pool, "names": list(kind.names),
            "centre": list(kind.centre) if isinstance(kind, Regression) else [],
            "scale": list(kind.scale) if isinstance(kind, Regression) else [],
        }  # fmt: skip
        write_bytes(folder / "task.json", f"{json.dumps(facts, indent=1)}\n".encode())


def check(part: TaskPart) -> None:
    """NexVarError for what can be wrong with a recipe's [task] alone."""
    for name, value, allowed in (("kind", part.kind, tuple(KINDS)), ("per", part.per, ("sequence", "base"))):
        if value not in allowed:
            raise NexVarError(f"no {name} {value!r}", where=f"task.{name}", fix=f"one of {', '.join(allowed)}")
    if not 0 <= part.holdout < 1:
        raise NexVarError(f"holdout is {part.holdout}", where="task.holdout", fix="a share, such as 0.2")
    if not part.labels or len(set(part.labels)) < len(part.labels):
        raise NexVarError(f"labels are {part.labels}", where="task.labels", fix="the label columns, each once")
    if part.kind == Classification.KIND and len(part.labels) > 1:
        fix = 'kind = "multi-label" for columns of 0 and 1'
        raise NexVarError(f"{len(part.labels)} columns of classes", where="task.labels", fix=fix)
    if part.folds and not (2 <= part.folds <= 1000 and 0 <= part.fold <= part.folds):
        raise NexVarError(
            f"fold {part.fold} of {part.folds}", where="task.folds", fix="such as 5 or 10; fold: 1 to that"
        )
    if part.fold and not part.folds:
        raise NexVarError(f"fold {part.fold} of none", where="task.fold", fix="add folds")
    if part.balance and part.class_weights:
        raise NexVarError("balance beside class_weights", where="task.balance", fix="one of them")


def _each(labels: tuple[str, ...], where: str) -> list[tuple[str, ...]]:
    """One label a base: "EEII" or "0.1,0.2,0.3,0.4" of each column."""
    columns = [text.split(",") if "," in text else list(text) for text in labels]
    if len({len(column) for column in columns}) > 1:
        raise NexVarError("its columns have unequal numbers of labels", where=where, fix="one of each, for every base")
    return [tuple(value.strip() for value in row) for row in zip(*columns, strict=True)]
