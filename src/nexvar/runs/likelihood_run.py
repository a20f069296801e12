"""Tracks along sequences: log-likelihood and entropy of every base, in sliding windows, in parts; merged into files.

    FASTA [+ BED] ─ segments ─ parts ─ windows (core/sliding.py) ─ model -> OUT.parts/part-000012.parquet
                                     ─ merge -> Parquet | bigWig

    out.parquet        a row for each base: chrom, pos (0-based), base, log_prob, entropy; by strand …_fwd and …_rev
    out.bw             log_prob: the mean over the strands
    out.fwd.bw         log_prob of the forward strand; out.rev.bw of the reverse
    out.entropy.bw     entropy: the mean over the strands

The regions of a BED file are merged, and come in the order of the FASTA. The folder of parts and its manifest are those
of ``nexvar score`` (parts.py): the same command resumes, other inputs are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.errors import NexVarError
from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Fasta
from nexvar.inference import per_base
from nexvar.inference.core.batching import Tally, default_batch_tokens, reported
from nexvar.inference.core.sequences import clean
from nexvar.inference.core.sliding import Rule, Segment, Sliding
from nexvar.inference.score import make_circular
from nexvar.runs import arrow, sequence_run
from nexvar.runs import parts as on_disk
from nexvar.runs.embedding_table import write_parquet
from nexvar.runs.job import LikelihoodJob, LikelihoodOptions, Watch
from nexvar.runs.lock import locked
from nexvar.runs.output import check_output
from nexvar.runs.sequence_run import Summary, Weighed
from nexvar.weights.choice import loaded_model
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.load import Loaded

KIND = "likelihoods"  # in the manifest
ENDINGS = (".parquet", ".bw")
PART_BASES, PART_PASSES = 1 << 17, 1 << 13  # bases of a part: of a causal model; of a masked one, a pass for each
MOST_PARTS = 100_000
ROW_GROUP = 1 << 17
SHORT = {"forward": "fwd", "reverse": "rev"}
TRACKS = {"entropy": "entropy", "fwd": "log_prob_fwd", "rev": "log_prob_rev"}  # by the ending before .bw


@dataclass(frozen=True)
class Settings:
    """``LikelihoodOptions`` with every choice made."""

    rule: Rule
    strand: str
    batch_tokens: int

    @property
    def strands(self) -> tuple[str, ...]:
        return ("forward", "reverse") if self.strand == "both" else (self.strand,)


def _rule(wanted: LikelihoodOptions, loaded: Loaded) -> Rule:
    """NexVarError for a window beyond the context, or too much overlap."""
    card = loaded.card
    window = wanted.window or min(card.window, card.context)
    if window > card.context:
        what = f"window of {window:,} bases, but the context of {card.name} is {card.context:,}"
        raise NexVarError(what, where="--window", fix=f"at most {card.context:,}")
    return Rule.of(window, wanted.overlap, wanted.strand if card.objective == "causal" else "both")


def likelihood_file(job: LikelihoodJob) -> Summary:
    """Do the job. NexVarError for bad input, ``job.Stopped`` where the job says so; then parts may be left."""
    job.check_paths()
    for path in job.targets:
        _check_target(Path(path), job.options.strand)
    genome = Fasta(job.inputs.fasta, synonyms=job.inputs.synonyms)
    make_circular(genome, job.options.circular, ())
    segments = sequence_run.segments(genome, job.inputs.bed)
    loaded = loaded_model(job.model)
    per_base.check(loaded)
    folder = Path(f"{job.targets[0]}.parts")
    rule = _rule(job.options, loaded)
    sliding = Sliding(rule, frozenset(genome.circular))
    most = PART_BASES if loaded.card.objective == "causal" else PART_PASSES
    parts = sliding.parts(segments, max(most, sequence_run.bases(segments) // MOST_PARTS))
    with locked(folder, job.shard):
        wanted = job.options.batch_tokens
        tokens = wanted or on_disk.unfinished_batch_tokens(folder) or default_batch_tokens(loaded)
        settings = Settings(rule, job.options.strand, tokens)
        on_disk.open_parts(folder, _manifest(job, loaded, genome, segments, settings, len(parts)))

        def compute(i: int, watch: Watch) -> bytes:
            return compute_part(loaded, genome, sliding, parts[i], settings, watch)

        sequence_run.compute_parts(job, folder, [sequence_run.bases(part) for part in parts], compute)
        summary = sequence_run.finish(job, folder, len(parts), _merge)
    summary.notes += sequence_run.species_note(loaded, "likelihoods")
    return summary


def _manifest(
    job: LikelihoodJob, loaded: Loaded, genome: Fasta, segments: list[Segment], settings: Settings, parts: int
) -> dict[str, Any]:
    rule = settings.rule
    options = {
        "window": rule.window, "before": rule.before, "after": rule.after, "strand": settings.strand,
        "batch_tokens": settings.batch_tokens,
    }  # fmt: skip
    about = {
        "strand": settings.strand, "window": rule.window, "overlap_before": str(rule.before),
        "overlap_after": str(rule.after), "coordinates": "pos is 0-based", "log_prob": "natural logarithm",
        "entropy": "nats",
    }  # fmt: skip
    return sequence_run.make_manifest(
        job, genome, segments, Weighed(loaded, fingerprint(loaded)), kind=KIND, options=options, parts=parts,
        provenance=about,
    )  # fmt: skip


# -- one part -----------------------------------------------------------------------------------------------------


def compute_part(
    loaded: Loaded,
    genome: Fasta,
    sliding: Sliding,
    part: Sequence[Segment],
    settings: Settings,
    progress: Callable[[int], None],
) -> bytes:
    """The rows of one part: a Parquet file. Letters other than A, C, G, T are read as N and have no value."""
    windows = list(sliding.windows(part))
    letters = [genome.fetch(contig, window.start, window.end) for contig, window, _ in windows]
    read = (re.sub("[^ACGTN]", "N", text) for text in letters)
    texts = [clean(loaded, text, contig) for text, (contig, _, _) in zip(read, windows, strict=True)]
    keep = [[(a - window.start, b - window.start) for a, b in ranges] for _, window, ranges in windows]
    tally = Tally()
    with reported(tally, sequence_run.bases(part), progress):
        values = per_base.compute(
            loaded, texts, keep, strand=settings.strand, batch_tokens=settings.batch_tokens, tally=tally
        )
    picked = [np.concatenate([np.arange(a, b) for a, b in ranges]) for ranges in keep]
    names = [contig for (contig, _, _), at in zip(windows, picked, strict=True) for _ in at]
    places = np.concatenate([at + window.start for (_, window, _), at in zip(windows, picked, strict=True)])
    bases = "".join(text[a:b] for text, ranges in zip(letters, keep, strict=True) for a, b in ranges)
    columns = {
        "chrom": arrow.array(names, pa.string()),
        "pos": arrow.numbers(places),
        "base": arrow.array(bases, pa.string()),
    }
    for column, mean, by_strand in (
        ("log_prob", "log_probs_L", "log_probs_SL"),
        ("entropy", "entropies_L", "entropies_SL"),
    ):
        columns[column] = _column([getattr(v, mean)[at] for v, at in zip(values, picked, strict=True)])
        for s, strand in enumerate(settings.strands):
            rows = [getattr(v, by_strand)[s, at] for v, at in zip(values, picked, strict=True)]
            columns[f"{column}_{SHORT[strand]}"] = _column(rows)
    return arrow.parquet(pa.table(columns), compression="zstd", row_group_size=ROW_GROUP)


def _column(rows: Sequence[np.ndarray]) -> pa.Array:
    """float32; null where there is no value."""
    values = np.concatenate(rows).astype(np.float32)
    return arrow.numbers(values, ~np.isnan(values))


# -- output -------------------------------------------------------------------------------------------------------


def _check_target(path: Path, strand: str) -> None:
    check_output(path, endings=ENDINGS)
    column = _track(path)
    for direction, short in SHORT.items():
        if path.suffix == ".bw" and column.endswith(f"_{short}") and strand not in (direction, "both"):
            what = f"the track of a strand that is not read (--strand {strand})"
            raise NexVarError(what, where=path, fix=f"--strand both or {direction}")


def _track(path: Path) -> str:
    """The column that a bigWig of this name shows."""
    return TRACKS.get(path.suffixes[-2][1:] if len(path.suffixes) > 1 else "", "log_prob")


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> Summary:
    """The outputs of a run whose parts are all there; no model is loaded. targets: other files, or several."""
    with locked(Path(f"{output}.parts"), make=False):
        return _merge(output, targets)


def _merge(output: str | Path, targets: Sequence[str | Path] | None) -> Summary:
    def check(path: Path, manifest: dict[str, Any]) -> None:
        _check_target(path, manifest["options"]["strand"])

    rows, manifest = sequence_run.merge_parts(output, "likelihood", targets, wrong=_wrong, check=check, write=_write)
    options = manifest["options"]
    overlap = max(options["before"], options["after"])
    return Summary([f"{rows:,} bases, in windows of {options['window']:,} with an overlap of {overlap:,}"])


def _wrong(manifest: dict[str, Any]) -> str | None:
    """What of a manifest is not as this run writes it."""
    options = manifest["options"]
    for name in ("window", "before", "after"):
        if type(options.get(name)) is not int:
            return f"options.{name}"
    if options.get("strand") not in per_base.STRANDS:
        return "options.strand"
    return sequence_run.wrong_lengths(manifest)


def _write(path: Path, temporary: Path, files: list[Path], manifest: dict[str, Any]) -> int:
    """All rows, in the format of ``path``, to ``temporary``; how many bases they are."""
    if path.suffix == ".parquet":
        return write_parquet(files, temporary, manifest, ROW_GROUP)
    write_bigwig(temporary, path, manifest["lengths"], _values(files, _track(path)))
    return sum(pq.read_metadata(file).num_rows for file in files)


def _values(files: Sequence[Path], column: str) -> Iterator[tuple[str, int, int, float]]:
    """A track's values, one part in memory at a time; bases without a value are left out."""
    for file in files:
        table = pq.read_table(file, columns=["chrom", "pos", column]).to_pydict()
        for chrom, pos, value in zip(table["chrom"], table["pos"], table[column], strict=True):
            if value is not None:
                yield chrom, pos, pos + 1, value
