"""What a process keeps of a model that is split, and what its layers exchange for that.

    tensor    every projection in is cut by rows (channels, heads), every one out by columns: one sum each block half
    context   every filter and every attention needs all positions of a channel or head, and nothing of the others:
              an all-to-all before it, from (length / n, channels) to (length, channels / n), and one back behind it
    expert    experts are dealt out; a token's activations travel to its experts and back

Filters keep the parameters of their channels alone, over ``tensor`` and ``context``. Embeddings, norms, routers are
never cut: they are small. What is cut stands in the architecture's file (``models.Split``); this file exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.models import Output, Split
from nexvar.ops.attention import attention
from nexvar.ops.moe import Expert, load_balancing_loss, moe, z_loss
from nexvar.train.grid import Grid, copied, exchange, gathered, recut, summed


@dataclass(frozen=True)
class Cut:
    """Along dimension ``dim``, over the processes of ``axes``. A fused projection is ``parts`` matrices on top of one
    another (x2 | x1 | v), each of which is cut."""

    dim: int
    parts: int
    axes: tuple[str, ...]

    def mine(self, whole: Tensor, grid: Grid) -> Tensor:
        pieces = whole.unflatten(self.dim, (self.parts, grid.size(*self.axes), -1))
        return pieces.select(self.dim + 1, grid.index(*self.axes)).flatten(self.dim, self.dim + 1)

    def joined(self, pieces: Sequence[Tensor]) -> Tensor:
        rows = [piece.unflatten(self.dim, (self.parts, -1)) for piece in pieces]
        return torch.stack(rows, self.dim + 1).flatten(self.dim, self.dim + 2)


def split(model: nn.Module, architecture: str, grid: Grid) -> dict[str, Cut]:
    """Keep this process's part of ``model``, in place, and let its layers exchange the rest; returns what was cut.

    Experts are dealt out by number: the first process's are ``experts.0 …``, and so are the next one's (see
    ``Weights.whole``, which gives them their own numbers back).
    """
    if grid.size("tensor", "context", "expert") == 1:
        return {}
    how = models.get(architecture).SPLIT
    if how is None:
        raise NexVarError(f"{architecture} cannot be split", where="[parallel]", fix="data and run.shard work with all")
    if grid.size("expert") > 1 and not any(hasattr(m, "dispatch") for m in model.modules()):
        raise NexVarError(f"{architecture} has no experts", where="parallel.expert", fix="expert = 1")
    _check_heads(model, grid)
    cuts = {}
    for name, p in list(model.named_parameters()):
        cut = _cut_of(name, how, grid)
        if cut is None:
            continue
        if p.shape[cut.dim] % (cut.parts * grid.size(*cut.axes)):
            raise NexVarError(
                f"{name} {tuple(p.shape)} does not divide into {grid.size(*cut.axes)} parts",
                where=" x ".join(f"parallel.{axis}" for axis in cut.axes),
                fix="fewer processes along it",
            )
        owner, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        setattr(owner, leaf, nn.Parameter(cut.mine(p.detach(), grid).clone(memory_format=torch.contiguous_format)))
        cuts[name] = cut
    for name, module in list(model.named_modules()):
        _exchange(cast(Any, module), name, how, grid)
    return cuts


def _ends(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ends a dotted name."""
    return next((end for end in names if f".{name}".endswith(f".{end}")), None)


def _cut_of(name: str, how: Split, grid: Grid) -> Cut | None:
    """How a parameter is cut on this grid; None: every process has it whole."""
    for dim, parts, axes in (
        (0, how.rows, ("tensor",)),
        (1, dict.fromkeys(how.columns, 1), ("tensor",)),
        (0, how.channels, ("tensor", "context")),
    ):
        end = _ends(name, parts)
        if end is not None:
            several = tuple(axis for axis in axes if grid.size(axis) > 1)
            return Cut(dim, parts[end], several) if several else None
    return None


def _check_heads(model: nn.Module, grid: Grid) -> None:
    if not any(hasattr(module, "attend") for module in model.modules()):
        return
    for name in ("num_attention_heads", "num_key_value_heads"):
        count = getattr(model.config, name, None)
        if count is not None and count % grid.size("tensor", "context"):
            where = " x ".join(f"parallel.{axis}" for axis in ("tensor", "context") if grid.size(axis) > 1)
            raise NexVarError(
                f"{name} {count} does not divide into {grid.size('tensor', 'context')} parts", where=where, fix="fewer"
            )


def _exchange(module: Any, name: str, how: Split, grid: Grid) -> None:
    """Replace what a module does with its own part by the same with everybody's."""
    tensor, context = (grid.mesh(axis) if grid.size(axis) > 1 else None for axis in ("tensor", "context"))
    if grid.size("expert") > 1 and hasattr(module, "dispatch"):
        if len(module.experts) % grid.size("expert"):
            raise NexVarError(
                f"{len(module.experts)} experts do not divide into {grid.size('expert')} parts",
                where="parallel.expert",
                fix="fewer",
            )
        each = len(module.experts) // grid.size("expert")
        module.experts = module.experts[each * grid.index("expert") : each * (grid.index("expert") + 1)]
        module.dispatch = _travelling(grid.group("expert"), grid.size("expert"))
    if tensor is not None:
        if _ends(name, how.copies):
            _copies_input(module, tensor)
        if _ends(name, how.sums):
            _sums_output(module, tensor)
        if hasattr(module, "dispatch"):
            module.dispatch = _summed_experts(module.dispatch, tensor)
    if context is not None:
        if hasattr(module, "attend"):
            module.attend = _whole_heads(context)
        if _ends(name, how.filters):
            module.forward = _whole_channels(module.forward, context)


