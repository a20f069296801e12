"""The command line: verbs -> functions. No logic here; heavy imports happen inside the verbs."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from nexvar.errors import EXIT_BAD_INPUT, NexVarError

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


@app.command()
def score(
    vcf: Annotated[Path, typer.Option(help="VCF (plain, gzip, bgzip), BCF, .tsv or .hgvs; - for standard input")],
    fasta: Annotated[Path, typer.Option(help="the reference the variants were called on")],
    output: Annotated[list[Path], typer.Option("-o", "--output", help=".vcf, .vcf.gz, .tsv, .parquet (repeatable)")],
    model: Model = None,
    window: Annotated[int | None, typer.Option(help="bases around a variant; default: the model's")] = None,
    readout: Annotated[str | None, typer.Option(help="one or more, by comma; default: the model's")] = None,
    strand: Annotated[str, typer.Option(help="both (averaged, each kept) or forward")] = "both",
    layer: Annotated[str | None, typer.Option(help="of embedding readouts; default: the last hidden state")] = None,
    pool: Annotated[str, typer.Option(help="of embedding readouts: mean, max, last")] = "mean",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: Annotated[int | None, typer.Option(help="tokens in one forward; default: by device")] = None,
    circular: Annotated[list[str] | None, typer.Option(help="a circular contig (repeatable); chrM is one")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="table of contig names: the file's, the FASTA's")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED: variants outside get a status, not a score")] = None,
    max_ref_mismatch: Annotated[float, typer.Option(help="stop above this share of wrong REFs; 1: never")] = 0.05,
    shard: Annotated[str | None, typer.Option(help="i/n: every n-th part only; then `nexvar merge`")] = None,
    explain: Annotated[bool, typer.Option(help="say how many tokens were computed and how many were shared")] = False,
) -> None:
    """Score every allele of a VCF with a genomic language model. The same command resumes a run that was stopped."""
    from nexvar import jobs
    from nexvar.score import Options

    try:
        summary = jobs.score_file(
            vcf,
            fasta,
            output,
            model=model,
            device=device,
            dtype=dtype,
            options=Options(
                window=window,
                readouts=tuple(readout.split(",")) if readout else None,
                strand=strand,
                layer=layer,
                pool=pool,
                batch_tokens=batch_tokens,
                max_ref_mismatch=max_ref_mismatch,
            ),
            circular=tuple(circular or ()),
            synonyms=synonyms,
            regions=regions,
            command=shlex.join(["nexvar", *sys.argv[1:]]),
            shard=jobs.parse_shard(shard) if shard else None,
        )
    except KeyboardInterrupt:
        typer.echo("nexvar: interrupted: the finished parts are kept, the same command resumes", err=True)
        raise typer.Exit(130) from None
    _report(summary.lines(explain=explain))


@app.command()
def saturate(
    region: Annotated[str, typer.Option(help="chr17:41,197,000-41,198,000 (1-based, inclusive), or a contig")],
    fasta: Annotated[Path, typer.Option(help="the reference genome")],
    output: Annotated[list[Path], typer.Option("-o", "--output", help=".vcf, .vcf.gz, .tsv, .parquet (repeatable)")],
    model: Model = None,
    window: Annotated[int | None, typer.Option(help="bases around a variant; default: the model's")] = None,
    strand: Annotated[str, typer.Option(help="both (averaged, each kept) or forward")] = "both",
    device: Device = "auto",
    dtype: Dtype = "auto",
    circular: Annotated[list[str] | None, typer.Option(help="a circular contig (repeatable); chrM is one")] = None,
    explain: Annotated[bool, typer.Option(help="say how many tokens were computed and how many were shared")] = False,
) -> None:
    """Score every SNV of a region."""
    from nexvar import jobs
    from nexvar.score import Options

    summary = jobs.score_file(
        None,
        fasta,
        output,
        model=model,
        device=device,
        dtype=dtype,
        options=Options(window=window, strand=strand),
        circular=tuple(circular or ()),
        saturate=region,
        command=shlex.join(["nexvar", *sys.argv[1:]]),
    )
    _report(summary.lines(explain=explain))


@app.command()
def merge(
    output: Annotated[Path, typer.Argument(help="the -o of `nexvar score --shard`")],
    also: Annotated[list[Path] | None, typer.Option("-o", "--output", help="write these instead")] = None,
) -> None:
    """Join the parts of all shards into the output; no model is loaded."""
    from nexvar import jobs

    _report(jobs.merge(output, also).lines())


def _report(lines: list[str]) -> None:
    for line in [*lines, RESEARCH_ONLY]:
        typer.echo(line, err=True)


@app.command()
def models(
    fits: Annotated[bool, typer.Option("--fits", help="only those whose weights fit this machine")] = False,
) -> None:
    """List every checkpoint: parameters, context, licence, and what was verified."""
    from nexvar import machine
    from nexvar.cards import all_cards

    fitting = {card.name for card in machine.fitting()} if fits else None
    rows = [("name", "parameters", "context", "weights", "objective", "licence", "parity")]
    for card in all_cards().values():
        if fitting is None or card.name in fitting or card.repo is None:
            size = machine.human_bytes(machine.weight_bytes(card))
            numbers = (f"{card.parameters:,}", f"{card.context:,}", size)
            rows.append((card.name, *numbers, card.objective, card.licence.split(";")[0], card.parity))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a model's name, alias or hub repository")],
    revision: Annotated[str | None, typer.Option(help="instead of the pinned one; checksums then do not apply")] = None,
) -> None:
    """Download a checkpoint beforehand: resumes, checks sizes and checksums, converts torch files to safetensors."""
    from nexvar import cards, hub

    card = cards.get(name)
    folder = hub.fetch(card, revision)
    hub.read_weights(card, folder)
    typer.echo(folder)


@app.command()
def generate(
    prompt: Annotated[list[str], typer.Option(help="the beginning (repeatable)")],
    n_tokens: Annotated[int, typer.Option(help="new tokens")] = 500,
    temperature: float = 1.0,
    top_k: Annotated[int, typer.Option(help="1 is greedy, 0 keeps all")] = 4,
    top_p: float = 1.0,
    seed: int | None = None,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Continue DNA prompts; FASTA on standard output."""
    from nexvar.nexvar import NexVar

    loaded = NexVar(model or "nexvar_mito", device=device, dtype=dtype)
    result = loaded.generate(
        prompt, n_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, progress=True
    )
    for i, (sequence, logprob) in enumerate(zip(result.sequences, result.logprobs_mean, strict=True), start=1):
        typer.echo(f">generated_{i} model={loaded.card.name} mean_log_prob={logprob:.4f}\n{sequence}")


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(help="a recipe.toml (see recipes/)")],
) -> None:
    """Train a model from scratch, or resume: the recipe says all."""
    from nexvar.train import pretrain as run

    run(recipe)


