"""Checkpoints of a run: one safetensors file that holds all a resume needs and is never seen half-written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
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


def read_facts(path: Path) -> dict[str, Any]:
    """What ``write`` was told beside the tensors."""
    with _readable(path), safe_open(check_regular(path), "pt") as file:
        facts: dict[str, Any] = parse_json(file.metadata()["run"], path)
    return facts


def read(shapes: dict[str, torch.Size], path: Path) -> dict[str, Tensor]:
    """Tensors of a file that ``write`` made; it must hold exactly these names and shapes."""
    with _readable(path):
        stored = load_file(check_regular(path))
    wrong = [n for n, shape in shapes.items() if n not in stored or stored[n].shape != shape]
    wrong += [n for n in stored if n not in shapes]
    if wrong:
        fix = "use another run.out for another model or optimizer"
        raise NexVarError(f"it holds another run: {wrong[0]} differs", where=path, fix=fix)
    return stored


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise NexVarError(f"cannot be resumed: {error}", where=path, fix="remove it to start anew") from error


def unwritable(path: Path, error: Exception) -> NexVarError:
    return NexVarError(f"cannot be written: {error}", where=path, fix=ROOM)
