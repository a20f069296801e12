"""The application object and the options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
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
Outputs = Annotated[list[Path], typer.Option("-o", "--output", help=".vcf, .vcf.gz, .tsv, .parquet (repeatable)")]
Window = Annotated[int | None, typer.Option(help="bases around a variant; default: the model's")]
Strand = Annotated[str, typer.Option(help="both (averaged, each kept) or forward")]
BatchTokens = Annotated[int | None, typer.Option(help="tokens in one forward; default: by device")]
Circular = Annotated[list[str] | None, typer.Option(help="a circular contig (repeatable); chrM is one")]
Explain = Annotated[bool, typer.Option(help="say how many tokens were computed and how many were shared")]


def report(lines: Sequence[str]) -> None:
    """What a person reads at the end of a run, on standard error."""
    for line in [*lines, RESEARCH_ONLY]:
        typer.echo(line, err=True)
