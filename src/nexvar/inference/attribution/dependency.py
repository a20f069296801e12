"""Nucleotide dependencies: how much a change of base i changes what the model says of base j.

    map[i, j] = max over the three other bases at i, and over A, C, G, T at j, of
                | log2 of odds(base at j, i changed) / odds(base at j) |,        odds = p / (1 - p)

Tomaz da Silva et al. 2025, Nat Genet, doi:10.1038/s41588-025-02347-3; github.com/gagneurlab/dependencies_DNALM, commit
0a12361: no token is masked, p is the softmax over the four bases, the diagonal is 0. A causal model says nothing of
what lies before i: those entries are 0; of the reverse strand, those behind.

A pass of the sequence, and three for every base. Causal models read from the first change on only, along one trunk
(``core/likelihood.py``); masked models read all of each, in batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nexvar.inference.attribution.reading import Reading, read, substitutions
from nexvar.inference.attribution.target import BaseOdds
from nexvar.inference.core.batching import Tally, in_batches, padded
from nexvar.inference.core.likelihood import Member, log_likelihoods
from nexvar.inference.core.sequences import other_strand
from nexvar.weights.load import Loaded


def dependency(loaded: Loaded, text: str, keep: range, strand: str, batch_tokens: int, tally: Tally) -> np.ndarray:
    """(kept, kept) float32: row i is changed, column j is looked at. strand: "both" is the larger of the two.

    NexVarError: N in the kept bases, tokens that are neither bases nor k-mers.
    """
    if strand == "forward":
        return _one_strand(read(loaded, text), keep, batch_tokens, tally)
    turned = range(len(text) - keep.stop, len(text) - keep.start)
    reverse_KK = _one_strand(read(loaded, other_strand(text)), turned, batch_tokens, tally)[::-1, ::-1].copy()
    if strand == "reverse":
        return reverse_KK
    return np.maximum(reverse_KK, _one_strand(read(loaded, text), keep, batch_tokens, tally))


def _one_strand(reading: Reading, keep: range, batch_tokens: int, tally: Tally) -> np.ndarray:
    changes = substitutions(reading.text, keep, "region")
    odds = _Odds(reading, keep)
    sequences = [reading.ids_T] + [_changed(reading, i, base) for i, base in changes]
    if reading.loaded.module.causal:
        end = int(reading.token_L[keep.stop - 1]) + 1  # nothing behind is looked at
        members = [Member(ids_T[:end]) for ids_T in sequences]
        kept = np.full((len(members), len(keep), 4), np.nan, dtype=np.float32)

        def watch(which: Sequence[tuple[int, int]], first: int, logits_BPV: Tensor) -> None:
            for (_, member), logits_PV in zip(which, logits_BPV, strict=True):
                odds.into(kept[member], first, logits_PV)

        log_likelihoods(reading.loaded, [members], batch_tokens=batch_tokens, tally=tally, watch=watch)
        kept = np.nan_to_num(kept)  # before the change
    else:
        kept = np.stack(_masked(reading.loaded, sequences, odds, batch_tokens, tally))
    change_KK = np.abs(kept[1:] - kept[0]).max(-1).reshape(len(keep), 3, len(keep)).max(1) / np.log(2)
    if reading.loaded.module.causal:
        change_KK[odds.at_K <= odds.at_K[:, None]] = 0  # read before the change, or by it
    np.fill_diagonal(change_KK, 0)
    return change_KK.astype(np.float32)


def _changed(reading: Reading, pos0: int, base: str) -> np.ndarray:
    ids_T = reading.ids_T.copy()
    ids_T[reading.token_L[pos0]] = reading.token_with(pos0, base)
    return ids_T


class _Odds:
    """Where the log-odds of the kept bases are read off: ``at_K`` is the token that each is in, ``offset_K`` its place
    there."""

    def __init__(self, reading: Reading, keep: range) -> None:
        self.odds = BaseOdds.of(reading.loaded)
        self.at_K = reading.token_L[keep.start : keep.stop]
        self.offset_K = np.array([i - reading.spans_T[t][0] for i, t in zip(keep, self.at_K, strict=True)])

    def into(self, kept_K4: np.ndarray, first: int, logits_PV: Tensor) -> None:
        """Fill in the bases whose tokens ``first`` and following are predicted by these logits."""
        K = np.flatnonzero((self.at_K >= first) & (self.at_K < first + len(logits_PV)))
        if len(K):
            logits_KV = logits_PV[torch.as_tensor(self.at_K[K] - first, device=logits_PV.device)]
            kept_K4[K] = self.odds(logits_KV, self.offset_K[K]).cpu().numpy()


def _masked(
    loaded: Loaded, sequences: list[np.ndarray], odds: _Odds, batch_tokens: int, tally: Tally
) -> list[np.ndarray]:
    @torch.inference_mode()
    def compute(batch: list[int]) -> list[np.ndarray]:
        ids_BT, _ = padded(loaded, [sequences[i] for i in batch])
        logits_BTV = loaded.module(ids_BT).logits
        tally.computed += ids_BT.numel()
        kept = [np.empty((len(odds.at_K), 4), dtype=np.float32) for _ in batch]
        for kept_K4, logits_TV in zip(kept, logits_BTV, strict=True):
            odds.into(kept_K4, 0, logits_TV)
        return kept

    return in_batches(loaded, [len(ids_T) for ids_T in sequences], batch_tokens, compute, tally, pads=False)
