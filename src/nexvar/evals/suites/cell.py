"""What a cell of a benchmark is: one model, or none, on one task by one method. cells.py computes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexvar.evals.probes.probe import DRAWS
from nexvar.evals.suites.task import Task
from nexvar.weights.choice import ModelChoice


@dataclass(frozen=True)
class Options:
    """How cells are computed. layers: to choose among; none: all blocks. max_rows: of each split, 0 for all.

    cache: a folder where embeddings are kept; it changes no result.
    """

    layers: tuple[str, ...] = ()
    random_weights: bool = False
    max_rows: int = 0
    seed: int = 0
    draws: int = DRAWS
    cache: Path | None = None


@dataclass(frozen=True)
class Cell:
    """table: what ``read.write`` wrote. folder: where a fine-tuning run lies. model: None for a task's baselines.

    kept: of what the result was made that is there already.
    """

    task: Task
    method: str
    model: ModelChoice | None
    table: Path
    folder: Path
    options: Options
    kept: dict[str, str] | None = None
