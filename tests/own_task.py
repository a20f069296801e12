"""A user's own task of a benchmark: sequences rich in G and C or poor, a TOML, and a job for a tiny model."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np

from labelled import random_dna
from nexvar.evals.suites import run
from nexvar.evals.suites.cell import Options
from nexvar.evals.suites.task import find
from nexvar.weights.choice import ModelChoice
from places import GOLDEN

MODEL = ModelChoice(GOLDEN / "hyenadna_tiny", device="cpu")
LAYER = ("hyena.backbone.ln_f",)


def rows(count: int = 60, seed: int = 0, gap: float = 0.4, **more: object) -> list[dict[str, object]]:
    """Two thirds of them are the test."""
    rng = np.random.default_rng(seed)
    return [
        {"sequence": random_dna(rng, 40, 0.5 + gap * (i % 2 - 0.5)), "label": i % 2, "split": split, **more}
        for i, split in zip(range(count), cycle(["train", "test", "test"]))
    ]


def task_file(folder: Path, name: str = "mine", **changes: str) -> Path:
    """A user's own task."""
    values = {
        "question": "'whether it is rich in G and C'", "kind": "'classification'", "outputs": "2", "metric": "'auroc'",
        "length": "40", "licence": "'CC0'", "source": "'https://example.org/mine'", "columns": "{ split = 'split' }",
        "doors": "[{ format = 'table', rows = 'mine.tsv' }]", **changes,
    }  # fmt: skip
    path = folder / f"{name}.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in values.items()))
    return path


def job(folder: Path, *tasks: Path, models: tuple[ModelChoice, ...] = (MODEL,), **more: object) -> run.Job:
    options = more.pop("options", Options(LAYER, draws=20))
    return run.Job(
        [t for path in tasks for t in find(str(path))], folder, models, folder / "out", options=options, **more
    )
