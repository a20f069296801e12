"""Recipes to start from: one TOML file a training run (docs/training.md); ``nexvar recipes`` lists and copies them."""

from __future__ import annotations

import re
from pathlib import Path

from nexvar.errors import NexVarError


def all_recipes() -> dict[str, Path]:
    """Name -> file, in the order of names."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def get(name: str) -> Path:
    """The file of one; NexVarError for an unknown name."""
    known = all_recipes()
    if name not in known:
        raise NexVarError(f"no recipe {name!r}", fix=f"one of {', '.join(known)}")
    return known[name]


def about(path: Path) -> str:
    """The first sentence of a recipe's comment."""
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        comment.append(line[2:])
    return re.split(r"(?<!al)\. ", " ".join(comment))[0].rstrip(".:")
