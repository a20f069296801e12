"""Fine-tuning on labelled sequences: a linear head on the pooled last hidden state of a trained model.

    sequence, label ── tokens ── model ── pool ── layer norm without weights ── head ── (B, classes) or (B, 1)

A run's folder holds the model as any other (``NexVar(folder)`` loads it) and, beside it, ``head.safetensors`` and
``task.json``: ``Predictor(folder)``.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar import arguments, files
from nexvar.errors import NexVarError
from nexvar.files import check_inside, check_regular, read_json, write_atomically, write_bytes
from nexvar.genome.reference import Fasta
from nexvar.inference.core.batching import equal_batches, padded
from nexvar.inference.core.readout import coarser, pool
from nexvar.inference.core.sequences import clean, token_ids
from nexvar.paths import Read, Write, check_apart
from nexvar.train.grid import WINDOWS, Grid
from nexvar.train.recipe import RunPart, Stage, TaskPart
from nexvar.weights import checkpoint
from nexvar.weights.assemble import all_finite
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.hub import sha256
from nexvar.weights.load import Loaded, load
from nexvar.weights.typed import check_types

KINDS, POOLS = ("classification", "regression"), ("mean", "max", "last")
GIVE = "give the model folder of a [task] run"


class TaskModel(nn.Module):
    """trunk: the loaded model. forward: ids, mask (B, L) and which tokens are bases -> (B, outputs) float32."""

    def __init__(self, loaded: Loaded, outputs: int, pool: str, freeze: bool) -> None:
        super().__init__()
        self.trunk, self.pool, self.freeze = loaded.module, pool, freeze
        self.layer = loaded.module.last_hidden
        self.causal = loaded.card.objective == "causal"
        self.stride = loaded.module.tap_stride.get(self.layer, 1)
        with torch.no_grad():
            ids_1L, mask_1L = padded(loaded, [token_ids(loaded.tokenizer, "ACGT" * 32, special=False)])
            width = self._hidden(ids_1L, mask_1L).shape[-1]
        self.head = nn.Linear(width, outputs, device=loaded.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if freeze:
            self.trunk.requires_grad_(False)

    def _hidden(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        mask = None if self.causal else mask_BL  # right padding changes nothing in a causal model
        return self.trunk(ids_BL, mask_BL=mask, taps=(self.layer,), logits=False).taps[self.layer]

    def positions_per_token(self, parameter: str) -> float:
        """As the trunk's; the head sees one position a window, which is next to nothing."""
        return self.trunk.positions_per_token(parameter.removeprefix("trunk."))

    def train(self, mode: bool = True) -> TaskModel:
        """NOTE: a frozen trunk stays as it will be used: without dropout."""
        super().train(mode)
        if self.freeze:
            self.trunk.eval()
        return self

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pooled_BL: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            hidden_BTD = self._hidden(ids_BL, mask_BL)
        pooled_BD = pool(hidden_BTD, coarser(pooled_BL, self.stride), self.pool)
        with torch.autocast(ids_BL.device.type, enabled=False):
            return self.head(F.layer_norm(pooled_BD, pooled_BD.shape[-1:]))


@dataclass
class Rows:
    """Sequences, their labels as written, and whether each is held out."""

    texts: list[str]
    labels: list[str]
    held_out: np.ndarray


def read_rows(part: TaskPart, loaded: Loaded, seed: int) -> Rows:
    """The labelled file, every row checked; NexVarError names the file and the row."""
    path, rows = Path(part.file), Rows([], [], np.zeros(0, dtype=bool))
    held = []
    for number, row in _table(path):
        for column in ("sequence", "label"):
            if row.get(column) in (None, ""):
                has = ", ".join(str(key) for key in row if key)
                raise NexVarError(
                    f"no {column}", where=f"{path}:{number}", fix=f"columns sequence, label; it has {has}"
                )
        text = clean(loaded, str(row["sequence"]), f"{path}:{number}")
        digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64 < part.holdout
        held.append(str(row["split"]) != "train" if row.get("split") is not None else drawn)
        rows.texts.append(text)
        rows.labels.append(str(row["label"]))
    rows.held_out = np.array(held, dtype=bool)
    if not rows.texts or rows.held_out.all():
        raise NexVarError("no row to train on", where=path, fix="rows of split train, or a smaller task.holdout")
    return rows


