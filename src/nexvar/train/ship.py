"""``python -m nexvar.train.ship out/model target.safetensors``: the weights file of a built-in model.

Matrices are rounded to bfloat16 (half the file; training computed with exactly these values in its matmuls);
everything else, and what the architecture keeps in float32, stays float32.
"""

from __future__ import annotations

from nexvar import doors

if __name__ == "__main__":
    doors.catch_signals()

import fnmatch
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.files import read_json
from nexvar.weights import checkpoint


def ship(folder: Path, target: Path) -> int:
    """Write ``target`` from a training output folder; returns its size in bytes."""
    architecture = read_json(folder / "config.json").get("architecture", "")
    keep = models.get(architecture).KEEP_FLOAT32
    weights = checkpoint.read([folder / "model.safetensors"])
    for name, w in weights.items():
        if w.ndim == 2 and not any(fnmatch.fnmatch(name, pattern) for pattern in keep):
            weights[name] = w.to(torch.bfloat16)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, target)
    return target.stat().st_size


def main() -> None:
    """Ship what the command line names."""
    if len(sys.argv) != 3:
        raise NexVarError("a folder and a file", fix="python -m nexvar.train.ship out/model target.safetensors")
    print(ship(Path(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    doors.run(main)
