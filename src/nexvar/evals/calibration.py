"""``nexvar calibrate``: from scores and labels to probabilities and strengths of evidence, with what they are for.

    scored VCF or Parquet + labels -> AUROC with its interval
        -> logistic (Platt's scaling), moved to the stated prior
        -> local likelihood ratios with one-sided bootstrap bounds -> scores of each strength
        -> Calibration (inference/calibration.py), a JSON file

Sources: Platt 1999, with the targets of Lin, Lin & Weng 2007; Pejaver et al. 2022, AJHG 109:2163 (local ratios, bounds,
prior 0.0441); Tavtigian et al. 2018, Genet Med 20:1054 (odds of a strength). What differs from Pejaver et al. is in
docs/calibration.md.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from nexvar import __version__, arguments
from nexvar.errors import NexVarError
from nexvar.evals import metrics
from nexvar.evals.tables import column, joined, labels_of, numbers, read_table, some
from nexvar.genome.assemblies import guess_assembly
from nexvar.genome.bed import Regions, read_bed
from nexvar.genome.known import label_meaning
from nexvar.genome.reference import Fasta
from nexvar.genome.vcf import read_vcf
from nexvar.inference.calibration import STRENGTHS, Calibration, Evidence, Logistic, Scope, scope_of, words_of

PRIOR = 0.0441
FEWEST = 20  # of each class, for a logistic
FEWEST_FOR_EVIDENCE = 50  # of each class
WINDOW = 100  # labelled variants in a window
CONFIDENCE = 0.95
POINTS = 400  # of the curve, at most


def calibrate(
    scores: str | Path,
    fasta: str | Path,
    labels: str | Path | None = None,
    *,
    score: str = "LLR",
    label: str = "LABEL",
    positive: str | None = None,
    regions: str | Path | None = None,
    region_class: str = "",
    higher: bool = False,
    prior: float = PRIOR,
    draws: int = metrics.DRAWS,
    seed: int = 0,
) -> tuple[Calibration, list[str]]:
    """The calibration of a file's scores, and lines for people.

    scores: a VCF or Parquet of ``nexvar score``, whose header says how they were made. fasta: the genome. labels,
    score, label, positive, higher: as for ``nexvar eval variants``. regions: BED; labelled variants outside do not
    count, and the calibration holds inside alone; region_class: its name. prior: the share of class 1 to suppose.
    """
    prior = arguments.number(prior, "--prior", "a share between 0 and 1", 1e-6, 1 - 1e-6)
    draws = arguments.whole(draws, "--draws", 100, metrics.MAX_DRAWS)
    genome = Fasta(fasta)
    inside = None if regions is None else read_bed(regions, genome)
    how, meaning = _provenance(scores, score), _meaning(scores if labels is None else labels, label)
    scored, labelled = read_table(scores), read_table(scores if labels is None else labels)
    where = scores if labels is None else labels
    values = labels_of(labelled, label, positive, where)
    given = joined(scored, score, scores, labelled, where, same_file=labels is None)
    contigs = [_contig(name, genome) for name in column(labelled, "chrom", where)]
    positions = numbers(column(labelled, "pos", where), "POS", where)
    usable = np.isfinite(values) & np.isfinite(given) & np.array([bool(name) for name in contigs])
    if not np.isin(values[usable], (0, 1)).all():
        raise NexVarError(f"{label} is not 0 or 1", where=where, fix="name the label of class 1 with --positive")
    if inside is not None:
        usable &= np.array([(name, int(pos) - 1) in inside for name, pos in zip(contigs, positions, strict=True)])
    refs = column(labelled, "ref", where)
    _check_genome([(contigs[i], int(positions[i]), refs[i]) for i in np.flatnonzero(usable)], genome)
    class_N, score_N = values[usable].astype(bool), given[usable]
    counts = int(class_N.sum()), int((~class_N).sum())
    if min(counts) < FEWEST:
        raise NexVarError(f"{counts[0]} variants of class 1 and {counts[1]} of class 0 with a score", where=where,
                          fix=f"a calibration needs {FEWEST} of each")  # fmt: skip
    badness_N = score_N if higher else -score_N
    auroc = metrics.bootstrap(class_N, badness_N, ("auroc",), draws=draws, seed=seed)["auroc"]
    evidence, why = local_evidence(class_N, badness_N, prior, draws=draws, seed=seed)
    made = Calibration(
        scope=Scope(
            **scope_of(how, score),
            column=score,
            assembly=guess_assembly(genome.contigs) or "",
            contigs=_lengths({name for name, use in zip(contigs, usable, strict=True) if use}, genome),
            regions={} if inside is None else _spans(inside, genome),
            region_class=region_class,
        ),
        classes=(positive, f"not {positive}") if positive is not None else meaning,
        counts=counts,
        auroc=(auroc.value, auroc.low, auroc.high),
        prior=prior,
        logistic=fit_logistic(class_N, score_N, prior),
        evidence=evidence if evidence is None or higher else _turned(evidence),
        why_no_evidence=why,
        scores=Path(scores).name,
        labels=Path(where).name,
        nexvar=__version__,
    )
    return made, lines(made)


def lines(made: Calibration) -> list[str]:
    """What a person should know of a calibration."""
    scope, (one, zero), (value, low, high) = made.scope, made.counts, made.auroc
    names = made.classes
    of = f" in {scope.region_class or 'the regions given'}" if scope.regions else ""
    told = [
        f"{one:,} {names[0]}, {zero:,} {names[1]}{of}; AUROC {value:.3f} [{low:.3f}-{high:.3f}]",
        f"for {scope.model} ({scope.revision}), {scope.column} = {scope.readout}, window {scope.window}, strand "
        f"{scope.strand}; {scope.assembly or 'genome'}: {some(scope.contigs)}",
        f"probabilities suppose that {made.prior:.2%} of variants are {names[0]}; "
        f"of the labelled ones it is {one / (one + zero):.1%}",
    ]
    if made.evidence is None:
        return [*told, f"no evidence strengths: {made.why_no_evidence}"]
    words = ("at least", "at most") if made.evidence.direction == "up" else ("at most", "at least")
    for name, side, word in zip(names, (made.evidence.one, made.evidence.zero), words, strict=True):
        reached = [f"{s.replace('_', ' ')} {word} {t:.4g}" for s, t in side.items() if t is not None]
        told.append(f"evidence toward {name}: {', '.join(reached) or 'no strength is reached'}")
    return told


# -- the logistic


def fit_logistic(class_N: np.ndarray, score_N: np.ndarray, prior: float) -> Logistic:
    """Platt's scaling by Newton's method, its intercept moved from the labelled share to ``prior``.

    The targets are (N1 + 1) / (N1 + 2) and 1 / (N0 + 2), not 1 and 0: classes that do not overlap give a finite slope.
    """
    mean, spread = float(score_N.mean()), float(score_N.std())
    if spread == 0:
        raise NexVarError("all scores are the same", where="scores", fix="there is nothing to calibrate")
    ones, zeros = int(class_N.sum()), int((~class_N).sum())
    target_N = np.where(class_N, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    design_N2 = np.stack((np.ones(len(score_N)), (score_N - mean) / spread), axis=1)

    def loss(weights_2: np.ndarray) -> float:
        logit_N = design_N2 @ weights_2
        return float(np.logaddexp(0, logit_N).sum() - target_N @ logit_N)

    weights_2 = np.array([np.log((ones + 1) / (zeros + 1)), 0.0])
    for _ in range(100):
        expected_N = 1 / (1 + np.exp(-np.clip(design_N2 @ weights_2, -500, 500)))
        slope_2 = design_N2.T @ (expected_N - target_N)
        bend_22 = (design_N2 * (expected_N * (1 - expected_N))[:, None]).T @ design_N2 + 1e-9 * np.eye(2)
        step_2, length = np.linalg.solve(bend_22, slope_2), 1.0
        while loss(weights_2 - length * step_2) > loss(weights_2) and length > 1e-6:
            length /= 2
        weights_2 = weights_2 - length * step_2
        if np.abs(length * step_2).max() < 1e-10:
            break
    slope = float(weights_2[1] / spread)
    moved = np.log(prior / (1 - prior)) - np.log(ones / zeros)
    intercept = float(weights_2[0] - slope * mean + moved)
    return Logistic(intercept, slope, float(score_N.min()), float(score_N.max()))


# -- evidence


def odds_of_very_strong(prior: float) -> float:
    """c: the likelihood ratio of 8 points, such that 6 points (one strong, one moderate) reach a posterior of 0.90.

    350 at a prior of 0.10, as in Tavtigian et al. 2018; 1,131 at 0.0441, for which Pejaver et al. 2022 have 1,124.
    """
    return float((9 * (1 - prior) / prior) ** (8 / 6))


def local_evidence(
    class_N: np.ndarray, badness_N: np.ndarray, prior: float, *, draws: int = metrics.DRAWS, seed: int = 0
) -> tuple[Evidence | None, str]:
    """The scores (``badness_N``: higher for class 1) at which each strength begins; or None, and why.

    A strength holds from a score on if the bound reaches its odds there and at every score beyond.
    """
    ones, zeros = int(class_N.sum()), int((~class_N).sum())
    if min(ones, zeros) < FEWEST_FOR_EVIDENCE or ones + zeros < 2 * WINDOW:
        return None, (f"{ones} of class 1 and {zeros} of class 0, where {FEWEST_FOR_EVIDENCE} of each and {2 * WINDOW} "
                      "in all are needed")  # fmt: skip
    at_U, ratio_U, lower_U, upper_U = local_ratios(class_N, badness_N, draws=draws, seed=seed)
    odds = odds_of_very_strong(prior)
    one: dict[str, float | None] = {}
    zero: dict[str, float | None] = {}
    for strength, points in STRENGTHS.items():
        needed = odds ** (points / 8)
        holds_U = np.flip(np.logical_and.accumulate(np.flip(lower_U >= needed)))
        one[strength] = float(at_U[np.argmax(holds_U)]) if holds_U.any() else None
        holds_U = np.logical_and.accumulate(upper_U <= 1 / needed)
        zero[strength] = float(at_U[np.flatnonzero(holds_U)[-1]]) if holds_U.any() else None
    curve = [list(map(float, row)) for row in zip(at_U, ratio_U, lower_U, upper_U, strict=True)]
    return Evidence("up", odds, CONFIDENCE, WINDOW, draws, one, zero, curve), ""


def local_ratios(
    class_N: np.ndarray, badness_N: np.ndarray, *, draws: int = metrics.DRAWS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(scores, likelihood ratio at each, its one-sided lower bound, its one-sided upper bound): (U,) each.

    The ratio at a score is the share of class 1 over the share of class 0 in the smallest window around it that holds
    ``WINDOW`` labelled variants. Bounds are percentiles of draws of each class to its own size, with one more variant
    against what is bounded (of class 0 for the lower, of class 1 for the upper): a window without any has no ratio
    that the draws could doubt.
    """
    order = np.argsort(badness_N, kind="stable")
    sorted_N, ones_N = badness_N[order], class_N[order]
    at_U = np.unique(sorted_N)
    if len(at_U) > POINTS:
        at_U = np.unique(np.quantile(sorted_N, np.linspace(0, 1, POINTS), method="nearest"))
    low_U, high_U = _windows(sorted_N, at_U)
    rng = np.random.default_rng(seed)
    total_1, total_0 = int(ones_N.sum()), int((~ones_N).sum())

    def counts(weights_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = (np.concatenate(([0.0], np.cumsum(weights_N * of))) for of in (ones_N, ~ones_N))
        one_U, zero_U = (sum_N[high_U] - sum_N[low_U] for sum_N in sums)
        return one_U, zero_U

    lower_DU, upper_DU = np.empty((draws, len(at_U))), np.empty((draws, len(at_U)))
    for i in range(draws):
        one_U, zero_U = counts(metrics.draw_weights(ones_N, rng))
        lower_DU[i] = (one_U / total_1) / ((zero_U + 1) / (total_0 + 1))
        upper_DU[i] = ((one_U + 1) / (total_1 + 1)) / np.maximum(zero_U / total_0, 1e-9)
    one_U, zero_U = counts(np.ones(len(ones_N)))
    ratio_U = (one_U / total_1) / (np.maximum(zero_U, 0.5) / total_0)
    lower_U = np.quantile(lower_DU, 1 - CONFIDENCE, axis=0)
    return at_U, ratio_U, lower_U, np.quantile(upper_DU, CONFIDENCE, axis=0)


def _windows(sorted_N: np.ndarray, at_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[low, high) of the sorted scores within the smallest distance of each point that holds ``WINDOW`` of them."""
    first_U = np.searchsorted(sorted_N, at_U)
    starts_UW = np.clip(first_U[:, None] + np.arange(-WINDOW, WINDOW + 1), 0, len(sorted_N) - WINDOW)
    reach_UW = np.maximum(at_U[:, None] - sorted_N[starts_UW], sorted_N[starts_UW + WINDOW - 1] - at_U[:, None])
    reach_U = reach_UW.min(axis=1) * (1 + 1e-12)
    return np.searchsorted(sorted_N, at_U - reach_U, "left"), np.searchsorted(sorted_N, at_U + reach_U, "right")


def _turned(evidence: Evidence) -> Evidence:
    """The same of scores that are lower for class 1."""
    one, zero = ({s: None if t is None else -t for s, t in side.items()} for side in (evidence.one, evidence.zero))
    curve = [[-row[0], *row[1:]] for row in reversed(evidence.curve)]
    return replace(evidence, direction="down", one=one, zero=zero, curve=curve)


# -- what the scores are


def _provenance(scores: str | Path, score: str) -> dict[str, str]:
    """How the scores were made, from the header of their file."""
    name = str(arguments.path(scores, "scores"))
    description = ""
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            description = (pq.read_schema(name).metadata or {}).get(b"nexvar", b"").decode(errors="replace")
        except (OSError, pa.ArrowException) as error:
            raise NexVarError(f"not readable as Parquet ({error})", where=name, fix="check the file") from None
    elif not re.search(r"\.tsv(\.gz)?$", name):
        pattern = re.compile(rf'##INFO=<ID=(?:NEXVAR_)?{re.escape(score)},.*Description="(.*)">$')
        found = (match[1] for line in read_vcf(name, require_sorted=False).header if (match := pattern.match(line)))
        description = next(found, "")
    how = words_of(description)
    if not how:
        fix = "give the VCF or Parquet that `nexvar score` wrote: a calibration is for such scores only"
        raise NexVarError(f"it does not say how its {score} was made", where=name, fix=fix)
    return how


def _meaning(labels: str | Path, label: str) -> tuple[str, str]:
    """The names of class 1 and 0: what the label's header line says they are, else 1 and 0."""
    if re.search(r"\.(tsv|tsv\.gz|parquet)$", str(labels)):
        return "1", "0"
    meaning = label_meaning(read_vcf(labels, require_sorted=False).header, label)
    return meaning.get("1", "1"), meaning.get("0", "0")


def _contig(name: object, fasta: Fasta) -> str:
    match = fasta.resolve(str(name))
    return match.contig if match else ""


def _check_genome(scored: list[tuple[str, int, object]], fasta: Fasta) -> None:
    """NexVarError where one of (contig, POS, REF), all of which have a score, is not in this genome."""
    for contig, pos, ref in scored:
        low, high = fasta.span(contig, pos - 1, pos)
        base, first = fasta.fetch(contig, pos - 1, pos) if low < pos <= high else "", str(ref)[:1].upper()
        if base != first and first in "ACGT" and base not in set("RYSWKMBDHVN"):
            what = f"{contig}:{pos} is scored as {first}, here it is {base or 'beyond the end'}"
            raise NexVarError(what, where=fasta.path, fix="give the FASTA that the scores were made with")


def _lengths(contigs: set[str], fasta: Fasta) -> dict[str, int]:
    return {name: max(end for _, end in fasta.spans(name)) for name in sorted(contigs)}


def _spans(regions: Regions, fasta: Fasta) -> dict[str, list[list[int]]]:
    found = {name: [list(span) for span in regions.intervals(name)] for name in fasta.contigs}
    return {name: spans for name, spans in found.items() if spans}
