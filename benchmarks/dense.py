"""Variants that lie close together, by the built-in model: anchored and tiled windows against centred ones.

    python benchmarks/dense.py [--full]

The card's readout (``site`` and the 64 bases behind it), both strands, the model loaded before. Sparse: every 40th
variant of the demo's file (--full: all of it). Dense: every SNV of 25 neighbouring bases.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from _measure import Row, interleaved, report, timed_row
from _nexvar_mito import LABELLED, RCRS
from nexvar.cards.card import WINDOWINGS
from nexvar.genome import variants
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import open_variants
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import Options, ScoreSettings
from nexvar.inference.score import make_circular, score_alleles
from nexvar.weights.load import Loaded, load


def scored(loaded: Loaded, fasta: Fasta, items: list[Variant], settings: ScoreSettings) -> Tally:
    tally = Tally()
    for _ in score_alleles(loaded, ((v, v) for v in items), fasta, settings, tally):
        pass
    return tally


def rows(full: bool) -> Iterator[Row]:
    loaded, fasta = load("nexvar_mito", device="cpu"), Fasta(RCRS)
    make_circular(fasta, (), ())
    region, every = parse_region("chrM:4,001-4025", fasta), 1 if full else 40
    inputs = {
        "all of the demo" if full else f"every {every}th of the demo": [
            record.variant for record in open_variants(LABELLED, fasta)
        ][::every],
        "every SNV of 25 bases": [record.variant for record in variants.saturate(fasta, region)],
    }
    for name, items in inputs.items():
        ways = {w: Options(windowing=w, readouts=("site",), span=64).resolve(loaded) for w in WINDOWINGS}
        tokens = {w: scored(loaded, fasta, items, settings).computed for w, settings in ways.items()}
        jobs = {w: partial(scored, loaded, fasta, items, settings) for w, settings in ways.items()}
        times = interleaved(jobs, repeats=2, warmup=0)
        for way in ways:
            if way != "centred":
                yield Row(f"{name}, {way} windows", "centred windows", tokens[way], tokens["centred"], "tokens")
                yield timed_row(f"{name}, {way} windows", "centred windows", {w: times[w] for w in (way, "centred")})


if __name__ == "__main__":
    report(__doc__, rows)
