"""Learning from unlabelled sequences: a store of bases, its hold-out, and the loss of its windows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar.train import data
from nexvar.train.grid import REPLICAS, WINDOWS, Grid
from nexvar.train.loss_weights import LossWeights
from nexvar.train.objective import LN2, Batch, Objective, loss_of
from nexvar.train.recipe import Recipe, Stage
from nexvar.weights.hub import sha256


class Corpus:
    """What ``loop.Run`` learns from; ``task.Task`` is the other kind."""

    def __init__(self, recipe: Recipe, objective: Objective, grid: Grid) -> None:
        self.recipe, self.objective, self.grid = recipe, objective, grid
        d = recipe.data
        self.store = data.build_store([Path(f) for f in d.files], Path(recipe.run.out) / "store")
        self.split = data.split(
            self.store.records,
            by=d.holdout_by,
            count=d.holdout,
            seed=d.holdout_seed,
            exclude=d.exclude,
            names=d.holdout_names,
        )
        self.counts = {
            name: len(getattr(self.split, part))
            for name, part in (("train", "train"), ("held_out", "held_out"), ("excluded", "excluded"))
        }
        self.contents = {"data.files": self.store.digest}
        if d.loss_weights:
            self.contents["data.loss_weights"] = sha256(Path(d.loss_weights))
        self.loss_weights = LossWeights.read(Path(d.loss_weights), self.store.lengths) if d.loss_weights else None
        self.sampler = cache(self._sampler)
        text, weight = self.sampler(d.length).windows(0, 1)
        self.unit = objective.batch(text, weight, 0).ids.shape[1] / d.length  # tokens a base

    def _sampler(self, length: int) -> data.Sampler:
        d = self.recipe.data
        return data.Sampler(
            self.store,
            self.split.train,
            length,
            self.recipe.run.seed,
            circular=d.circular,
            reverse_complement=d.reverse_complement,
            weights=d.weights,
            soft_mask_weight=d.soft_mask_weight,
            loss_weights=self.loss_weights,
        )

    def loss(self, forward: Any, first: int, stage: Stage) -> tuple[Tensor, Tensor]:
        """One micro-batch from window ``first`` on: what to differentiate, and (nats, weights, bases) float64."""
        batch = self._batch(*self.sampler(stage.length).windows(first, stage.micro_batch), first)
        loss, nll = loss_of(forward, batch, self.recipe.objective, self.recipe.run.autocast(batch.ids.device))
        return loss, torch.tensor([float(nll), float(batch.weight.sum()), batch.bases], dtype=torch.float64)

    def _batch(self, text: np.ndarray, weight: np.ndarray, first: int) -> Batch:
        """Windows ``first`` .. as this process sees them: all their positions, or its part."""
        parts, device = self.grid.size("context"), self.grid.device
        length = text.shape[1] // parts * parts  # a held-out record may be shorter than a window
        batch = self.objective.batch(text[:, :length], weight[:, :length], first)
        return (batch.part(self.grid.index("context"), parts) if parts > 1 else batch).to(device)

    def evaluate(self, forward: Any, stage: Stage, limit: int | None) -> dict[str, float]:
        return {"held_out_bits": self.bits(forward, self.split.held_out, stage.length, limit)}

    @torch.no_grad()
    def bits(self, forward: Any, records: list[data.CorpusRecord], length: int, limit: int | None = None) -> float:
        """Bits per base of ``records``: forward strand, windows of ``length`` side by side (the first ``limit``).

        The end of a record that fills no window is left out.
        """
        windows: list[np.ndarray] = []
        for record in records:
            letters = data.UPPER[self.store.sequence(record)]
            starts = list(range(0, max(len(letters) - length, 0) + 1, length))
            windows += [letters[start : start + length][None] for start in starts[:limit]]
        sums, others = torch.zeros(2, dtype=torch.float64), self.grid.size(*WINDOWS)
        for i in range(self.grid.index(*WINDOWS), -(-len(windows) // others) * others, others):
            text = windows[i % len(windows)]  # NOTE shards compute together: every process needs as many windows
            weight = data.IS_BASE[text].astype(np.float32) * (i < len(windows))
            batch = self._batch(text, weight, i)
            # NOTE: without gradients models walk a window in pieces and skip idle experts; all must do the same here.
            with torch.set_grad_enabled(self.grid.size("context", "expert") > 1):
                nll = loss_of(forward, batch, self.recipe.objective, self.recipe.run.autocast(batch.ids.device))[1]
            sums += torch.tensor([float(nll), batch.bases], dtype=torch.float64)
        self.grid.sum(sums, *REPLICAS)
        return float(sums[0] / sums[1].clamp(min=1.0)) / LN2
