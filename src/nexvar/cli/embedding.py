"""nexvar embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import BatchTokens, Device, DeviceMap, Dtype, Model, Quantize, app, report


@app.command()
def embed(
    fasta: Annotated[Path, typer.Option(help="the sequences; with --bed, the genome")],
    output: Annotated[list[Path], typer.Option("-o", "--output", help=".parquet, .npz, .h5ad, .zarr (repeatable)")],
    bed: Annotated[Path | None, typer.Option(help="regions (0-based, half-open) of the genome, one row each")] = None,
    model: Model = None,
    layer: Annotated[list[str] | None, typer.Option(help="a module name (repeatable); default: the last one")] = None,
    pool: Annotated[str, typer.Option(help="mean, max, last, cls, or none: a row for each token")] = "mean",
    strand: Annotated[str, typer.Option(help="forward, reverse, or both (averaged)")] = "forward",
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    device_map: DeviceMap = None,
    batch_tokens: BatchTokens = None,
    synonyms: Annotated[Path | None, typer.Option(help="table of contig names: the BED's, the FASTA's")] = None,
    shard: Annotated[str | None, typer.Option(help="i/n: every n-th part only; then `nexvar merge`")] = None,
) -> None:
    """Embed every sequence of a FASTA or every region of a BED. The same command resumes a run that was stopped."""
    from nexvar.runs import embedding_file, jobs

    try:
        summary = embedding_file.embed_file(
            output,
            fasta=fasta,
            bed=bed,
            model=model or "nexvar_mito",
            layer=layer or None,
            pool=pool,
            strand=strand,
            batch_tokens=batch_tokens,
            device=device,
            dtype=dtype,
            quantize=quantize,
            device_map=device_map,
            synonyms=synonyms,
            shard=jobs.parse_shard(shard) if shard else None,
        )
    except KeyboardInterrupt:
        typer.echo("nexvar: interrupted: the finished parts are kept, the same command resumes", err=True)
        raise typer.Exit(130) from None
    report(summary.lines())
