"""nexvar tracks: what a model predicts for every base of a FASTA, or of regions, in parts; merged into files.

    FASTA [+ BED | region] ─ segments ─ parts ─ windows (track_windows.py) ─ model -> OUT.parts/part-000012.parquet
                                               ─ merge -> bigWig, one a track | Parquet | PNG of a region

    out.bw             the only track
    out.{track}.bw     one file a track: {track} is its name
    out.parquet        a row for each bin: chrom, start, end (0-based half-open), a column a track
    out.png            the tracks of a region, and its genes (tracks_figure.py)

The regions of a BED file are merged, and come in the order of the FASTA, widened to whole bins. The folder of parts and
its manifest are those of ``nexvar score`` (parts.py): the same command resumes, other inputs are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Fasta
from nexvar.inference.core.batching import Tally, default_batch_tokens, reported
from nexvar.inference.core.sliding import Segment
from nexvar.inference.per_base import STRANDS
from nexvar.inference.score import make_circular
from nexvar.inference.track_model import no_language_model
from nexvar.inference.track_windows import Stretches, of_fasta
from nexvar.inference.tracks import track_predictor
from nexvar.paths import Read, Write, check_apart
from nexvar.runs import arrow, sequence_run, tracks_figure
from nexvar.runs import parts as on_disk
from nexvar.runs.embedding_table import write_parquet
from nexvar.runs.job import SequenceFiles, SequenceJob, Watch
from nexvar.runs.lock import locked
from nexvar.runs.output import check_output
from nexvar.runs.sequence_run import Summary, Weighed
from nexvar.weights.choice import loaded_model

KIND = "tracks"  # in the manifest
ENDINGS = (".bw", ".parquet", ".png")
PART_BASES, PART_VALUES = 1 << 17, 1 << 24  # of a part, whichever is reached first
MOST_PARTS = 100_000
ROW_GROUP = 1 << 17
EACH = "{track}"
PLACE = ("chrom", "start", "end")


@dataclass(frozen=True)
class TrackFiles(SequenceFiles):
    """All of a FASTA, the regions of a BED file, or one region (1-based, inclusive, or a contig's name).

    annotation: GFF3, GTF or BED12, whose genes a picture shows.
    """

    region: str | None = None
    annotation: str | Path | None = None

    @property
    def files(self) -> list[str | Path]:
        return [*super().files, *([] if self.annotation is None else [self.annotation])]

    @property
    def paths(self) -> dict[str, str | None]:
        annotation = None if self.annotation is None else str(Path(self.annotation).absolute())
        return {**super().paths, "region": self.region, "annotation": annotation}


@dataclass(frozen=True)
class TrackOptions:
    """Which tracks, and how they are predicted; see ``NexVar.predict_tracks``. circular: contigs that are rings."""

    tracks: tuple[str, ...] | None = None
    species: str | None = None
    window: int | None = None
    overlap: int | None = None
    strand: str = "both"
    blend: bool = False
    circular: tuple[str, ...] = ()
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        arguments.wholes(self, window=1, overlap=0, batch_tokens=1)
        arguments.one_of(self.strand, "--strand", STRANDS)


@dataclass(frozen=True)
class TrackJob(SequenceJob):
    """Tracks of every base of a FASTA, or of regions, to one or more files.

    outputs: .bw (of several tracks with {track} in the name), .parquet, .png (of one region).
    """

    inputs: TrackFiles
    options: TrackOptions = TrackOptions()


def tracks_file(job: TrackJob) -> Summary:
    """Do the job. NexVarError for bad input, ``job.Stopped`` where the job says so; then parts may be left."""
    job.check_paths()
    genome = Fasta(job.inputs.fasta, synonyms=job.inputs.synonyms)
    make_circular(genome, job.options.circular, ())
    wanted = sequence_run.segments(genome, job.inputs.bed, job.inputs.region)
    if job.inputs.annotation is not None and not any(Path(path).suffix == ".png" for path in job.targets):
        raise NexVarError("no picture that shows genes", where="--annotation", fix="-o x.png, or leave it out")
    for path in map(Path, job.targets):
        check_output(path, endings=ENDINGS)
        if path.suffix == ".png":
            tracks_figure.check(path, wanted, job.inputs.annotation, genome)
    with no_language_model():
        loaded, options = loaded_model(job.model), job.options
    predictor = track_predictor(loaded, options.species, options.tracks)
    check_apart(
        [Read(path) for path in job.inputs.files],
        [Write(path) for target in job.targets for path in files_of(target, predictor.names)],
    )
    rule = predictor.rule(options.window, options.overlap)
    stretches = Stretches(predictor, rule, frozenset(genome.circular), options.blend)
    segments = stretches.aligned(wanted)
    most = min(PART_BASES, PART_VALUES * predictor.resolution // len(predictor.names))
    parts = stretches.windows.parts(segments, max(most, sequence_run.bases(segments) // MOST_PARTS))
    folder = Path(f"{job.targets[0]}.parts")
    with locked(folder, job.shard):
        tokens = options.batch_tokens or on_disk.unfinished_batch_tokens(folder) or default_batch_tokens(loaded)
        on_disk.open_parts(folder, _manifest(job, genome, segments, stretches, tokens, len(parts)))
        compute = partial(_computed, stretches, genome, parts, options.strand, tokens)
        sequence_run.compute_parts(job, folder, [sequence_run.bases(part) for part in parts], compute)
        return sequence_run.finish(job, folder, len(parts), _merge)


def _manifest(
    job: TrackJob, genome: Fasta, segments: list[Segment], stretches: Stretches, tokens: int, parts: int
) -> dict[str, Any]:
    predictor, rule = stretches.predictor, stretches.rule
    how = {
        "species": predictor.species or "", "strand": job.options.strand, "window": rule.window,
        "overlap": rule.before, "blend": stretches.blend, "resolution": predictor.resolution,
    }  # fmt: skip
    about = {
        "coordinates": "start and end are 0-based, half-open", "values": "the mean a base of each bin",
        **{name: str(value) for name, value in how.items()}, "window": rule.window,
    }  # fmt: skip
    return sequence_run.make_manifest(
        job, genome, segments, Weighed(predictor.loaded, predictor.fingerprint), kind=KIND,
        options={**how, "tracks": list(predictor.names), "batch_tokens": tokens}, parts=parts, provenance=about,
    )  # fmt: skip


# -- one part -----------------------------------------------------------------------------------------------------


def _computed(
    stretches: Stretches,
    genome: Fasta,
    parts: Sequence[Sequence[Segment]],
    strand: str,
    tokens: int,
    i: int,
    watch: Watch,
) -> bytes:
    """The rows of part ``i``: a Parquet file. Letters other than A, C, G, T are read as N."""
    part, tally, read = parts[i], Tally(), of_fasta(genome)
    with reported(tally, sequence_run.bases(part), watch):
        values_NK = stretches.values(part, read, strand=strand, batch_tokens=tokens, tally=tally)
    starts = [stretches.starts(segment) for segment in part]
    starts_N = np.concatenate(starts)
    ends_N = np.minimum(
        starts_N + stretches.predictor.resolution, np.repeat([s.end for s in part], list(map(len, starts)))
    )
    names = list(dict.fromkeys(segment.contig for segment in part))
    names_N = np.repeat([names.index(s.contig) for s in part], list(map(len, starts))).astype(np.int32)
    contigs = pa.DictionaryArray.from_arrays(arrow.numbers(names_N), arrow.array(names, pa.string()))
    columns = [contigs.cast(pa.string()), arrow.numbers(starts_N), arrow.numbers(ends_N)]
    columns += [arrow.numbers(values_N) for values_N in values_NK.T]
    table = pa.Table.from_arrays(columns, [*PLACE, *stretches.predictor.names])
    return arrow.parquet(table, compression="zstd", use_dictionary=["chrom"], row_group_size=ROW_GROUP)


# -- output -------------------------------------------------------------------------------------------------------


def files_of(target: str | Path, names: Sequence[str]) -> dict[Path, str]:
    """The files that an output stands for, and the track that each holds ("": all of them).

    NexVarError for several tracks in one bigWig, too many in one picture, and columns of one name.
    """
    path = Path(target)
    if path.suffix == ".png" and len(names) > tracks_figure.MOST_PANELS:
        what = f"{len(names)} tracks, and a picture shows at most {tracks_figure.MOST_PANELS}"
        raise NexVarError(what, where=path, fix="--track NAME, fewer of them")
    if taken := set(names) & set(PLACE):
        raise NexVarError(
            f"a track called {taken.pop()!r}, which is a column of places", where="track", fix="rename it"
        )
    if path.suffix != ".bw":
        return {path: ""}
    if EACH not in path.name:
        if len(names) > 1:
            fix = f"-o {path.with_suffix('')}.{EACH}.bw, one file a track, or --track NAME"
            raise NexVarError(f"{len(names)} tracks, and a bigWig holds one", where=path, fix=fix)
        return {path: names[0]}
    made = {path.with_name(path.name.replace(EACH, re.sub(r"[^\w.+()-]+", "_", name)[:150])): name for name in names}
    if len(made) < len(names):
        raise NexVarError("two tracks would have the same file name", where=path, fix="--track NAME, one at a time")
    return made


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> Summary:
    """The outputs of a run whose parts are all there; no model is loaded. targets: other files, or several."""
    with locked(Path(f"{output}.parts"), make=False):
        return _merge(output, targets)


def _merge(output: str | Path, targets: Sequence[str | Path] | None) -> Summary:
    _, manifest = sequence_run.unfinished(output, "tracks", _wrong)
    how = manifest["options"]
    shown = {path: track for target in targets or [output] for path, track in files_of(target, how["tracks"]).items()}

    def check(path: Path, manifest: dict[str, Any]) -> None:
        check_output(path, endings=ENDINGS)

    def write(path: Path, temporary: Path, files: list[Path], manifest: dict[str, Any]) -> int:
        if path.suffix == ".parquet":
            return write_parquet(files, temporary, manifest, ROW_GROUP)
        if path.suffix == ".png":
            tracks_figure.draw(temporary, files, manifest)
        else:
            write_bigwig(temporary, path, manifest["lengths"], _values(files, shown[path]))
        return sum(pq.read_metadata(file).num_rows for file in files)

    rows, _ = sequence_run.merge_parts(output, "tracks", list(shown), wrong=_wrong, check=check, write=write)
    each = "base" if how["resolution"] == 1 else f"bin of {how['resolution']} bases"
    of = f" of {how['species']}" if how["species"] else ""
    windows = f"in windows of {how['window']:,} with an overlap of {how['overlap']:,}{', blended' * how['blend']}"
    return Summary([f"{len(how['tracks']):,} tracks{of}: {rows:,} values each, one a {each}, {windows}"])


def _wrong(manifest: dict[str, Any]) -> str | None:
    """What of a manifest is not as this run writes it."""
    options = manifest["options"]
    kinds = {"window": int, "overlap": int, "resolution": int, "blend": bool, "species": str, "strand": str}
    for name, kind in kinds.items():
        if type(options.get(name)) is not kind:
            return f"options.{name}"
    tracks = options.get("tracks")
    if not (isinstance(tracks, list) and tracks and all(isinstance(name, str) for name in tracks)):
        return "options.tracks"
    return sequence_run.wrong_lengths(manifest)


def _values(files: Sequence[Path], track: str) -> Iterator[tuple[str, int, int, float]]:
    """A track's values, one part in memory at a time."""
    for file in files:
        columns = pq.read_table(file, columns=[*PLACE, track])
        yield from zip(*(columns[name].to_pylist() for name in (*PLACE, track)), strict=True)
