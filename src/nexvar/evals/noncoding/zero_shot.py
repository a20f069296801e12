"""A model's own readout as a score: higher = more likely pathogenic.

Likelihood ratios are turned around, log p(reference) - log p(alternative), as in the published benchmark; distances of
embeddings (1 - cosine, …) stay, and an inner product, which is high where embeddings are alike, is turned around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nexvar.evals.noncoding.alleles import Allele
from nexvar.genome.reference import Fasta
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import Options
from nexvar.inference.score import score_alleles
from nexvar.weights.load import Loaded

RISING = ("cosine", "l1", "l2")  # readouts that are higher the more the alleles differ


def zero_shot(
    loaded: Loaded,
    fasta: Fasta,
    alleles: Sequence[Allele],
    width: int,
    readout: str | None = None,
    strand: str | None = None,
) -> tuple[np.ndarray, str]:
    """((N,) scores, NaN where an allele has none; the readout's name). NexVarError for a window that is too wide."""
    options = Options(window=width, windowing="centred", readouts=(readout,) if readout else None, strand=strand)
    settings = options.resolve(loaded)
    name = settings.readout.names[0]
    sign = 1.0 if name in RISING else -1.0
    values = np.full(len(alleles), np.nan)
    items = ((i, allele.variant) for i, allele in enumerate(alleles))
    for i, (score,) in score_alleles(loaded, items, fasta, settings, Tally()):
        mean = score.mean(name)
        if mean is not None:
            values[i] = sign * mean
    return values, name
