"""nexvar score, saturate, merge."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import (
    BatchTokens,
    Circular,
    Device,
    Dtype,
    Explain,
    Model,
    Outputs,
    Strand,
    Window,
    app,
    report,
)


@app.command()
def score(
    vcf: Annotated[Path, typer.Option(help="VCF (plain, gzip, bgzip), BCF, .tsv or .hgvs; - for standard input")],
    fasta: Annotated[Path, typer.Option(help="the reference the variants were called on")],
    output: Outputs,
    model: Model = None,
    window: Window = None,
    readout: Annotated[str | None, typer.Option(help="one or more, by comma; default: the model's")] = None,
    strand: Strand = "both",
    layer: Annotated[str | None, typer.Option(help="of embedding readouts; default: the last hidden state")] = None,
    pool: Annotated[str, typer.Option(help="of embedding readouts: mean, max, last")] = "mean",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Annotated[Path | None, typer.Option(help="table of contig names: the file's, the FASTA's")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED: variants outside get a status, not a score")] = None,
    max_ref_mismatch: Annotated[float, typer.Option(help="stop above this share of wrong REFs; 1: never")] = 0.05,
    shard: Annotated[str | None, typer.Option(help="i/n: every n-th part only; then `nexvar merge`")] = None,
    explain: Explain = False,
) -> None:
    """Score every allele of a VCF with a genomic language model. The same command resumes a run that was stopped."""
    from nexvar import jobs
    from nexvar.score import Options

    try:
        summary = jobs.score_file(
            vcf,
            fasta,
            output,
            model=model,
            device=device,
            dtype=dtype,
            options=Options(
                window=window,
                readouts=tuple(readout.split(",")) if readout else None,
                strand=strand,
                layer=layer,
                pool=pool,
                batch_tokens=batch_tokens,
                max_ref_mismatch=max_ref_mismatch,
            ),
            circular=tuple(circular or ()),
            synonyms=synonyms,
            regions=regions,
            command=shlex.join(["nexvar", *sys.argv[1:]]),
            shard=jobs.parse_shard(shard) if shard else None,
        )
    except KeyboardInterrupt:
        typer.echo("nexvar: interrupted: the finished parts are kept, the same command resumes", err=True)
        raise typer.Exit(130) from None
    report(summary.lines(explain=explain))


@app.command()
def saturate(
    region: Annotated[str, typer.Option(help="chr17:41,197,000-41,198,000 (1-based, inclusive), or a contig")],
    fasta: Annotated[Path, typer.Option(help="the reference genome")],
    output: Outputs,
    model: Model = None,
    window: Window = None,
    strand: Strand = "both",
    device: Device = "auto",
    dtype: Dtype = "auto",
    circular: Circular = None,
    explain: Explain = False,
) -> None:
    """Score every SNV of a region."""
    from nexvar import jobs
    from nexvar.score import Options

    summary = jobs.score_file(
        None,
        fasta,
        output,
        model=model,
        device=device,
        dtype=dtype,
        options=Options(window=window, strand=strand),
        circular=tuple(circular or ()),
        saturate=region,
        command=shlex.join(["nexvar", *sys.argv[1:]]),
    )
    report(summary.lines(explain=explain))


@app.command()
def merge(
    output: Annotated[Path, typer.Argument(help="the -o of `nexvar score --shard`")],
    also: Annotated[list[Path] | None, typer.Option("-o", "--output", help="write these instead")] = None,
) -> None:
    """Join the parts of all shards into the output; no model is loaded."""
    from nexvar import jobs

    report(jobs.merge(output, also).lines())
