"""Variants that lie close together, by the built-in model: centred windows against anchored and tiled ones.

    python benchmarks/dense.py [--every 8] [--bases 25] [--threads 1] [--repeats 2]

The card's readout (``site`` and the 64 bases behind it), both strands, the model loaded before. Sparse: every n-th
variant of the demo's file (``--every 1`` is all of it). Dense: every SNV of so many neighbouring bases. The contestants
take turns; "of centred" is a ratio of CPU times.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from _measure import interleaved, matmul_rate, table
from _nexvar_mito import LABELLED, RCRS
from nexvar.cards.card import WINDOWINGS
from nexvar.genome import variants
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import open_variants
from nexvar.inference.core.batching import Tally
from nexvar.inference.score import Options, ScoreSettings, make_circular, score_alleles
from nexvar.weights.load import Loaded, load


def scored(loaded: Loaded, fasta: Fasta, items: list[Variant], settings: ScoreSettings) -> Tally:
    tally = Tally()
    for _ in score_alleles(loaded, ((v, v) for v in items), fasta, settings, tally):
        pass
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--bases", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded, fasta = load("nexvar_mito", device="cpu"), Fasta(RCRS)
    make_circular(fasta, (), ())
    region = parse_region(f"chrM:4,001-{4000 + options.bases}", fasta)
    inputs = {
        f"every {options.every}. of the demo": [r.variant for r in open_variants(LABELLED, fasta)][:: options.every],
        f"every SNV of {options.bases} bases": [r.variant for r in variants.saturate(fasta, region)],
    }
    print(f"{options.threads} threads, {matmul_rate():.0f} GFLOP per CPU-second")
    rows: list[list[object]] = []
    for name, items in inputs.items():
        ways = {w: Options(windowing=w, readouts=("site",), span=64).resolve(loaded) for w in WINDOWINGS}
        tokens = {w: scored(loaded, fasta, items, settings).computed for w, settings in ways.items()}
        jobs = {w: partial(scored, loaded, fasta, items, settings) for w, settings in ways.items()}
        times = interleaved(jobs, options.repeats, warmup=0)
        alleles, base = sum(len(v.alts) for v in items), times["centred"]
        rows += [
            [name, alleles, w, tokens[w], tokens[w] / tokens["centred"], t.cpu, t.wall, t.cpu / base.cpu]
            for w, t in times.items()
        ]
    print(
        table(["variants", "alleles", "windows", "tokens", "of centred", "CPU s", "wall s", "of centred (CPU)"], rows)
    )


if __name__ == "__main__":
    main()
