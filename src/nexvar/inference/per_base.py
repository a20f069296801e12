"""What a model says of every base of a sequence: its log-probability, and how sure the model was there.

    causal   log p(base | all before it): one pass for all bases of a strand, long ones in pieces with a cache
    masked   log p(base | all others): a pass for each token, masked in turn (pseudo-log-likelihood)

A token of several bases (k-mers, BPE) gives each of them an equal share of its log-probability, so that sums agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.batching import Tally, default_batch_tokens, in_batches, padded
from nexvar.inference.core.pieces import cache_for_pieces, piece_tokens
from nexvar.inference.core.sequences import begin_ids, clean, encoding, other_strand, token_ids
from nexvar.weights.load import Loaded

STRANDS = ("forward", "reverse", "both")

Ranges = Sequence[tuple[int, int]]  # of bases, 0-based half-open


@dataclass(frozen=True)
class PerBase:
    """One value for each strand that was read and each base of a sequence, both strands from its left to its right.

    log_probs_SL: float32, natural logarithms over the model's whole vocabulary; NaN where nothing predicts the base (a
    causal model's first one without a begin token) and where it is not A, C, G or T.
    entropies_SL: float32, in nats, of the softmax over A, C, G and T at the base's place; NaN there too, and everywhere
    under k-mers and BPE, whose tokens are no bases.
    """

    strands: tuple[str, ...]
    log_probs_SL: np.ndarray
    entropies_SL: np.ndarray

    @property
    def log_probs_L(self) -> np.ndarray:
        """The mean over the strands that have a value."""
        return _mean(self.log_probs_SL)

    @property
    def entropies_L(self) -> np.ndarray:
        """The mean over the strands that have a value."""
        return _mean(self.entropies_SL)


def _mean(values_SL: np.ndarray) -> np.ndarray:
    known_SL = ~np.isnan(values_SL)
    count_L = known_SL.sum(0)
    total_L = np.where(known_SL, values_SL, 0).sum(0, dtype=np.float64)
    return np.where(count_L > 0, total_L / np.maximum(count_L, 1), np.nan).astype(np.float32)


def per_base(
    loaded: Loaded,
    seqs: Sequence[str],
    *,
    strand: str = "forward",
    keep: Sequence[Ranges | None] | None = None,
    batch_tokens: int | None = None,
) -> list[PerBase]:
    """Log-probability and entropy of every base. A result depends neither on ``batch_tokens`` nor on other sequences.

    strand: "forward", "reverse" or "both". keep: for each sequence the ranges of bases (0-based half-open, forward)
    that are wanted, None for all; the others are context, NaN.
    Raises NexVarError: no sequence, a letter that is no base, longer than the context, no head, no mask token.
    """
    check(loaded)
    seqs = arguments.a_list(seqs, "seqs")
    arguments.one_of(strand, "strand", STRANDS)
    if batch_tokens is not None:
        batch_tokens = arguments.whole(batch_tokens, "batch_tokens", 1)
    texts = [clean(loaded, seq, f"seqs[{i}]") for i, seq in enumerate(seqs)]
    wanted: list[Ranges | None] = [None] * len(texts)
    if keep is not None:
        wanted = arguments.a_list(keep, "keep", "lists of (start, end)")
        if len(wanted) != len(texts):
            raise NexVarError(f"{len(wanted)} for {len(texts)} sequences", where="keep", fix="one for each, or None")
        wanted = [None if r is None else _ranges(r, len(text)) for r, text in zip(wanted, texts, strict=True)]
    return compute(loaded, texts, wanted, strand=strand, batch_tokens=batch_tokens or default_batch_tokens(loaded))


def _ranges(given: object, length: int) -> Ranges:
    ranges = arguments.pairs(given, "keep")
    for start, end in ranges:
        if not 0 <= start < end <= length:
            raise NexVarError(f"({start}, {end}) of {length} bases", where="keep", fix="0-based half-open ranges")
    return ranges


def check(loaded: Loaded) -> None:
    """NexVarError for a model that has no probabilities of bases."""
    loaded.need_head("per-base likelihoods")
    if loaded.card.objective != "causal" and loaded.tokenizer.mask_id is None:
        raise NexVarError(f"the tokenizer of {loaded.card.name} has no mask token", where="model", fix="another model")


def compute(
    loaded: Loaded,
    texts: Sequence[str],
    keep: Sequence[Ranges | None],
    *,
    strand: str,
    batch_tokens: int,
    begin: tuple[int, ...] | None = None,
    tally: Tally | None = None,
) -> list[PerBase]:
    """``per_base`` of clean texts and checked ranges. begin: the tokens before a text; None: those of the card."""
    causal = loaded.card.objective == "causal"
    strands = ("forward", "reverse") if strand == "both" else (strand,)
    # what is read alike on both strands is read once
    alike = not causal and loaded.module.rc_equivariant and loaded.tokenizer.base_ids() is not None
    jobs: list[_Strand] = []
    for text, ranges in zip(texts, keep, strict=True):
        here = np.zeros(len(text), dtype=bool)
        for start, end in ((0, len(text)),) if ranges is None else ranges:
            here[start:end] = True
        for direction in strands[:1] if alike else strands:
            turned = direction == "reverse"
            jobs.append(_Strand(loaded, other_strand(text) if turned else text, here[::-1] if turned else here))
    if causal:
        _causal(loaded, jobs, begin_ids(loaded) if begin is None else begin, batch_tokens, tally or Tally())
    else:
        _masked(loaded, jobs, batch_tokens, tally or Tally())
    results, per_text = [], 1 if alike else len(strands)
    for i in range(0, len(jobs), per_text):
        values = [
            [row[::-1] if direction == "reverse" else row for row in job.of_bases()]
            for direction, job in zip(strands, jobs[i : i + per_text], strict=False)
        ] * (len(strands) // per_text)
        results.append(PerBase(strands, np.stack([v[0] for v in values]), np.stack([v[1] for v in values])))
    return results


class _Strand:
    """One text as one strand reads it: its tokens, which of them are wanted, and what the model says of them."""

    def __init__(self, loaded: Loaded, text: str, keep_L: np.ndarray) -> None:
        letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
        self.keep_L = keep_L & np.isin(letters, np.frombuffer(b"ACGT", dtype=np.uint8))
        causal = loaded.card.objective == "causal"
        if causal and loaded.tokenizer.base_ids() is not None and set(text) <= set("ACGTN"):  # a token for each base
            self.ids = token_ids(loaded.tokenizer, text, special=False)
            self.owner_L = np.arange(len(text))
        else:
            encoded = loaded.tokenizer.encode(text, special=False) if causal else encoding(loaded, text)
            self.ids, self.owner_L = encoded.ids, encoded.base_to_token(len(text))
        self.keep_L &= self.owner_L >= 0
        self.log_probs_T = np.full(len(self.ids), np.nan, dtype=np.float32)
        self.entropies_T = np.full(len(self.ids), np.nan, dtype=np.float32)

    @property
    def wanted(self) -> np.ndarray:
        """Indices of the tokens over the bases to keep."""
        return np.unique(self.owner_L[self.keep_L])

    def of_bases(self) -> tuple[np.ndarray, np.ndarray]:
        """(L,) each: every base's share of its token's log-probability, and the entropy of its place."""
        shared_T = np.bincount(self.owner_L[self.owner_L >= 0], minlength=len(self.ids)).clip(min=1)
        log_probs_L = (self.log_probs_T / shared_T)[self.owner_L].astype(np.float32)
        entropies_L = self.entropies_T[self.owner_L]
        return np.where(self.keep_L, log_probs_L, np.nan), np.where(self.keep_L, entropies_L, np.nan)


def _of_logits(loaded: Loaded, logits: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log p of each token under the logits (..., V) of its place, and the entropy over the four bases there."""
    logits = logits.float()
    log_probs = logits.gather(-1, token[..., None])[..., 0] - logits.logsumexp(-1)
    bases = loaded.tokenizer.base_ids()
    if bases is None:
        return log_probs, torch.full_like(log_probs, torch.nan)
    of_bases = logits[..., list(bases.values())].log_softmax(-1)
    return log_probs, -(of_bases.exp() * of_bases).sum(-1)


