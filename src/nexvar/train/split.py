"""What a process keeps of each architecture when a model is split, and what its layers exchange for that.

    tensor    every projection in is cut by rows (channels, heads), every one out by columns: one sum each block half
    context   every filter and every attention needs all positions of a channel or head, and nothing of the others:
              an all-to-all before it, from (length / n, channels) to (length, channels / n), and one back behind it
    expert    experts are dealt out; a token's activations travel to its experts and back

Filters keep the parameters of their channels alone, over ``tensor`` and ``context``. Embeddings, norms, routers are
never cut: they are small. The model's files know nothing of this but two places where a function can be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import Output
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


_IN, _FUSED, _OUT = Cut(0, 1, ("tensor",)), Cut(0, 3, ("tensor",)), Cut(1, 1, ("tensor",))
_CHANNELS, _FUSED_CHANNELS = Cut(0, 1, ("tensor", "context")), Cut(0, 3, ("tensor", "context"))
_STRIPED = {
    **dict.fromkeys(("projections.weight", "projections.bias", "Wqkv.weight", "Wqkv.bias"), _FUSED),
    **dict.fromkeys(("mlp.l1.weight", "mlp.l2.weight"), _IN),
    **dict.fromkeys(("out_filter_dense.weight", "out_proj.weight", "mlp.l3.weight"), _OUT),
    **dict.fromkeys(("filter.short_filter_weight", "filter.short_filter_bias"), _FUSED_CHANNELS),
    **dict.fromkeys(tuple(f"filter.{n}" for n in ("h", "D", "log_poles", "poles", "residues")), _CHANNELS),
}
_GENOS = {
    **dict.fromkeys(tuple(f"{n}.weight" for n in ("q_proj", "k_proj", "v_proj", "w1", "w3")), _IN),
    **dict.fromkeys(("o_proj.weight", "w2.weight"), _OUT),
}
TABLES = {"striped_hyena2": _STRIPED, "striped_hyena": _STRIPED, "genos": _GENOS}


def split(model: nn.Module, architecture: str, grid: Grid) -> dict[str, Cut]:
    """Keep this process's part of ``model``, in place, and let its layers exchange the rest; returns what was cut.

    Experts are dealt out by number: the first process's are ``experts.0 …``, and so are the next one's (see
    ``Weights.whole``, which gives them their own numbers back).
    """
    if grid.size("tensor", "context", "expert") == 1:
        return {}
    if architecture not in TABLES:
        raise NexVarError(f"{architecture} cannot be split", where="[parallel]", fix="data and run.shard work with all")
    if grid.size("expert") > 1 and architecture != "genos":
        raise NexVarError(f"{architecture} has no experts", where="parallel.expert", fix="expert = 1")
    _check_heads(cast(Any, model).config, grid)
    cuts = {}
    for name, p in list(model.named_parameters()):
        table = TABLES[architecture]
        found = next((cut for suffix, cut in table.items() if f".{name}".endswith(f".{suffix}")), None)
        axes = tuple(axis for axis in (found.axes if found else ()) if grid.size(axis) > 1)
        if found is None or not axes:
            continue
        cut = Cut(found.dim, found.parts, axes)
        if p.shape[cut.dim] % (cut.parts * grid.size(*axes)):
            raise NexVarError(
                f"{name} {tuple(p.shape)} does not divide into {grid.size(*axes)} parts",
                where=" x ".join(f"parallel.{axis}" for axis in axes),
                fix="fewer processes along it",
            )
        owner, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        setattr(owner, leaf, nn.Parameter(cut.mine(p.detach(), grid).clone(memory_format=torch.contiguous_format)))
        cuts[name] = cut
    (_split_genos if architecture == "genos" else _split_striped)(cast(Any, model), grid)
    return cuts


def _check_heads(config: Any, grid: Grid) -> None:
    if "*" not in getattr(config, "pattern", "*"):
        return
    for name in ("num_attention_heads", "num_key_value_heads"):
        count = getattr(config, name, None)
        if count is not None and count % grid.size("tensor", "context"):
            where = " x ".join(f"parallel.{axis}" for axis in ("tensor", "context") if grid.size(axis) > 1)
            raise NexVarError(
                f"{name} {count} does not divide into {grid.size('tensor', 'context')} parts", where=where, fix="fewer"
            )


def _split_striped(model: Any, grid: Grid) -> None:
    tensor, context = (grid.mesh(axis) if grid.size(axis) > 1 else None for axis in ("tensor", "context"))
    for block in model.blocks:
        mixer = getattr(block, "inner_mha_cls", None)
        if tensor is not None:
            into, out = (block.projections, block.out_filter_dense) if mixer is None else (mixer.Wqkv, mixer.out_proj)
            _copies_input(into, tensor)
            _sums_output(out, tensor)
            _copies_input(block.mlp, tensor)
            _sums_output(block.mlp, tensor)
            if mixer is not None:
                mixer.heads //= grid.size("tensor")
        if context is not None and mixer is not None:
            mixer.attend = _whole_heads(context)
        elif context is not None:
            block.filter.forward = _whole_channels(block.filter.forward, context)


def _split_genos(model: Any, grid: Grid) -> None:
    tensor, context = (grid.mesh(axis) if grid.size(axis) > 1 else None for axis in ("tensor", "context"))
    for layer in model.model.layers:
        sparse = layer.block_sparse_moe
        if grid.size("expert") > 1:
            if len(sparse.experts) % grid.size("expert"):
                raise NexVarError(
                    f"{len(sparse.experts)} experts do not divide into {grid.size('expert')} parts",
                    where="parallel.expert",
                    fix="fewer",
                )
            each = len(sparse.experts) // grid.size("expert")
            sparse.experts = sparse.experts[each * grid.index("expert") : each * (grid.index("expert") + 1)]
            sparse.dispatch = _travelling(grid.group("expert"), grid.size("expert"))
        if tensor is not None:
            _copies_input(layer.self_attn, tensor)
            _sums_output(layer.self_attn.o_proj, tensor)
            sparse.dispatch = _summed_experts(sparse.dispatch, tensor)
        if context is not None:
            layer.self_attn.attend = _whole_heads(context)


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
        self.genos = hasattr(model, "lm_head")

    def __call__(self, ids_Bl: Tensor, *, mask_BL: Tensor | None = None) -> Output:
        start = self.grid.index("context") * ids_Bl.shape[1]
        if not self.genos:
            for module in self.model.modules():
                if hasattr(module, "first_position"):
                    cast(Any, module).first_position = start
            return cast(Output, self.model(ids_Bl))
        out = self.model(ids_Bl, start=start)
        routed = [gathered(x, self.mesh, 1) for x in out.extras["router_logits"]]
        k = cast(Any, self.model).config.num_experts_per_tok
        losses = {"aux_loss": load_balancing_loss(routed, k), "z_loss": z_loss(routed)}
        return cast(Output, out._replace(extras={**out.extras, **losses}))


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
