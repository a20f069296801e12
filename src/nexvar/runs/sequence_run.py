"""What runs over sequences (embed_run.py, likelihood_run.py, annotate_run.py) share: what is asked for, the loop over
parts, their merge, what is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from nexvar.errors import NexVarError
from nexvar.files import disk_errors, replacing
from nexvar.genome.bed import Regions, bed_rows, parse_region
from nexvar.genome.reference import Fasta, Interval
from nexvar.inference.core.sliding import Segment
from nexvar.paths import Read, Write, check_apart
from nexvar.runs import parts as on_disk
from nexvar.runs.job import SequenceJob, Watch
from nexvar.runs.tracks import chromosome
from nexvar.weights.load import Loaded

MERGE_AGAIN = "make room; the same command tries again, with nothing computed anew"

Compute = Callable[
    [int, Watch], bytes
]  # a part's rows; tells the watch how many units are done, all of them at its end


@dataclass
class Summary:
    """What a run did, in lines for people."""

    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return self.notes


def bed_regions(genome: Fasta, bed: str | Path) -> list[tuple[Interval, list[str]]]:
    """The rows of a BED file, each all in one stretch that the FASTA has; NexVarError for others, or for no row."""
    rows = []
    for interval, fields in bed_rows(bed, genome):
        low, high = genome.span(interval.chrom, interval.start, interval.end)
        if not low <= interval.start < interval.end <= high:
            there = genome.extent(interval.chrom)
            raise NexVarError(f"{interval} is not all in the FASTA ({there})", where=bed, fix="cut the region")
        rows.append((interval, fields))
    if not rows:
        raise NexVarError("no regions in the file", where=bed, fix="BED has chrom, start and end, by tabs")
    return rows


def segments(genome: Fasta, bed: str | Path | None, region: str | None = None) -> list[Segment]:
    """Each base that is asked for once: in the order of the FASTA, a chromosome's slices by their starts.

    bed: regions, merged; region: one, as ``chr17:41,197,000-41,198,000`` (1-based, inclusive) or a contig; neither:
    everything.
    """
    regions = None if bed is None else Regions(interval for interval, _ in bed_regions(genome, bed))
    if region is not None:
        if bed is not None:
            raise NexVarError("regions twice", where="--region", fix="give --bed or --region")
        regions = Regions([parse_region(region, genome)])
    # a record that is a region of a chromosome stands for its place there
    homes = {name: chromosome(name) for name in genome.contigs}
    contigs = dict.fromkeys(home if genome.is_slice(home) else name for name, home in homes.items())
    result = []
    for contig in contigs:
        done = 0
        for low, high in genome.spans(contig):
            for start, end in [(low, high)] if regions is None else regions.intervals(contig):
                start, end = max(start, low, done), min(end, high)
                if start < end:
                    result.append(Segment(contig, start, end, low, high))
            done = max(done, high)
    return result


def bases(part: Sequence[Segment]) -> int:
    """How many bases are computed in these segments."""
    return sum(segment.end - segment.start for segment in part)


class Weighed(NamedTuple):
    """A loaded model, and the fingerprint of all its weights (those of a head of its own, too)."""

    loaded: Loaded
    weights: str


def make_manifest(
    job: SequenceJob,
    genome: Fasta,
    segments: Sequence[Segment],
    model: Weighed,
    *,
    kind: str,
    options: dict[str, Any],
    parts: int,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """The manifest of a run along a genome: what its rows depend on.

    segments: what the rows are of. kind: of run. provenance: for readers of the output, beside the model.
    """
    loaded, weights = model
    card, contigs = loaded.card, list(dict.fromkeys(segment.contig for segment in segments))
    return on_disk.make_manifest(
        kind=kind,
        variants=Regions([Interval(s.contig, s.start, s.end) for s in segments]).digest(),
        genome=on_disk.genome_digest(genome, contigs),
        circular=sorted(genome.circular.intersection(contigs)),
        lengths={contig: max(high for _, high in genome.spans(contig)) for contig in contigs},
        model=f"{card.name} {card.revision} {weights}",
        dtype=loaded.precision,
        device=loaded.device.type,
        options=options,
        parts=parts,
        inputs=job.inputs.paths,
        provenance={
            "model": card.name, "revision": card.revision or "", "dtype": loaded.precision, **provenance,
        },
    )  # fmt: skip


def wrong_lengths(manifest: dict[str, Any]) -> str | None:
    """ "lengths" where those of the contigs are damaged."""
    lengths = manifest.get("lengths")
    good = isinstance(lengths, dict) and all(type(n) is int and 0 < n < 1 << 32 for n in lengths.values())
    return None if good else "lengths"


def compute_parts(job: SequenceJob, folder: Path, sizes: Sequence[int], compute: Compute) -> None:
    """Compute the parts of this run that are not there yet. sizes: of every part, in the units of its progress."""
    mine = on_disk.of_shard(job.shard, len(sizes))
    todo = sorted({*on_disk.missing_parts(folder, mine), *on_disk.damaged_parts(folder, mine)})
    total, left = (sum(sizes[i] for i in indices) for indices in (mine, todo))
    watch = Watch(job, total - left, total)
    for i in todo:
        on_disk.write_part(folder, i, compute(i, watch))
        watch(total - left + sizes[i] - watch.done)
        left -= sizes[i]


def finish(
    job: SequenceJob, folder: Path, parts: int, merge: Callable[[str | Path, Sequence[str | Path]], Summary]
) -> Summary:
    """The outputs, or of a shard how much is missing."""
    if job.shard is not None:
        return Summary([on_disk.shard_note(job.shard, folder, parts)])
    return merge(job.targets[0], job.targets)


def unfinished(
    output: str | Path, verb: str, wrong: Callable[[dict[str, Any]], str | None]
) -> tuple[Path, dict[str, Any]]:
    """The folder and the manifest of the run of ``nexvar VERB`` that is to be merged into ``output``, checked."""
    folder, manifest = on_disk.unfinished_run(output, verb)
    if what := wrong(manifest):
        fix = f"delete {folder} and start again"
        raise NexVarError(f"the manifest is damaged: {what}", where=folder / "manifest.json", fix=fix)
    return folder, manifest


def merge_parts(
    output: str | Path,
    verb: str,
    targets: Sequence[str | Path] | None,
    *,
    wrong: Callable[[dict[str, Any]], str | None],
    check: Callable[[Path, dict[str, Any]], None],
    write: Callable[[Path, Path, list[Path], dict[str, Any]], int],
) -> tuple[int, dict[str, Any]]:
    """Write the targets (default: ``output``) of a run whose parts are all there, then delete these.

    wrong(manifest) says what in it is damaged; check(path, manifest) refuses a target; write(path, temporary, files,
    manifest) says how many rows it wrote: they come back, with the manifest.
    """
    folder, manifest = unfinished(output, verb, wrong)
    files = on_disk.finished_parts(folder, manifest["parts"])
    rows, wanted = 0, [Path(path) for path in targets or [output]]
    check_apart([Read(folder), *on_disk.inputs_of(manifest)], map(Write, wanted))
    for path in wanted:
        check(path, manifest)
    for path in wanted:
        with replacing(path, fix=MERGE_AGAIN) as temporary, disk_errors(path, MERGE_AGAIN):
            try:
                rows = write(path, temporary, files, manifest)
            except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
                raise on_disk.damaged(folder, None, f"one of them: {str(error)[:100]}") from error
    on_disk.remove_parts(folder)
    return rows, manifest


def species_note(loaded: Loaded, what: str) -> list[str]:
    """A line for a model of few species: ``what`` of other DNA mean little."""
    if loaded.card.species is None:
        return []
    return [f"{loaded.card.name} knows {loaded.card.species} only: {what} of other DNA mean little"]
