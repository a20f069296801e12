"""Anchored windows: shared beginnings on both strands, and the numbers of one window at a time."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, Variant, reverse_complement
from nexvar.inference import score
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import FORWARD_TOKENS
from nexvar.inference.options import Options
from nexvar.runs.rows import score_variants
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, write_fasta

GENOME = random_bases(2000, seed=5)
CAUSAL = tiny_loaded()
WINDOW, LEFT, STRIDE, SPAN = 400, 150, 120, 20
ANCHORED = dict(window=WINDOW, left=LEFT, stride=STRIDE, windowing="anchored", readouts=("site",))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "ref.fa"
    return Fasta(write_fasta(path, line=GENOME, ring=GENOME), circular=["ring"])


def snv(pos0, contig="line"):
    ref = GENOME[pos0]
    return Variant(contig, pos0, ref, tuple(base for base in "ACGT" if base != ref))


@cache
def site_of(window: str, at: int, count: int) -> float:
    """log p of ``count`` bases from ``at`` on, given those before them: one window, no cache, no batch."""
    ids = list(window.encode())
    with torch.no_grad():
        log_probs = CAUSAL.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs[t - 1, ids[t]]) for t in range(max(at, 1), at + count))  # nothing predicts the first


def on_strand(genome: str, pos0: int, ref: str, alt: str, circular: bool, span: int) -> float:
    """The definition, on the strand that ``genome`` is read along."""
    if circular:
        begin = (pos0 - LEFT) % len(genome) // STRIDE * STRIDE
        genome = genome[begin:] + genome[:begin]
        pos0, begin = (pos0 - begin) % len(genome), 0
    else:
        begin = min(max(pos0 - LEFT, 0) // STRIDE * STRIDE, len(genome) - WINDOW)
    changed = genome[:pos0] + alt + genome[pos0 + len(ref) :]
    windows = [sequence[begin : begin + WINDOW] for sequence in (genome, changed)]
    first = next(i for i in range(pos0 - begin, WINDOW) if windows[0][i] != windows[1][i])
    longer = max(len(ref), len(alt)) - (len(ref) != len(alt))  # an indel's first base is both alleles'
    count = min(longer + span, WINDOW - first)
    return site_of(windows[1], first, count) - site_of(windows[0], first, count)


@st.composite
def some_variants(draw):
    """SNVs anywhere; deletions and insertions where no end of the line is near."""
    contig, found = draw(st.sampled_from(["line", "ring"])), []
    for pos0 in sorted(draw(st.sets(st.integers(0, len(GENOME) - 1), min_size=1, max_size=6))):
        if not 600 < pos0 < 1400:
            found.append(snv(pos0, contig))
            continue
        size, other = draw(st.integers(1, 6)), next(b for b in "ACGT" if b not in GENOME[pos0 : pos0 + 2])
        found.append(Variant(contig, pos0, GENOME[pos0], (other, GENOME[pos0] + other * size)))
        found.append(Variant(contig, pos0, GENOME[pos0 : pos0 + 1 + size], (GENOME[pos0],)))
    return found


@given(some_variants(), st.integers(0, SPAN), st.integers(1, 4000))
@example([snv(p, "ring") for p in (0, 1, 149, 150, 1999)], 5, 1000)
@example([snv(p) for p in (1, 70, 149, 150, 151, 1850, 1998)], 5, 1000)
def test_a_score_is_that_of_the_window_that_begins_at_the_anchor_on_either_strand(fasta, variants, span, batch):
    rows = iter(score_variants(CAUSAL, variants, fasta, Options(**ANCHORED, span=span, batch_tokens=batch)))
    turned = reverse_complement(GENOME)
    for v in variants:
        for alt, row in zip(v.alts, rows, strict=False):
            assert row.status.scored
            circular, behind = v.chrom == "ring", len(GENOME) - v.pos0 - len(v.ref)
            assert row.llr_fwd == pytest.approx(on_strand(GENOME, v.pos0, v.ref, alt, circular, span), abs=2e-4)
            other = reverse_complement(v.ref), reverse_complement(alt)
            assert row.llr_rev == pytest.approx(on_strand(turned, behind, *other, circular, span), abs=2e-4)


def tokens(variants, fasta, **options):
    tally, resolved = Tally(), Options(**options).resolve(CAUSAL)
    list(score.score_alleles(CAUSAL, ((v, v) for v in variants), fasta, resolved, tally))
    return tally.computed


def test_a_stretch_is_one_pass_and_each_allele_its_span(fasta):
    dense = [snv(p) for p in range(LEFT + STRIDE, LEFT + 2 * STRIDE)]
    computed = tokens(dense, fasta, **ANCHORED, span=SPAN, strand="forward", batch_tokens=10_000)
    trunk = LEFT + STRIDE - 1  # up to the last allele, then the reference's own span
    least = trunk + (3 * len(dense) + 1) * (1 + SPAN)
    assert least <= computed <= least + len(dense) * FORWARD_TOKENS  # a few bases once more, rather than a forward


@pytest.mark.parametrize("apart", [1, 10, 67])
def test_no_shared_window_costs_more_than_a_centred_one(apart, fasta):
    variants = [snv(p) for p in range(400, 1600, apart)]
    common = dict(window=WINDOW, readouts=("site",), span=SPAN, batch_tokens=4000)
    centred = tokens(variants, fasta, **common)
    assert tokens(variants, fasta, **common, windowing="tiled") < centred
    assert tokens(variants, fasta, **common, windowing="anchored") < centred


def test_shards_and_a_resumed_run_give_the_same_bytes(fasta, tmp_path):
    def run(out, **options):
        region = dict(saturate="ring:1,501-1,800", circular=("ring",), options=Options(**ANCHORED, span=SPAN))
        run_job(None, fasta.path, tmp_path / out, model=tiny_loaded(), **region, **options)
        return tmp_path / out

    whole = run("whole.tsv")
    for i in (2, 1):
        run("out.tsv", shard=(i, 2))
    assert run("out.tsv").read_bytes() == whole.read_bytes()


def test_anchored_scores_are_llr_and_the_header_has_the_stride(fasta, tmp_path):
    out = tmp_path / "out.vcf"
    run_job(None, fasta.path, out, model=tiny_loaded(), saturate="line:1,001-1,003", options=Options(**ANCHORED))
    text = out.read_text()
    assert "windowing=anchored" in text and f"stride={STRIDE}" in text and ";NEXVAR_LLR=" in text.replace("\t", ";")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"stride": 0}, "stride of 0"),
        ({"stride": 10, "windowing": "tiled"}, "tiled windows have no stride"),
        ({"stride": 10}, "centred windows have no stride"),
        ({"windowing": "anchored", "window": 100, "left": 60, "stride": 41}, "at most --stride 40"),
        ({"windowing": "anchored", "window": 100, "span": 30, "stride": 21}, "at most --stride 20"),
        ({"windowing": "anchored", "window": 100, "span": 50}, "50 behind it leave 0 for the stride"),
    ],
)
def test_a_stride_or_span_that_cannot_be_is_one_line(options, problem):
    with pytest.raises(NexVarError, match=problem):
        Options(**{"readouts": ("site",), **options}).resolve(CAUSAL)
