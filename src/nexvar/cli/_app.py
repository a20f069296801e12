"""The application object and the options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

RESEARCH_ONLY = "Scores are research output, not a diagnosis."

app = typer.Typer(
    help=f"Genomic foundation models in plain PyTorch. {RESEARCH_ONLY}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[str | None, typer.Option(help="A model's name, alias or folder; `nexvar models` lists them.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
Dtype = Annotated[str, typer.Option(help="auto (the card's), float32, bfloat16, float16")]
Quantize = Annotated[str | None, typer.Option(help="int8, int4 or nf4: large layers in 8 or 4 bits")]
DeviceMap = Annotated[str | None, typer.Option(help="auto: what does not fit the device lies in memory or on disk")]
Outputs = Annotated[
    list[Path], typer.Option("-o", "--output", help=".vcf, .vcf.gz, .tsv, .parquet, .bw, .png (repeatable)")
]
Window = Annotated[int | None, typer.Option(help="bases around a variant; default: the model's")]
Left = Annotated[int | None, typer.Option(help="of these, how many stand before the variant; default: half")]
Readout = Annotated[str | None, typer.Option(help="one or more, by comma; default: the model's")]
Protocol = Annotated[str | None, typer.Option(help="a published protocol; `nexvar protocols` lists them")]
Windowing = Annotated[
    str, typer.Option(help="centred, or tiled: variants of a stretch share a window (another score, *_TILED)")
]
Strand = Annotated[str | None, typer.Option(help="both (averaged, each kept; the default) or forward")]
Layer = Annotated[str | None, typer.Option(help="of embedding readouts; default: the last hidden state")]
Pool = Annotated[str | None, typer.Option(help="of embeddings: mean (default), max, last, cls, site, site+N or flat")]
Begin = Annotated[bool | None, typer.Option(help="the model's begin token before every window; default: the card's")]
Span = Annotated[
    int | None, typer.Option(help="bases that count beside the allele: of pll on each side, of site behind it")
]
BatchTokens = Annotated[int | None, typer.Option(help="tokens in one forward; default: by device")]
Circular = Annotated[list[str] | None, typer.Option(help="a circular contig (repeatable); chrM is one")]
Workers = Annotated[
    int | None, typer.Option(help="processes, each with the model: one per GPU, or on the CPU; with ray: actors")
]
Engine = Annotated[str, typer.Option(help="local, or ray: actors of a cluster")]
RayAddress = Annotated[str | None, typer.Option(help="of a running cluster; default: one is started here")]
Cache = Annotated[Path | None, typer.Option(help="a folder that keeps pooled embeddings for other runs")]
CacheGb = Annotated[float, typer.Option(help="its size at most, in GB")]
Explain = Annotated[bool, typer.Option(help="say how many tokens were computed and how many were shared")]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C and SIGTERM (an exit of 143) say that nothing is lost."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        interrupted = isinstance(stop, KeyboardInterrupt)
        what = "interrupted" if interrupted else "terminated"
        typer.echo(f"nexvar: {what}: the finished parts are kept, the same command resumes", err=True)
        raise typer.Exit(130 if interrupted else 143) from None


def report(lines: Sequence[str]) -> None:
    """What a person reads at the end of a run, on standard error."""
    for line in [*lines, RESEARCH_ONLY]:
        typer.echo(line, err=True)
