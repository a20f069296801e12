"""A training recipe: one TOML file, one frozen dataclass per table; an unknown key is an error, not a default."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch

from nexvar.errors import NexVarError
from nexvar.files import read_text
from nexvar.ops.arithmetic import in_float32

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]


@dataclass(frozen=True)
class ModelPart:
    """From scratch: ``architecture`` and ``config``, the fields of ``models/<architecture>.py: Config``; tokenizer: as
    cards name it. Or ``init``: a model's name or folder to go on from, which brings all of these.

    tokenizer_folder: where a tokenizer that needs files finds them. card: what the output folder says of itself.
    init_std: draw every matrix with this standard deviation; 0 is the architecture's own way (see init.py).
    """

    architecture: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    tokenizer: str = "byte"
    tokenizer_folder: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    init_std: float = 0.0


@dataclass(frozen=True)
class DataPart:
    """length: bases per window. weights: clade -> sampling factor. exclude: clades that are never seen.

    holdout: at least this many records are held out, whole groups of ``holdout_by`` ("genus" or "record"), drawn by
    holdout_seed; holdout_names holds out records by name instead (species, chromosomes).
    soft_mask_weight: loss weight of lower-case bases (Evo 2: 0.1). loss_weights: BED file whose fifth column is the
    weight of its regions' bases.
    """

    files: list[str] = field(default_factory=list)
    length: int = 0
    circular: bool = False
    reverse_complement: float = 0.5
    weights: dict[str, float] = field(default_factory=dict)
    soft_mask_weight: float = 1.0
    loss_weights: str = ""
    exclude: list[str] = field(default_factory=list)
    holdout_by: str = "genus"
    holdout: int = 0
    holdout_seed: int = 0
    holdout_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TaskPart:
    """Labelled sequences to learn instead of the next token: a head on the last hidden state (heads.py).

    file: TSV, CSV or Parquet with a column ``sequence`` and those of ``labels``, perhaps ``split`` and ``group``
    (labels.py), and ``site`` (of pool "site": a 0-based base; else the middle). holdout: the share that is drawn for
    choosing where no row is of split valid.
    kind: "classification", "multi-label" or "regression" (kinds.py). per: "sequence", or "base": as many labels as
    bases (or as the model's tokens). pool: "mean", "max", "last", "cls" or "site".
    class_weights: by class or label; balance: computed, so that rare ones count as much.
    folds: cross-validation, each fold once the test; fold: this one alone (from 1).
    metric: what the best state is chosen by; default: mcc, mean_auroc or pearson, by kind.
    """

    file: str
    labels: list[str] = field(default_factory=lambda: ["label"])
    kind: str = "classification"
    per: str = "sequence"
    holdout: float = 0.2
    pool: str = "mean"
    balance: bool = False
    class_weights: dict[str, float] = field(default_factory=dict)
    folds: int = 0
    fold: int = 0
    metric: str = ""


@dataclass(frozen=True)
class TrackPart:
    """A track to learn, ``[[task.tracks]]``: a bigWig or bedGraph; where it says nothing, the value is 0.

    strand: "+", "-" or "." (both). pair: the name of the other strand's track, which it becomes under reverse
    complement. power: 0.75 of RNA-seq (models/track_heads/scaling.py).
    """

    name: str
    file: str
    strand: str = "."
    pair: str = ""
    power: float = 1.0


@dataclass(frozen=True)
class TracksPart:
    """``[task]`` of kind = "tracks": values along a genome (track_task.py).

    train, valid, test: contigs, regions (II:1-406,000) and BED files; without train, what the others leave.
    window, stride, resolution: bases of a window, between two windows (0: half a window), of a bin.
    reverse_complement: share of windows that are learned from the other strand.
    head: "genos", "linear" or "unet". loss: "mse", "poisson", "tweedie" or "poisson-multinomial" (track_losses.py).
    clip: above it, targets are roots; 0: nowhere. annotation: GFF3, GTF or BED, for metrics over genes.
    metric: what the best state is chosen by; default: log1p_pearson.
    """

    fasta: str
    tracks: list[TrackPart]
    window: int
    kind: str = "tracks"
    stride: int = 0
    resolution: int = 1
    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    annotation: str = ""
    reverse_complement: float = 0.5
    head: str = "unet"
    loss: str = "mse"
    clip: float = 10.0
    metric: str = "log1p_pearson"


@dataclass(frozen=True)
class TunePart:
    """What of ``init`` is trained (tuning.py). weights: "all"; "head", of a task alone; "lora" or "ia3".

    rank, alpha (0: twice the rank), dropout (of what an update reads), targets: of LoRA. targets: layers by the
    architecture's own names or by ``query``, ``key``, ``value``, ``dense``; none: those that suit the architecture.
    """

    weights: str = "all"
    rank: int = 8
    alpha: float = 0.0
    dropout: float = 0.0
    targets: list[str] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return (self.alpha or 2.0 * self.rank) / self.rank

    @property
    def adds(self) -> bool:
        """Whether the weights stay frozen, and updates are trained."""
        return self.weights in ("lora", "ia3")


@dataclass(frozen=True)
class ObjectivePart:
    """mask_rate: share of tokens hidden. mask_span: tokens hidden together (whole k-mers of a one-base tokenizer).

    router_aux, router_z: weights of a mixture of experts' load-balancing and z-losses.
    """

    kind: str = "causal"
    mask_rate: float = 0.15
    mask_span: int = 1
    router_aux: float = 0.0
    router_z: float = 0.0


@dataclass(frozen=True)
class OptimizerPart:
    """clip: largest gradient norm, 0 for none. weight_decay: of matrices."""

    kind: str = "adamw"
    adam_lr: float = 1e-3
    muon_lr: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.95
    momentum: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True)
class SchedulePart:
    """In optimizer steps; see ``optim.Schedule``. cosine_steps: where the cosine ends, if before ``steps``."""

    steps: int
    warmup: int
    kind: str = "wsd"
    decay: int = 0
    cosine_steps: int = 0
    floor: float = 0.0


@dataclass(frozen=True)
class RunPart:
    """batch: windows per update, over all processes; micro_batch: windows per forward of one process.

    shard: under torchrun, every process keeps one part of every tensor (FSDP2) instead of a copy.
    threads: CPU threads over all processes, 0 leaves torch's choice. ema: decay of the weights' moving average, 0 for
    none; with it, the output folder is the average's. track: "wandb" or "trackio" beside the log files.
    bf16: autocast to bfloat16; "auto": where the device is fast at it, which a CPU is asked by a short measurement.
    """

    out: str
    batch: int
    micro_batch: int
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    bf16: bool | str = "auto"
    track: str = ""
    checkpoint_activations: bool = False
    shard: bool = False
    ema: float = 0.0
    log_every: int = 10
    save_every: int = 100
    eval_every: int = 500
    eval_windows: int = 2

    def autocast(self, device: torch.device) -> bool:
        """Whether products are computed in bfloat16 there."""
        return self.bf16 is True or (self.bf16 == "auto" and not in_float32(torch.bfloat16, device))


@dataclass(frozen=True)
class ParallelPart:
    """How the processes of torchrun divide the work: their numbers along each axis of ``grid.py``, whose product is
    the number of processes. data: 0 is all that the others leave."""

    data: int = 0
    tensor: int = 1
    context: int = 1
    expert: int = 1
    copies: int = 1


@dataclass(frozen=True)
class Stage:
    """From step ``start`` on, windows of ``length`` in batches of ``batch`` (progressive context)."""

    start: int
    length: int
    batch: int
    micro_batch: int


@dataclass(frozen=True)
class Recipe:
    model: ModelPart
    data: DataPart
    objective: ObjectivePart
    optimizer: OptimizerPart
    schedule: SchedulePart
    run: RunPart
    stages: tuple[Stage, ...]
    parallel: ParallelPart = ParallelPart()
    task: TaskPart | TracksPart | None = None
    tune: TunePart = TunePart()

    def stage(self, step: int) -> tuple[Stage, int]:
        """The stage of a 0-based step, and the number of the first window of that step."""
        first, current = 0, self.stages[0]
        for later in self.stages[1:]:
            if step < later.start:
                break
            first += (later.start - current.start) * current.batch
            current = later
        return current, first + (step - current.start) * current.batch

    def tokens(self, step: int) -> int:
        """Bases seen in the first ``step`` steps."""
        ends = [min(s.start, step) for s in self.stages[1:]] + [step]
        return sum(max(0, end - s.start) * s.batch * s.length for s, end in zip(self.stages, ends, strict=True))


_PARTS: dict[str, type] = {
    "model": ModelPart,
    "data": DataPart,
    "objective": ObjectivePart,
    "optimizer": OptimizerPart,
    "schedule": SchedulePart,
    "run": RunPart,
    "parallel": ParallelPart,
    "tune": TunePart,
}


_INFINITY = float("inf")
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("run.log_every", "run.save_every", "run.eval_every", "run.eval_windows"), (1, _INFINITY)),
    **dict.fromkeys(("run.threads", "data.holdout", "model.init_std", "optimizer.clip"), (0, _INFINITY)),
    **dict.fromkeys(("objective.router_aux", "objective.router_z", "data.soft_mask_weight"), (0, _INFINITY)),
    **dict.fromkeys(("optimizer.beta1", "optimizer.beta2", "optimizer.momentum", "run.ema"), (0, 0.999999)),
    "run.seed": (0, (1 << 63) - 1),
    **{"tune.rank": (1, _INFINITY), "tune.alpha": (0, _INFINITY), "tune.dropout": (0, 0.999999)},
    **dict.fromkeys(("data.reverse_complement", "schedule.floor", "optimizer.weight_decay"), (0, 1)),
    **dict.fromkeys(("optimizer.adam_lr", "optimizer.muon_lr"), (1e-12, 1e3)),
}


def read(path: Path) -> Recipe:
    """The recipe in a TOML file; NexVarError names an unknown, missing, badly typed or impossible value.

    Relative paths in it (data.files, run.out, model.tokenizer_folder) are relative to the working folder.
    """
    try:
        values = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError, too
        raise NexVarError(f"cannot be read: {error}", where=path) from error
    rows = values.pop("stages", [])
    _only_known(values, [*_PARTS, "task"], path, "")
    parts = {name: _table(part, values.get(name, {}), path, f"[{name}]") for name, part in _PARTS.items()}
    parts["task"] = _task(values["task"], path) if "task" in values else None
    for place, (low, high) in _RANGES.items():
        part, key = place.split(".")
        value = getattr(parts[part], key)
        if not low <= value <= high:  # NaN, too
            limit = f"at least {low:g}" if high == _INFINITY else f"from {low:g} to {high:g}"
            raise NexVarError(f"[{part}] {key} is {value}", where=path, fix=f"it must be {limit}")
    if not isinstance(rows, list):
        raise NexVarError("stages is no list of tables", where=path, fix="[[stages]]")
    _check_sources(parts, values, rows, path)
    run, length = parts["run"], parts["data"].length or 1  # a task counts sequences
    stages = [Stage(0, length, run.batch, run.micro_batch)]
    stages += [_table(Stage, row, path, "[[stages]]") for row in rows]
    for before, stage in zip(stages, stages[1:], strict=False):
        if stage.start <= before.start:
            raise NexVarError(f"a stage starts at {stage.start}, not after {before.start}", where=path)
    for stage in stages:
        if min(stage.length, stage.batch, stage.micro_batch) < 1 or stage.batch % stage.micro_batch:
            raise NexVarError(
                f"batch {stage.batch} of windows of {stage.length} in micro-batches of {stage.micro_batch}",
                where=path,
                fix="batch must be a multiple of micro_batch, all at least 1",
            )
    return Recipe(**parts, stages=tuple(stages))


def _check_sources(parts: dict[str, Any], values: dict[str, Any], rows: list[Any], path: Path) -> None:
    """What a recipe starts from and learns from: exactly one of each."""
    model, task = parts["model"], parts["task"]
    if bool(model.init) == bool(model.architecture):
        raise NexVarError(
            "[model] needs architecture (from scratch) or init (to go on from)" + (", not both" if model.init else ""),
            where=path,
            fix='architecture = "…" with [model.config], or init = "nexvar_mito"',
        )
    taken = sorted({"config", "tokenizer", "tokenizer_folder", "init_std"} & set(values.get("model", {})))
    if model.init and taken:
        raise NexVarError(f"[model] {taken[0]} comes with init", where=path, fix="remove it")
    tune = parts["tune"]
    if tune.weights not in ("all", "head", "lora", "ia3"):
        raise NexVarError(f"[tune] weights is {tune.weights!r}", where=path, fix='"all", "head", "lora" or "ia3"')
    labels = isinstance(task, TaskPart)
    if (tune.weights != "all" or labels) and not model.init:
        what = "[task]" if labels else f"{tune.weights} in [tune]"
        raise NexVarError(f"{what} needs a trained model", where=path, fix='[model] init = "…"')
    if tune.weights == "head" and not task:
        raise NexVarError("[tune] head without a [task]", where=path, fix='weights = "lora"')
    of_lora = sorted({"rank", "alpha", "dropout", "targets"} & set(values.get("tune", {})))
    if of_lora and tune.weights != "lora":
        raise NexVarError(f"[tune] {of_lora[0]} is of LoRA", where=path, fix='weights = "lora"')
    if task and ("data" in values or rows):
        raise NexVarError("[task] brings its own data", where=path, fix="remove [data] and [[stages]]")
    for key in () if task else ("files", "length"):
        if key not in values.get("data", {}):
            raise NexVarError(f"[data] has no {key}", where=path, fix=f"add {key} = …")


def _task(table: Any, path: Path) -> TaskPart | TracksPart:
    if not isinstance(table, dict) or table.get("kind") != "tracks":
        labels: TaskPart = _table(TaskPart, table, path, "[task]")
        return labels
    rows = table.get("tracks")
    if not isinstance(rows, list) or not rows:
        raise NexVarError("[task] has no tracks", where=path, fix="[[task.tracks]] with name and file, for each track")
    tracks = [_table(TrackPart, row, path, "[[task.tracks]]") for row in rows]
    part: TracksPart = _table(TracksPart, {**table, "tracks": tracks}, path, "[task]")
    return part


def _table(part: type, table: Any, path: Path, name: str) -> Any:
    if not isinstance(table, dict):
        raise NexVarError(f"{name} is no table", where=path)
    fields = {f.name: f for f in dataclasses.fields(part)}
    _only_known(table, list(fields), path, f"{name} ")
    missing = dataclasses.MISSING
    for key, f in fields.items():
        if key not in table and f.default is missing and f.default_factory is missing:
            raise NexVarError(f"{name} has no {key}", where=path, fix=f"add {key} = …")
    hints = get_type_hints(part)
    for key, value in table.items():
        if key == "bf16":
            if value is not True and value is not False and value != "auto":
                raise NexVarError(f"{name} {key} is {value!r}", where=path, fix='"auto", true or false')
            continue
        wanted = get_origin(hints[key]) or hints[key]
        if not _is(value, wanted):
            raise NexVarError(f"{name} {key} is {value!r}", where=path, fix=f"it must be of type {wanted.__name__}")
        of = get_args(hints[key])[-1:]
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if of in ((str,), (float,)) and (odd := [v for v in values if not _is(v, of[0])]):
            fix = f"each must be of type {of[0].__name__}"
            raise NexVarError(f"{name} {key} holds {odd[0]!r}", where=path, fix=fix)
    return part(**table)


def _is(value: Any, wanted: type) -> bool:
    """A whole number is a float, too; true and false are no numbers."""
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)


def _only_known(table: dict[str, Any], known: list[str], path: Path, prefix: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.3) or known
            raise NexVarError(f"unknown key {prefix}{key}", where=path, fix=f"did you mean {near[0]}?")