# -- tensor


def _copies_input(module: nn.Module, mesh: Any) -> None:
    module.register_forward_pre_hook(lambda _, inputs: (copied(inputs[0], mesh), *inputs[1:]))


def _sums_output(module: nn.Module, mesh: Any) -> None:
    """The sum of the parts' outputs; a bias, which all hold, is added once."""
    bias = getattr(module, "bias", None)
    if bias is None:
        module.register_forward_hook(lambda _, inputs, output: summed(output, mesh))
        return

    def forward(x: Tensor) -> Tensor:
        out = summed(nn.functional.linear(x, cast(Tensor, module.weight)), mesh)
        return out + cast(Tensor, module.bias).to(out.dtype)

    module.forward = forward


def _summed_experts(dispatch: Callable[..., Tensor], mesh: Any) -> Callable[..., Tensor]:
    def summing(x_ND: Tensor, weights_Nk: Tensor, experts_Nk: Tensor, experts: Sequence[Expert]) -> Tensor:
        return summed(dispatch(copied(x_ND, mesh), copied(weights_Nk, mesh), experts_Nk, experts), mesh)

    return summing


# -- context


def _whole_channels(filter: Callable[..., Tensor], mesh: Any) -> Callable[..., Tensor]:
    """(B, l, 3 D) of these positions -> (B, l, D), through (B, L, 3 D / n)."""

    def forward(z_BlE: Tensor, state: Any, mask_BL1: Tensor | None) -> Tensor:
        z_BLE = recut(z_BlE.unflatten(-1, (3, -1)), mesh, 1, 3).flatten(2)
        return recut(filter(z_BLE, state, mask_BL1), mesh, 2, 1)

    return forward


def _whole_heads(mesh: Any) -> Callable[..., Tensor]:
    """Attention of (B, l, H, d), through (B, L, H / n, d)."""

    def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        q, k, v = (recut(x, mesh, 1, 2) for x in (q, k, v))
        return recut(attention(q, k, v, **options), mesh, 2, 1)

    return attend


class ContextForward:
    """``model`` for a part of every window's positions: what ``loss_of`` calls. ids (B, l) -> logits (B, l, V)."""

    def __init__(self, model: nn.Module, grid: Grid) -> None:
        self.model, self.grid, self.mesh = model, grid, grid.mesh("context")

    def __call__(self, ids_Bl: Tensor, *, mask_BL: Tensor | None = None) -> Output:
        start = self.grid.index("context") * ids_Bl.shape[1]
        for module in self.model.modules():
            if hasattr(module, "first_position"):
                cast(Any, module).first_position = start
        out = cast(Output, self.model(ids_Bl))
        if "router_logits" not in out.extras:
            return out
        routed = [gathered(x, self.mesh, 1) for x in out.extras["router_logits"]]
        k = cast(Any, self.model).config.num_experts_per_tok
        losses = {"aux_loss": load_balancing_loss(routed, k), "z_loss": z_loss(routed)}
        return out._replace(extras={**out.extras, **losses})


# -- expert


def _travelling(group: Any, processes: int) -> Callable[..., Tensor]:
    def travelling(x_ND: Tensor, weights_Nk: Tensor, experts_Nk: Tensor, experts: Sequence[Expert]) -> Tensor:
        """``ops.moe.moe`` with the experts of ``processes`` processes: rows go out, are computed, come back."""
        each, k = len(experts), experts_Nk.shape[1]
        flat = experts_Nk.flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=each * processes).view(processes, each)
        theirs = torch.empty_like(counts)  # theirs[p, e]: rows that process p has for my expert e
        torch.distributed.all_to_all_single(theirs, counts, group=group)
        send, receive = counts.sum(1).tolist(), theirs.sum(1).tolist()
        rows = order.div(k, rounding_mode="floor")
        came_ND = exchange(x_ND.index_select(0, rows), send, receive, group)
        owner = torch.arange(each, device=flat.device).repeat(processes).repeat_interleave(theirs.flatten())
        one = weights_Nk.new_ones(len(owner), 1)
        done_ND = moe(came_ND, one, owner[:, None], experts)
        back_ND = exchange(done_ND, receive, send, group)
        out_ND = x_ND.new_zeros(x_ND.shape, dtype=torch.promote_types(x_ND.dtype, torch.float32))
        out_ND = out_ND.index_add(0, rows, back_ND * weights_Nk.float().flatten()[order, None])
        return out_ND.to(x_ND.dtype)

    return travelling
