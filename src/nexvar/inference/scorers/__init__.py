"""Readouts of a variant: what one number says about an allele, given its two windows on one strand.

    likelihood   llr, llr_sum               log-likelihood of the alternative window minus the reference's, mean | sum
                 llr_acgt, llr_acgt_sum     the same, softmax over the four nucleotides
                 site                       log p of the bases from the variant on, alternative minus reference, as many
                                            of both (stretch.py), each given what precedes it
    masked       masked_llr                 the tokens that differ are masked: log p(alternative) - log p(reference)
                 unmasked_llr               the same, nothing masked: one pass of the window serves every site in it
                 pll                        pseudo-log-likelihood of such bases, their tokens masked one at a time
    embedding    cosine, l1, l2, dot        between the pooled hidden states of the two windows

Every family of readouts is one pass over the model, whichever of its readouts are asked for.
Sources: Brixi et al. 2025 (llr); TraitGym (llr_sum, embeddings); Benegas et al. 2023, GPN (masked_llr); AIDO.DNA
(unmasked_llr); Salazar et al. 2020 (pll); Dalla-Torre et al. 2024 (embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.embedding_cache import EmbeddingCache
from nexvar.inference.scorers import embedding, likelihood, masked
from nexvar.inference.scorers.embedding import embeddings
from nexvar.inference.scorers.likelihood import likelihoods
from nexvar.inference.scorers.masked import masked_ratios
from nexvar.inference.scorers.settings import (
    DESCRIPTIONS,
    EMBEDDING,
    LIKELIHOOD,
    MASKED,
    ONE_PASS,
    READOUTS,
    ReadoutSettings,
    Values,
    check_pool,
    check_readouts,
)
from nexvar.weights.load import Loaded

__all__ = [
    "DESCRIPTIONS", "EMBEDDING", "LIKELIHOOD", "MASKED", "ONE_PASS", "READOUTS",
    "ReadoutSettings", "Values", "check_pool", "check_readouts", "count_windows", "score_windows",
]  # fmt: skip


def score_windows(
    loaded: Loaded,
    windows: Sequence[Windows],
    settings: ReadoutSettings,
    tally: Tally,
    cache: EmbeddingCache | None = None,
) -> list[Values]:
    """The readouts of each pair of windows, in order; equal windows are computed once.

    cache: pooled embeddings that it has are not computed.
    """
    values: list[Values] = [{} for _ in windows]
    if not windows:
        return values
    if settings.special is not None:
        loaded = replace(loaded, card=replace(loaded.card, special_tokens=settings.special))
    families = ((LIKELIHOOD, likelihoods), (MASKED, masked_ratios), (EMBEDDING, partial(embeddings, cache=cache)))
    chosen = [(scorer, [name for name in settings.names if name in names]) for names, scorer in families]
    chosen = [(scorer, wanted) for scorer, wanted in chosen if wanted]
    for i, (scorer, wanted) in enumerate(chosen):
        report = tally.progress
        if report is not None:
            tally.progress = lambda share, i=i, report=report: report((i + share) / len(chosen))
        try:
            for value, found in zip(values, scorer(loaded, windows, wanted, settings, tally), strict=True):
                value.update(found)
        finally:
            tally.progress = report
    return values


def count_windows(loaded: Loaded, windows: Sequence[Windows], settings: ReadoutSettings) -> Tally:
    """The tokens that ``score_windows`` would compute, padding and a cache aside. The module may have no weights."""
    tally = Tally()
    if settings.special is not None:
        loaded = replace(loaded, card=replace(loaded.card, special_tokens=settings.special))
    for counter, names in ((likelihood.count, LIKELIHOOD), (masked.count, MASKED), (embedding.count, EMBEDDING)):
        wanted = [name for name in settings.names if name in names]
        if windows and wanted:
            of_family = counter(loaded, windows, wanted, settings)
            tally.computed += of_family.computed
            tally.naive += of_family.naive
    return tally
