"""In-silico mutagenesis: the target of the sequence with every other base at every place, minus that of the sequence.

Of the likelihood it is what ``nexvar saturate`` computes from its passes: causal models ``llr_sum``, with shared
beginnings computed once; masked models ``masked_llr``, a pass for each token. No gradient is needed.
"""

from __future__ import annotations

import numpy as np
import torch

from nexvar.genome.windows import Status, Windows
from nexvar.inference import scorers
from nexvar.inference.attribution.gradient import forward
from nexvar.inference.attribution.reading import BASES, Reading, substitutions
from nexvar.inference.attribution.target import Target
from nexvar.inference.core.batching import Tally, in_batches, padded


def ism(
    reading: Reading, target: Target, keep: range, batch_tokens: int, tally: Tally | None = None
) -> tuple[np.ndarray, float]:
    """(kept, 4) float32, 0 for the base that is there and at the target's own site; and the target's value (NaN where
    only changes are known)."""
    text, tally = reading.text, tally or Tally()
    changes = [change for change in substitutions(text, keep, "region") if change[0] != target.site]
    if target.llr:
        reading.loaded.need_head("an attribution of likelihoods")
        readout = "llr_sum" if reading.loaded.module.causal else "masked_llr"
        windows = [_window(text, i, base) for i, base in changes]
        settings = scorers.ReadoutSettings((readout,), batch_tokens)
        found = [v[readout] for v in scorers.score_windows(reading.loaded, windows, settings, tally)]
        value = float("nan")
    else:
        value, *others = values(
            [reading, *(reading.with_base(*change) for change in changes)], target, batch_tokens, tally
        )
        found = [other - value for other in others]
    effects_K4 = np.zeros((len(keep), 4), dtype=np.float32)
    for (i, base), effect in zip(changes, found, strict=True):
        effects_K4[i - keep.start, BASES.index(base)] = effect
    return effects_K4, value


def _window(text: str, i: int, base: str) -> Windows:
    site = (i, i + 1)
    return Windows(
        Status.OK, ref_seq=text, alt_seq=f"{text[:i]}{base}{text[i + 1 :]}", ref_site=site, alt_site=site
    )  # fmt: skip


def values(readings: list[Reading], target: Target, batch_tokens: int, tally: Tally) -> list[float]:
    """The target of each sequence, all in batches, without gradients."""
    loaded = readings[0].loaded
    jobs = [(n, view) for n, reading in enumerate(readings) for view in target.views(reading)]

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[float]:
        rows = []
        for n, view in (jobs[i] for i in batch):
            ids_T = readings[n].ids_T.copy()
            ids_T[list(view.put)] = list(view.put.values())
            rows.append(ids_T)
        ids_BT, _ = padded(loaded, rows)
        outputs = forward(loaded, target, ids_BT)
        tally.computed += ids_BT.numel()
        views = [jobs[i][1] for i in batch]
        return [view.weight * float(view.read(row)) for view, row in zip(views, outputs, strict=True)]

    lengths = [len(readings[n].ids_T) for n, _ in jobs]
    found = in_batches(loaded, lengths, batch_tokens, compute, tally, pads=False)
    totals = np.zeros(len(readings))
    np.add.at(totals, [n for n, _ in jobs], found)
    return totals.tolist()
