"""nexvar benchmark noncoding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, report, verb
from nexvar.cli.benchmarking import benchmark
from nexvar.cli.options import LoadOptions, Reads, Writes

Track = Annotated[Path | None, typer.Option(help="bigWig of the same genome"), Reads()]


@verb("noncoding", group=benchmark)
def noncoding(
    *,
    vcf: Annotated[Path, typer.Option(help="ClinVar's VCF, or a VCF or TSV with labels"), Reads()],
    fasta: Annotated[Path, typer.Option(help="the genome"), Reads()],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a folder; the same command goes on"), Writes(tree=True)
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="name or folder (repeatable); none: baselines"), Reads()
    ] = None,
    register: Annotated[
        list[str] | None, typer.Option(help="Python of yours that registers wrappers of models (repeatable): it is run")
    ] = None,
    models_yaml: Annotated[
        Path | None,
        typer.Option(help="the published code's models.yaml: --model takes its keys; default: all"),
        Reads(),
    ] = None,
    annotation: Annotated[Path | None, typer.Option(help="GFF3 or GTF: the seven regions"), Reads()] = None,
    ccre: Annotated[Path | None, typer.Option(help="ENCODE's cCREs, BED: enhancers"), Reads()] = None,
    gnomad: Annotated[Path | None, typer.Option(help="gnomAD's VCF: common variants (N2)"), Reads()] = None,
    cadd: Annotated[Path | None, typer.Option(help="CADD's TSV with its tabix index"), Reads()] = None,
    phylop: Track = None,
    phastcons: Track = None,
    score: Annotated[list[str] | None, typer.Option(help="a column of scores, NAME or NAME:lower (repeatable)")] = None,
    method: Annotated[list[str] | None, typer.Option(help="zero-shot, probe, lora (repeatable)")] = None,
    negatives: Annotated[list[str] | None, typer.Option("--set", help="labelled, N1, N2, N3 (repeatable)")] = None,
    window: Annotated[list[int] | None, typer.Option(help="bases, 512 to 8192 (repeatable); default: 1024")] = None,
    only: Annotated[list[str] | None, typer.Option(help="a region that counts (repeatable); default: all")] = None,
    mane: Annotated[bool, typer.Option("--mane", help="regions by MANE Select transcripts alone")] = False,
    min_stars: Annotated[int, typer.Option(help="ClinVar's stars, at least")] = 1,
    ratio: Annotated[int, typer.Option(help="negatives a positive, at most; 1: as published; 0: all")] = 10,
    readout: Annotated[str | None, typer.Option(help="of zero-shot; default: the model's own")] = None,
    strand: Annotated[str | None, typer.Option(help="both (the default) or forward")] = None,
    epochs: Annotated[int, typer.Option(help="of LoRA")] = 10,
    rate: Annotated[float, typer.Option(help="learning rate of LoRA")] = 1e-4,
    seed: Annotated[int, typer.Option(help="of N3, folds and draws")] = 42,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 1000,
    load: LoadOptions,
) -> None:
    """Pathogenic against benign, common and random non-coding variants: models beside simple baselines."""
    from nexvar.compat import noncoding as compat
    from nexvar.compat.noncoding_yaml import not_taken, read_models_yaml
    from nexvar.evals.noncoding import pictures, tables, writing
    from nexvar.evals.noncoding.cells import Asked, Model
    from nexvar.evals.noncoding.run import Job, run

    for source in register or ():
        compat.register_from(source)
    entries = {} if models_yaml is None else read_models_yaml(models_yaml)
    models: list[Model] = []
    for name in model or list(entries):
        entry = entries.get(name)
        own = compat.wrapper(name, entry.config if entry else None)
        source = name if entry is None else entry.card.name if entry.card else entry.config["name"]
        models.append(own if own is not None else load.choice(source))
        notes = () if entry is None else entry.notes if own is not None else (*entry.notes, *not_taken(entry))
        for note in notes:
            echo(note, err=True)
    tracks = {"phyloP": phylop, "phastCons": phastcons}
    job = Job(
        vcf,
        fasta,
        output,
        models,
        Asked(method or ("zero-shot", "probe"), readout, strand, epochs, rate, seed),
        annotation=annotation,
        ccre=ccre,
        gnomad=gnomad,
        cadd=cadd,
        tracks={name: path for name, path in tracks.items() if path is not None},
        windows=window or (1024,),
        sets=negatives or (),
        only=only or (),
        mane=mane,
        scores=score or (),
        min_stars=min_stars,
        ratio=ratio,
        draws=draws,
    )
    found = run(job, lambda line: echo(line, err=True))
    rows, compared = writing.write(found, output, draws, seed)
    for line in tables.lines(rows, compared):
        echo(line)
    report([*pictures.draw(rows, found, output / "figures"), f"written to {output}"])
    found.check_models()