def _table(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line or row number, column -> value) of a TSV, CSV (also .gz) or Parquet file."""
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind not in ("tsv", "csv", "parquet"):
        raise NexVarError(f"unknown format {kind!r}", where=path, fix="tsv, csv or parquet")
    check_regular(path)
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            yield from enumerate(pq.read_table(path).to_pylist(), 1)
            return
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            yield from enumerate(csv.DictReader(file, delimiter="\t" if kind == "tsv" else ","), 2)
    except (OSError, EOFError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise NexVarError(f"cannot be read: {error}", where=path, fix="task.file of the recipe") from error


class Task:
    """One fine-tuning task: its model, its rows, its loss. Sample ``i`` is a pure function of (seed, i)."""

    def __init__(self, part: TaskPart, loaded: Loaded, grid: Grid, run: RunPart) -> None:
        for name, value, allowed in (("kind", part.kind, KINDS), ("pool", part.pool, POOLS)):
            if value not in allowed:
                raise NexVarError(f"no {name} {value!r}", where=f"task.{name}", fix=f"one of {', '.join(allowed)}")
        if not 0 <= part.holdout < 1:
            raise NexVarError(f"holdout is {part.holdout}", where="task.holdout", fix="a share, such as 0.2")
        self.part, self.loaded, self.grid, self.run = part, loaded, grid, run
        rows = read_rows(part, loaded, run.seed)
        self.train, self.held_out = np.flatnonzero(~rows.held_out), np.flatnonzero(rows.held_out)
        self.contents = {"task.file": sha256(Path(part.file))}
        self.counts = {"train": len(self.train), "held_out": len(self.held_out)}
        self.classes: list[str] = []
        self.centre, self.scale = 0.0, 1.0
        if part.kind == "classification":
            self.classes = sorted({rows.labels[i] for i in self.train})
            check_classes(self.classes, part.file)
            if len(self.classes) < 2:
                raise NexVarError("only one class to train on", where=part.file, fix="two labels or more")
            if odd := sorted(set(rows.labels) - set(self.classes)):
                raise NexVarError(f"label {odd[0]!r} is in no row to train on", where=part.file)
            self.targets = torch.tensor([self.classes.index(label) for label in rows.labels])
        else:
            values = np.array([_number(label, part.file, i) for i, label in enumerate(rows.labels)])
            self.centre, self.scale = float(values[self.train].mean()), float(values[self.train].std()) or 1.0
            self.targets = torch.tensor((values - self.centre) / self.scale, dtype=torch.float32)
        self.ids = [token_ids(loaded.tokenizer, text, special=loaded.card.special_tokens) for text in rows.texts]
        self.unit = sum(map(len, self.ids)) / len(self.ids)  # tokens of what the log counts, a sequence
        if not loaded.module.pads_safely and len({len(ids) for ids in self.ids}) > 1:
            raise NexVarError(
                f"{loaded.card.name} cannot be padded: all sequences must have one length",
                where=part.file,
                fix="cut them",
            )
        self.model = TaskModel(loaded, max(len(self.classes), 1), part.pool, part.freeze)

    def sample(self, i: int) -> int:
        """The row of sample ``i``: every epoch is a permutation of the rows."""
        epoch, place = divmod(i, len(self.train))
        rng = np.random.Generator(np.random.Philox(key=self.run.seed, counter=[0, 0, 2, epoch]))
        return int(self.train[rng.permutation(len(self.train))[place]])

    def loss(self, forward: Any, first: int, stage: Stage) -> tuple[Tensor, Tensor]:
        """One micro-batch from sample ``first`` on: what to differentiate, and (nats or halved squared errors, samples,
        samples) float64."""
        rows = [self.sample(i) for i in range(first, first + stage.micro_batch)]
        out, target = self._outputs(forward, rows), self.targets[rows].to(self.loaded.device)
        if self.classes:
            total = F.cross_entropy(out, target, reduction="sum")
        else:
            total = 0.5 * (out[:, 0] - target).square().sum()
        return total, torch.tensor([float(total.detach()), len(rows), len(rows)], dtype=torch.float64)

    def _outputs(self, forward: Any, rows: Sequence[int]) -> Tensor:
        return outputs(forward, self.loaded, [self.ids[i] for i in rows], self.run.autocast(self.loaded.device))

    @torch.no_grad()
    def evaluate(self, forward: Any, stage: Stage, limit: int | None) -> dict[str, float]:
        """``metrics`` of the held-out rows, all of them."""
        N, others, index = len(self.held_out), self.grid.size(*WINDOWS), self.grid.index(*WINDOWS)
        outputs_NK = torch.zeros(N, self.model.head.out_features)
        step = stage.micro_batch * others
        for start in range(0, N, step):  # NOTE shards compute together: as many batches in every process
            mine = [start + index * stage.micro_batch + j for j in range(stage.micro_batch)]
            out = self._outputs(forward, [int(self.held_out[i % N]) for i in mine]).float().cpu()
            keep = torch.tensor([i < N for i in mine])
            outputs_NK[torch.tensor(mine)[keep]] = out[keep]
        return self.metrics(self.grid.sum(outputs_NK, *WINDOWS), self.targets[self.held_out])

    def metrics(self, out_NK: Tensor, targets_N: Tensor) -> dict[str, float]:
        """accuracy, mcc and (two classes) auroc; or pearson and spearman."""
        out, target = out_NK.double().numpy(), targets_N.numpy()
        if not self.classes:
            pairs = {"pearson": (out[:, 0], target), "spearman": (_ranks(out[:, 0]), _ranks(target))}
            return {name: _correlation(a, b) for name, (a, b) in pairs.items()}
        said, K = out.argmax(1), len(self.classes)
        measured = {"accuracy": float((said == target).mean()), "mcc": _correlation(np.eye(K)[said], np.eye(K)[target])}
        positive = target == 1
        if K == 2 and positive.any() and not positive.all():
            ranks = _ranks(out[:, 1] - out[:, 0])
            n = int(positive.sum())
            measured["auroc"] = float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(target) - n)))
        return measured

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """The head and what it says, beside the model."""
        folder.mkdir(parents=True, exist_ok=True)
        head = {name.removeprefix("head."): t for name, t in weights.items() if name.startswith("head.")}
        safetensors.write(head, folder / "head.safetensors")
        facts = {"kind": self.part.kind, "pool": self.part.pool, "classes": self.classes,
                 "centre": self.centre, "scale": self.scale}  # fmt: skip
        write_bytes(folder / "task.json", f"{json.dumps(facts, indent=1)}\n".encode())


@dataclass(frozen=True)
class Facts:
    """What task.json says. classes: none for a regression, of which a value is ``scale`` x output + ``centre``."""

    kind: str
    pool: str
    classes: tuple[str, ...]
    centre: float
    scale: float

    @classmethod
    def read(cls, path: Path) -> Facts:
        """NexVarError for a file that no fine-tuning run wrote."""
        try:
            values = read_json(check_inside(path))
        except NexVarError as error:
            raise NexVarError(f"no fine-tuned head ({error.what})", where=path, fix=GIVE) from error
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in values]:
            raise NexVarError(f"no fine-tuned head (no {', '.join(missing)})", where=path, fix=GIVE)
        check_types(cls, values, path)
        facts = cls(**{name: values[name] for name in names})
        if facts.kind not in KINDS or facts.pool not in POOLS or (facts.kind == KINDS[0]) != bool(facts.classes):
            what = f"no head is of kind {facts.kind!r}, pool {facts.pool!r} and {len(facts.classes)} classes"
            raise NexVarError(what, where=path, fix=GIVE)
        check_classes(facts.classes, path)
        return facts


def check_classes(classes: Sequence[str], where: object) -> None:
    """NexVarError where a class is called as another column of what ``predict`` writes."""
    columns = ("name", "label", *classes)
    if twice := [name for name in classes if columns.count(name) > 1]:
        raise NexVarError(f"two columns would be called {twice[0][:80]!r}", where=where, fix="name the classes apart")


def read_head(path: Path) -> dict[str, Tensor]:
    """The head's tensors, finite; NexVarError where there is no sound file."""
    head = checkpoint.read([check_inside(path)])
    for name, tensor in head.items():
        if not tensor.is_floating_point() or not all_finite(tensor):
            raise NexVarError(f"{name[:80]} holds NaN, infinite or whole numbers", where=path, fix="a damaged head")
    return {name: tensor.float() for name, tensor in head.items()}