def _causal(loaded: Loaded, jobs: list[_Strand], begin: tuple[int, ...], batch_tokens: int, tally: Tally) -> None:
    rows, work = [], []
    for job in jobs:
        wanted = job.wanted
        row = [*begin, *job.ids[: int(wanted[-1]) + 1]] if wanted.size else []  # nothing behind is needed
        if len(row) > 1:
            rows.append(row)
            work.append(job)

    @torch.inference_mode()
    def run(batch: list[int]) -> list[None]:
        ids_BL, _ = padded(loaded, [rows[i] for i in batch])
        L = ids_BL.shape[1] - 1  # the last one predicts nothing that is asked
        cache, step = cache_for_pieces(loaded.module, len(batch), L), piece_tokens(loaded.module, L)
        pieces = []
        for start in range(0, L, step):
            end = min(start + step, L)
            logits = loaded.module(ids_BL[:, start:end], cache=cache).logits
            values = _of_logits(loaded, logits, ids_BL[:, start + 1 : end + 1].to(logits.device))
            pieces.append(torch.stack(values).cpu())
        tally.computed += ids_BL.numel()
        of_tokens_2BL = torch.cat(pieces, 2).numpy()
        for b, i in enumerate(batch):
            # begin tokens are predicted by nothing that counts: token t of the text is row[len(begin) + t]
            first = max(len(begin), 1)
            last = len(rows[i])
            for kept_T, values_BL in zip((work[i].log_probs_T, work[i].entropies_T), of_tokens_2BL, strict=True):
                kept_T[first - len(begin) : last - len(begin)] = values_BL[b, first - 1 : last - 1]
        return [None] * len(batch)

    in_batches(loaded, [len(row) for row in rows], batch_tokens, run, tally, pads=True)


def _masked(loaded: Loaded, jobs: list[_Strand], batch_tokens: int, tally: Tally) -> None:
    passes = [(job, int(token)) for job in jobs for token in job.wanted]
    mask = loaded.tokenizer.mask_id
    assert mask is not None  # check

    def row(job: _Strand, token: int) -> list[int]:
        ids = list(job.ids)
        ids[token] = mask
        return ids

    @torch.inference_mode()
    def run(batch: list[int]) -> list[None]:
        ids_BL, mask_BL = padded(loaded, [row(*passes[i]) for i in batch])
        logits_BLV = loaded.module(ids_BL, mask_BL=mask_BL).logits
        tally.computed += ids_BL.numel()
        at_B = torch.tensor([passes[i][1] for i in batch], device=logits_BLV.device)
        hidden_B = torch.tensor([job.ids[token] for job, token in (passes[i] for i in batch)], device=at_B.device)
        picked_BV = logits_BLV[torch.arange(len(batch), device=at_B.device), at_B]
        for i, log_prob, entropy in zip(
            batch, *(v.tolist() for v in _of_logits(loaded, picked_BV, hidden_B)), strict=True
        ):
            job, token = passes[i]
            job.log_probs_T[token], job.entropies_T[token] = log_prob, entropy
        return [None] * len(batch)

    in_batches(loaded, [len(job.ids) for job, _ in passes], batch_tokens, run, tally, pads=loaded.module.pads_safely)
