"""Shared work in variant scoring: ``python benchmarks/sharing.py [--full] [--fasta hg19.fa --vcf sge.hg19.vcf]``.

The BRCA1 protocol of Evo 2 (window 8,192, variant at index 4,096, forward strand, mean log-likelihood; the time by
windows of 1,024, --full: 8,192). The tokens are counted for all variants, in windows; the time is measured on the first
position:

    shared     nexvar: the prefix of a window once, reference and alternatives from branches of its cache
    unshared   nexvar with ``share=False``: the same batches, every window from its beginning
    original   one window at a time in the original code's way of computing (_naive_striped_hyena2.py); like the
               original's notebook it computes a reference window once

NOTE: attention saves least (every branch still looks at the whole prefix). The default model spends a tenth of its
operations there, Evo 2 1B a twentieth; a tiny model with more attention layers says little about Evo 2.
Without files: a random genome with 1,326 positions and 3,893 SNVs in 13 clusters, the density of BRCA1's.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import _naive_striped_hyena2 as naive
from _measure import Row, interleaved, report, timed_row
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
from nexvar.inference.options import Options, ScoreSettings
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


def counted(name: str, fasta: Fasta, items: list[Variant], window: int, *, tiled: bool = False) -> Row:
    """What is computed, against a pass for the reference and for each alternative of every position, in windows."""
    tally = Tally()
    for family in families(fasta, items, window, tiled=tiled):
        tally.computed += likelihood.count_tokens([family], batch_tokens=8 * window).computed
    alone = len({(v.chrom, v.pos0) for v in items}) + sum(len(v.alts) for v in items)
    return Row(f"tokens: {name}", "a pass for every window", tally.computed / window, alone, "windows")


def scored(loaded: Loaded, fasta: Fasta, items: list[Variant], resolved: ScoreSettings) -> tuple[list[float], Tally]:
    tally = Tally()
    found = score.score_alleles(loaded, ((v, v) for v in items), fasta, resolved, tally)
    return [s.mean(resolved.readout.names[0]) or 0.0 for _, scores in found for s in scores], tally


@torch.inference_mode()
def original(loaded: Loaded, fasta: Fasta, items: list[Variant], window: int) -> list[float]:
    def mean_log_likelihood(sequence: str) -> float:
        ids = torch.tensor([list(sequence.encode())])
        log_probs = naive.forward(loaded.module, ids).log_softmax(-1)[0, :-1]
        return float(log_probs.gather(-1, ids[0, 1:, None]).mean())

    values = []
    for v in items:
        windows = make_windows(fasta, v, window)
        ref = mean_log_likelihood(windows[0].ref_seq)
        values += [mean_log_likelihood(w.alt_seq) - ref for w in windows]
    return values


def rows(full: bool, fasta: Path | None = None, vcf: Path | None = None) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        if vcf is not None:
            genome = Fasta(fasta)
            items = by_position([record.variant for record in open_variants(vcf, genome)])
        else:
            genome, items = synthetic(Path(folder))
        first, bases = items[0], 1024 if full else 256
        region = parse_region(f"{first.chrom}:{first.pos0 + 1}-{first.pos0 + bases}", genome)
        dense = [record.variant for record in variants.saturate(genome, region)]
        yield counted("BRCA1 protocol", genome, items if full else items[:200], 8192)
        yield counted(f"every SNV of {bases:,} bases", genome, dense, 8192)
        yield counted(f"every SNV of {bases:,} bases, tiled", genome, dense, 8192, tiled=True)
        yield counted(f"every SNV of {bases:,} bases, tiled, window 512", genome, dense, 512, tiled=True)
        yield from timed(genome, items[:1], 8192 if full else 1024)


def timed(fasta: Fasta, items: list[Variant], window: int) -> Iterator[Row]:
    loaded = tiny(256, "SDH" * 8 + "*")
    at = {"window": window, "left": window // 2}
    shared = replace(Options(**PROTOCOL).resolve(loaded), **at)
    alone = replace(Options(**PROTOCOL, share=False).resolve(loaded), **at)
    found: dict[str, list[float]] = {}

    def run(who: str, settings: ScoreSettings | None) -> None:
        if settings is None:
            found[who] = original(loaded, fasta, items, window)
        else:
            found[who], _ = scored(loaded, fasta, items, settings)

    jobs = {"shared": shared, "every window from its beginning": alone, "the original's loop": None}
    times = interleaved({who: partial(run, who, how) for who, how in jobs.items()}, repeats=3, warmup=0)
    mine = found["shared"]
    for who in list(jobs)[1:]:
        worst = max(abs(a - b) for a, b in zip(mine, found[who], strict=True))
        if worst > 1e-2 * max(map(abs, mine)):
            raise SystemExit(f"{who}: scores differ by {worst:.1e}")
        case = f"{len(mine)} SNVs, window {window:,}, common prefixes shared"
        yield timed_row(case, who, {"shared": times["shared"], who: times[who]})


if __name__ == "__main__":
    report(__doc__, rows, "fasta", "vcf")
