"""Bits of a base given the bases on both of its sides: what chooses how variants are scored, without any variant.

    python benchmarks/nexvar_mito_rest.py --genomes chordata_mitogenomes.fa.gz [--features features.tsv.gz]

By how many bases are read before it and counted behind it (of a masked model by the window); with --features by kind of
gene, too. Rows with a stride S are read from anchors (--windowing anchored), with 0 to S - 1 bases more before the
site; behind them stands the difference from the row without one, at 64 bases, and its 95 % interval over the sites.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from _nexvar_mito import (
    GENES,
    KINDS,
    alleles,
    kinds,
    open_split,
    parser,
)
from nexvar import NexVar
from nexvar.train import data


def rest(options: argparse.Namespace) -> None:
    """A causal model: the four bases at a site compete by the likelihoods of the sequences they make. A masked one: the
    site is hidden. Mean of both strands, both ways."""
    store, parts = open_split(options.genomes, options.cache)
    model = NexVar(options.model)
    mammals = [r for r in parts.held_out if "Mammalia" in r.groups()]
    places = {"all": sites(parts.held_out, options.count), "mammals": sites(mammals, options.count)}
    if options.features:
        of = kinds(options.features, mammals)
        for kind in GENES:
            only = {name: marks == 1 + KINDS.index(kind) for name, marks in of.items()}
            places[f"mammals, {kind}"] = sites(mammals, options.count, only)
    if model.card.objective == "masked":
        windows = (256, 512, 1024, 2048, 4096)
        print("bits of a base given its sides; columns: window")
        print("held out".ljust(28) + "".join(f"{w:8}" for w in windows))
        for name, chosen in places.items():
            lost = [hidden_bits(model, data.UPPER[store.sequence(r)], at, windows) for r, at in chosen]
            print(name.ljust(28) + "".join(f"{b:8.4f}" for b in np.nanmean(lost, axis=0)), flush=True)
        return
    spans = (0, 8, 16, 32, 64, 128, 255)
    print("bits of a base given its sides; columns: bases counted behind it")
    print("held out, bases before".ljust(28) + "".join(f"{s:8}" for s in spans))
    for name, chosen in places.items():
        for left in options.before:
            fixed = np.empty(0)
            for stride in (None, *options.stride):
                lost = np.array(
                    [lost_bits(model, data.UPPER[store.sequence(r)], at, left, spans, stride) for r, at in chosen]
                )
                label = f"{name}, {left}" + (f", S = {stride}" if stride else "")
                line = label.ljust(28) + "".join(f"{b:8.4f}" for b in np.nanmean(lost, axis=0))
                at_64 = lost[:, spans.index(64)]
                if stride is None:
                    fixed = at_64
                else:
                    line += "  " + interval(at_64 - fixed)
                print(line, flush=True)


def interval(differences: np.ndarray) -> str:
    """The mean and its 95 % interval by the normal distribution; NaNs aside."""
    known = differences[np.isfinite(differences)]
    half = 1.96 * known.std(ddof=1) / math.sqrt(len(known))
    return f"{known.mean():+.4f} [{known.mean() - half:+.4f}, {known.mean() + half:+.4f}]"


def sites(
    records: list[data.CorpusRecord], count: int, only: dict[str, np.ndarray] | None = None
) -> list[tuple[data.CorpusRecord, int]]:
    """``count`` places, always the same: a record, then any base of it, or any of those that ``only`` marks."""
    rng, chosen = np.random.default_rng(0), list[tuple[data.CorpusRecord, int]]()
    while len(chosen) < count:
        record, share = records[rng.integers(len(records))], rng.random()
        free = np.flatnonzero(only[record.name]) if only else np.arange(record.length)
        if len(free):
            chosen.append((record, int(free[int(share * len(free))])))
    return chosen


def lost_bits(
    model: NexVar, genome: np.ndarray, at: int, left: int, spans: tuple[int, ...], stride: int | None = None
) -> list[float]:
    """-log2 p(the base at ``at``) for each span; NaN where it is no base."""
    if not data.IS_BASE[genome[at]]:
        return [math.nan] * len(spans)
    each = alleles(model, genome, at, left, max(spans), stride)[:, list(spans)]
    shares = np.logaddexp.reduce(each, axis=0) - each[b"ACGT".index(genome[at])]
    return (shares / math.log(2)).tolist()


def hidden_bits(model: NexVar, genome: np.ndarray, at: int, windows: tuple[int, ...]) -> list[float]:
    """-log2 p(the base at ``at``) when it alone is hidden, for each window around it; NaN where it is no base."""
    if not data.IS_BASE[genome[at]]:
        return [math.nan] * len(windows)
    of, mask = model.tokenizer.base_ids(), model.tokenizer.mask_id
    assert of is not None and mask is not None
    genome, lost = np.where(data.IS_BASE[genome], genome, ord("N")).astype(np.uint8), list[float]()
    for window in windows:
        middle, places = window // 2, np.arange(window)
        forward = np.take(genome, at - middle + places, mode="wrap")
        both = [forward, data.COMPLEMENT[np.take(genome, at + middle - places, mode="wrap")]]
        ids = torch.tensor([model.tokenizer.encode(t.tobytes().decode(), special=False).ids for t in both])
        ids[:, middle] = mask
        with torch.inference_mode():
            logits = model.model(ids).logits[:, middle].float()
        either = [logits[i, [of[b] for b in order]].log_softmax(0) for i, order in enumerate(("ACGT", "TGCA"))]
        choices = ((either[0] + either[1]) / 2).log_softmax(0)[b"ACGT".index(genome[at])]
        lost.append(-float(choices) / math.log(2))
    return lost


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--features", type=Path)
    command.add_argument("--before", type=int, nargs="+", default=[256, 512, 1024], help="bases before a site")
    command.add_argument("--stride", type=int, nargs="*", default=[], help="anchors every so many bases, too")
    command.add_argument("--count", type=int, default=100)
    rest(command.parse_args())


if __name__ == "__main__":
    main()