def outputs(model: Any, loaded: Loaded, ids: Sequence[Sequence[int]], bf16: bool) -> Tensor:
    """The head's (B, K) for one batch of token rows."""
    ids_BL, mask_BL = padded(loaded, ids)
    special = torch.tensor(sorted(loaded.tokenizer.special_ids), device=loaded.device)
    with torch.autocast(loaded.device.type, torch.bfloat16, enabled=bf16):
        return model(ids_BL, mask_BL, mask_BL & ~torch.isin(ids_BL, special))


class Predictor:
    """What a fine-tuning run wrote, ready to use.

    >>> Predictor("runs/promoters/model").predict(["ACGT…"])          # doctest: +SKIP
    [{'label': 'promoter', 'no': 0.02, 'promoter': 0.98}]
    """

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        folder = arguments.path(folder, "folder")
        self.facts = Facts.read(folder / "task.json")
        self.classes, self.centre, self.scale = self.facts.classes, self.facts.centre, self.facts.scale
        head = read_head(folder / "head.safetensors")
        self.loaded = load(folder, device=device)
        self.model = TaskModel(self.loaded, max(len(self.classes), 1), self.facts.pool, freeze=True).eval()
        try:
            self.model.head.load_state_dict(head)
        except RuntimeError as error:
            raise NexVarError("the head is of another model", where=folder / "head.safetensors") from error
        self.model.head.to(self.loaded.device)

    @torch.no_grad()
    def predict(self, seqs: Sequence[str], batch_tokens: int = 1 << 14) -> list[dict[str, Any]]:
        """For each sequence {"label": …, class: probability, …}, or {"value": …}."""
        batch_tokens = arguments.whole(batch_tokens, "batch_tokens", 1)
        given = arguments.a_list(seqs, "seqs")
        texts = [clean(self.loaded, text, f"seqs[{i}]") for i, text in enumerate(given)]
        special = self.loaded.card.special_tokens
        ids = [token_ids(self.loaded.tokenizer, text, special=special) for text in texts]
        predicted: dict[int, dict[str, Any]] = {}
        for batch in equal_batches([len(i) for i in ids], batch_tokens, pads=self.loaded.module.pads_safely):
            for i, row in zip(batch, outputs(self.model, self.loaded, [ids[i] for i in batch], False), strict=True):
                value = float(row[0]) * self.scale + self.centre
                if not all_finite(row) or not math.isfinite(value):
                    what = "the head makes no finite number of it"
                    raise NexVarError(what, where=f"seqs[{i}]", fix="train it again; are its weights absurdly large?")
                if self.classes:
                    p = row.softmax(-1).tolist()
                    label = self.classes[int(row.argmax())]
                    predicted[i] = {"label": label, **dict(zip(self.classes, p, strict=True))}
                else:
                    predicted[i] = {"value": value}
        return [predicted[i] for i in range(len(texts))]


