"""``nexvar demo``: score real human mitochondrial variants with the built-in model, and look at the result.

    796 labelled variants + rCRS (shipped) -> nexvar_mito -> VCF, TSV, Parquet -> AUROC by region -> one figure

Nothing is downloaded. The labels are read only after scoring, to draw the table and the figure.
"""

from __future__ import annotations

import time
from collections import Counter
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nexvar import cards
from nexvar.errors import RESEARCH_ONLY, NexVarError
from nexvar.evals import mito_figure, variants
from nexvar.evals.tables import read_table

MODEL = "nexvar_mito"
NEXT = """Now your own:
  nexvar score --vcf mine.vcf.gz --fasta genome.fa -o scored.vcf.gz   a file; without --model it names those that fit
  nexvar models --fits                                                which models fit this machine, and how
  nexvar serve                                                        the same on a page, offline (extra: serve)"""


def shipped(name: str) -> Path:
    """A data file of the package."""
    return Path(str(resources.files("nexvar") / "data" / name))


def run(
    folder: Path, *, vcf: Path | None = None, window: int | None = None, command: str = "nexvar demo"
) -> list[Path]:
    """Score, evaluate, draw (where matplotlib is there); returns the files written.

    vcf: others than the labelled variants of the package. command: what the scored files say they were made by.
    """
    from nexvar.inference.options import Options
    from nexvar.runs.job import InputFiles, ScoreJob
    from nexvar.runs.progress import progress_bar
    from nexvar.runs.score_run import score_file
    from nexvar.weights.choice import ModelChoice

    vcf = vcf or shipped("mtdna_labelled.vcf")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made ({error.strerror})"
        raise NexVarError(what, where=folder, fix="choose a folder that is yours") from None
    scored = [folder / f"mtdna_scored{ending}" for ending in (".vcf.gz", ".tsv", ".parquet")]
    card = cards.get(MODEL)
    size = f"{card.parameters / 1e6:.1f} M parameters"
    print(f"Scoring the human mitochondrial variants of {vcf.name} with {MODEL} ({size}, built in) …", flush=True)

    start = time.monotonic()
    with progress_bar("allele") as bar:
        job = ScoreJob(
            InputFiles(shipped("chrM_rCRS.fa"), vcf),
            scored,
            model=ModelChoice(MODEL),
            options=Options(window=window),
            command=command,
            progress=bar,
        )
        summary = score_file(job)
    seconds = time.monotonic() - start
    for line in summary.lines(explain=True):
        print(line)
    print(f"scored in {seconds:.0f} s\n")

    report = variants.run(scored[0], by="REGION")
    for line in variants.table(report.rows):
        print(line)
    print("class 1: pathogenic, class 0: benign (ClinVar, MITOMAP); bootstrap 95 % intervals\n")
    files = {scored[0]: "annotated VCF", scored[1]: "the same as a table", scored[2]: "the same for programs"}
    files[Path(f"{scored[0]}.tbi")] = "its tabix index"
    if find_spec("matplotlib") is not None:
        files[draw(report, scored[0], folder / "mtdna_scored.png", size)] = "the figure"
    for path, note in files.items():
        print(f"{path}  {path.stat().st_size / 1000:,.0f} kB  {note}")
    if find_spec("matplotlib") is None:
        print("no figure: pip install 'nexvar[plots]'")
    print(f"\n{NEXT}\n\n{RESEARCH_ONLY}")
    return list(files)


def draw(report: variants.Report, scored: Path, path: Path, size: str) -> Path:
    """The figure, regions from the most to the fewest variants."""
    positions = np.array(read_table(scored)["pos"])[report.index]
    by_size = [region for region, _ in Counter(report.groups).most_common()]
    order = np.argsort([by_size.index(region) for region in report.groups], kind="stable")
    rows = sorted(report.rows, key=lambda row: -1 if row.group == "all" else by_size.index(row.group))
    pathogenic = int(report.labels.sum())
    return mito_figure.draw(
        path,
        positions=positions[order],
        badness=report.badness[order],
        labels=report.labels[order],
        regions=list(report.groups[order]),
        rows=rows,
        title="Human mitochondrial variants, scored by a model that never saw a human",
        subtitle=f"{MODEL} ({size}), zero-shot: {len(positions):,} variants with a clinical label, "
        f"{pathogenic} of them pathogenic",
        score_name="log-likelihood lost (nats)",
    )
