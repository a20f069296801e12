"""Attention for every family: causal or not, grouped queries, key masks, additive biases such as ALiBi.

The (L, M) score matrix exists only in ``attention_naive`` and where a caller asks for attention maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_naive(
    q_BLHd: Tensor,
    k_BMKd: Tensor,
    v_BMKd: Tensor,
    *,
    causal: bool = False,
    mask_BM: Tensor | None = None,
    bias_HLM: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition: softmax(q k^T / sqrt(d) + bias) v in float32. Returns output (B, L, H, d) and maps (B, H, L, M)."""
    groups = q_BLHd.shape[2] // k_BMKd.shape[2]
    q, k, v = (x.float().transpose(1, 2) for x in (q_BLHd, k_BMKd, v_BMKd))
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if bias_HLM is not None:
        scores = scores + bias_HLM.float()
    L, M = scores.shape[-2:]
    if causal:
        future = torch.ones(L, M, dtype=torch.bool, device=q.device).triu(M - L + 1)
        scores = scores.masked_fill(future, float("-inf"))
    if mask_BM is not None:
        scores = scores.masked_fill(~mask_BM[:, None, None], float("-inf"))
    maps = scores.softmax(-1)
    return (maps @ v).transpose(1, 2).to(q_BLHd.dtype), maps


def attention(
    q_BLHd: Tensor,
    k_BMKd: Tensor,
    v_BMKd: Tensor,
    *,
    causal: bool = False,
    mask_BM: Tensor | None = None,
    bias_HLM: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v -> (B, L, H, d), through torch's fused kernels.

    q (B, L, H, d); k, v (B, M, K, d) with K dividing H (grouped queries).
    causal: query i sees keys up to M - L + i, so a cached step passes all M keys so far.
    mask_BM: True where a key is a real token. bias_HLM: added to the scores, broadcastable to (H, L, M).
    """
    q, k, v = (x.transpose(1, 2) for x in (q_BLHd, k_BMKd, v_BMKd))
    L, M = q.shape[2], k.shape[2]
    plain_causal = causal and L == M and mask_BM is None and bias_HLM is None
    bias = None if bias_HLM is None else bias_HLM.to(q.dtype)
    if mask_BM is not None:
        bias = _hide(bias, mask_BM[:, None, None], q.dtype)
    if causal and not plain_causal and L > 1:
        visible = torch.ones(L, M, dtype=torch.bool, device=q.device).tril(M - L)
        bias = _hide(bias, visible, q.dtype)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias, is_causal=plain_causal, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def _hide(bias: Tensor | None, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """bias with -inf wherever ``visible`` is False."""
    hidden = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, float("-inf"))
    return hidden if bias is None else bias + hidden
