"""nexvar generate, fill."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import importing, report, verb
from nexvar.cli.options import FastaOutput, LoadOptions, Model, Reads, SamplingOptions


@verb()
def generate(
    *,
    prompt: Annotated[list[str] | None, typer.Option(help="the beginning (repeatable)")] = None,
    fasta: Annotated[Path | None, typer.Option(help="a prompt in each record"), Reads()] = None,
    output: FastaOutput = "-",
    n: Annotated[int, typer.Option("--n", help="sequences after each prompt, by seed, seed + 1, …")] = 1,
    sampling: SamplingOptions,
    seed: int | None = None,
    taxonomy: Annotated[
        Path | None, typer.Option(help="NCBI's taxdump folder or a table, for --species"), Reads()
    ] = None,
    species: Annotated[str | None, typer.Option(help="name or taxonomy id: its tag goes before the prompts")] = None,
    with_prompt: Annotated[bool, typer.Option("--with-prompt", help="write the prompt too")] = False,
    model: Model = None,
    load: LoadOptions,
) -> None:
    """Continue DNA prompts, to a FASTA."""
    with importing():
        from nexvar.runs import sequence_files

    prompts = sequence_files.read_prompts(prompt or [], fasta, taxonomy, species)
    draw = sampling.sampling()
    lines = sequence_files.generate_file(
        load.choice(model).load(),
        prompts,
        output,
        draw,
        n=n,
        seed=seed,
        with_prompt=with_prompt,
        progress=True,
    )
    report(lines)


@verb()
def fill(
    *,
    fasta: Annotated[Path, typer.Option(help="sequences with N"), Reads()],
    model: Annotated[str, typer.Option(help="a masked model's name, alias or folder"), Reads()],
    output: FastaOutput = "-",
    steps: Annotated[int | None, typer.Option(help="forwards a sequence; default: one for each token")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable base")] = 0.0,
    seed: int = 0,
    load: LoadOptions,
) -> None:
    """Replace every N by the base that a masked model expects, to a FASTA."""
    with importing():
        from nexvar.runs import sequence_files

    loaded = load.choice(model).load()
    report(sequence_files.fill_file(loaded, fasta, output, steps=steps, temperature=temperature, seed=seed))
