"""nexvar score, saturate, protocols, merge."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexvar.cli._app import echo, importing, report, verb
from nexvar.cli.options import (
    CalibrationFile,
    Circular,
    DryRun,
    Explain,
    LoadOptions,
    Merges,
    Model,
    Outputs,
    PlacementOptions,
    Reads,
    ScoringOptions,
    SpreadsheetSafe,
    Workers,
    Writes,
)
from nexvar.doors import resumable
from nexvar.errors import NexVarError

if TYPE_CHECKING:
    from nexvar.runs.job import InputFiles


@verb()
def score(
    *,
    fasta: Annotated[Path, typer.Option(help="the reference the variants were called on"), Reads()],
    output: Outputs = None,
    variants: Annotated[list[str] | None, typer.Argument(help="instead of --vcf: 'chr17:41197722T>A'")] = None,
    vcf: Annotated[Path | None, typer.Option(help="VCF, BCF, MAF, .tsv, .hgvs; - is stdin"), Reads()] = None,
    model: Model = None,
    scoring: ScoringOptions,
    load: LoadOptions,
    circular: Circular = None,
    synonyms: Annotated[
        Path | None, typer.Option(help="table of contig names: the file's, the FASTA's"), Reads()
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="BED: variants outside get a status, not a score"), Reads()
    ] = None,
    haplotype: Annotated[bool, typer.Option("--haplotype", help="phased variants of one sample act together")] = False,
    sample: Annotated[str | None, typer.Option(help="whose haplotypes; default: the only sample")] = None,
    max_ref_mismatch: Annotated[
        float, typer.Option(help="stop above this share of wrong REFs, or for another assembly; 1: go on")
    ] = 0.05,
    placement: PlacementOptions,
    calibration: CalibrationFile = None,
    spreadsheet_safe: SpreadsheetSafe = False,
    explain: Explain = False,
    dry_run: DryRun = False,
) -> None:
    """Score every allele of a VCF with a genomic language model. The same command resumes a run that was stopped."""
    with importing():
        from nexvar.runs.job import InputFiles, one_source

    source = one_source(vcf, variants)
    files = InputFiles(
        fasta, source, synonyms=synonyms, circular=tuple(circular or ()), regions=regions, haplotypes=haplotype,
        sample=sample,
    )  # fmt: skip
    _run(
        files, output, explain, dry_run,
        model=load.choice(model), options=scoring.options(max_ref_mismatch), placement=placement.placement(),
        spreadsheet_safe=spreadsheet_safe, calibration=calibration,
    )  # fmt: skip


@verb()
def saturate(
    *,
    region: Annotated[
        str | None, typer.Option(help="chr17:41,197,000-41,198,000 (1-based, inclusive), or a contig")
    ] = None,
    fasta: Annotated[Path, typer.Option(help="the reference genome"), Reads()],
    output: Outputs = None,
    cds: Annotated[
        str | None,
        typer.Option(help="instead: every codon of this transcript or gene; -o .tsv, .png"),
    ] = None,
    annotation: Annotated[
        Path | None, typer.Option("--gff3", "--gtf", "--bed", help="of --cds: where it lies"), Reads()
    ] = None,
    spliced: Annotated[bool, typer.Option("--spliced", help="of --cds: read the spliced transcript")] = False,
    residues: Annotated[str | None, typer.Option(help="of --cds: only these, such as 1-100")] = None,
    code: Annotated[
        int | None, typer.Option(help="of --cds: NCBI's genetic code, default 1; 2: vertebrate mitochondria")
    ] = None,
    model: Model = None,
    scoring: ScoringOptions,
    load: LoadOptions,
    circular: Circular = None,
    workers: Workers = None,
    spreadsheet_safe: SpreadsheetSafe = False,
    explain: Explain = False,
    dry_run: DryRun = False,
) -> None:
    """Score every SNV of a region, or every codon change of a coding sequence (--cds)."""
    with importing():
        from nexvar.runs.job import InputFiles, Placement

    fields = {
        "model": load.choice(model), "options": scoring.options(), "placement": Placement(workers=workers),
        "spreadsheet_safe": spreadsheet_safe,
    }  # fmt: skip
    rings = tuple(circular or ())
    if (region is None) == (cds is None):
        raise NexVarError("give a region or a coding sequence, one of them", where="--region", fix="or --cds")
    if cds is None:
        if spliced or any(each is not None for each in (annotation, residues, code)):
            raise NexVarError(
                "--gff3, --spliced, --residues and --code are of --cds", where="--cds", fix="name a transcript"
            )
        _run(InputFiles(fasta, saturate=region, circular=rings), output, explain, dry_run, **fields)
        return
    if annotation is None or dry_run:
        what = "--cds without an annotation" if annotation is None else "no dry run of a coding sequence"
        raise NexVarError(what, where="--gff3" if annotation is None else "--dry-run",
                          fix="give a GFF3, GTF or BED12" if annotation is None else "leave it out")  # fmt: skip
    _codons(fasta, annotation, cds, output or [], explain, fields, on_transcript=spliced, residues=residues,
            code=1 if code is None else code, circular=rings)  # fmt: skip


def _codons(
    fasta: Path, annotation: Path, cds: str, output: list[Path], explain: bool, fields: dict[str, Any], **choices: Any
) -> None:
    """``saturate --cds``. choices: of ``saturate_cds``."""
    from nexvar.evals.genes.codons import saturate_cds
    from nexvar.runs.job import ScoreJob
    from nexvar.runs.progress import progress_bar

    command = shlex.join(["nexvar", *sys.argv[1:]])
    with resumable(), progress_bar("allele") as bar:
        summary, lines = saturate_cds(
            fasta, annotation, cds, output,
            lambda files, target: ScoreJob(files, target, command=command, progress=bar, **fields), **choices,
        )  # fmt: skip
    report([*summary.lines(explain=explain), *lines])


def _run(files: InputFiles, output: list[Path] | None, explain: bool, dry: bool, **fields: Any) -> None:
    """Do the job with a bar, record the command, report; or say what it would do. fields: of ``ScoreJob``."""
    with importing():
        from nexvar.runs.dry_run import dry_run
        from nexvar.runs.job import ScoreJob
        from nexvar.runs.progress import progress_bar
        from nexvar.runs.score_run import score_file

    if dry:
        for line in dry_run(ScoreJob(files, output or (), **fields)).lines():
            echo(line)
        return
    command = shlex.join(["nexvar", *sys.argv[1:]])
    with resumable(), progress_bar("allele") as bar:
        summary = score_file(ScoreJob(files, output or (), command=command, progress=bar, **fields))
    report(summary.lines(explain=explain))


@verb()
def protocols() -> None:
    """List the published protocols of `--protocol`: what each fixes, and its source."""
    from nexvar.inference.scorers.protocols import PROTOCOLS

    for p in PROTOCOLS.values():
        echo(f"{p.name}: {p.what}\n    {p.line()}\n    {p.source}")


@verb()
def merge(
    output: Annotated[
        Path,
        typer.Argument(help="the -o of a run with --shard: score, embed, likelihood, tracks, annotate"),
        Merges(),
    ],
    also: Annotated[list[Path] | None, typer.Option("-o", "--output", help="write these instead"), Writes()] = None,
    calibration: CalibrationFile = None,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Join the parts of all shards into the output; no model is loaded."""
    from nexvar.runs import annotate_run, embed_run, likelihood_run, parts, score_run, tracks_run

    kinds = {run.KIND: run.merge for run in (annotate_run, embed_run, likelihood_run, tracks_run)}
    kind = parts.unfinished_kind(output)
    if kind is not None and kind not in kinds:
        what = f"parts of `nexvar {kind}`"
        raise NexVarError(what, where=output, fix="the same command goes on, and writes the output")
    merge_parts = kinds.get(kind or "")
    if merge_parts is not None and calibration is not None:
        raise NexVarError("these parts are no scores", where="--calibration", fix="leave it out")
    if merge_parts is not None:
        report(merge_parts(output, also).lines())
    else:
        report(score_run.merge(output, also, spreadsheet_safe=spreadsheet_safe, calibration=calibration).lines())
