"""Checkpoints of a run: one safetensors file that holds all a resume needs and is never seen half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.files import check_regular, parse_json, write_atomically

ROOM = "is the disk full? the last state is intact"


def write(tensors: dict[str, Tensor], facts: dict[str, Any], path: Path) -> None:
    """Replace ``path`` atomically: it is always either the old file or the whole new one."""
    with write_atomically(path, durable=True, fix=ROOM) as unfinished:
        try:
            save_file({n: t.detach().contiguous() for n, t in tensors.items()}, unfinished, {"run": json.dumps(facts)})
        except SafetensorError as error:
            raise unwritable(path, error) from error


def read(shapes: dict[str, torch.Size], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors of a file that ``write`` made; it must hold exactly these names and shapes."""
    try:
        with safe_open(check_regular(path), "pt") as file:
            facts: dict[str, Any] = parse_json(file.metadata()["run"], path)
        stored = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise NexVarError(f"cannot be resumed: {error}", where=path, fix="remove it to start anew") from error
    wrong = [n for n, shape in shapes.items() if n not in stored or stored[n].shape != shape]
    wrong += [n for n in stored if n not in shapes]
    if wrong:
        raise NexVarError(
            f"it holds another run: {wrong[0]} differs",
            where=path,
            fix="use another run.out for another model or optimizer",
        )
    return facts, stored


def unwritable(path: Path, error: Exception) -> NexVarError:
    return NexVarError(f"cannot be written: {error}", where=path, fix=ROOM)
