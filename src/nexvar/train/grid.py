"""Who is where: the processes as a grid, and what travels between them. All of it is DTensor's placements.

    copies   whole groups of processes, with windows of their own (hybrid sharding: one group a node)
    data     other windows; gradients are summed
    expert   other windows, too; every process keeps a part of the experts and tokens travel to theirs (Genos)
    tensor   the same windows; every process keeps a part of the channels, heads and MLP columns
    context  the same windows; every process keeps a part of their positions

The last axis varies fastest: neighbours in ``tensor`` and ``context``, which talk in every layer, share a node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from nexvar.errors import NexVarError
from nexvar.train.recipe import ParallelPart

AXES = ("copies", "data", "expert", "tensor", "context")
WINDOWS = ("copies", "data", "expert")  # along these, processes see different windows
REPLICAS = (*WINDOWS, "context")  # along these, a weight that is not cut gets different gradients


@dataclass
class Grid:
    """sizes: processes along each of AXES; rank: this one's number."""

    sizes: dict[str, int]
    rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _groups: dict[tuple[str, ...], Any] = field(default_factory=dict)

    @classmethod
    def of(cls, part: ParallelPart, rank: int, world: int, device: torch.device) -> Grid:
        """The recipe's grid on ``world`` processes; ``data = 0`` is all that is left; NexVarError if none is."""
        sizes = {axis: getattr(part, axis) for axis in AXES}
        if min(size for axis, size in sizes.items() if axis != "data") < 1 or part.data < 0:
            raise NexVarError(
                f"{sizes}", where="[parallel]", fix="every number at least 1 (data: 0 for all that is left)"
            )
        others = math.prod(size for axis, size in sizes.items() if axis != "data")
        if world % others or (part.data and part.data * others != world):
            wanted = " x ".join(f"{axis} {size}" for axis, size in sizes.items() if size > 1)
            raise NexVarError(
                f"{world} processes cannot be {wanted}",
                where="[parallel]",
                fix=f"torchrun --nproc-per-node {others * max(part.data, 1)}"
                + ("" if part.data else " or a multiple of it"),
            )
        return cls({**sizes, "data": world // others}, rank, device)

    @property
    def world(self) -> int:
        return math.prod(self.sizes.values())

    def size(self, *axes: str) -> int:
        return math.prod(self.sizes[axis] for axis in axes)

    def index(self, *axes: str) -> int:
        """This process's number among those that differ along ``axes`` alone."""
        place = dict(zip(AXES, np.unravel_index(self.rank, tuple(self.sizes.values())), strict=True))
        number = 0
        for axis in AXES:
            if axis in axes:
                number = number * self.sizes[axis] + int(place[axis])
        return number

    def group(self, *axes: str) -> Any:
        """The processes that differ from this one along ``axes`` alone. NOTE: all processes must ask in one order."""
        axes = tuple(axis for axis in AXES if axis in axes)
        if axes not in self._groups:
            moving = [AXES.index(axis) for axis in axes]
            ranks = np.arange(self.world).reshape(tuple(self.sizes.values()))
            rows = np.moveaxis(ranks, moving, range(-len(moving), 0)).reshape(-1, self.size(*axes))
            self._groups[axes] = dist.new_subgroups_by_enumeration(rows.tolist())[0]
        return self._groups[axes]

    def mesh(self, *axes: str) -> DeviceMesh:
        """The same as a one-dimensional mesh; two-dimensional, (copies, the others), with more than one copy."""
        inner = tuple(axis for axis in axes if axis != "copies")
        if "copies" not in axes or self.size("copies") == 1:
            return DeviceMesh.from_group(self.group(*inner), self.device.type)
        ranks = torch.tensor(dist.get_process_group_ranks(self.group("copies", *inner)))
        return DeviceMesh.from_group(
            [self.group("copies"), self.group(*inner)],
            self.device.type,
            mesh=ranks.view(self.size("copies"), -1),
            mesh_dim_names=("copies", "shards"),
        )

    def sum(self, x: Tensor, *axes: str) -> Tensor:
        """x, summed in place over ``axes``."""
        if self.size(*axes) > 1:
            dist.all_reduce(x, group=self.group(*axes))
        return x

    def gather(self, x: Tensor, *axes: str) -> list[Tensor]:
        """Every process's x, in the order of ``index(*axes)``."""
        if self.size(*axes) == 1:
            return [x]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size(*axes))]
        dist.all_gather(parts, x.contiguous(), group=self.group(*axes))
        return parts


# -- differentiable moves: what a process holds, what it wants


def copied(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """x, which all hold, for uses that differ: its gradient is the sum of theirs."""
    return DTensor.from_local(x, mesh, [Replicate()], run_check=False).to_local(grad_placements=[Partial()])


def summed(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """The sum of all x, which all then use in the same way."""
    return DTensor.from_local(x, mesh, [Partial()], run_check=False).redistribute(placements=[Replicate()]).to_local()


def recut(x: Tensor, mesh: DeviceMesh, have: int, want: int) -> Tensor:
    """x, cut along dimension ``have``, as cut along ``want``: an all-to-all."""
    whole = DTensor.from_local(x.contiguous(), mesh, [Shard(have)], run_check=False)
    return whole.redistribute(placements=[Shard(want)]).to_local().contiguous()


def gathered(x: Tensor, mesh: DeviceMesh, dim: int) -> Tensor:
    """All of x, cut along ``dim``, for uses that differ."""
    whole = DTensor.from_local(x.contiguous(), mesh, [Shard(dim)], run_check=False)
    return whole.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, send: list[int], receive: list[int], group: Any) -> Tensor:
        ctx.send, ctx.receive, ctx.group = send, receive, group
        out = x.new_empty(sum(receive), *x.shape[1:])
        dist.all_to_all_single(out, x.contiguous(), receive, send, group=group)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        out = grad.new_empty(sum(ctx.send), *grad.shape[1:])
        dist.all_to_all_single(out, grad.contiguous(), ctx.send, ctx.receive, group=ctx.group)
        return out, None, None, None


def exchange(x_ND: Tensor, send: list[int], receive: list[int], group: Any) -> Tensor:
    """Rows of x to their processes: the first ``send[0]`` to process 0, …; returns what came, in their order."""
    return _Exchange.apply(x_ND, send, receive, group)
