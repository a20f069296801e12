"""nexvar generate, fill."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import Device, DeviceMap, Dtype, Model, Quantize, app, report


@app.command()
def generate(
    prompt: Annotated[list[str] | None, typer.Option(help="the beginning (repeatable)")] = None,
    fasta: Annotated[Path | None, typer.Option(help="a prompt in each record")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help=".fa; - is standard output")] = "-",
    n: Annotated[int, typer.Option("--n", help="sequences after each prompt, by seed, seed + 1, …")] = 1,
    n_tokens: Annotated[int, typer.Option(help="new tokens, at most")] = 500,
    temperature: float = 1.0,
    top_k: Annotated[int, typer.Option(help="1 is greedy, 0 keeps all")] = 4,
    top_p: float = 1.0,
    seed: int | None = None,
    alphabet: Annotated[str, typer.Option(help="letters that may be drawn; empty: every token")] = "ACGT",
    stop: Annotated[list[str] | None, typer.Option(help="text that ends a sequence (repeatable)")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="NCBI's taxdump folder or a table, for --species")] = None,
    species: Annotated[str | None, typer.Option(help="name or taxonomy id: its tag goes before the prompts")] = None,
    with_prompt: Annotated[bool, typer.Option("--with-prompt", help="write the prompt too")] = False,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    device_map: DeviceMap = None,
) -> None:
    """Continue DNA prompts, to a FASTA."""
    from nexvar.runs import sequence_files
    from nexvar.weights.load import load

    prompts = sequence_files.read_prompts(prompt or [], fasta, taxonomy, species)
    loaded = load(model or "nexvar_mito", device=device, dtype=dtype, quantize=quantize, device_map=device_map)
    lines = sequence_files.generate_file(
        loaded,
        prompts,
        output,
        n=n,
        n_tokens=n_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        alphabet=alphabet or None,
        stop=stop or (),
        with_prompt=with_prompt,
    )
    report(lines)


@app.command()
def fill(
    fasta: Annotated[Path, typer.Option(help="sequences with N")],
    model: Annotated[str, typer.Option(help="a masked model's name, alias or folder")],
    output: Annotated[str, typer.Option("-o", "--output", help=".fa; - is standard output")] = "-",
    steps: Annotated[int | None, typer.Option(help="forwards a sequence; default: one for each token")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable base")] = 0.0,
    seed: int = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    device_map: DeviceMap = None,
) -> None:
    """Replace every N by the base that a masked model expects, to a FASTA."""
    from nexvar.runs import sequence_files
    from nexvar.weights.load import load

    loaded = load(model, device=device, dtype=dtype, quantize=quantize, device_map=device_map)
    report(sequence_files.fill_file(loaded, fasta, output, steps=steps, temperature=temperature, seed=seed))
