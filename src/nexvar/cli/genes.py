"""nexvar orfs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import report, verb
from nexvar.cli.options import Reads, Writes

Code = Annotated[int, typer.Option(help="NCBI's genetic code: 1 standard, 2 vertebrate mitochondria, 11 bacteria, …")]


@verb()
def orfs(
    *,
    fasta: Annotated[Path, typer.Argument(help="sequences or a genome"), Reads()],
    output: Annotated[Path, typer.Option("-o", "--output", help=".bed, .tsv (with proteins) or .faa"), Writes()],
    code: Code = 1,
    least: Annotated[int, typer.Option(help="codons, the stop not counted")] = 50,
    kind: Annotated[str, typer.Option(help="open: between stops; complete: start codon to stop codon")] = "open",
) -> None:
    """Reading frames on both strands, under any of NCBI's genetic codes."""
    from nexvar.evals.orfs import write_frames

    report([write_frames(fasta, output, code=code, least=least, kind=kind)])
