"""Scores of variants, of every SNV of a region, of sequences: the numbers of ``nexvar score``, ``saturate``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nexvar.errors import RESEARCH_ONLY, NexVarError
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import saturate as every_snv
from nexvar.inference.options import Options
from nexvar.inference.score import score_sequences as _score_sequences
from nexvar.runs.judged import Judge
from nexvar.runs.rows import ScoredAllele, ScoreSummary, columns_of, doubts, score_records, score_variants
from nexvar.serve import limits
from nexvar.serve.service.provenance import of_scores, provenance
from nexvar.weights.load import Loaded

JOB = "make a job of it: POST /api/v1/jobs"
BASES = "ACGT"


def score(
    loaded: Loaded, fasta: Fasta, variants: Sequence[str | Variant], options: Options, judge: Judge | None = None
) -> dict[str, Any]:
    """A row for every allele, with its status: rows, summary, notes, provenance. judge: adds to what rows say."""
    if len(variants) > limits.SCORE_ALLELES:
        what = f"{len(variants):,} variants"
        raise NexVarError(what, where="variants", fix=f"at most {limits.SCORE_ALLELES} at once, or {JOB}")
    rows = list(score_variants(loaded, variants, fasta, options))
    summary = ScoreSummary(records=len(variants))
    for row in rows:
        summary.add(row)
        if judge is not None:
            judge.judge(row)
    card = loaded.card
    return {
        "rows": [as_values(row) for row in rows],
        "summary": summary.lines(),
        "notes": [*doubts(card.name, card.species, (row.chrom for row in rows)), RESEARCH_ONLY],
        "provenance": of_scores(loaded, options.resolve(loaded)),
    }


def as_values(row: ScoredAllele) -> dict[str, Any]:
    """A row as plain values; what is missing is None."""
    values = dataclasses.asdict(row)
    values["status"] = str(row.status)
    values["extra"] = {name: finite(value) for name, value in row.extra.items()}
    return values | {name: finite(values[name]) for name in ("llr", "llr_fwd", "llr_rev", "n_fraction")}


def by_strand(row: dict[str, Any]) -> tuple[float | None, float | None, float | None]:
    """The score of a row: mean, forward, reverse. Of a model whose score is no log-ratio, its first readout."""
    values = (row["llr"], row["llr_fwd"], row["llr_rev"])
    extra = (*row["extra"].values(), None, None)
    return values if row["llr"] is not None or not row["extra"] else extra[:3]


def saturate(
    loaded: Loaded, fasta: Fasta, region: str, readout: str | None = None, windowing: str = "tiled"
) -> dict[str, Any]:
    """Every SNV of a region by one readout: contig, start, end (0-based half-open), ref, scores and percentiles.

    readout: default the model's own; of tiles ``site``, of masked models ``unmasked_llr``: one pass serves a tile.
    scores: for each base those of A, C, G and T; None for REF itself and where there is none. percentiles: of each
    score among all of these (the mean rank of equal ones), 0 the lowest; ``basis`` says in words what they rest on.
    """
    interval = parse_region(region, fasta)
    if len(interval) > limits.SATURATE_BASES:
        fix = f"at most {limits.SATURATE_BASES:,} bases at once; `nexvar saturate` does whole genomes"
        raise NexVarError(f"{len(interval):,} bases", where="region", fix=fix)
    if readout is None and windowing == "tiled":
        readout = "site" if loaded.card.objective == "causal" else "unmasked_llr"
    options = Options(readouts=None if readout is None else (readout,), windowing=windowing, max_ref_mismatch=1.0)
    resolved = options.resolve(loaded)
    column = columns_of(resolved.readout.names[0], resolved)[0]
    ref = fasta.fetch(interval.chrom, interval.start, interval.end)
    scores_L4 = np.full((len(ref), 4), np.nan)
    for row in score_records(loaded, every_snv(fasta, interval), fasta, options):
        value = row.llr if column == "LLR" else row.extra.get(column)
        if value is not None:
            scores_L4[row.record, BASES.index(row.alt)] = value
    count = int(np.isfinite(scores_L4).sum())
    card = loaded.card
    return {
        "contig": interval.chrom,
        "start": interval.start,
        "end": interval.end,
        "ref": ref,
        "readout": column,
        "scores": nested(scores_L4),
        "percentiles": nested(percentiles(scores_L4)),
        "basis": f"{count:,} SNVs of {interval} by {column}, {windowing}: of no other kind of score",
        "notes": [*doubts(card.name, card.species, [interval.chrom]), RESEARCH_ONLY],
        "provenance": of_scores(loaded, resolved),
    }


def percentiles(scores: np.ndarray) -> np.ndarray:
    """The mean rank of each finite score among all of them, in percent; NaN stays."""
    known = np.isfinite(scores)
    ordered = np.sort(scores[known])
    below, upto = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.where(known, 50 * (below + upto) / max(1, ordered.size), np.nan)


def score_sequences(
    loaded: Loaded, sequences: Sequence[str], reduce: str = "mean", both_strands: bool = False
) -> dict[str, Any]:
    """Log-likelihoods of sequences, as ``NexVar.score_sequences``."""
    values = _score_sequences(loaded, sequences, reduce_method=reduce, average_reverse_complement=both_strands)
    strand = "both" if both_strands else "forward"
    return {
        "scores": [nested(value) if isinstance(value, np.ndarray) else finite(value) for value in values],
        "notes": [RESEARCH_ONLY],
        "provenance": provenance(loaded, f"log-likelihood ({reduce})", strand=strand),
    }


def finite(value: float | None) -> float | None:
    """A number that JSON has, or None."""
    return float(value) if value is not None and math.isfinite(value) else None


def nested(values: np.ndarray) -> list[Any]:
    """Lists of numbers, None for what is not finite; every float32 as the double that it is."""
    wide = values.astype(np.float64)
    if np.isfinite(wide).all():
        return wide.tolist()
    holed = wide.astype(object)
    holed[~np.isfinite(wide)] = None
    return holed.tolist()
