"""nexvar demo, eval, calibrate."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import app, echo, new_group, report, verb
from nexvar.cli.options import Reads, Writes

DEMO_FILES = tuple(f"mtdna_scored{ending}" for ending in (".vcf.gz", ".vcf.gz.tbi", ".tsv", ".parquet", ".png"))


@verb("demo")
def demonstrate(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a folder, made if need be"), Writes(names=DEMO_FILES)
    ] = Path("demo_out"),
    window: Annotated[int | None, typer.Option(help="bases around a variant (default: the model's)")] = None,
) -> None:
    """Score 796 real human mitochondrial variants with the built-in model and draw them. Nothing is downloaded."""
    from nexvar.evals import demo

    demo.run(output, window=window, command=shlex.join(["nexvar", *sys.argv[1:]]))


evaluation = new_group("Evaluate scores of labelled variants.")
app.add_typer(evaluation, name="eval")


@verb("variants", group=evaluation)
def eval_variants(
    scores: Annotated[Path, typer.Option(help="scored variants: VCF, TSV or Parquet"), Reads()],
    labels: Annotated[Path | None, typer.Option(help="labelled variants; default: the scores file"), Reads()] = None,
    score_column: Annotated[str, typer.Option("--score", help="column or INFO key of the score")] = "LLR",
    label: Annotated[str, typer.Option(help="column or INFO key of the label: 0/1, or numbers")] = "LABEL",
    positive: Annotated[str | None, typer.Option(help="the label that is class 1; all others are class 0")] = None,
    by: Annotated[str | None, typer.Option(help="column or INFO key to group by")] = None,
    cluster: Annotated[str | None, typer.Option(help="resample whole groups of this column, e.g. genes")] = None,
    higher: Annotated[bool, typer.Option("--higher", help="class 1 scores higher (default: lower)")] = False,
    against: Annotated[
        str | None, typer.Option(help="another column, or FILE:COLUMN, to compare with"), Reads(column=True)
    ] = None,
    against_higher: Annotated[bool, typer.Option("--against-higher", help="the direction of --against")] = False,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 1000,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="folder for metrics.tsv and .png"),
        Writes(names=("metrics.tsv", "metrics.png")),
    ] = None,
) -> None:
    """AUROC, AUPRC, MCC and F1 with 95 % intervals, overall and by group; Spearman for continuous labels."""
    from nexvar.evals import variants

    found = variants.run(
        scores,
        labels,
        score=score_column,
        label=label,
        positive=positive,
        by=by,
        cluster=cluster,
        higher=higher,
        against=against,
        against_higher=against_higher,
        draws=draws,
    )
    written = variants.write(found, output, title=scores.name) if output is not None else []
    for line in (*found.notes, *variants.table(found.rows), *variants.compare(found, draws=draws), *written):
        echo(line)


@verb("annotation", group=evaluation)
def eval_annotation(
    probabilities: Annotated[
        Path, typer.Argument(help="what `nexvar annotate` wrote: .parquet, or its -o of bigWigs (out.bw)"), Reads()
    ],
    gff3: Annotated[Path, typer.Option(help="the annotation that is taken for the truth: GFF3, GTF"), Reads()],
    fasta: Annotated[Path, typer.Option(help="the genome of both"), Reads()],
    threshold: Annotated[float, typer.Option(help="probability from which a base counts as in the element")] = 0.5,
    gap: Annotated[int, typer.Option(help="bases between two segments that join them, at most")] = 0,
    min_length: Annotated[int, typer.Option(help="shorter segments are left out")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for metrics.tsv"), Writes(names=("metrics.tsv",))
    ] = None,
) -> None:
    """MCC, AUPRC and segment overlap of each element, over every base that has a probability."""
    from nexvar.evals import annotation

    found = annotation.run(probabilities, gff3, fasta, threshold=threshold, gap=gap, min_length=min_length)
    written = annotation.write(found, output) if output is not None else []
    for line in (*annotation.table(found), *written):
        echo(line)


@verb()
def calibrate(
    scores: Annotated[Path, typer.Option(help="VCF or Parquet that `nexvar score` wrote"), Reads()],
    fasta: Annotated[Path, typer.Option(help="the genome"), Reads()],
    output: Annotated[Path, typer.Option("-o", "--output", help="the calibration, .json"), Writes()],
    labels: Annotated[Path | None, typer.Option(help="labelled variants; default: the scores file"), Reads()] = None,
    score_column: Annotated[str, typer.Option("--score", help="column or INFO key of the score")] = "LLR",
    label: Annotated[str, typer.Option(help="column or INFO key of the label: 0/1")] = "LABEL",
    positive: Annotated[str | None, typer.Option(help="the label that is class 1; all others are class 0")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED: it is made of, and for, what lies inside"), Reads()] = None,
    region_class: Annotated[str, typer.Option(help="what these regions are, such as tRNA")] = "",
    higher: Annotated[bool, typer.Option("--higher", help="class 1 scores higher (default: lower)")] = False,
    prior: Annotated[float, typer.Option(help="share of class 1 among the variants it will judge")] = 0.0441,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 1000,
) -> None:
    """Turn labelled scores into a calibration: probability, and strength of evidence with bounds. Research output."""
    from nexvar.evals import calibration

    made, lines = calibration.calibrate(
        scores,
        fasta,
        labels,
        score=score_column,
        label=label,
        positive=positive,
        regions=regions,
        region_class=region_class,
        higher=higher,
        prior=prior,
        draws=draws,
    )
    made.write(output)
    report([*lines, f"written to {output}"])
