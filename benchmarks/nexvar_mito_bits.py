"""Bits per base of nexvar_mito on the held-out genera, beside Markov models trained on the very same genomes.

    python benchmarks/nexvar_mito_bits.py --genomes chordata_mitogenomes.fa.gz [--features features.tsv.gz]

With --features by kind of gene, too.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from _nexvar_mito import (
    KINDS,
    kinds,
    open_split,
    parser,
)
from nexvar import NexVar
from nexvar.train import data
from nexvar.train.markov import Markov


def model_bits(model: NexVar, letters: np.ndarray, window: int) -> tuple[float, int]:
    """(bits, bases) of one genome: windows side by side, every A, C, G, T but a window's first base."""
    total, count = 0.0, 0
    for start in range(0, len(letters) - 1, window):
        piece = letters[start : start + window]
        ids = torch.from_numpy(piece.astype(np.int64))[None]
        with torch.inference_mode():
            logp = model.model(ids).logits[0, :-1].float().log_softmax(-1)
        asked = torch.from_numpy(data.IS_BASE[piece[1:]])
        total -= float(logp.gather(1, ids[0, 1:, None])[:, 0][asked].sum()) / math.log(2)
        count += int(asked.sum())
    return total, count


def bits(options: argparse.Namespace) -> None:
    store, parts = open_split(options.genomes, options.cache)
    clades = {"all": "", "mammals": "Mammalia", "birds": "Dinosauria", "fish": "Actinopterygii", "frogs": "Batrachia"}
    members = {n: [not c or c in r.groups() for r in parts.held_out] for n, c in clades.items()}
    held = [data.UPPER[store.sequence(r)] for r in parts.held_out]
    print(f"{len(parts.train)} genomes to train on, {len(parts.held_out)} held out (whole genera), "
          f"{len(parts.excluded)} Homo in neither")  # fmt: skip
    print("bits per base".ljust(24) + "".join(f"{n} ({sum(m)})".rjust(16) for n, m in members.items()))

    def row(name: str, measure: Callable[[np.ndarray], tuple[float, int]], genomes: list[np.ndarray]) -> None:
        pairs = np.array([measure(g) for g in genomes])
        sums = [pairs[np.array(m)].sum(0) for m in members.values()]
        print(name.ljust(24) + "".join(f"{b / n:.3f}".rjust(16) for b, n in sums), flush=True)

    model = NexVar(options.model)
    for window in options.windows:
        row(f"model, {window:,} bases", lambda g, w=window: model_bits(model, g, w), held)  # type: ignore[misc]
    widest = options.windows[-1]
    row("model, other strand", lambda g: model_bits(model, g, widest), [data.COMPLEMENT[g[::-1]] for g in held])
    if options.features:
        bits_by_kind(model, store, [r for r in parts.held_out if "Mammalia" in r.groups()], options.features, 1024)
    top = Markov(12).fit((data.UPPER[store.sequence(r)] for r in parts.train), circular=True)
    for order in (6, 8, 11, 12):
        lower = Markov(order)
        lower.counts = top.levels()[order]
        for pseudo in options.pseudo:
            lower.pseudo = pseudo
            row(f"Markov {order}, a = {pseudo:g}", lambda g, m=lower: m.bits([g]), held)  # type: ignore[misc]


def bits_by_kind(
    model: NexVar, store: data.Store, records: list[data.CorpusRecord], features: Path, window: int
) -> None:
    """Both strands; the first quarter of a window only gives context."""
    sums, counts, skip = np.zeros(len(KINDS) + 1), np.zeros(len(KINDS) + 1), window // 4
    every = kinds(features, records)
    for record in records:
        letters, kind = data.UPPER[store.sequence(record)], every[record.name]
        for text, of in ((letters, kind), (data.COMPLEMENT[letters[::-1]], kind[::-1])):
            starts = range(0, len(text) - window, window - skip)
            ids = torch.from_numpy(np.stack([text[s : s + window] for s in starts]).astype(np.int64))
            with torch.inference_mode():
                logp = model.model(ids).logits[:, :-1].float().log_softmax(-1)
            nll = -logp.gather(2, ids[:, 1:, None])[..., 0].numpy()[:, skip - 1 :] / math.log(2)
            shown, at = ids.numpy()[:, skip:], np.stack([of[s + skip : s + window] for s in starts])
            for k in range(len(sums)):
                asked = (at == k) & data.IS_BASE[shown]
                sums[k] += nll[asked].sum()
                counts[k] += asked.sum()
    for k, name in enumerate(("between genes", *KINDS)):
        print(f"  {name:20}{counts[k]:12,.0f} bases{sums[k] / max(counts[k], 1):8.3f}")


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--features", type=Path)
    command.add_argument("--windows", type=int, nargs="+", default=[1024, 4096])
    command.add_argument("--pseudo", type=float, nargs="+", default=[2.0, 8.0, 16.0])
    bits(command.parse_args())


if __name__ == "__main__":
    main()
