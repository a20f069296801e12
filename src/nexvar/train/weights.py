"""The parameters of a run, as this process holds them: whole (data-parallel), or one shard of each (FSDP2).

The optimizer sees plain local tensors either way; only this file knows about processes.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The residual blocks: the members of the longest ModuleList."""
    return list(max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=()))


def checkpoint_blocks(model: nn.Module) -> None:
    """Recompute the activations of every block in backward."""
    for block in blocks_of(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


class Weights:
    """``local``: name -> the tensor this process updates, with its ``.grad`` after ``collect``.

    sharded: every block is gathered just before it computes and freed after (float32: gathered weights are the very
    weights, so a sharded run follows the whole one; traffic is twice that of bf16).
    """

    def __init__(self, model: nn.Module, world: int, sharded: bool) -> None:
        self.world, self.sharded = world, sharded
        if sharded:
            device = next(model.parameters()).device
            mesh = init_device_mesh(device.type, (world,))
            for block in blocks_of(model):
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.local: dict[str, Tensor] = {
            n: p.to_local().detach() if isinstance(p, DTensor) else p for n, p in self.parameters.items()
        }

    def zero(self) -> None:
        for p in self.parameters.values():
            p.grad = None

    def collect(self) -> None:
        """Sum the gradients over the processes into ``local[name].grad``; a missing one becomes zeros."""
        for p in self.parameters.values():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        if self.sharded:
            for name, g in grads.items():  # NOTE FSDP2 has averaged them over the processes
                self.local[name].grad = g.to_local() * self.world  # type: ignore[attr-defined]
        elif self.world > 1:
            flat = torch.cat([g.flatten() for g in grads.values()])
            dist.all_reduce(flat)
            for g, part in zip(grads.values(), flat.split([g.numel() for g in grads.values()]), strict=True):
                g.copy_(part.view_as(g))

    def scale_and_clip(self, factor: float, max_norm: float) -> float:
        """Multiply the gradients by ``factor``, then bring their joint L2 norm to at most ``max_norm`` (0: leave it).
        Returns the norm before clipping."""
        grads = [t.grad for t in self.local.values() if t.grad is not None]
        for g in grads:
            g.mul_(factor)
        squares = torch.stack([torch.linalg.vector_norm(g) for g in grads]).square().sum()
        if self.sharded:
            dist.all_reduce(squares)
        norm = float(squares.sqrt())
        if max_norm > 0 and norm > max_norm:
            for g in grads:
                g.mul_(max_norm / (norm + 1e-6))
        return norm

    def whole(self, name: str, local: Tensor) -> Tensor:
        """The full tensor of which every process holds a part shaped like parameter ``name``'s; all must call it."""
        p = self.parameters[name]
        if not isinstance(p, DTensor):
            return local.detach()
        part = DTensor.from_local(local.detach(), p.device_mesh, p.placements, shape=p.shape, stride=p.stride())
        return part.full_tensor()

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This process's part of a full tensor, cut like parameter ``name``."""
        p = self.parameters[name]
        if not isinstance(p, DTensor):
            return whole
        return distribute_tensor(whole.to(p.device), p.device_mesh, p.placements, src_data_rank=None).to_local()
