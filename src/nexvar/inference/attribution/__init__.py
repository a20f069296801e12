"""Why does the model say so: what each base of a sequence adds to a number that is read off a model.

    text ── Reading (tokens, embeddings) ─┬─ saliency, integrated: gradients of a Target ── of_bases ─┬─ Attribution
                                          └─ ism: every substitution, no gradient ────────────────────┘
                                             dependency: (bases, bases), what a change of one does to another

target.py says what can be explained. Everything reads one sequence on the strand that is given.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
import torch

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.attribution import target as targets
from nexvar.inference.attribution.dependency import dependency
from nexvar.inference.attribution.gradient import check_gradient
from nexvar.inference.attribution.integrated import BASELINES, integrated
from nexvar.inference.attribution.ism import ism
from nexvar.inference.attribution.reading import read, substitutions
from nexvar.inference.attribution.saliency import saliency
from nexvar.inference.attribution.target import Target
from nexvar.inference.core.batching import Tally, default_batch_tokens
from nexvar.inference.core.sequences import clean
from nexvar.weights.load import Loaded

METHODS = ("saliency", "integrated", "ism")
STRANDS = ("forward", "reverse", "both")

__all__ = ["BASELINES", "METHODS", "STRANDS", "Attribution", "Target", "attribute", "dependency_map", "targets"]


@dataclass(frozen=True)
class Attribution:
    """Of K bases, those of ``text`` from ``start`` on (0-based).

    values_K: float32, what each base adds to the target, in its unit. hypothetical_K4: float32, what A, C, G and T
    would add there (ism: the change of the target itself, 0 for the base that is there); None under BPE with a method
    of gradients. value, baseline_value: the target's, of the sequence and of the baseline; NaN where there is none.
    """

    method: str
    target: str
    text: str
    start: int
    values_K: np.ndarray
    hypothetical_K4: np.ndarray | None
    value: float = float("nan")
    baseline_value: float = float("nan")

    @property
    def bases(self) -> str:
        return self.text[self.start : self.start + len(self.values_K)]

    @property
    def heights_K4(self) -> np.ndarray:
        """(K, 4): ``values_K`` in the column of the base that is there, 0 elsewhere; a logo's letters."""
        is_K4 = np.array(list(self.bases))[:, None] == np.array(list("ACGT"))
        return np.where(is_K4, self.values_K[:, None], 0.0)


@torch.inference_mode(False)
def attribute(
    loaded: Loaded,
    seq: str,
    *,
    method: str = "saliency",
    target: Target | None = None,
    keep: tuple[int, int] | None = None,
    baseline: str = "N",
    steps: int = 50,
    shuffles: int = 10,
    seed: int = 0,
    batch_tokens: int | None = None,
    tally: Tally | None = None,
) -> Attribution:
    """See ``NexVar.attribute``."""
    check_method(method)
    text = clean(loaded, arguments.text(seq, "seq", "give a string of bases"), "seq")
    kept = _kept(text, keep)
    target = targets.likelihood() if target is None else target
    if not isinstance(target, Target):
        fix = "one of nexvar.inference.attribution.targets"
        raise NexVarError(f"target is {arguments.described(target)}", where="target", fix=fix)
    substitutions(text, kept, "region")
    reading = read(loaded, text)
    if method == "ism":
        effects_K4, value = ism(reading, target, kept, _batch_tokens(loaded, batch_tokens), tally)
        return Attribution(method, target.name, text, kept.start, 0.0 - effects_K4.sum(1) / 3, effects_K4, value)
    _batch_tokens(loaded, batch_tokens)
    check_gradient(loaded)
    if method == "saliency":
        (values_L, others_L4), value = saliency(reading, target)
        of_baseline = float("nan")
    else:
        arguments.one_of(baseline, "baseline", BASELINES)
        steps, shuffles, seed = check_steps(steps, shuffles, seed)
        (values_L, others_L4), value, of_baseline = integrated(reading, target, baseline, steps, shuffles, seed)
    here = slice(kept.start, kept.stop)
    others = None if others_L4 is None else others_L4[here]
    return Attribution(method, target.name, text, kept.start, values_L[here], others, value, of_baseline)


def dependency_map(
    loaded: Loaded,
    seq: str,
    *,
    keep: tuple[int, int] | None = None,
    strand: str = "forward",
    batch_tokens: int | None = None,
    tally: Tally | None = None,
) -> np.ndarray:
    """See ``NexVar.dependency_map``."""
    text = clean(loaded, arguments.text(seq, "seq", "give a string of bases"), "seq")
    arguments.one_of(strand, "strand", STRANDS)
    return dependency(loaded, text, _kept(text, keep), strand, _batch_tokens(loaded, batch_tokens), tally or Tally())


def check_method(name: object, methods: tuple[str, ...] = METHODS) -> str:
    """NexVarError that names the nearest method."""
    if isinstance(name, str) and name in methods:
        return name
    near = difflib.get_close_matches(name, methods, n=1, cutoff=0.3) if isinstance(name, str) else []
    fix = f"did you mean {near[0]!r}? " if near else ""
    raise NexVarError(f"no method {arguments.described(name)}", where="method", fix=f"{fix}one of {', '.join(methods)}")


def check_steps(steps: int, shuffles: int, seed: int) -> tuple[int, int, int]:
    """NexVarError for numbers of integrated gradients that cannot be."""
    return (
        arguments.whole(steps, "steps", 1, 10_000),
        arguments.whole(shuffles, "shuffles", 1, 1_000),
        arguments.whole(seed, "seed"),
    )


def _kept(text: str, keep: tuple[int, int] | None) -> range:
    if keep is None:
        return range(len(text))
    ((start, end),) = arguments.pairs([keep], "keep")
    if not 0 <= start < end <= len(text):
        raise NexVarError(f"({start}, {end}) of {len(text)} bases", where="keep", fix="a 0-based half-open range")
    return range(start, end)


def _batch_tokens(loaded: Loaded, wanted: int | None) -> int:
    return default_batch_tokens(loaded) if wanted is None else arguments.whole(wanted, "batch_tokens", 1)
