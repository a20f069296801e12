"""Variants -> windows -> families -> log-likelihoods -> rows. Streams; nothing is dropped.

A family is one reference window and the alternative windows of every allele that shares it: the reference is scored
once, and what they share is computed once (``core/likelihood.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.genome.assemblies import MITO_ACCESSIONS, MITO_NAMES
from nexvar.genome.bed import Regions
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.windows import Status, Windows, make_windows, tile_left
from nexvar.inference import per_base, scorers
from nexvar.inference.core.batching import Tally, default_batch_tokens, reported
from nexvar.inference.core.embedding_cache import EmbeddingCache
from nexvar.inference.core.likelihood import Member, log_likelihoods
from nexvar.inference.core.readout import reduce_log_likelihood
from nexvar.inference.core.sequences import begin_ids, clean, other_strand, token_ids
from nexvar.inference.options import ScoreSettings
from nexvar.weights.load import Loaded

REDUCE_METHODS = ("mean", "sum", "none", "pll")
MITO_CONTIGS = (*MITO_NAMES, *MITO_ACCESSIONS)

T = TypeVar("T")


# -- sequences ----------------------------------------------------------------------------------------------------


def score_sequences(
    loaded: Loaded,
    seqs: Sequence[str],
    *,
    batch_size: int | None = None,
    prepend_bos: bool | None = None,
    reduce_method: str = "mean",
    average_reverse_complement: bool = False,
) -> list[Any]:
    """See ``NexVar.score_sequences``."""
    arguments.one_of(reduce_method, "reduce_method", REDUCE_METHODS)
    _need_likelihood(loaded, reduce_method)
    seqs = arguments.a_list(seqs, "seqs")
    if batch_size is not None:
        batch_size = arguments.whole(batch_size, "batch_size", 1)
    arguments.flag(average_reverse_complement, "average_reverse_complement")
    if prepend_bos is not None:
        prepend_bos = arguments.flag(prepend_bos, "prepend_bos")
    begin = begin_ids(loaded, prepend_bos) or ((0,) if prepend_bos else ())  # the originals put 0 where there is none
    if prepend_bos and loaded.card.objective != "causal":
        raise NexVarError("a masked model has its own special tokens", where="prepend_bos", fix="leave it out")
    shortest = 1 if begin or loaded.card.objective != "causal" else 2
    texts = [clean(loaded, seq, f"seqs[{i}]") for i, seq in enumerate(seqs)]
    for i, text in enumerate(texts):
        if len(text) < shortest:
            raise NexVarError(f"{len(text)} bases", where=f"seqs[{i}]", fix=f"at least {shortest} are needed")
    if reduce_method in ("none", "pll"):
        longest = max(map(len, texts), default=1)
        values_of_bases = per_base.compute(
            loaded,
            texts,
            [None] * len(texts),
            strand="both" if average_reverse_complement else "forward",
            batch_tokens=batch_size * longest if batch_size else default_batch_tokens(loaded),
            begin=begin,
        )
        if reduce_method == "none":
            return [values.log_probs_L for values in values_of_bases]
        return [float(np.nansum(v.log_probs_SL, dtype=np.float64)) / len(v.strands) for v in values_of_bases]
    strands = [texts] + ([[other_strand(text) for text in texts]] if average_reverse_complement else [])
    encoded = [[*begin, *token_ids(loaded.tokenizer, text, special=False)] for strand in strands for text in strand]
    longest = max((len(ids) for ids in encoded), default=1)
    batch_tokens = batch_size * longest if batch_size else default_batch_tokens(loaded)
    likelihoods = log_likelihoods(loaded, [[Member(ids)] for ids in encoded], batch_tokens=batch_tokens)
    values = [reduce_log_likelihood(v.total, v.predictions, reduce_method) for (v,) in likelihoods]
    n = len(seqs)
    return [sum(values[i::n]) / len(strands) for i in range(n)]


def _need_likelihood(loaded: Loaded, reduce_method: str) -> None:
    causal = loaded.card.objective == "causal"
    if not causal and reduce_method in ("mean", "sum"):
        raise NexVarError(
            f"{loaded.card.name} is a masked model: it has no left-to-right likelihood",
            where="reduce_method",
            fix="'pll', the pseudo-log-likelihood, or 'none', its terms; or a causal model (`nexvar models`)",
        )
    if causal and reduce_method == "pll":
        fix = "'sum': a causal model has a true likelihood"
        raise NexVarError(f"{loaded.card.name} is no masked model", where="reduce_method", fix=fix)
    loaded.need_head("score_sequences")
    per_base.check(loaded)


# -- variants -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AlleleScore:
    """One allele: its windows (or why there are none), and readout -> (forward, reverse or None)."""

    windows: Windows
    values: dict[str, tuple[float, float | None]]

    def mean(self, readout: str) -> float | None:
        """The readout averaged over the strands that were scored."""
        if readout not in self.values:
            return None
        forward, reverse = self.values[readout]
        return forward if reverse is None else (forward + reverse) / 2


def score_alleles(
    loaded: Loaded,
    items: Iterable[tuple[T, Variant]],
    fasta: Fasta,
    settings: ScoreSettings,
    tally: Tally,
    regions: Regions | None = None,
    progress: Callable[[int], None] | None = None,
    cache: EmbeddingCache | None = None,
) -> Iterator[tuple[T, list[AlleleScore]]]:
    """Score every ALT of every variant; what came with a variant comes back with its scores, in order.

    regions: variants that do not start in them get the status OUTSIDE_REGIONS. progress: called after every batch
    with how many alleles more are done. cache: of pooled embeddings, where the user wants one.
    """
    for part in _parts(items, fasta, settings, regions):
        everything = [w for _, windows in part for w in windows]
        with reported(tally, len(everything), progress):
            scores = iter(_score_part(loaded, everything, settings, tally, cache))
        for item, windows in part:
            yield item, list(islice(scores, len(windows)))


def _parts(
    items: Iterable[tuple[T, Variant]], fasta: Fasta, settings: ScoreSettings, regions: Regions | None
) -> Iterator[list[tuple[T, list[Windows]]]]:
    """Pieces of about four batches, cut between positions so that alleles of one window stay together.

    An allele counts as a window, or as a sixteenth of one where one pass serves a stretch.
    """
    windows_of_allele = 1 if settings.together == 1 else 1 / 16
    enough = max(8, 4 * settings.readout.batch_tokens / (settings.window * windows_of_allele))
    part: list[tuple[T, list[Windows]]] = []
    alleles, last = 0, None
    for item, variant in items:
        here = variant.chrom, variant.pos0 // settings.together
        if alleles >= enough and here != last:
            yield part
            part, alleles = [], 0
        windows = windows_of(variant, fasta, settings, regions)
        part.append((item, windows))
        alleles, last = alleles + len(windows), here
    if part:
        yield part


def windows_of(variant: Variant, fasta: Fasta, settings: ScoreSettings, regions: Regions | None) -> list[Windows]:
    """The windows of each ALT; OUTSIDE_REGIONS where the variant does not start in one."""
    resolved = fasta.resolve(variant.chrom) if regions is not None else None
    if regions is not None and resolved is not None and (resolved.contig, variant.pos0) not in regions:
        return [Windows(Status.OUTSIDE_REGIONS, *resolved)] * len(variant.alts)
    left = tile_left(variant.pos0, settings.window) if settings.windowing == "tiled" else settings.left
    return make_windows(fasta, variant, settings.window, left=left, stride=settings.stride)


def _score_part(
    loaded: Loaded, windows: list[Windows], settings: ScoreSettings, tally: Tally, cache: EmbeddingCache | None
) -> list[AlleleScore]:
    """Scores of these windows, in order; both strands go through the model together."""
    scored, turned = _strands(loaded, windows, settings)
    both = settings.strand == "both"
    values = scorers.score_windows(loaded, [*scored, *turned.values()], settings.readout, tally, cache)
    reverse = dict(zip(turned, values[len(scored) :], strict=True))
    pairs = iter(
        {name: (value[name], reverse.get(i, value)[name] if both else None) for name in settings.readout.names}
        for i, value in enumerate(values[: len(scored)])
    )
    return [AlleleScore(w, next(pairs) if w.status.scored else {}) for w in windows]


def _strands(
    loaded: Loaded, windows: list[Windows], settings: ScoreSettings
) -> tuple[list[Windows], dict[int, Windows]]:
    """The windows that get a score, and those of them (by index) that are read on the other strand, too."""
    scored = [w for w in windows if w.status.scored]
    both = settings.strand == "both"
    same = loaded.module.rc_equivariant and settings.readout.pool != "last"  # what is read alike on both strands
    return scored, {i: w.reverse() for i, w in enumerate(scored) if both and (not same or w.opposite is not None)}


def count_alleles(
    loaded: Loaded,
    items: Iterable[tuple[T, Variant]],
    fasta: Fasta,
    settings: ScoreSettings,
    tally: Tally | None,
    regions: Regions | None = None,
) -> Iterator[tuple[T, list[Windows]]]:
    """``score_alleles`` without the model, whose module may have no weights: the windows of every allele.

    tally: what would be computed is added, padding and a cache aside; None: it is not counted.
    """
    for part in _parts(items, fasta, settings, regions):
        if tally is not None:
            scored, turned = _strands(loaded, [w for _, windows in part for w in windows], settings)
            more = scorers.count_windows(loaded, [*scored, *turned.values()], settings.readout)
            tally.computed += more.computed
            tally.naive += more.naive
        yield from part


def make_circular(fasta: Fasta, named: Iterable[str], declared: Iterable[str]) -> None:
    """Circular are: what the user names, what the VCF's header declares, and mitochondria."""
    for name in named:
        fasta.set_circular(name)
    for name in (*declared, *MITO_CONTIGS):
        contig = fasta.resolve(name)
        if contig is not None and not fasta.is_slice(contig.contig):
            fasta.set_circular(name)
