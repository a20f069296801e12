"""AdamW, and Muon for the weight matrices, over named parameters; schedules as pure functions of the step.

Muon (Jordan 2024, kellerjordan.github.io/posts/muon): momentum, then the nearest semi-orthogonal matrix of the
update by five Newton-Schulz steps. It needs about half the tokens of AdamW here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.train.recipe import OptimizerPart


def orthogonalize(g: Tensor, steps: int = 5) -> Tensor:
    """The semi-orthogonal matrix nearest to g (rows, cols), roughly: its singular values land in 0.7 .. 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    x = x.T if g.shape[0] > g.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if g.shape[0] > g.shape[1] else x).to(g.dtype)


@dataclass
class Optimizer:
    """Updates parameters in place; ``state`` is a flat dict of tensors, so that a checkpoint is one safetensors file.

    part.kind: "adamw" for everything, or "muon": Muon for the matrices inside numbered blocks and their convolutions'
    kernels (out, in x taps), AdamW for the rest.
    Decay applies to weight matrices only (not to A_log, residues, norms, filters). NOTE log_poles must stay
    negative: they are trained as -exp(theta), which as an update of log_poles itself is a factor; plain steps would let
    the slowest poles cross zero and explode.
    """

    part: OptimizerPart
    parameters: Mapping[str, Tensor]
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.part.kind not in ("adamw", "muon"):
            raise NexVarError(f"unknown optimizer {self.part.kind!r}", where="optimizer.kind", fix='"adamw" or "muon"')
        self.state: dict[str, Tensor] = {}
        for name, p in self.parameters.items():
            self.state[f"m.{name}"] = torch.zeros_like(p)
            if not self._is_muon(name, p):
                self.state[f"v.{name}"] = torch.zeros_like(p)

    def _is_muon(self, name: str, p: Tensor) -> bool:
        in_block = re.search(r"\.\d+\.", f".{name}") is not None
        return self.part.kind == "muon" and in_block and p.ndim in (2, 3) and min(p.shape[:2]) >= 32

    @torch.no_grad()
    def step(self, number: int, factor: float) -> None:
        """One update from the ``.grad``s; ``number`` counts from 1, ``factor`` is the schedule's multiplier."""
        self._muon(factor)
        for name, p in self.parameters.items():
            if p.grad is None or self._is_muon(name, p):
                continue
            poles = name.endswith("log_poles")
            g = p.grad * p if poles else p.grad
            m, v = self.state[f"m.{name}"], self.state[f"v.{name}"]
            m.lerp_(g, 1 - self.part.beta1)
            v.lerp_(g * g, 1 - self.part.beta2)
            m_hat, v_hat = m / (1 - self.part.beta1**number), v / (1 - self.part.beta2**number)
            update = m_hat / (v_hat.sqrt() + self.eps)
            lr = self.part.adam_lr * factor
            if poles:
                p.mul_(torch.exp(-lr * update))
            else:
                if p.ndim == 2 and name.endswith("weight"):
                    p.mul_(1 - lr * self.part.weight_decay)
                p.sub_(lr * update)

    def _muon(self, factor: float) -> None:
        """Each process orthogonalizes its share of the matrices; the sum of all shares is the whole update."""
        matrices = [(n, p) for n, p in self.parameters.items() if p.grad is not None and self._is_muon(n, p)]
        if not matrices:
            return
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        updates = [torch.zeros_like(p) for _, p in matrices]
        for i, (name, p) in enumerate(matrices):
            m = self.state[f"m.{name}"]
            m.lerp_(p.grad, 1 - self.part.momentum)  # type: ignore[arg-type]
            if i % world == rank:
                g = torch.lerp(p.grad, m, self.part.momentum).flatten(1)  # type: ignore[arg-type]
                updates[i] = orthogonalize(g).view_as(p) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5
        if world > 1:
            flat = torch.cat([u.flatten() for u in updates])
            dist.all_reduce(flat)
            updates = [f.view_as(u) for f, u in zip(flat.split([u.numel() for u in updates]), updates, strict=True)]
        lr = self.part.muon_lr * factor
        for (_, p), update in zip(matrices, updates, strict=True):
            p.mul_(1 - lr * self.part.weight_decay).sub_(update, alpha=lr)


@dataclass(frozen=True)
class Schedule:
    """The learning-rate multiplier of a step.

    wsd: linear warm-up, constant, then linear to ``floor`` over the last ``decay`` steps.
    cosine: linear warm-up, then half a cosine down to ``floor`` at ``cosine_steps`` (default: ``steps``).
    """

    kind: str
    steps: int
    warmup: int
    decay: int = 0
    floor: float = 0.0
    cosine_steps: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("wsd", "cosine"):
            raise NexVarError(f"unknown schedule {self.kind!r}", where="schedule.kind", fix='"wsd" or "cosine"')
        end = (self.cosine_steps or self.steps) if self.kind == "cosine" else self.steps - self.decay
        if (
            min(self.warmup, self.decay, self.cosine_steps) < 0
            or self.steps < 1
            or not self.warmup <= end <= self.steps
        ):
            raise NexVarError(
                f"impossible: {self.steps} steps with {self.warmup} of warm-up, {self.decay} of decay"
                + (f", cosine to {self.cosine_steps}" if self.cosine_steps else ""),
                where="schedule",
                fix="warmup + decay <= steps, warmup <= cosine_steps <= steps",
            )

    def factor(self, step: int) -> float:
        """Multiplier of 0-based ``step``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "cosine":
            done = (step - self.warmup) / max(1, (self.cosine_steps or self.steps) - self.warmup)
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        left = (self.steps - step) / max(1, self.decay)
        return self.floor + (1 - self.floor) * min(1.0, max(0.0, left))

    def decay_now(self, step: int, count: int) -> Schedule:
        """This schedule with its decay over the ``count`` steps from ``step`` on, and then its end."""
        if self.kind != "wsd":
            raise NexVarError("only a wsd schedule can be ended early", where="schedule.kind")
        return replace(self, steps=step + count, decay=count, warmup=min(self.warmup, step))

    def resumed(self, steps: int, decay: int) -> Schedule:
        """This schedule as a checkpoint left it (``decay_now`` may have changed it)."""
        return replace(self, steps=steps, decay=decay, warmup=min(self.warmup, steps - decay))
