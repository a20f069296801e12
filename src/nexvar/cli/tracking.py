"""nexvar tracks."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, importing, report, verb
from nexvar.cli.options import (
    BatchTokens,
    Circular,
    LoadOptions,
    MergedBed,
    Model,
    Reads,
    Shard,
    SpreadsheetSafe,
    Synonyms,
    Writes,
)
from nexvar.doors import resumable
from nexvar.errors import NexVarError


@verb()
def tracks(
    *,
    fasta: Annotated[Path | None, typer.Option(help="the sequences, or a genome"), Reads()] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help=".bw (several tracks: x.{track}.bw), .parquet, .png; of variants .vcf, .tsv, .parquet (repeatable)",
        ),
        Writes(parts=True),
    ] = None,
    bed: MergedBed = None,
    region: Annotated[str | None, typer.Option(help="chr17:41,197,000-41,198,000 (1-based, inclusive)")] = None,
    variants: Annotated[
        Path | None, typer.Option(help="VCF, BCF, .tsv: alternative minus reference of each track"), Reads()
    ] = None,
    over: Annotated[
        str, typer.Option(help="of variants: differences are summed over the window, or the exons of a gene")
    ] = "window",
    model: Model = None,
    track: Annotated[list[str] | None, typer.Option(help="a track, or a pattern such as 'RNA*' (repeatable)")] = None,
    species: Annotated[str | None, typer.Option(help="whose tracks, of post-trained NTv3; default: human")] = None,
    names: Annotated[bool, typer.Option("--list", help="show the species and tracks of the model, and end")] = False,
    annotation: Annotated[
        Path | None, typer.Option(help="GFF3, GTF or BED12: genes of the picture, and of --over gene"), Reads()
    ] = None,
    window: Annotated[int | None, typer.Option(help="bases that the model sees at once; default: as trained")] = None,
    overlap: Annotated[int | None, typer.Option(help="bases on either side of each bin; default: window/8")] = None,
    blend: Annotated[bool, typer.Option("--blend", help="means of overlapping windows, without seams")] = False,
    strand: Annotated[str, typer.Option(help="both (averaged), forward or reverse")] = "both",
    load: LoadOptions,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Synonyms = None,
    shard: Shard = None,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Predict tracks of every base, such as RNA-seq coverage, or what variants change of them.

    The same command resumes a run that was stopped.
    """
    with importing():
        from nexvar.inference.track_model import no_language_model
        from nexvar.inference.tracks import listed
        from nexvar.runs.job import InputFiles, Placement, ScoreJob, parse_shard
        from nexvar.runs.progress import progress_bar
        from nexvar.runs.track_variants import Effects, score_by_tracks
        from nexvar.runs.tracks_run import TrackFiles, TrackJob, TrackOptions, tracks_file

    if names:
        with no_language_model():
            loaded = load.choice(model).load()
        for line in listed(loaded, species):
            echo(line)
        return
    if fasta is None or not output:
        raise NexVarError("what to read, and where to write", where="--fasta, -o", fix="give both, or --list")
    choice, rings = load.choice(model), tuple(circular or ())
    part = None if shard is None else parse_shard(shard)
    chosen = tuple(track) if track else None
    options = TrackOptions(chosen, species, window, overlap, strand, blend, rings, batch_tokens)
    if variants is None and over != "window":
        raise NexVarError(f"a sum over {over}, of no variants", where="--over", fix="give --variants, or leave it out")
    if variants is None and spreadsheet_safe:
        raise NexVarError("no table of variants", where="--spreadsheet-safe", fix="give --variants, or leave it out")
    if variants is None:
        files = TrackFiles(fasta, bed, synonyms, region, annotation)
        with resumable(), progress_bar("base") as bar:
            lines = tracks_file(TrackJob(files, output, choice, part, bar, options=options)).lines()
    else:
        if region is not None:
            raise NexVarError("a region beside variants", where="--region", fix="--bed: the variants in its regions")
        listing = InputFiles(fasta, variants, synonyms=synonyms, circular=rings, regions=bed)
        command = shlex.join(["nexvar", *sys.argv[1:]])
        with resumable(), progress_bar("allele") as bar:
            job = ScoreJob(
                listing, output, choice, placement=Placement(part), command=command, progress=bar,
                spreadsheet_safe=spreadsheet_safe,
            )  # fmt: skip
            lines = score_by_tracks(job, Effects(options, over, annotation)).lines()
    report(lines)
