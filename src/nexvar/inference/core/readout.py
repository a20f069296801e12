"""What to read off a model's output: likelihoods, ratios, pooled embeddings, distances. Pure functions of tensors.

B batch, L length, V vocabulary, D width, N items. Log-probabilities are natural logarithms, computed in float32
whatever the logits' dtype (a bfloat16 log-softmax costs about 1e-3 a token, more than a typical variant effect).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.errors import NexVarError


def next_token_log_probs(logits_BLV: Tensor, targets_BL: Tensor) -> Tensor:
    """(B, L) float32: log p(targets[t]) under logits[t]. Shift the targets yourself: token t is predicted at t - 1."""
    logits = logits_BLV.float()
    chosen = logits.gather(-1, targets_BL.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)


def nucleotide_log_probs(logits_BLV: Tensor, targets_BL: Tensor, nucleotides: list[int]) -> Tensor:
    """(B, L) float32: the same with the softmax over the four nucleotides' tokens alone; 0 where the target is none."""
    known = torch.isin(targets_BL, torch.tensor(nucleotides, device=targets_BL.device))
    logits = logits_BLV[..., nucleotides].float()
    chosen = logits_BLV.gather(-1, targets_BL.unsqueeze(-1)).squeeze(-1).float()
    return (chosen - logits.logsumexp(-1)).masked_fill(~known, 0.0)


def reduce_log_likelihood(total: float, predictions: int, method: str) -> float:
    """A summed log-likelihood as it is ("sum") or per predicted token ("mean")."""
    if method == "sum":
        return total
    if method == "mean":
        return total / max(predictions, 1)
    raise NexVarError(f"no reduce_method {method!r}", where="reduce_method", fix="'mean' or 'sum'")


def coarser(pooled_BL: Tensor, stride: int) -> Tensor:
    """(B, ceil(L / stride)): whether a position of ``stride`` tokens (``Model.tap_stride``) has one that is pooled."""
    if stride == 1:
        return pooled_BL
    filled = F.pad(pooled_BL, (0, -pooled_BL.shape[1] % stride))
    return filled.unflatten(1, (-1, stride)).any(-1)


def pool(hidden_BLD: Tensor, pooled_BL: Tensor, method: str) -> Tensor:
    """(B, D) float32 over the tokens where ``pooled_BL`` is True: "mean", "max" or "last".

    Special tokens and padding are False in ``pooled_BL``, so that they never enter.
    """
    hidden, keep = hidden_BLD.float(), pooled_BL.unsqueeze(-1)
    if method == "mean":
        return hidden.masked_fill(~keep, 0.0).sum(1) / keep.sum(1).clamp(min=1)
    if method == "max":
        return hidden.masked_fill(~keep, float("-inf")).amax(1)
    if method == "last":
        position = torch.arange(hidden.shape[1], device=hidden.device)
        last = position.masked_fill(~pooled_BL, -1).amax(1).clamp(min=0)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    raise NexVarError(f"no pooling {method!r}", where="pool", fix="'mean', 'max' or 'last'")


DISTANCES = ("cosine", "l1", "l2", "dot")


def distance(ref_ND: Tensor, alt_ND: Tensor, kind: str) -> Tensor:
    """(N,) float64 between two embeddings: "cosine" is 1 - cos, "l1", "l2"; "dot" is the inner product.

    In float64, since ref and alt embeddings agree to three digits and more.
    """
    ref, alt = ref_ND.double(), alt_ND.double()
    if kind == "cosine":
        return 1.0 - torch.cosine_similarity(ref, alt, dim=-1)
    if kind == "l1":
        return (ref - alt).abs().sum(-1)
    if kind == "l2":
        return (ref - alt).square().sum(-1).sqrt()
    if kind == "dot":
        return (ref * alt).sum(-1)
    raise NexVarError(f"no distance {kind!r}", where="readout", fix=f"one of {', '.join(DISTANCES)}")
