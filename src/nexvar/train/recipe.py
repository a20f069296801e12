"""A training recipe: one TOML file, one frozen dataclass per table; an unknown key is an error, not a default."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from nexvar.errors import NexVarError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]


@dataclass(frozen=True)
class ModelPart:
    """config: the fields of ``models/<architecture>.py: Config``."""

    architecture: str
    config: dict[str, Any]
    tokenizer: str = "byte"


@dataclass(frozen=True)
class DataPart:
    """length: bases per window. weights: clade -> sampling factor. exclude: clades that are never seen."""

    files: list[str]
    length: int
    circular: bool = False
    reverse_complement: float = 0.5
    weights: dict[str, float] = field(default_factory=dict)
    soft_mask_weight: float = 1.0
    exclude: list[str] = field(default_factory=list)
    holdout_by: str = "genus"
    holdout: int = 0
    holdout_seed: int = 0


@dataclass(frozen=True)
class OptimizerPart:
    kind: Literal["adamw", "muon"] = "adamw"
    adam_lr: float = 1e-3
    muon_lr: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.95
    momentum: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True)
class SchedulePart:
    """In optimizer steps. See optim.Schedule."""

    steps: int
    warmup: int
    kind: Literal["wsd", "cosine"] = "wsd"
    decay: int = 0
    floor: float = 0.0


@dataclass(frozen=True)
class RunPart:
    """batch: windows per update, over all processes; micro_batch: windows per forward of one process."""

    out: str
    batch: int
    micro_batch: int
    seed: int = 0
    threads: int = 0
    bf16: bool = True
    compile: bool = False
    log_every: int = 10
    save_every: int = 100
    eval_every: int = 500
    eval_windows: int = 2


@dataclass(frozen=True)
class Recipe:
    model: ModelPart
    data: DataPart
    optimizer: OptimizerPart
    schedule: SchedulePart
    run: RunPart


_PARTS: dict[str, type] = {
    "model": ModelPart, "data": DataPart, "optimizer": OptimizerPart, "schedule": SchedulePart, "run": RunPart,
}


def read(path: Path) -> Recipe:
    """The recipe in a TOML file; NexVarError names an unknown, missing or badly typed key."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NexVarError(f"cannot be read: {error}", where=path) from error
    _only_known(values, list(_PARTS), path, "")
    parts = {}
    for name, part in _PARTS.items():
        table = values.get(name, {})
        known = [f.name for f in fields(part)]
        _only_known(table, known, path, f"{name}.")
        try:
            parts[name] = part(**table)
        except TypeError as error:
            raise NexVarError(f"[{name}]: {error}".replace("__init__() ", ""), where=path) from error
    recipe = Recipe(**parts)
    run = recipe.run
    if run.batch % run.micro_batch:
        raise NexVarError(f"batch {run.batch} is no multiple of micro_batch {run.micro_batch}", where=path)
    return recipe


def _only_known(table: dict[str, Any], known: list[str], path: Path, prefix: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.3) or known
            raise NexVarError(f"unknown key {prefix}{key}", where=path, fix=f"did you mean {prefix}{near[0]}?")
