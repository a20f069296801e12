"""nexvar tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, importing, report, verb
from nexvar.cli.options import BatchTokens, Circular, LoadOptions, Model, Reads, Shard, Writes
from nexvar.doors import resumable
from nexvar.errors import NexVarError


@verb()
def tracks(
    *,
    fasta: Annotated[Path | None, typer.Option(help="the sequences, or a genome"), Reads()] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", help=".bw (several tracks: x.{track}.bw), .parquet, .png (repeatable)"),
        Writes(parts=True),
    ] = None,
    bed: Annotated[
        Path | None, typer.Option(help="regions (0-based, half-open), merged; default: everything"), Reads()
    ] = None,
    region: Annotated[str | None, typer.Option(help="chr17:41,197,000-41,198,000 (1-based, inclusive)")] = None,
    model: Model = None,
    track: Annotated[list[str] | None, typer.Option(help="a track, or a pattern such as 'RNA*' (repeatable)")] = None,
    species: Annotated[str | None, typer.Option(help="whose tracks, of post-trained NTv3; default: human")] = None,
    names: Annotated[bool, typer.Option("--list", help="show the species and tracks of the model, and end")] = False,
    annotation: Annotated[Path | None, typer.Option(help="GFF3, GTF or BED12: genes in the picture"), Reads()] = None,
    window: Annotated[int | None, typer.Option(help="bases that the model sees at once; default: as trained")] = None,
    overlap: Annotated[int | None, typer.Option(help="bases on either side of each bin; default: window/8")] = None,
    blend: Annotated[bool, typer.Option("--blend", help="means of overlapping windows, without seams")] = False,
    strand: Annotated[str, typer.Option(help="both (averaged), forward or reverse")] = "both",
    load: LoadOptions,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Annotated[
        Path | None, typer.Option(help="table of contig names: the BED's, the FASTA's"), Reads()
    ] = None,
    shard: Shard = None,
) -> None:
    """Predict tracks of every base, such as RNA-seq coverage. The same command resumes a run that was stopped."""
    with importing():
        from nexvar.inference.tracks import listed
        from nexvar.runs.job import parse_shard
        from nexvar.runs.progress import progress_bar
        from nexvar.runs.tracks_run import TrackFiles, TrackJob, TrackOptions, tracks_file

    if names:
        for line in listed(load.choice(model).load(), species):
            echo(line)
        return
    if fasta is None or not output:
        raise NexVarError("what to read, and where to write", where="--fasta, -o", fix="give both, or --list")
    with resumable(), progress_bar("base") as bar:
        job = TrackJob(
            TrackFiles(fasta, bed, synonyms, region, annotation),
            output,
            model=load.choice(model),
            options=TrackOptions(
                tuple(track) if track else None,
                species,
                window,
                overlap,
                strand,
                blend,
                tuple(circular or ()),
                batch_tokens,
            ),
            shard=None if shard is None else parse_shard(shard),
            progress=bar,
        )
        summary = tracks_file(job)
    report(summary.lines())
