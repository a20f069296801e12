"""The parameters of a run, as this process holds them: whole, cut (``split.py``), in shards (FSDP2), or both.

The optimizer sees plain local tensors either way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from nexvar.train.grid import AXES, REPLICAS, Grid
from nexvar.train.split import split


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The residual blocks: the members of the lists that every architecture calls blocks or layers."""
    lists = [m for n, m in model.named_modules() if isinstance(m, nn.ModuleList)
             and re.search(r"(^|\.)(\w*blocks|layers?)$", n)]  # fmt: skip
    return [block for blocks in lists for block in blocks]


def checkpoint_blocks(model: nn.Module) -> None:
    """Recompute the activations of every block in backward."""
    for block in blocks_of(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


class Weights:
    """``local``: name -> the tensor this process updates, with its ``.grad`` after ``collect``.

    shapes: whole name -> whole shape, as the model was before it was split.
    sharded: every block is gathered just before it computes and freed after (float32: gathered weights are the very
    weights, so a sharded run follows the whole one; traffic is twice that of bf16).
    """

    def __init__(self, model: nn.Module, architecture: str, grid: Grid, sharded: bool) -> None:
        self.grid, self.sharded = grid, sharded and grid.size(*REPLICAS) > 1
        self.shapes = {n: p.shape for n, p in model.named_parameters() if p.requires_grad}
        self.cuts = split(model, architecture, grid)
        if self.sharded:
            self._shard(model)
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
        self.local: dict[str, Tensor] = {
            n: p.to_local().detach() if isinstance(p, DTensor) else p for n, p in self.parameters.items()
        }

    def _shard(self, model: nn.Module) -> None:
        """FSDP2 groups: every block, but on their own the filters and experts that fewer processes have."""
        for name, module in model.named_modules():
            filters = self.grid.size("context") > 1 and name.endswith(".filter")
            experts = self.grid.size("expert") > 1 and re.search(r"\.experts\.\d+$", name)
            if filters or experts:
                parameter = f"{name}.{next(n for n, _ in module.named_parameters())}"
                fully_shard(module, mesh=self.grid.mesh(*self._replicas(parameter)))
        mesh = self.grid.mesh(*REPLICAS)
        for block in blocks_of(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def _replicas(self, name: str) -> tuple[str, ...]:
        """The axes along which every process has this parameter."""
        other = self.cuts[name].axes if name in self.cuts else ()
        return tuple(a for a in REPLICAS if a not in other and not (a == "expert" and self._dealt(name)))

    def _dealt(self, name: str) -> bool:
        return self.grid.size("expert") > 1 and ".experts." in name

    def zero(self) -> None:
        for p in self.parameters.values():
            p.grad = None

    def collect(self) -> None:
        """Sum the gradients over the processes into ``local[name].grad``; a missing one becomes zeros."""
        sums: dict[tuple[str, ...], list[Tensor]] = {}
        for name, p in self.parameters.items():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            if isinstance(p, DTensor):  # NOTE FSDP2 has averaged them over its processes
                self.local[name].grad = p.grad.to_local() * p.device_mesh.size()  # type: ignore[attr-defined]
            else:
                sums.setdefault(self._replicas(name), []).append(p.grad)
        for axes, grads in sums.items():
            if self.grid.size(*axes) > 1:
                flat = self.grid.sum(torch.cat([g.flatten() for g in grads]), *axes)
                for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
                    g.copy_(part.view_as(g))

    def scale_and_clip(self, factor: float, max_norm: float) -> float:
        """Multiply the gradients by ``factor``, then bring their joint L2 norm to at most ``max_norm`` (0: leave it).
        Returns the norm before clipping."""
        for t in self.local.values():
            if t.grad is not None:
                t.grad.mul_(factor)
        grads = {n: t.grad for n, t in self.local.items() if t.grad is not None}
        squares = torch.stack([torch.linalg.vector_norm(g).square() * self._share(n) for n, g in grads.items()]).sum()
        if self.sharded or self.grid.size("tensor", "context", "expert") > 1:
            self.grid.sum(squares, *AXES)
        norm = float(squares.sqrt())
        if max_norm > 0 and norm > max_norm:
            for g in grads.values():
                g.mul_(max_norm / (norm + 1e-6))
        return norm

    def _share(self, name: str) -> float:
        """How much of a parameter's sum over its elements this process answers for: 1 over the copies of each."""
        if not self.sharded and self.grid.size("tensor", "context", "expert") == 1:
            return 1.0
        p = self.parameters[name]
        shards = p.device_mesh.size(-1) if isinstance(p, DTensor) else 1  # the last of (copies, shards)
        parts = self.grid.size(*self.cuts[name].axes) if name in self.cuts else 1
        return shards * parts * (self.grid.size("expert") if self._dealt(name) else 1) / self.grid.world

    def whole(self, name: str, local: Tensor) -> dict[str, Tensor]:
        """Whole name -> the full tensor of which every process holds a part shaped like parameter ``name``'s (several
        experts, where these are dealt out). All processes must call it."""
        p, t = self.parameters[name], local.detach()
        if isinstance(p, DTensor):
            part = DTensor.from_local(t, p.device_mesh, p.placements, shape=p.shape, stride=p.stride())
            t = part.full_tensor()
        if name in self.cuts:
            t = self.cuts[name].joined(self.grid.gather(t, *self.cuts[name].axes))
        if not self._dealt(name):
            return {name: t}
        return dict(zip(self.names(name), self.grid.gather(t, "expert"), strict=True))

    def frozen(self) -> dict[str, Tensor]:
        """The whole weights that are not trained. All processes must call it."""
        return {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in self._frozen.items()}

    def names(self, name: str) -> list[str]:
        """The whole names of what the processes hold as ``name``: more than one where experts are dealt out."""
        if not self._dealt(name):
            return [name]
        head, number, tail = re.split(r"(?<=\.experts\.)(\d+)", name)
        prefix = f"{head}%d{tail}"
        each = sum(other.startswith(head) and other.endswith(tail) for other in self.parameters)
        return [prefix % (each * process + int(number)) for process in range(self.grid.size("expert"))]

    def part(self, name: str, wholes: Mapping[str, Tensor]) -> Tensor:
        """This process's part of full tensors, cut like parameter ``name``."""
        p = self.parameters[name]
        names = self.names(name)
        t = wholes[names[self.grid.index("expert") if len(names) > 1 else 0]].to(p.device)
        if name in self.cuts:
            t = self.cuts[name].mine(t, self.grid)
        if not isinstance(p, DTensor):
            return t
        return distribute_tensor(t.contiguous(), p.device_mesh, p.placements, src_data_rank=None).to_local()
