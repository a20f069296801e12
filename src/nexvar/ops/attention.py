"""Attention for every family: causal or not, grouped queries, key masks, additive biases, ALiBi.

The (L, M) score matrix exists only in ``attention_naive`` and where a caller asks for attention maps: torch's fused
kernels handle the plain cases, and what they would need a full (L, M) bias for runs over blocks of queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.ops import matvec
from nexvar.ops.arithmetic import FEW_ROWS, is_raised
from nexvar.ops.linear import is_recorded
from nexvar.ops.tracing import tracing

# The largest bias or mask held at once, over all heads and rows of the batch: 64 MB of float32 where memory is
# shared with everything else, 16 times that where launches cost more than memory.
BIAS_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 28}


def attention_naive(
    q_BLHd: Tensor,
    k_BMKd: Tensor,
    v_BMKd: Tensor,
    *,
    causal: bool = False,
    mask_BM: Tensor | None = None,
    bias_HLM: Tensor | None = None,
    alibi_H: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition: softmax(q k^T / sqrt(d) + bias) v in float32. Returns output (B, L, H, d) and maps (B, H, L, M).

    A row whose keys are all masked is zero, in the maps and in the output.
    """
    groups = q_BLHd.shape[2] // k_BMKd.shape[2]
    q, k, v = (x.float().transpose(1, 2) for x in (q_BLHd, k_BMKd, v_BMKd))
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    L, M = scores.shape[-2:]
    if bias_HLM is not None:
        scores = scores + bias_HLM.float()
    if alibi_H is not None:
        scores = scores + alibi_bias(alibi_H, M - L, L, M)
    if causal:
        future = torch.ones(L, M, dtype=torch.bool, device=q.device).triu(M - L + 1)
        scores = scores.masked_fill(future, float("-inf"))
    if mask_BM is not None:
        scores = scores.masked_fill(~mask_BM[:, None, None], float("-inf"))
        empty = ~mask_BM.any(-1)[:, None, None, None]
        scores = scores.masked_fill(empty, 0.0)
        maps = scores.softmax(-1).masked_fill(empty, 0.0)
    else:
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
    alibi_H: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v -> (B, L, H, d), through torch's fused kernels.

    q (B, L, H, d); k, v (B, M, K, d) with K dividing H (grouped queries).
    causal: query i sees keys up to M - L + i, so a cached step passes all M keys so far.
    mask_BM: True where a key is a real token. bias_HLM: added to the scores, broadcastable to (H, L, M).
    alibi_H: slopes; adds -slope * |distance| (see ``alibi_bias``), built for one block of queries at a time.
    """
    L, M = q_BLHd.shape[1], k_BMKd.shape[1]
    if L == 1 and bias_HLM is None and alibi_H is None and mask_BM is None and _step_pays(q_BLHd, k_BMKd, v_BMKd):
        return matvec.attention_step(q_BLHd[:, 0].float(), k_BMKd, v_BMKd).to(q_BLHd.dtype)[:, None]
    if L > FEW_ROWS and is_raised(q_BLHd):
        q, k, v = (x.float() for x in (q_BLHd, k_BMKd, v_BMKd))
        bias_HLM = None if bias_HLM is None else bias_HLM.float()
        out = attention(q, k, v, causal=causal, mask_BM=mask_BM, bias_HLM=bias_HLM, alibi_H=alibi_H)
        return out.to(q_BLHd.dtype)
    q, k, v = (x.transpose(1, 2) for x in (q_BLHd, k_BMKd, v_BMKd))
    causal = causal and L > 1
    grouped = q.shape[1] != k.shape[1]
    if bias_HLM is None and alibi_H is None and (not causal or (L == M and mask_BM is None)):
        visible = None if mask_BM is None else mask_BM[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal, enable_gqa=grouped)
        return out.transpose(1, 2)

    heads = 1 if bias_HLM is None and alibi_H is None else q.shape[1]
    rows = 1 if mask_BM is None else q.shape[0]
    step = max(1, BIAS_ELEMENTS.get(q.device.type, 1 << 24) // (heads * rows * M))
    outs: list[Tensor] = []
    # NOTE: small outputs between large masks would leave the heap in shreds, so without gradients they have one place
    place = None if torch.is_grad_enabled() else q.new_empty(*q.shape[:3], v.shape[3])
    for start in range(0, L, step):
        stop = min(start + step, L)
        seen = M - L + stop if causal else M  # keys that any query of this block may see
        block = q[:, :, start:stop]
        own = bias_HLM if bias_HLM is None or bias_HLM.shape[-2] == 1 else bias_HLM[..., start:stop, :]
        bias = _block_bias(block, M - L + start, seen, causal, mask_BM, own, alibi_H)
        out = F.scaled_dot_product_attention(block, k[:, :, :seen], v[:, :, :seen], attn_mask=bias, enable_gqa=grouped)
        if place is None:
            outs.append(out)
        else:
            place[:, :, start:stop] = out
    return (torch.cat(outs, 2) if place is None else place).transpose(1, 2)


def _step_pays(q_BLHd: Tensor, k_BMKd: Tensor, v_BMKd: Tensor) -> bool:
    """One query: torch's kernel takes ten times as long as reading bfloat16 keys and values does."""
    if q_BLHd.device.type != "cpu" or any(x.dtype != torch.bfloat16 for x in (q_BLHd, k_BMKd, v_BMKd)):
        return False
    (H, d), K = q_BLHd.shape[2:], k_BMKd.shape[2]
    stored = d % 16 == 0 and H <= matvec.MOST_ROWS * K and k_BMKd.stride(3) == v_BMKd.stride(3) == 1
    compiling = torch.compiler.is_compiling() or tracing()
    return stored and not compiling and not is_recorded(q_BLHd, k_BMKd, v_BMKd) and matvec.available()


def alibi_bias(slopes_H: Tensor, start: int, length: int, keys: int) -> Tensor:
    """(H, length, keys) float32: -slope * |i - j| for queries ``start .. start + length`` and keys ``0 .. keys``.

    Press et al. 2022, arXiv:2108.12409; the symmetric form of bidirectional encoders.
    """
    queries = torch.arange(start, start + length, dtype=torch.float32, device=slopes_H.device)
    distance = (queries[:, None] - torch.arange(keys, dtype=torch.float32, device=slopes_H.device)).abs()
    return -slopes_H.float()[:, None, None] * distance


def _block_bias(
    q: Tensor,
    first: int,
    seen: int,
    causal: bool,
    mask_BM: Tensor | None,
    bias_HLM: Tensor | None,
    alibi_H: Tensor | None,
) -> Tensor:
    """What is added to the scores of one block of queries and the keys ``0 .. seen``: boolean if only masks.

    first: where the block's first query stands among the keys. bias_HLM: of the block's queries, or of any.
    """
    queries = q.shape[2]
    visible: Tensor | None = None
    if causal:
        rows = torch.arange(first, first + queries, device=q.device)
        visible = torch.arange(seen, device=q.device) <= rows[:, None]
    if mask_BM is not None:
        real = mask_BM[:, None, None, :seen]
        visible = real if visible is None else visible & real
    bias: Tensor | None = None
    if bias_HLM is not None:
        bias = bias_HLM[..., :seen]
    if alibi_H is not None:
        slopes = alibi_bias(alibi_H, first, queries, seen)
        bias = slopes if bias is None else bias + slopes
    if bias is None:
        assert visible is not None  # otherwise the caller took the fused path
        return visible
    bias = bias.to(q.dtype)
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))
