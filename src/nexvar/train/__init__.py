"""Training: ``pretrain(recipe)`` and what it is made of; ``Predictor``: what fine-tuning left. See docs/training.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexvar.train.loop import pretrain
    from nexvar.train.predict import Predictor

__all__ = ["Predictor", "pretrain"]

_HOMES = {"pretrain": "nexvar.train.loop", "Predictor": "nexvar.train.predict"}


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: ``python -m nexvar.train`` first catches signals."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
