"""The benchmark: files -> sets of variants -> cells (a model, a method, a set, a width) -> report.

Nothing that was computed is lost: every cell is a file, and a cell that cannot be is a line of the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.noncoding import baselines, probe
from nexvar.evals.noncoding.alleles import Allele, read_alleles
from nexvar.evals.noncoding.baselines import Scores
from nexvar.evals.noncoding.cells import Asked, Failure, Model, ModelCells, Say, model_name
from nexvar.evals.noncoding.regions import MANE, Rules, read_enhancers
from nexvar.evals.noncoding.sets import RATIO, SETS, Sets, build, read_common
from nexvar.evals.noncoding.store import BASELINE, Cell, Store
from nexvar.evals.noncoding.windows import Cut, cut_windows
from nexvar.genome.annotation import read_annotation
from nexvar.genome.reference import Fasta
from nexvar.inference.score import make_circular

MAX_COMMON = 1_000_000  # gnomAD's alleles in memory, before the sets are drawn


@dataclass(frozen=True)
class Job:
    """What is compared. windows: in bases. sets: of ``SETS``; (): all that the files allow. asked: how models are.

    only: regions that count. mane: only MANE Select transcripts. scores: columns or INFO keys of the variants' file
    that are scores, "NAME" (higher = class 1) or "NAME:lower". tracks: name -> bigWig. draws: of intervals.
    See sets.py for min_stars and ratio.
    """

    variants: Path
    fasta: Path
    output: Path
    models: Sequence[Model] = ()
    asked: Asked = Asked()
    annotation: Path | None = None
    ccre: Path | None = None
    gnomad: Path | None = None
    cadd: Path | None = None
    tracks: dict[str, Path] = field(default_factory=dict)
    windows: Sequence[int] = (1024,)
    sets: Sequence[str] = ()
    only: Sequence[str] = ()
    mane: bool = False
    scores: Sequence[str] = ()
    min_stars: int = 1
    ratio: int = RATIO
    draws: int = 1000

    def __post_init__(self) -> None:
        for name in self.sets:
            arguments.one_of(name, "--set", SETS)
        for width in self.windows:
            arguments.whole(width, "--window", 2)
        arguments.whole(self.min_stars, "--min-stars", 0, 4)
        arguments.whole(self.ratio, "--ratio", 0)
        arguments.whole(self.draws, "--draws", 10, 100_000)
        names = [model_name(model) for model in self.models]
        if twice := [name for name in names if names.count(name) > 1]:
            raise NexVarError(f"two models are called {twice[0]}", where="--model", fix="rename a folder")
        if self.ccre is not None and self.annotation is None:
            raise NexVarError("cCREs without an annotation", where="--ccre", fix="add --annotation")
        if self.mane and self.annotation is None:
            raise NexVarError("transcripts without an annotation", where="--mane", fix="add --annotation")


@dataclass(frozen=True)
class Data:
    """The variants of a benchmark. region_N: (N,) object, "" for none. exon_distance_N: (N,), None without an
    annotation."""

    fasta: Fasta
    sets: Sets
    region_N: np.ndarray
    exon_distance_N: np.ndarray | None
    notes: list[str]


@dataclass(frozen=True)
class Found:
    """All that a run has: what the report is made of."""

    data: Data
    cuts: dict[int, Cut]
    cells: list[Cell]
    failures: list[Failure]

    def check_models(self) -> None:
        """NexVarError for a model of which not one cell is there: its name is wrong, or its files."""
        there = {cell.model for cell in self.cells}
        lost = [failure for failure in self.failures if failure.model not in there]
        if lost:
            raise NexVarError(f"no score of {lost[0].model}", where="--model", fix=lost[0].why)


# -- the variants


def prepare(job: Job) -> Data:
    """Read everything, check it, and build the sets; NexVarError where a file is not what it should be."""
    fasta = Fasta(job.fasta)
    make_circular(fasta, (), ())
    labelled = read_alleles(job.variants, fasta, [name.removesuffix(":lower") for name in job.scores])
    notes: list[str] = []
    rules = None
    if job.annotation is not None:
        annotation = read_annotation(job.annotation, fasta)
        enhancers = None
        if job.ccre is not None:
            enhancers, said = read_enhancers(job.ccre, fasta)
            notes += said
        rules = Rules(annotation, enhancers, MANE if job.mane else "")
        rules.check()
        notes += [*annotation.notes, f"regions: {job.annotation}, {'MANE Select' if job.mane else 'all'} transcripts; "
                  + (f"enhancers of {job.ccre}" if job.ccre else "no cCREs, so no enhancers")]  # fmt: skip
        labelled = replace(labelled, alleles=_with_regions(labelled.alleles, rules))
    common = None
    if job.gnomad is not None:
        common = read_common(job.gnomad, fasta, labelled, MAX_COMMON, job.asked.seed)
        if rules is not None:
            common = replace(common, alleles=_with_regions(common.alleles, rules))
    sets = build(
        labelled,
        common=common,
        wanted=job.sets,
        min_stars=job.min_stars,
        ratio=job.ratio,
        seed=job.asked.seed,
        only=job.only,
        is_coding=None if rules is None else lambda alleles: by_contig(alleles, rules.is_coding),
    )
    distance = None if rules is None else by_contig(sets.alleles, rules.exon_distance)
    return Data(fasta, sets, np.array([a.region for a in sets.alleles], dtype=object), distance, notes + sets.notes)


def by_contig(alleles: Sequence[Allele], of: Callable[[str, np.ndarray], np.ndarray]) -> np.ndarray:
    """(N,) of a function of (contig, (M,) 0-based positions)."""
    contigs = np.array([a.contig for a in alleles], dtype=object)
    pos0_N = np.array([a.pos0 for a in alleles], dtype=np.int64)
    made: np.ndarray | None = None
    for contig in dict.fromkeys(contigs):
        there = contigs == contig
        some = of(contig, pos0_N[there])
        made = np.empty(len(alleles), dtype=some.dtype) if made is None else made
        made[there] = some
    return np.empty(0) if made is None else made


def _with_regions(alleles: Sequence[Allele], rules: Rules) -> list[Allele]:
    return [replace(a, region=str(r)) for a, r in zip(alleles, by_contig(alleles, rules.classify), strict=True)]


def _facts(job: Job, data: Data) -> dict[str, Any]:
    """What every cell depends on, short enough to be compared by eye."""
    alleles = data.sets.alleles
    digest = hashlib.sha256()
    for a, positive in zip(alleles, data.sets.positive_N, strict=True):
        digest.update(f"{a.key} {positive} {a.region} {a.group}\n".encode())
    for name, rows in data.sets.rows.items():
        digest.update(name.encode() + rows.tobytes())
    return {
        "seed": job.asked.seed,
        "genome": data.fasta.path.name,
        "sets": list(data.sets.rows),
        "variants": len(alleles),
        "hash of variants, labels and regions": digest.hexdigest()[:16],
    }


# -- the cells


def run(job: Job, say: Say = lambda line: None) -> Found:
    """Compute every cell that is not there yet; cells that cannot be are ``failures``."""
    data = prepare(job)
    for line in data.notes:
        say(line)
    store = Store(job.output, _facts(job, data))
    cuts: dict[int, Cut] = {}
    for width in dict.fromkeys(job.windows):
        cuts[width] = cut_windows(data.fasta, data.sets.alleles, width)
        for line in cuts[width].notes:
            say(line)
    cells = [cell for width in cuts for cell in _baselines(job, data, cuts[width])]
    failures: list[Failure] = []
    for model in job.models:
        for made in ModelCells(model, job.asked, data.fasta, data.sets, store, say).compute(cuts.values()):
            if isinstance(made, Cell):
                cells.append(made)
                continue
            if made.why not in {failure.why for failure in failures}:
                say(f"{made.model}, {made.method}{f' {made.set}' if made.set else ''}, {made.width} bp: {made.why}")
            failures.append(made)
    return Found(data, cuts, cells, failures)


def _baselines(job: Job, data: Data, cut: Cut) -> Iterator[Cell]:
    alleles, usable = data.sets.alleles, cut.usable_N
    scores: Scores = baselines.of_alleles(alleles, data.fasta, data.exon_distance_N) | baselines.of_windows(cut)
    made = [*scores, baselines.REGION, baselines.REGION_CLASS, *job.tracks, *(["CADD"] if job.cadd else [])]
    columns = [name.removesuffix(":lower") for name in job.scores]
    if twice := [name for name in columns if [*made, *columns].count(name) > 1]:
        raise NexVarError(f"two scores are called {twice[0]}", where="--score", fix="rename the column")
    for name, path in job.tracks.items():
        scores[name] = baselines.of_track(path, data.fasta, alleles)
    if job.cadd is not None:
        scores["CADD"] = baselines.of_cadd(job.cadd, data.fasta, alleles)
    for i, (column, name) in enumerate(zip(job.scores, columns, strict=True)):
        values = np.array([a.numbers[i] if a.numbers else np.nan for a in alleles])
        scores[name] = -values if column.endswith(":lower") else values
    for name, score_N in scores.items():
        yield Cell(cut.width, name, BASELINE, np.where(usable, score_N, np.nan))
    if any(data.region_N):
        for set, rows in data.sets.rows.items():
            rows = rows[usable[rows]]
            try:
                fold_N = probe.folds(cut.group_N[rows], job.asked.seed)
            except NexVarError:
                continue  # the probes say why
            score_N = np.full(len(alleles), np.nan)
            score_N[rows] = baselines.of_region(data.region_N[rows], data.sets.positive_N[rows], fold_N)
            yield Cell(cut.width, baselines.REGION_CLASS, BASELINE, score_N, set)
