"""A linear probe on embeddings of the reference window, the alternative's, and their difference.

    ref          what surrounds a variant; it cannot know the allele (N3: at chance by construction)
    alt - ref    what the allele changes

Every score is of a model that was fitted to other groups (windows that overlap, genes); so are those within a region.
The penalty is chosen inside the training groups. Mean over tokens of the last hidden state, standardised, logistic
regression (evals/probes/fitting.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals.probes.fitting import INNER, Fold, fit
from nexvar.genome.windows import Windows
from nexvar.inference.core.embedding_cache import EmbeddingCache
from nexvar.inference.embed import embed
from nexvar.train.kinds import Classification
from nexvar.train.labels import folds_of
from nexvar.weights.load import Loaded

READS = ("ref", "alt", "alt - ref")
FOLDS = 5
_AT_ONCE = 512  # sequences whose embeddings are kept together


def embeddings(loaded: Loaded, windows: Sequence[Windows], cache: EmbeddingCache) -> tuple[np.ndarray, np.ndarray]:
    """((N, D), (N, D)) float32: of the reference and the alternative windows; zeros where there is none."""
    if (width := max((len(w.ref_seq) for w in windows), default=0)) > loaded.card.context:
        what = f"window of {width:,} bases, but the context of {loaded.card.name} is {loaded.card.context:,}"
        raise NexVarError(what, where="--window", fix=f"at most {loaded.card.context:,}")
    texts = list(dict.fromkeys(text for w in windows for text in (w.ref_seq, w.alt_seq) if text))
    found: dict[str, np.ndarray] = {}
    for first in range(0, len(texts), _AT_ONCE):
        some = texts[first : first + _AT_ONCE]
        made = np.asarray(embed(loaded, some, cache=cache), dtype=np.float32)
        found.update(zip(some, made, strict=True))
    nothing = np.zeros_like(next(iter(found.values())))
    ref, alt = (np.stack([found.get(text, nothing) for text in each])
                for each in ([w.ref_seq for w in windows], [w.alt_seq for w in windows]))  # fmt: skip
    return ref, alt


def features(ref_ND: np.ndarray, alt_ND: np.ndarray, read: str) -> np.ndarray:
    """(N, D): what a probe of this kind reads."""
    return {"ref": ref_ND, "alt": alt_ND, "alt - ref": alt_ND - ref_ND}[read]


def folds(group_N: np.ndarray, seed: int, count: int = FOLDS) -> np.ndarray:
    """(N,) the fold of each variant, groups whole; NexVarError where they do not fill the folds."""
    try:
        return folds_of([str(g) for g in group_N], np.ones(len(group_N), dtype=bool), count, seed, "")
    except NexVarError:
        what = f"{len(np.unique(group_N))} groups of neighbours do not fill {count} folds"
        raise NexVarError(what, where="probe, LoRA", fix="a smaller --window, or variants that lie apart") from None


def out_of_fold(
    x_ND: np.ndarray, positive_N: np.ndarray, group_N: np.ndarray, fold_N: np.ndarray, seed: int
) -> np.ndarray:
    """(N,) a score of every variant, by a model that was fitted to the other folds; all folds on one scale."""
    outer: list[Fold] = [(np.flatnonzero(fold_N != f), np.flatnonzero(fold_N == f)) for f in np.unique(fold_N)]

    def inner(train: np.ndarray) -> list[Fold]:
        fold = folds(group_N[train], seed + 1, INNER)
        return [(train[fold != i], train[fold == i]) for i in range(INNER)]

    fitted = fit({"": x_ND}, Classification(("0", "1")), positive_N.astype(np.int64), outer, inner, "auroc")
    scores = np.empty(len(positive_N))
    scores[fitted.rows] = fitted.out_NK[:, 1] - fitted.out_NK[:, 0]
    return scores