evaluation = typer.Typer(help="Evaluate scores and models.", no_args_is_help=True)
app.add_typer(evaluation, name="eval")


@evaluation.command("variants")
def eval_variants(
    scores: Annotated[Path, typer.Option(help="scored variants: VCF, TSV or Parquet")],
    labels: Annotated[Path | None, typer.Option(help="labelled variants; default: the scores file")] = None,
    score_column: Annotated[str, typer.Option("--score", help="column or INFO key of the score")] = "LLR",
    label: Annotated[str, typer.Option(help="column or INFO key of the label: 0/1, or numbers")] = "LABEL",
    positive: Annotated[str | None, typer.Option(help="the label that is class 1; all others are class 0")] = None,
    by: Annotated[str | None, typer.Option(help="column or INFO key to group by")] = None,
    cluster: Annotated[str | None, typer.Option(help="resample whole groups of this column, e.g. genes")] = None,
    higher: Annotated[bool, typer.Option("--higher", help="class 1 scores higher (default: lower)")] = False,
    against: Annotated[str | None, typer.Option(help="another column, or FILE:COLUMN, to compare with")] = None,
    against_higher: Annotated[bool, typer.Option("--against-higher", help="the direction of --against")] = False,
    draws: Annotated[int, typer.Option(help="bootstrap draws")] = 1000,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="folder for metrics.tsv and .png")] = None,
) -> None:
    """AUROC, AUPRC, MCC and F1 with 95 % intervals, overall and by group; Spearman for continuous labels."""
    from nexvar.evals import variants

    report = variants.run(
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
    written = variants.write(report, output, title=str(scores)) if output is not None else []
    for line in (*report.notes, *variants.table(report.rows), *variants.compare(report, draws=draws), *written):
        typer.echo(line)


def main() -> None:
    """Entry point: every NexVarError is one line on standard error and exit code 2."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that temporary files are removed
    try:
        app()
    except NexVarError as error:
        typer.echo(f"nexvar: {error}", err=True)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
