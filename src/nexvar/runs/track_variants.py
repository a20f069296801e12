"""Variants by tracks: alternative minus reference, as columns of the files of ``nexvar score``.

    ScoreJob ── score_run.py ── TrackScorer (in the place of PartScorer) ── windows of both alleles (genome/windows.py)
        ── TrackPredictor ── aligned base by base ── TRACK_SUM, TRACK_MAX

Of each track, averaged over the strands: SUM, the difference summed over the bases of the window that have a value, or
over the exons of a gene there; MAX, the largest absolute difference at a base that both alleles have. Inserted bases
count for SUM where they stand, deleted ones as 0. L bases, K tracks.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.annotation import Annotation, read_annotation
from nexvar.genome.reference import Fasta
from nexvar.genome.transcripts import Transcript
from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally, default_batch_tokens, reported
from nexvar.inference.options import ScoreSettings
from nexvar.inference.score import AlleleScore, windows_of
from nexvar.inference.scorers import ReadoutSettings
from nexvar.inference.track_model import no_language_model
from nexvar.inference.tracks import TrackPredictor, track_predictor
from nexvar.runs.executor import Done, Identity, PartTask, Report, Setup
from nexvar.runs.job import ScoreJob
from nexvar.runs.output import ENDINGS as ANY
from nexvar.runs.output import check_output
from nexvar.runs.rows import ScoredAllele, ScoreSummary, rows
from nexvar.runs.score_run import score_file
from nexvar.runs.tracks import ENDINGS as PICTURES
from nexvar.runs.tracks_run import TrackOptions
from nexvar.runs.writers import ParquetWriter, Provenance
from nexvar.weights.choice import loaded_model

OVER = ("window", "gene")
ENDINGS = (*(ending for ending in ANY if ending not in PICTURES), "-")


@dataclass(frozen=True)
class Effects:
    """What is told of a variant. over: where differences are summed; "gene" needs an ``annotation``."""

    tracks: TrackOptions
    over: str = "window"
    annotation: str | Path | None = None

    def __post_init__(self) -> None:
        if self.over not in OVER:
            raise NexVarError(f"no sum over {self.over!r}", where="--over", fix=f"one of {', '.join(OVER)}")
        if self.over == "gene" and self.annotation is None:
            raise NexVarError("no genes to sum over", where="--over", fix="give --annotation")
        if self.over == "window" and self.annotation is not None:
            fix = "--over gene, or leave it out"
            raise NexVarError("a sum over the window needs no genes", where="--annotation", fix=fix)
        if self.tracks.overlap is not None or self.tracks.blend:
            what = "a variant has one window"
            raise NexVarError(what, where="--overlap, --blend", fix="leave them out with --variants")


def score_by_tracks(job: ScoreJob, effects: Effects) -> ScoreSummary:
    """Do the job with tracks in the place of likelihoods. NexVarError as ``score_file``, and for outputs of bases."""
    for path in job.targets:
        check_output(path, endings=ENDINGS)
    return score_file(replace(job, executor=TrackScorer(effects)))


class TrackScorer:
    """The executor of such a run, in this process."""

    def __init__(self, effects: Effects) -> None:
        self.notes: list[str] = []
        self.effects = effects
        self.predictor: TrackPredictor
        self.fasta: Fasta
        self.setup: Setup
        self.annotation: Annotation | None = None
        self.provenance: Provenance

    def prepare(self, setup: Setup, fasta: Fasta | None = None) -> Identity:
        with no_language_model():
            how, loaded = self.effects.tracks, loaded_model(setup.model)
        self.setup = setup
        self.fasta = fasta or Fasta(setup.fasta, synonyms=setup.synonyms, circular=setup.circular)
        self.predictor = predictor = track_predictor(loaded, how.species, how.tracks)
        window, genes = predictor.rule(how.window).window, ""
        if self.effects.over == "gene":
            assert self.effects.annotation is not None  # Effects
            self.annotation = annotation = read_annotation(self.effects.annotation, self.fasta)
            if not any(len(annotation.transcript_spans(contig)[0]) for contig in annotation.contigs):
                fix = "give the annotation with its exons, or leave out --over"
                raise NexVarError("no exon and no CDS in it: no gene to sum over", where=annotation.name, fix=fix)
            genes = hashlib.sha256(Path(self.effects.annotation).read_bytes()).hexdigest()[:16]
        tokens = how.batch_tokens or default_batch_tokens(loaded)
        resolved = ScoreSettings(window, how.strand, ReadoutSettings((), tokens), window // 2)
        settings = {"over": self.effects.over, **({"species": predictor.species} if predictor.species else {})}
        self.provenance = Provenance(
            model=loaded.card.name, revision=loaded.card.origin, window=window, strand=how.strand,
            dtype=loaded.precision, readout="tracks", extra=self._columns(), settings=settings,
        )  # fmt: skip
        what = f"{self.effects.over} {genes} {predictor.species or ''} {', '.join(predictor.names)}"
        fingerprint = f"{predictor.fingerprint} {what}"
        return Identity(self.provenance, resolved, fingerprint, loaded.device.type, loaded.card.species)

    def _columns(self) -> dict[str, str]:
        """{column: what it means}, two for each track."""
        over = "the window" if self.effects.over == "window" else "the exons of a gene"
        columns = {}
        for name, key in zip(self.predictor.names, _keys(self.predictor.names), strict=True):
            columns[f"{key}_SUM"] = f"{name}: alternative - reference, summed over {over}"
            columns[f"{key}_MAX"] = f"{name}: largest |alternative - reference| at a base"
        return columns

    def run(self, tasks: Iterable[PartTask], report: Report) -> Iterator[Done]:
        for task in tasks:
            yield self._part(task, report)

    def _part(self, task: PartTask, report: Report) -> Done:
        windows = [windows_of(r.variant, self.fasta, task.resolved, self.setup.regions) for r in task.records]
        flat, tally, file = [w for each in windows for w in each], Tally(), io.BytesIO()
        with reported(tally, len(flat), report):
            told = iter(self._told(flat, task.resolved, tally))
        writer = ParquetWriter(file, replace(self.provenance, command=""))
        for index, (record, each) in enumerate(zip(task.records, windows, strict=True), start=task.part.first):
            made = rows(index, record, [AlleleScore(w, {}) for w in each], task.resolved)
            for row in made:
                self._add(row, next(told))
            writer.write(record, made)
        writer.close()
        return Done(task.part.index, file.getvalue(), tally.computed, tally.computed)

    def _add(self, row: ScoredAllele, told: tuple[np.ndarray, str] | None) -> None:
        if told is not None:
            values_K2, gene = told
            finite = [None if np.isnan(value) else float(value) for value in values_K2.ravel()]
            row.extra = dict(zip(self.provenance.extra, finite, strict=True))
            row.detail = row.detail or gene

    def _told(
        self, windows: Sequence[Windows], resolved: ScoreSettings, tally: Tally
    ) -> list[tuple[np.ndarray, str] | None]:
        """(K, 2) SUM and MAX of each allele that has a score, and its gene."""
        size = resolved.window
        texts = dict.fromkeys(
            _filled(text, size) for w in windows if w.status.scored for text in (w.ref_seq, w.alt_seq)
        )
        tokens = resolved.readout.batch_tokens
        made = self.predictor.predict(list(texts), strand=resolved.strand, batch_tokens=tokens, tally=tally)
        values = dict(zip(texts, made, strict=True))
        told: list[tuple[np.ndarray, str] | None] = []
        for w in windows:
            if not w.status.scored:
                told.append(None)
                continue
            ref_LK, alt_LK = (self._by_base(values[_filled(text, size)], size) for text in (w.ref_seq, w.alt_seq))
            gene = None if self.annotation is None else _gene(self.annotation, w)
            counted_L = np.ones(size, dtype=bool) if self.annotation is None else _exons(gene, w, self.fasta, size)
            name = (
                ""
                if self.annotation is None
                else "no gene in the window"
                if gene is None
                else _name(gene, self.annotation)
            )
            told.append((differences(ref_LK, alt_LK, w.ref_site, w.alt_site, counted_L), name))
        return told

    def _by_base(self, values_NK: np.ndarray, size: int) -> np.ndarray:
        """(L, K) of a whole window: NaN where it has no value."""
        margin = self.predictor.heads.margin(size)
        values_LK = np.full((size, values_NK.shape[1]), np.nan)
        values_LK[margin : size - margin] = np.repeat(values_NK, self.predictor.resolution, axis=0)
        return values_LK


def differences(
    ref_LK: np.ndarray,
    alt_LK: np.ndarray,
    ref_site: tuple[int, int],
    alt_site: tuple[int, int],
    counted_L: np.ndarray,
) -> np.ndarray:
    """(K, 2): SUM and MAX of the values of two windows, NaN where there are none; the sites are those of the alleles.

    counted_L: the bases of the reference window over which SUM and MAX go.
    """
    L, K = ref_LK.shape
    (r0, r1), (a0, a1) = ref_site, alt_site
    j_L = np.arange(len(alt_LK))
    shared = min(r1 - r0, a1 - a0)  # the allele's bases side by side, what is more behind them
    x_L = np.where(j_L < a0 + shared, j_L + r0 - a0, np.where(j_L < a1, r0 + max(shared - 1, 0), j_L + r1 - a1))
    used_L = (x_L >= 0) & (x_L < L) & ~np.isnan(alt_LK[:, 0])
    sums_LK, counts_L = np.zeros((L, K)), np.zeros(L)
    np.add.at(sums_LK, x_L[used_L], alt_LK[used_L])
    np.add.at(counts_L, x_L[used_L], 1)
    deleted_L = (np.arange(L) >= r0 + shared) & (np.arange(L) < r1)
    both_L = counted_L & ~np.isnan(ref_LK[:, 0]) & (counts_L > 0)
    summed_L = both_L | (counted_L & deleted_L & ~np.isnan(ref_LK[:, 0]))
    if not summed_L.any():
        return np.full((K, 2), np.nan)
    total_K = (sums_LK[summed_L] - ref_LK[summed_L]).sum(0)
    at_base_LK = np.abs(sums_LK[both_L] / counts_L[both_L, None] - ref_LK[both_L])
    return np.stack([total_K, at_base_LK.max(0) if both_L.any() else np.full(K, np.nan)], axis=1)


def _filled(text: str, size: int) -> str:
    """A window of a short contig, filled up; letters that are no bases are N."""
    return re.sub("[^ACGT]", "N", text).ljust(size, "N")


def _keys(names: Sequence[str]) -> list[str]:
    """Names that a VCF allows."""
    spelled = [re.sub(r"\(?-\)?$", "minus", re.sub(r"\(?\+\)?$", "plus", name)) for name in names]
    keys = [re.sub("[^0-9A-Za-z_.]+", "_", name) for name in spelled]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NexVarError(f"two tracks would both be {twice[:60]} in a VCF", where="--track", fix="one at a time")
    return keys


def _name(gene: Transcript, annotation: Annotation) -> str:
    """Of the gene; where the file has no line of it, of the transcript."""
    of = next(iter(annotation.find(gene.feature.parent)), gene.feature)
    return of.name or of.id


def _gene(annotation: Annotation, w: Windows) -> Transcript | None:
    """The gene that the variant is in, of several the one with the most exon bases; or else the window's nearest."""
    site = w.start + w.ref_site[0], w.start + w.ref_site[1]

    def distance(t: Transcript) -> int:
        return max(t.feature.start - site[1] + 1, site[0] - t.feature.end + 1, 0)

    found = annotation.transcripts(w.contig, max(w.start, 0), w.end)
    return min(found, key=lambda t: (distance(t), -sum(b - a for a, b in t.exons)), default=None)


def _exons(gene: Transcript | None, w: Windows, fasta: Fasta, size: int) -> np.ndarray:
    """(L,) bool: the bases of the reference window that are in the gene's exons."""
    chosen_L = np.zeros(size, dtype=bool)
    turn = fasta.span(w.contig)[1] if w.contig in fasta.circular else None
    for start, end in gene.exons if gene is not None else ():
        at = np.arange(start, end) - w.start
        at = at if turn is None else at % turn
        chosen_L[at[(at >= 0) & (at < size)]] = True
    return chosen_L
