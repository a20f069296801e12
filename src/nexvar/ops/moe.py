"""Mixture of experts: route every token to its k best experts, and compute only those.

    logits (N, E) --softmax in float32--> k best, renormalised --> tokens grouped by expert --> one matmul per expert
                                                                   --> weighted sum back into token order

Shapes: N tokens, E experts, k experts of a token, D width. As in Mixtral (Jiang et al. 2024, arXiv:2401.04088).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from nexvar.ops.tracing import tracing

Expert = Callable[[Tensor], Tensor]  # (n, D) -> (n, D)


def route(logits_NE: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best experts of every token: weights (N, k) float32 that sum to 1, and their numbers (N, k) int64."""
    weights_Nk, experts_Nk = logits_NE.float().softmax(-1).topk(k, dim=-1)
    return weights_Nk / weights_Nk.sum(-1, keepdim=True), experts_Nk


def moe_naive(x_ND: Tensor, weights_Nk: Tensor, experts_Nk: Tensor, experts: Sequence[Expert]) -> Tensor:
    """The definition: every expert computes every token; the weights of those not chosen are zero."""
    weights_NE = weights_Nk.new_zeros(len(x_ND), len(experts)).scatter(1, experts_Nk, weights_Nk)
    out_NED = torch.stack([expert(x_ND).float() for expert in experts], dim=1)
    return torch.einsum("ne,ned->nd", weights_NE.float(), out_NED).to(x_ND.dtype)


def moe(x_ND: Tensor, weights_Nk: Tensor, experts_Nk: Tensor, experts: Sequence[Expert]) -> Tensor:
    """sum over a token's experts of weight * expert(token) -> (N, D), summed in float32 at least, in x's dtype.

    Tokens are sorted by expert, so that an expert sees its own tokens as one block, forward and backward. One without
    tokens costs nothing; where gradients are recorded it is given no rows, which makes its gradients zero: None would
    make processes of sharded training disagree on what to reduce.
    """
    if tracing():  # how many tokens an expert gets is not known
        return moe_naive(x_ND, weights_Nk, experts_Nk, experts)
    k = experts_Nk.shape[1]
    flat = experts_Nk.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=len(experts)).tolist()
    rows, weights = order.div(k, rounding_mode="floor"), weights_Nk.float().flatten()[order]
    out_ND = x_ND.new_zeros(x_ND.shape, dtype=torch.promote_types(x_ND.dtype, torch.float32))
    for expert, mine, weight in zip(experts, rows.split(counts), weights.split(counts), strict=True):
        if len(mine) or torch.is_grad_enabled():
            # NOTE: an expert holds a token once, so index_add never adds twice to a row: deterministic on CUDA too.
            out_ND.index_add_(0, mine, expert(x_ND.index_select(0, mine)) * weight[:, None])
    return out_ND.to(x_ND.dtype)


def load_balancing_loss(router_logits: Iterable[Tensor], k: int, mask_BL: Tensor | None = None) -> Tensor:
    """E * sum over experts of (share of tokens sent there) * (mean router probability), over all layers together.

    router_logits: per layer (B, L, E). mask_BL: True where a token is real; the others do not count.
    1-dimensional shares as in Switch Transformers (Fedus et al. 2021, arXiv:2101.03961, eq. 4), summed over the k
    choices as in transformers' Mixtral: a perfect balance gives k.
    """
    logits_NE = _real_rows(router_logits, mask_BL)
    probabilities_NE = logits_NE.softmax(-1)
    chosen = probabilities_NE.topk(k, dim=-1).indices.flatten()
    experts = logits_NE.shape[-1]
    share_E = torch.bincount(chosen, minlength=experts).float() / max(len(logits_NE), 1)
    return experts * (share_E * probabilities_NE.mean(0)).sum()


def z_loss(router_logits: Iterable[Tensor], mask_BL: Tensor | None = None) -> Tensor:
    """Mean of logsumexp(router logits)^2: keeps them small (Zoph et al. 2022, arXiv:2202.08906, eq. 5)."""
    return _real_rows(router_logits, mask_BL).logsumexp(-1).square().mean()


def _real_rows(router_logits: Iterable[Tensor], mask_BL: Tensor | None) -> Tensor:
    """(N, E) float32: the real tokens' logits of all layers."""
    return torch.cat([(x if mask_BL is None else x[mask_BL]).float().flatten(0, -2) for x in router_logits])
