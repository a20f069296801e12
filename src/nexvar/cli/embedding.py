"""nexvar embed, likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import importing, report, verb
from nexvar.cli.options import BatchTokens, Circular, LoadOptions, MergedBed, Model, Reads, Shard, Synonyms, Writes
from nexvar.doors import resumable


@verb()
def embed(
    *,
    fasta: Annotated[Path, typer.Option(help="the sequences; with --bed, the genome"), Reads()],
    output: Annotated[
        list[Path], typer.Option("-o", "--output", help=".parquet, .npz, .h5ad, .zarr (repeatable)"), Writes(parts=True)
    ],
    bed: Annotated[
        Path | None, typer.Option(help="regions (0-based, half-open) of the genome, one row each"), Reads()
    ] = None,
    model: Model = None,
    layer: Annotated[list[str] | None, typer.Option(help="a module name (repeatable); default: the last one")] = None,
    pool: Annotated[str, typer.Option(help="mean, max, last, cls, or none: a row for each token")] = "mean",
    strand: Annotated[str, typer.Option(help="forward, reverse, or both (averaged)")] = "forward",
    load: LoadOptions,
    batch_tokens: BatchTokens = None,
    synonyms: Synonyms = None,
    shard: Shard = None,
) -> None:
    """Embed every sequence of a FASTA or every region of a BED. The same command resumes a run that was stopped."""
    with importing():
        from nexvar.runs.embed_run import embed_file
        from nexvar.runs.job import EmbedJob, EmbedOptions, SequenceFiles, parse_shard
        from nexvar.runs.progress import progress_bar

    with resumable(), progress_bar("sequence") as bar:
        job = EmbedJob(
            SequenceFiles(fasta, bed, synonyms),
            output,
            model=load.choice(model),
            options=EmbedOptions(layer or None, pool, strand, batch_tokens),
            shard=None if shard is None else parse_shard(shard),
            progress=bar,
        )
        summary = embed_file(job)
    report(summary.lines())


@verb()
def likelihood(
    *,
    fasta: Annotated[Path, typer.Option(help="the sequences, or a genome"), Reads()],
    output: Annotated[
        list[Path],
        typer.Option("-o", "--output", help=".parquet, .bw, .entropy.bw, .fwd.bw, .rev.bw (repeatable)"),
        Writes(parts=True),
    ],
    bed: MergedBed = None,
    model: Model = None,
    window: Annotated[int | None, typer.Option(help="bases that the model sees at once; default: the model's")] = None,
    overlap: Annotated[int | None, typer.Option(help="bases before each one, at least; default: window/4")] = None,
    strand: Annotated[str, typer.Option(help="both (averaged, each kept), forward or reverse")] = "both",
    load: LoadOptions,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Synonyms = None,
    shard: Shard = None,
) -> None:
    """Log-likelihood and entropy of every base, as tracks. The same command resumes a run that was stopped."""
    with importing():
        from nexvar.runs.job import LikelihoodJob, LikelihoodOptions, SequenceFiles, parse_shard
        from nexvar.runs.likelihood_run import likelihood_file
        from nexvar.runs.progress import progress_bar

    with resumable(), progress_bar("base") as bar:
        job = LikelihoodJob(
            SequenceFiles(fasta, bed, synonyms),
            output,
            model=load.choice(model),
            options=LikelihoodOptions(window, overlap, strand, tuple(circular or ()), batch_tokens),
            shard=None if shard is None else parse_shard(shard),
            progress=bar,
        )
        summary = likelihood_file(job)
    report(summary.lines())
