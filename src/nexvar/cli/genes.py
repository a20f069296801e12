"""nexvar orfs, essentiality, completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import report, verb
from nexvar.cli.options import LoadOptions, Model, Reads, Writes
from nexvar.doors import resumable

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


@verb()
def essentiality(
    *,
    fasta: Annotated[Path, typer.Option(help="the genome"), Reads()],
    labels: Annotated[Path, typer.Option(help="table of genes: gene or locus_tag, essential (0/1)"), Reads()],
    output: Annotated[Path, typer.Option("-o", "--output", help="a row for each gene: .tsv"), Writes(parts=True)],
    annotation: Annotated[
        Path | None,
        typer.Option(
            "--gff3",
            "--gtf",
            "--bed",
            help="where the genes are; default: contig, start, end, strand, exons of --labels",
        ),
        Reads(),
    ] = None,
    label: Annotated[str, typer.Option(help="the column of the label")] = "essential",
    context: Annotated[int, typer.Option(help="bases of the genome on each side")] = 4096,
    stops: Annotated[str, typer.Option(help="what is inserted into the CDS")] = "TAATAATAATAGTGA",
    every: Annotated[int, typer.Option(help="before its bases 0, N, 2N, …")] = 12,
    repeats: Annotated[int, typer.Option(help="how often at each place")] = 1,
    longest: Annotated[int | None, typer.Option(help="only genes of at most so many coding bases")] = None,
    sample: Annotated[int | None, typer.Option(help="so many genes of each class, by lot")] = None,
    seed: Annotated[int, typer.Option(help="of the lot")] = 0,
    code: Code = 11,
    model: Model = None,
    load: LoadOptions,
) -> None:
    """Which genes matter, by premature stop codons in each. The same command resumes a run that was stopped."""
    from nexvar.evals.genes.essentiality import Choice, Protocol
    from nexvar.evals.genes.essentiality import essentiality as run
    from nexvar.runs.progress import progress_bar

    protocol, choice = Protocol(stops, every, repeats, context), Choice(longest, sample, seed)
    with resumable(), progress_bar("gene") as bar:
        lines = run(
            load.choice(model), fasta, labels, output, annotation=annotation, label=label, code=code, protocol=protocol,
            choice=choice, progress=bar,
        )  # fmt: skip
    report(lines)


@verb()
def completion(
    *,
    genes: Annotated[list[Path], typer.Option(help="a panel: CSV as Evo 2's benchmark has them (repeatable)"), Reads()],
    output: Annotated[Path, typer.Option("-o", "--output", help="a row for each sample: .tsv"), Writes(parts=True)],
    only: Annotated[list[str] | None, typer.Option(help="one of the genes (repeatable)")] = None,
    samples: Annotated[int, typer.Option(help="of each gene")] = 50,
    top_k: Annotated[int, typer.Option(help="tokens to draw among")] = 4,
    temperature: Annotated[float | None, typer.Option(help="default: 0.7 prokaryotes, 1.0 eukaryotes")] = None,
    seed: Annotated[int, typer.Option(help="of the first sample; the next has one more")] = 0,
    model: Model = None,
    load: LoadOptions,
) -> None:
    """How much of a protein comes back when a model goes on with its gene. The same command resumes a stopped run."""
    from nexvar.evals.genes.completion import complete
    from nexvar.runs.progress import progress_bar

    with resumable(), progress_bar("sample") as bar:
        lines = complete(
            load.choice(model), genes, output, only=only or (), samples=samples, top_k=top_k, temperature=temperature,
            seed=seed, progress=bar,
        )  # fmt: skip
    report(lines)
