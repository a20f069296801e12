"""Training: ``pretrain(recipe)`` and what it is made of; ``Predictor``: what fine-tuning left. See docs/training.md."""

from nexvar.train.loop import pretrain
from nexvar.train.task import Predictor

__all__ = ["Predictor", "pretrain"]