def predict_file(
    folder: Path, fasta: Path, output: Path, *, device: str = "auto", spreadsheet_safe: bool = False
) -> str:
    """``Predictor.predict`` for every record of a FASTA, to a TSV written atomically; a line for people.

    spreadsheet_safe: text that begins like a formula gets a ' before it.
    """
    check_apart([Read(folder), Read(fasta)], [Write(output)])
    if output.suffix != ".tsv":
        raise NexVarError(
            f"cannot write {output.suffix or 'a file without an ending'}", where=output, fix="name it .tsv"
        )
    predictor, genome = Predictor(folder, device), Fasta(fasta)
    rows = predictor.predict([genome.fetch(name, *genome.span(name)) for name in genome.contigs])
    with write_atomically(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        text = files.spreadsheet_safe if spreadsheet_safe else str
        writer.writerow(["name", *map(text, rows[0])])
        for name, row in zip(genome.contigs, rows, strict=True):
            writer.writerow([text(name), *(f"{v:.6g}" if isinstance(v, float) else text(v) for v in row.values())])
    return f"{len(rows)} sequences -> {output}"


def _number(label: str, file: str, row: int) -> float:
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise NexVarError(
            f"label {label!r} is no number", where=f"{file}, sequence {row + 1}", fix='kind = "classification"'
        )
    return value


def _ranks(x: np.ndarray) -> np.ndarray:
    """1-based ranks, ties averaged."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; of one-hot rows it is Matthews' coefficient for any number of classes. 0 if one is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm else 0.0
