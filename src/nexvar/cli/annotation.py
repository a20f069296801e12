"""nexvar annotate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import importing, report, verb
from nexvar.cli.options import BatchTokens, Circular, LoadOptions, MergedBed, Model, Reads, Shard, Synonyms, Writes
from nexvar.doors import resumable


@verb()
def annotate(
    *,
    fasta: Annotated[Path, typer.Option(help="the sequences, or a genome"), Reads()],
    output: Annotated[
        list[Path],
        typer.Option("-o", "--output", help=".bw (one an element), .bed, .gff3 (segments), .parquet (repeatable)"),
        Writes(parts=True),
    ],
    bed: MergedBed = None,
    region: Annotated[str | None, typer.Option(help="one: chr17:41,197,000-41,198,000 (1-based) or a contig")] = None,
    model: Model = None,
    threshold: Annotated[float, typer.Option(help="probability from which a base is in a segment")] = 0.5,
    gap: Annotated[int, typer.Option(help="bases between two segments of an element that join them, at most")] = 0,
    min_length: Annotated[int, typer.Option(help="shorter segments are left out; splice sites are short")] = 1,
    window: Annotated[int | None, typer.Option(help="bases that the model sees at once; default: the model's")] = None,
    overlap: Annotated[int | None, typer.Option(help="bases beside each one, at least; default: window/4")] = None,
    strand: Annotated[str, typer.Option(help="forward, reverse, or both (averaged)")] = "forward",
    species: Annotated[str | None, typer.Option(help="of models that ask for one; default: the model's")] = None,
    load: LoadOptions,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Synonyms = None,
    shard: Shard = None,
) -> None:
    """Genes, exons, splice sites, enhancers, … at every base. The same command resumes a run that was stopped."""
    with importing():
        from nexvar.runs.annotate_run import annotate_file
        from nexvar.runs.job import AnnotateJob, AnnotateOptions, SequenceFiles, parse_shard
        from nexvar.runs.progress import progress_bar

    with resumable(), progress_bar("base") as bar:
        job = AnnotateJob(
            SequenceFiles(fasta, bed, synonyms),
            output,
            model=load.choice(model),
            options=AnnotateOptions(
                window, overlap, strand, species, threshold, gap, min_length, region, tuple(circular or ()),
                batch_tokens,
            ),
            shard=None if shard is None else parse_shard(shard),
            progress=bar,
        )  # fmt: skip
        summary = annotate_file(job)
    report(summary.lines())
