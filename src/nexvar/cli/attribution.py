"""nexvar attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import importing, report, verb
from nexvar.cli.options import BatchTokens, Circular, LoadOptions, Model, Reads, Writes


@verb()
def attribute(
    *,
    fasta: Annotated[Path, typer.Option(help="the genome, or a sequence"), Reads()],
    output: Annotated[
        list[Path],
        typer.Option("-o", "--output", help=".bw, .A.bw (C, G, T), .png, .parquet, .npz (repeatable)"),
        Writes(),
    ],
    region: Annotated[
        str | None, typer.Option(help="chrM:3,230-3,304 (1-based, inclusive); default: the only record")
    ] = None,
    method: Annotated[
        str, typer.Option(help="saliency, integrated (gradients), ism (every substitution), dependency (a map)")
    ] = "saliency",
    target: Annotated[
        str,
        typer.Option(
            help="what is explained: likelihood, base:3243, base:3243G, variant:3243A>G, track:NAME[@SPECIES];"
            " output:NAME of a fine-tuned head"
        ),
    ] = "likelihood",
    model: Model = None,
    window: Annotated[
        int | None, typer.Option(help="bases that are read, the region in their middle; default: the model's")
    ] = None,
    strand: Annotated[
        str | None, typer.Option(help="of a dependency map: forward (default), reverse, or both (the larger)")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="of integrated gradients: N (default), zeros, shuffled")] = None,
    steps: Annotated[int, typer.Option(help="of integrated gradients: points on the way from the baseline")] = 50,
    shuffles: Annotated[int, typer.Option(help="of the baseline shuffled: how many")] = 10,
    seed: Annotated[int, typer.Option(help="of the shuffles")] = 0,
    load: LoadOptions,
    batch_tokens: BatchTokens = None,
    circular: Circular = None,
    synonyms: Annotated[Path | None, typer.Option(help="table of contig names"), Reads()] = None,
) -> None:
    """Why does the model say so: what each base of a region adds to a number of the model, or depends on."""
    with importing():
        from nexvar.inference.attribution import Target
        from nexvar.runs.attribute_run import AttributeJob, attribute_file
        from nexvar.weights.choice import ModelChoice
        from nexvar.weights.load import Loaded

    chosen: ModelChoice | Loaded = load.choice(model)
    wanted: str | Target = target
    if target == "output" or target.startswith("output:"):
        from nexvar.errors import NexVarError
        from nexvar.train import Predictor

        if model is None:
            raise NexVarError("a head needs its folder", where="--model", fix="the model folder of `nexvar finetune`")
        predictor = Predictor(model, load.device)
        chosen, wanted = predictor.loaded, predictor.target(target.partition(":")[2] or None)
    job = AttributeJob(
        fasta, output, chosen, region, method, wanted, window, strand, baseline, steps, shuffles, seed,
        batch_tokens, tuple(circular or ()), synonyms,
    )  # fmt: skip
    report(attribute_file(job))
