"""Training: ``pretrain(recipe)`` and what it is made of. See docs/training.md."""

from nexvar.train.loop import pretrain

__all__ = ["pretrain"]
