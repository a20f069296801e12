"""What species of one held-out genus differ by, against what they do not: a test of the score without a label.

python benchmarks/nexvar_mito_sisters.py --genomes chordata_mitogenomes.fa.gz --features features.tsv.gz
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from _nexvar_mito import (
    GENES,
    TRANSITION,
    Gene,
    alleles,
    annotation,
    in_one_piece,
    open_split,
    parser,
)
from nexvar import NexVar
from nexvar.evals import metrics
from nexvar.train import data


def sisters(options: argparse.Namespace) -> None:
    """Transitions that tell two species of one held-out genus apart were tolerated; most others of the same genes are
    not. AUROC of the score in one species' genome, with its 95 % interval."""
    store, parts = open_split(options.genomes, options.cache)
    model, spans = NexVar(options.model), (0, 8, 16, 32, 64, 128)
    genomes = {r.name: data.UPPER[store.sequence(r)] for r in parts.held_out}
    genera: dict[str, list[str]] = {}
    for record in parts.held_out:
        genera.setdefault(record.genus, []).append(record.name)
    print("AUROC, tolerated transitions against others; columns: bases counted behind a site")
    print(" " * 24 + "".join(f"{span}".ljust(22) for span in spans))
    for kind in GENES:
        tolerated, others = differences(genomes, genera, genes_of(options.features, genomes, kind))
        rng = np.random.default_rng(0)
        chosen = [[of[i] for i in rng.permutation(len(of))[:n]]
                  for of, n in ((tolerated, options.count), (others, 2 * options.count))]  # fmt: skip
        losses = np.array([loss(model, genomes[name], at, spans) for name, at in chosen[0] + chosen[1]])
        labels = np.array([0] * len(chosen[0]) + [1] * len(chosen[1]))
        cells = [str(metrics.bootstrap(labels, column, ("auroc",))["auroc"]).ljust(22) for column in losses.T]
        print(f"{kind} ({len(chosen[0])}, {len(chosen[1])})".ljust(24) + "".join(cells), flush=True)


def genes_of(features: Path, genomes: dict[str, np.ndarray], kind: str) -> dict[str, dict[str, Gene]]:
    """Record -> product -> its place, if it is there once and in one piece."""
    places: dict[str, dict[str, list[Gene]]] = {name: {} for name in genomes}
    for row in annotation(features, genomes, (kind,)):
        if place := in_one_piece(row["location"]):
            places[row["species"]].setdefault(row["product"] or row["gene"], []).append(place)
    return {name: {gene: at[0] for gene, at in genes.items() if len(at) == 1} for name, genes in places.items()}


def differences(
    genomes: dict[str, np.ndarray], genera: dict[str, list[str]], genes: dict[str, dict[str, Gene]]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Sites (record, position) where a sister has the transition, and those where all sisters have the same base:
    genes of one length that differ by at most 12 %."""
    tolerated, same = set[tuple[str, int]](), set[tuple[str, int]]()
    for names in genera.values():
        for name, sister in itertools.permutations(names, 2):
            for gene in sorted(genes[name].keys() & genes[sister].keys()):
                (start, end, strand), (start2, end2, strand2) = genes[name][gene], genes[sister][gene]
                if end - start != end2 - start2 or strand != strand2:
                    continue
                mine, other = genomes[name][start:end], genomes[sister][start2:end2]
                differ = mine != other
                if differ.mean() > 0.12 or not (data.IS_BASE[mine] & data.IS_BASE[other]).all():
                    continue
                tolerated |= {(name, start + int(i)) for i in np.flatnonzero(TRANSITION[mine] == other)}
                same |= {(name, start + int(i)) for i in np.flatnonzero(~differ)}
    with_any = {name for name, _ in tolerated}
    return sorted(tolerated), sorted(site for site in same - tolerated if site[0] in with_any)


def loss(model: NexVar, genome: np.ndarray, at: int, spans: tuple[int, ...]) -> np.ndarray:
    """log p(the base) - log p(its transition), for each span; 512 bases before it."""
    each = alleles(model, genome, at, 512, max(spans))[:, list(spans)]
    base = genome[at]
    return each[b"ACGT".index(base)] - each[b"ACGT".index(TRANSITION[base])]


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--features", type=Path, required=True)
    command.add_argument("--count", type=int, default=100)
    sisters(command.parse_args())


if __name__ == "__main__":
    main()
