"""Shared work in variant scoring: ``python benchmarks/sharing.py [--fasta hg19.fa --vcf findlay_sge.hg19.vcf]``.

The BRCA1 protocol of Evo 2 (window 8,192, variant at index 4,096, forward strand, mean log-likelihood). The tokens are
counted for all variants; the time is measured on the first ``--positions`` positions, one process, contestants in turn:

    shared     nexvar: the prefix of a window once, reference and alternatives from branches of its cache
    unshared   nexvar with ``share=False``: the same batches, every window from its beginning
    original   one window at a time in the original code's way of computing (_naive_striped_hyena2.py); like the
               original's notebook it computes a reference window once

NOTE: attention saves least (every branch still looks at the whole prefix). The default model spends a tenth of its
operations there, Evo 2 1B a twentieth; a tiny model with more attention layers says little about Evo 2.
Without files: a random genome with 1,326 positions and 3,893 SNVs in 13 clusters, the density of BRCA1's.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch

import _naive_striped_hyena2 as naive
from _measure import interleaved, table
from nexvar.cards import Card
from nexvar.genome import variants
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import open_variants
from nexvar.genome.windows import make_windows, tile_left
from nexvar.inference import score
from nexvar.inference.core import likelihood
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import Member
from nexvar.inference.score import Options, ScoreSettings
from nexvar.models.striped_hyena2 import Config, Model
from nexvar.tokenizers import ByteTokenizer
from nexvar.weights.load import Loaded

PROTOCOL = dict(protocol="evo2-brca1", max_ref_mismatch=1.0)


def tiny(width: int, pattern: str) -> Loaded:
    """A small Evo 2 with random weights."""
    config = Config(
        hidden_size=width,
        pattern=pattern,
        num_attention_heads=4,
        inner_mlp_size=width * 11 // 4,
        hcs_filter_groups=width // 16,
        hcm_filter_groups=width // 16,
    )
    module = Model(config)
    module.init_weights(torch.Generator().manual_seed(0))
    card = Card(
        "tiny Evo 2", "striped_hyena2", "byte", "causal", 1 << 20, sum(p.numel() for p in module.parameters()),
        "Apache-2.0", "-", "-", "-", {},
    )  # fmt: skip
    return Loaded(module.eval(), ByteTokenizer(), card, torch.device("cpu"), torch.float32)


def synthetic(folder: Path) -> tuple[Fasta, list[Variant]]:
    """13 clusters of 102 positions, all three SNVs but at 85 positions."""
    rng = random.Random(0)
    genome = "".join(rng.choices("ACGT", k=120_000))
    path = folder / "synthetic.fa"
    path.write_text(f">chr1\n{genome}\n")
    at = [8_000 + 8_000 * cluster + i for cluster in range(13) for i in range(102)]
    fewer = set(rng.sample(at, 85))
    found = []
    for pos in at:
        alts = [base for base in "ACGT" if base != genome[pos]]
        found.append(Variant("chr1", pos, genome[pos], tuple(alts[: 2 if pos in fewer else 3])))
    return Fasta(path), found


def by_position(items: list[Variant]) -> list[Variant]:
    """One variant for each position, with all its ALTs."""
    alts: dict[tuple[str, int, str], dict[str, None]] = {}
    for v in items:
        alts.setdefault((v.chrom, v.pos0, v.ref), {}).update(dict.fromkeys(v.alts))
    return [Variant(chrom, pos, ref, tuple(found)) for (chrom, pos, ref), found in alts.items()]


def families(fasta: Fasta, items: list[Variant], window: int, *, tiled: bool = False) -> Iterator[list[Member]]:
    """Reference and alternative windows, as the scorer groups them."""
    grouped: dict[str, dict[str, None]] = {}
    for v in items:
        left = tile_left(v.pos0, window) if tiled else None
        for w in make_windows(fasta, v, window, left=left):
            grouped.setdefault(w.ref_seq, {}).update({w.alt_seq: None})
    for ref, alts in grouped.items():
        yield [Member(torch.frombuffer(bytearray(s.encode()), dtype=torch.uint8)) for s in (ref, *alts)]


def counted(name: str, fasta: Fasta, items: list[Variant], window: int, *, tiled: bool = False) -> list[object]:
    tally, windows = Tally(), 0
    for family in families(fasta, items, window, tiled=tiled):
        found = likelihood.count_tokens([family], batch_tokens=8192)
        tally.computed += found.computed
        windows += len(family)
    positions = len({(v.chrom, v.pos0) for v in items})
    alone = window * (positions + sum(len(v.alts) for v in items))  # a reference and its alternatives, each position
    return [name, sum(len(v.alts) for v in items), windows, tally.computed / window, tally.computed / alone]


def scored(loaded: Loaded, fasta: Fasta, items: list[Variant], resolved: ScoreSettings) -> tuple[list[float], Tally]:
    tally = Tally()
    found = score.score_alleles(loaded, ((v, v) for v in items), fasta, resolved, tally)
    return [s.mean(resolved.readout.names[0]) or 0.0 for _, scores in found for s in scores], tally


@torch.inference_mode()
def original(loaded: Loaded, fasta: Fasta, items: list[Variant]) -> list[float]:
    def mean_log_likelihood(sequence: str) -> float:
        ids = torch.tensor([list(sequence.encode())])
        log_probs = naive.forward(loaded.module, ids).log_softmax(-1)[0, :-1]
        return float(log_probs.gather(-1, ids[0, 1:, None]).mean())

    values = []
    for v in items:
        windows = make_windows(fasta, v, 8192)
        ref = mean_log_likelihood(windows[0].ref_seq)
        values += [mean_log_likelihood(w.alt_seq) - ref for w in windows]
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path)
    parser.add_argument("--vcf", type=Path)
    parser.add_argument("--positions", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--pattern", default="SDH" * 8 + "*", help="S short, D medium, H long convolution, * attention")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.vcf:
            fasta = Fasta(options.fasta)
            items = by_position([record.variant for record in open_variants(options.vcf, fasta)])
        else:
            fasta, items = synthetic(Path(folder))
        compare(fasta, items, options)


def compare(fasta: Fasta, items: list[Variant], options: argparse.Namespace) -> None:
    first = items[0]
    region = parse_region(f"{first.chrom}:{first.pos0 + 1}-{first.pos0 + 1024}", fasta)
    dense = [record.variant for record in variants.saturate(fasta, region)]
    rows = [
        counted("BRCA1 protocol", fasta, items, 8192),
        counted("saturate 1,024 bases", fasta, dense, 8192),
        counted("the same, tiled", fasta, dense, 8192, tiled=True),
        counted("saturate 1,024 bases, window 512, tiled", fasta, dense, 512, tiled=True),
    ]
    print(table(["tokens", "alleles", "windows", "in windows", "of one pass per window"], rows))

    loaded = tiny(options.width, options.pattern)
    some = list(islice(items, options.positions))
    shared = Options(**PROTOCOL).resolve(loaded)
    alone = Options(**PROTOCOL, share=False).resolve(loaded)
    site = Options(**PROTOCOL, readouts=("site",), windowing="tiled").resolve(loaded)
    _, tally = scored(loaded, fasta, dense, site)
    print(f"site ratio of {3 * len(dense):,} SNVs, tiled: {tally.computed / 8192:.2f} windows, one strand")

    tally = scored(loaded, fasta, some[:1], replace(shared, window=256, left=128))[1]  # warm
    found: dict[str, list[float]] = {}

    def run(who: str, resolved: ScoreSettings | None) -> None:
        nonlocal tally
        if resolved is None:
            found[who] = original(loaded, fasta, some)
        else:
            found[who], counted_now = scored(loaded, fasta, some, resolved)
            tally = counted_now if who == "shared" else tally

    contestants = {"shared": shared, "unshared": alone, "original": None}
    jobs = {who: partial(run, who, how) for who, how in contestants.items()}
    times = interleaved(jobs, options.repeats, warmup=0)
    values = found["shared"]
    for who in ("unshared", "original"):
        worst = max(abs(a - b) for a, b in zip(values, found[who], strict=True))
        print(f"largest difference from {who}: {worst:.1e} of scores up to {max(map(abs, values)):.1e}")
    ours = times["shared"]
    tokens = {"shared": tally.computed, "unshared": tally.naive, "original": tally.naive}
    print(f"{loaded.card.parameters:,} parameters, {options.positions} positions, {len(values)} SNVs")
    rows = [[n, tokens[n] / 8192, t.cpu, t.wall, t.cpu / ours.cpu, t.wall / ours.wall] for n, t in times.items()]
    print(table(["contestant", "windows", "cpu s", "wall s", "of shared (cpu)", "of shared (wall)"], rows))


if __name__ == "__main__":
    main()
