"""What a run is: the values of its recipe, and the contents of what it reads. A folder goes on with the same run alone.

It is kept in ``out/state.safetensors``, beside the step. What may change between two starts is ``FREE``: how long, how
often, and where; none of it changes what a step computes, but for the order of a few additions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError, shortened
from nexvar.train.recipe import Recipe

FREE = (
    "schedule.steps", "run.save_every", "run.log_every", "run.eval_every", "run.eval_windows", "run.track",
    "run.out", "run.device", "run.threads", "run.micro_batch", "run.shard", "run.checkpoint_activations", "parallel",
)  # fmt: skip
_CONTENTS = (
    "model.init", "data.files", "data.loss_weights", "task.file", "model.tokenizer_folder",
    "task.fasta", "task.tracks", "task.train", "task.valid", "task.test", "task.annotation",
)  # fmt: skip


def identity(recipe: Recipe, contents: Mapping[str, Any]) -> dict[str, Any]:
    """Key of the recipe -> value, but for what is free, and of files their contents.

    contents: the hash of what each key of ``_CONTENTS`` stands for; an annotation, which measures alone, has none.
    """
    values: dict[str, Any] = {}
    for name, part in dataclasses.asdict(recipe).items():
        if name == "stages":
            values |= {"stages": [[s["start"], s["length"], s["batch"]] for s in part]}
        elif part is not None and name not in FREE:
            values |= {f"{name}.{key}": value for key, value in part.items()}
    values = {key: value for key, value in values.items() if key not in (*FREE, *_CONTENTS)}
    return values | dict(contents)


def check(then: object, now: Mapping[str, Any], path: Path) -> None:
    """NexVarError that says what changed since the state in ``path`` was written."""
    if not isinstance(then, dict):
        fix = "use another run.out, or remove it to start anew"
        raise NexVarError("it does not say of which recipe it is", where=path, fix=fix)
    changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if changed:
        said = "; ".join(_difference(key, then.get(key), now.get(key)) for key in changed[:3])
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise NexVarError(
            f"this folder holds another run: {said}{more}",
            where=path,
            fix="use another run.out, or remove this folder to start anew",
        )


def _difference(key: str, then: Any, now: Any) -> str:
    if key in _CONTENTS:
        return f"the contents of {key} changed"
    return f"{key} was {shortened(repr(then), 60)} and is {shortened(repr(now), 60)}"
