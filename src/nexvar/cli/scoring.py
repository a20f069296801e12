"""nexvar score, saturate, protocols, merge."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import (
    BatchTokens,
    Begin,
    Cache,
    CacheGb,
    Circular,
    Device,
    DeviceMap,
    Dtype,
    Engine,
    Explain,
    Layer,
    Left,
    Model,
    Outputs,
    Pool,
    Protocol,
    Quantize,
    RayAddress,
    Readout,
    Span,
    Strand,
    Window,
    Windowing,
    Workers,
    app,
    report,
    resumable,
)


@app.command()
def score(
    fasta: Annotated[Path, typer.Option(help="the reference the variants were called on")],
    output: Outputs,
    variants: Annotated[list[str] | None, typer.Argument(help="instead of --vcf: 'chr17:41197722T>A'")] = None,
    vcf: Annotated[Path | None, typer.Option(help="VCF (plain, gzip, bgzip), BCF, .tsv or .hgvs; - is stdin")] = None,
    model: Model = None,
    protocol: Protocol = None,
    window: Window = None,
    left: Left = None,
    windowing: Windowing = "centred",
    readout: Readout = None,
    strand: Strand = None,
    layer: Layer = None,
    pool: Pool = None,
    begin: Begin = None,
    span: Span = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    device_map: DeviceMap = None,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Annotated[Path | None, typer.Option(help="table of contig names: the file's, the FASTA's")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED: variants outside get a status, not a score")] = None,
    haplotype: Annotated[bool, typer.Option("--haplotype", help="phased variants of one sample act together")] = False,
    sample: Annotated[str | None, typer.Option(help="whose haplotypes; default: the only sample")] = None,
    max_ref_mismatch: Annotated[float, typer.Option(help="stop above this share of wrong REFs; 1: never")] = 0.05,
    shard: Annotated[str | None, typer.Option(help="i/n: every n-th part only; then `nexvar merge`")] = None,
    workers: Workers = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    cache: Cache = None,
    cache_gb: CacheGb = 10.0,
    explain: Explain = False,
) -> None:
    """Score every allele of a VCF with a genomic language model. The same command resumes a run that was stopped."""
    from nexvar.inference.score import Options
    from nexvar.runs import jobs

    with resumable():
        summary = jobs.score_file(
            jobs.one_source(vcf, variants),
            fasta,
            output,
            model=model,
            device=device,
            dtype=dtype,
            quantize=quantize,
            device_map=device_map,
            options=Options(
                protocol=protocol,
                window=window,
                left=left,
                windowing=windowing,
                readouts=_names(readout),
                strand=strand,
                layer=layer,
                pool=pool,
                begin=begin,
                span=span,
                batch_tokens=batch_tokens,
                max_ref_mismatch=max_ref_mismatch,
            ),
            circular=tuple(circular or ()),
            synonyms=synonyms,
            regions=regions,
            haplotypes=haplotype,
            sample=sample,
            command=shlex.join(["nexvar", *sys.argv[1:]]),
            shard=jobs.parse_shard(shard) if shard is not None else None,
            workers=workers,
            engine=engine,
            ray_address=ray_address,
            cache=cache,
            cache_gb=cache_gb,
        )
    report(summary.lines(explain=explain))


def _names(text: str | None) -> tuple[str, ...] | None:
    """ "a,b" -> ("a", "b")."""
    return tuple(name.strip() for name in text.split(",")) if text is not None else None


@app.command()
def protocols() -> None:
    """List the published protocols of `--protocol`: what each fixes, and its source."""
    from nexvar.inference.scorers.protocols import PROTOCOLS

    for p in PROTOCOLS.values():
        typer.echo(f"{p.name}: {p.what}\n    {p.line()}\n    {p.source}")


@app.command()
def saturate(
    region: Annotated[str, typer.Option(help="chr17:41,197,000-41,198,000 (1-based, inclusive), or a contig")],
    fasta: Annotated[Path, typer.Option(help="the reference genome")],
    output: Outputs,
    model: Model = None,
    protocol: Protocol = None,
    window: Window = None,
    left: Left = None,
    windowing: Windowing = "centred",
    readout: Readout = None,
    strand: Strand = None,
    layer: Layer = None,
    pool: Pool = None,
    begin: Begin = None,
    span: Span = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    device_map: DeviceMap = None,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    workers: Workers = None,
    explain: Explain = False,
) -> None:
    """Score every SNV of a region."""
    from nexvar.inference.score import Options
    from nexvar.runs import jobs

    with resumable():
        summary = jobs.score_file(
            None,
            fasta,
            output,
            model=model,
            device=device,
            dtype=dtype,
            quantize=quantize,
            device_map=device_map,
            options=Options(
                protocol=protocol,
                window=window,
                left=left,
                windowing=windowing,
                readouts=_names(readout),
                strand=strand,
                layer=layer,
                pool=pool,
                begin=begin,
                span=span,
                batch_tokens=batch_tokens,
            ),
            circular=tuple(circular or ()),
            saturate=region,
            workers=workers,
            command=shlex.join(["nexvar", *sys.argv[1:]]),
        )
    report(summary.lines(explain=explain))


@app.command()
def merge(
    output: Annotated[Path, typer.Argument(help="the -o of `nexvar score --shard` or `nexvar embed --shard`")],
    also: Annotated[list[Path] | None, typer.Option("-o", "--output", help="write these instead")] = None,
) -> None:
    """Join the parts of all shards into the output; no model is loaded."""
    from nexvar.runs import embedding_file, jobs

    run = embedding_file.merge if embedding_file.is_unfinished(output) else jobs.merge
    report(run(output, also).lines())
