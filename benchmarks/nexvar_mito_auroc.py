"""Pathogenic against benign human variants, by nexvar_mito beside phyloP100 and the order-11 Markov model.

    python benchmarks/nexvar_mito_auroc.py --genomes chordata_mitogenomes.fa.gz --snvs mtdna_snvs.tsv.gz [--model DIR]

With bootstrap intervals; with --seen never-seen against seen transitions (gnomAD), too, which need no clinical label.
The labels are read here and nowhere else.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
import time
from pathlib import Path

import numpy as np

from _nexvar_mito import (
    LABELLED,
    RCRS,
    open_split,
    parser,
)
from nexvar.evals import metrics
from nexvar.inference.options import Options
from nexvar.runs.job import InputFiles, ScoreJob
from nexvar.runs.score_run import score_file
from nexvar.train import data
from nexvar.train.markov import Markov
from nexvar.weights.choice import ModelChoice


def model_scores(variants: list[tuple[int, str, str]], options: argparse.Namespace) -> np.ndarray:
    """Alt against ref, both strands averaged, through the public scoring path."""
    readouts = None if options.readout is None else (options.readout,)
    settings = Options(window=options.window, readouts=readouts, span=options.span)
    with tempfile.TemporaryDirectory() as folder:
        vcf, out = Path(folder) / "in.vcf", Path(folder) / "out.tsv"
        lines = [f"chrM\t{p}\t.\t{r}\t{a}\t.\t.\t.\n" for p, r, a in variants]
        vcf.write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(lines))
        score_file(ScoreJob(InputFiles(RCRS, vcf), out, model=ModelChoice(options.model), options=settings))
        with out.open() as file:
            rows = {(int(r["POS"]), r["REF"], r["ALT"]): r["LLR"] for r in csv.DictReader(file, delimiter="\t")}
    return np.array([np.nan if rows[v] == "NA" else float(rows[v]) for v in variants])


def markov_scores(strands: tuple[Markov, Markov], genome: str, variants: list[tuple[int, str, str]]) -> np.ndarray:
    """The same quantity under one Markov model per strand; only order + 1 predictions a strand differ."""
    reach, letters = 2 * strands[0].order + 2, np.frombuffer(genome.encode(), dtype=np.uint8)
    index = np.array([b"ACGT".find(bytes([i])) for i in range(256)]).clip(0)

    def log2p(window: np.ndarray) -> float:
        both = (window, data.COMPLEMENT[window[::-1]])
        rows = np.arange(len(window))
        return sum(float(m.log2_probabilities(s)[rows, index[s]].sum()) for m, s in zip(strands, both, strict=True))

    scores = []
    for pos, _, alt in variants:
        window = np.take(letters, np.arange(pos - 1 - reach, pos + reach), mode="wrap")
        changed = window.copy()
        changed[reach] = ord(alt)
        scores.append(log2p(changed) - log2p(window))
    return np.array(scores)


def table(rows: list[tuple[str, np.ndarray, dict[str, np.ndarray]]]) -> None:
    """Groups x predictors: AUROC [95 % interval]; a higher predictor means worse."""
    print("AUROC".ljust(26) + "class 1  class 0  " + "".join(name.ljust(24) for name in rows[0][2]))
    for group, labels, predictors in rows:
        cells = []
        for values in predictors.values():
            ok = np.isfinite(values)
            try:
                cells.append(str(metrics.bootstrap(labels[ok], values[ok], ("auroc",))["auroc"]))
            except metrics.TooFew:
                cells.append("too few")
        counts = f"{int(labels.sum()):7,}  {int((labels == 0).sum()):7,}  "
        print(group.ljust(26) + counts + "".join(c.ljust(24) for c in cells), flush=True)


def auroc(options: argparse.Namespace) -> None:
    store, parts = open_split(options.genomes, options.cache)
    opener = gzip.open if options.snvs.suffix == ".gz" else open
    with opener(options.snvs, "rt") as file:
        facts = {(int(r["pos"]), r["ref"], r["alt"]): r for r in csv.DictReader(file, delimiter="\t")}
    lines = [x.split("\t") for x in LABELLED.read_text().splitlines() if not x.startswith("#")]
    labelled = [(int(x[1]), x[3], x[4]) for x in lines]
    info = [dict(pair.split("=") for pair in x[7].split(";")) for x in lines]
    labels = np.array([int(i["LABEL"]) for i in info])
    genome = "".join(RCRS.read_text().split("\n")[1:]).upper()
    seen = [data.UPPER[store.sequence(r)] for r in (*parts.train, *parts.held_out)]
    strands = (
        Markov(11, pseudo=options.pseudo).fit(seen, circular=True),
        Markov(11, pseudo=options.pseudo).fit((data.COMPLEMENT[g[::-1]] for g in seen), circular=True),
    )

    def predictors(variants: list[tuple[int, str, str]]) -> dict[str, np.ndarray]:
        phylop = np.array([float(facts[v]["phyloP100"] or "nan") if v in facts else np.nan for v in variants])
        return {
            "nexvar_mito": -model_scores(variants, options),
            "phyloP100": phylop,
            "Markov 11": -markov_scores(strands, genome, variants),
        }

    start = time.time()
    scored = predictors(labelled)
    print(f"{len(labelled)} labelled variants, {time.time() - start:.0f} s")
    groups = {
        "all": np.ones(len(labels), dtype=bool),
        **{r: np.array([i["REGION"] == r for i in info]) for r in ("protein", "tRNA", "rRNA")},
        "missense": np.array([i["CSQ"] == "missense" for i in info]),
    }
    table([(name, labels[rows], {k: v[rows] for k, v in scored.items()}) for name, rows in groups.items()])
    if not options.seen:
        return
    transitions = [v for v, row in facts.items() if row["type"] == "ts"][:: options.every]
    print(f"\n{len(transitions)} transitions, every {options.every} of those in the table")
    never = np.array(
        [int(facts[v]["gnomad_AC_hom"] or 0) + int(facts[v]["gnomad_AC_het"] or 0) == 0 for v in transitions]
    )
    scored = predictors(transitions)
    regions = np.array([facts[v]["region"] for v in transitions])
    consequences = np.array([facts[v]["consequence"] for v in transitions])
    groups = {r: regions == r for r in ("protein", "rRNA", "tRNA", "control")} | {
        "missense": consequences == "missense"
    }
    print("never-seen (class 1) against seen in gnomAD, transitions")
    table([(name, never[rows].astype(int), {k: v[rows] for k, v in scored.items()}) for name, rows in groups.items()])
    missense = np.isin(consequences, ("missense", "synonymous"))
    stop = np.isin(consequences, ("stop_gained", "synonymous"))
    table([
        (name, (consequences[rows] != "synonymous").astype(int), {k: v[rows] for k, v in scored.items()})
        for name, rows in (("missense / synonymous", missense), ("stop / synonymous", stop))
    ])  # fmt: skip


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--snvs", type=Path, required=True)
    command.add_argument("--window", type=int)
    command.add_argument("--readout")
    command.add_argument("--span", type=int)
    command.add_argument("--pseudo", type=float, default=16.0)
    command.add_argument("--seen", action="store_true", help="also score every transition of the table")
    command.add_argument("--every", type=int, default=1, help="score every n-th of them")
    auroc(command.parse_args())


if __name__ == "__main__":
    main()
