"""What is computed once: counted in tokens, and never at the price of another number."""

from __future__ import annotations

import itertools
import random
from copy import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import toy_genome
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.windows import tile_left
from nexvar.inference import score, scorers
from nexvar.inference.core import batching
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import FORWARD_TOKENS, Member, count_tokens, log_likelihoods
from nexvar.inference.options import Options
from nexvar.runs.rows import score_variants
from nexvar.runs.writers import read_rows
from nexvar.weights.load import load
from score_job import run_job
from tiny import tiny_loaded
from tiny_masked import tiny_masked
from toy_genome import random_bases, write_fasta

GENOME = random_bases(4000, seed=2)
CAUSAL, MASKED, KMERS = tiny_loaded(), tiny_masked(), tiny_masked("kmer")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return Fasta(write_fasta(tmp_path_factory.mktemp("genome") / "ref.fa", chr1=GENOME))


def snv(pos):
    return toy_genome.snv(GENOME, pos)


def counted(loaded, variants, fasta, **options):
    """(rows, tokens computed, tokens of one pass per window)."""
    resolved, tally = Options(**options).resolve(loaded), Tally()
    scored = score.score_alleles(loaded, [(v, v) for v in variants], fasta, resolved, tally)
    values = [s.mean(name) for _, scores in scored for s in scores for name in resolved.readout.names]
    return values, tally.computed, tally.naive


# -- masked models and embeddings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("loaded", "tokens"), [(MASKED, 60), (KMERS, 11)])
def test_one_masked_pass_serves_all_alternatives_of_a_site(loaded, tokens, fasta):
    _, computed, naive = counted(loaded, [snv(1000)], fasta, window=60, strand="forward", readouts=("masked_llr",))
    assert (computed, naive) == (tokens, 6 * tokens)


def test_all_sites_of_one_window_are_in_one_batch(fasta):
    loaded = tiny_masked()
    at = [snv(p) for p in range(1000, 1020)]
    counted(loaded, at, fasta, window=80, strand="forward", readouts=("masked_llr",), windowing="tiled")
    assert loaded.module.rows == [20]


def test_an_unmasked_pass_serves_every_site_of_a_tile(fasta):
    at = [snv(p) for p in range(1000, 1040)]  # one tile of 80
    tiled = dict(window=80, strand="forward", windowing="tiled")
    values, computed, _ = counted(MASKED, at, fasta, readouts=("unmasked_llr",), **tiled)
    assert computed == 80
    start = 1000 - tile_left(1000, 80)
    ids = MASKED.tokenizer.encode(GENOME[start : start + 80]).ids
    with torch.no_grad():
        log_probs = MASKED.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    base = MASKED.tokenizer.ids
    expected = [
        float(log_probs[v.pos0 - start, base[alt]] - log_probs[v.pos0 - start, base[v.ref]])
        for v in at
        for alt in v.alts
    ]
    assert values == pytest.approx(expected, abs=1e-5)


def test_embeddings_compute_the_reference_once(fasta):
    window, alternatives = 50, 3
    options = dict(window=window, strand="forward", readouts=("cosine", "l2"))
    _, computed, naive = counted(MASKED, [snv(1000)], fasta, **options)
    assert computed == (1 + alternatives) * window
    assert naive == 2 * alternatives * window  # a pair of windows for each


def test_a_window_pooled_at_many_sites_runs_once(fasta):
    window, sites = 80, 10  # all in one tile
    at = [snv(p) for p in range(1000, 1000 + sites)]
    options = dict(window=window, strand="forward", windowing="tiled", readouts=("l2",), pool="site+2")
    _, computed, _ = counted(MASKED, at, fasta, **options)
    one_reference, alternatives = window, 3 * sites * window
    assert computed == one_reference + alternatives


def test_several_readouts_of_one_kind_are_one_pass(fasta):
    one = counted(CAUSAL, [snv(1000)], fasta, window=200, readouts=("llr",))[1]
    assert counted(CAUSAL, [snv(1000)], fasta, window=200, readouts=scorers.LIKELIHOOD)[1] == one
    one = counted(MASKED, [snv(1000)], fasta, window=200, readouts=("cosine",))[1]
    assert counted(MASKED, [snv(1000)], fasta, window=200, readouts=scorers.EMBEDDING)[1] == one


@pytest.mark.parametrize("readout", scorers.READOUTS)
def test_nothing_to_score_is_no_error(readout, fasta):
    loaded = CAUSAL if readout in scorers.LIKELIHOOD else MASKED
    wrong = Variant("chr1", 100, "A" if GENOME[100] != "A" else "C", (GENOME[100],))
    assert counted(loaded, [wrong], fasta, window=50, readouts=(readout,)) == ([None], 0, 0)


# -- the site and what stands behind it -----------------------------------------------------------------------------


@pytest.mark.parametrize("readouts", list(itertools.permutations(["llr", "site", "llr_sum"])))
def test_every_readout_has_a_column_whatever_their_order(readouts, fasta):
    (row,) = score_variants(
        CAUSAL, [replace(snv(1000), alts=snv(1000).alts[:1])], fasta, Options(window=50, readouts=readouts)
    )
    alone = {
        name: next(score_variants(CAUSAL, [snv(1000)], fasta, Options(window=50, readouts=(name,)))).llr
        for name in readouts
    }
    assert {"llr": row.llr, "site": row.extra["SITE"], "llr_sum": row.extra["LLR_SUM"]} == pytest.approx(alone)


def test_nothing_behind_the_span_is_computed(fasta):
    window, span, alleles = 400, 30, 4
    _, computed, _ = counted(CAUSAL, [snv(1000)], fasta, window=window, strand="forward", readouts=("site",), span=span)
    before_the_site = window // 2
    assert computed == before_the_site + alleles * (1 + span)


# -- a trunk and its branches ---------------------------------------------------------------------------------------


def test_the_worked_example_of_four_windows_and_three_branches_costs_what_it_says():
    first = [65] * 1000
    alternatives = [[*first[:at], 67, *first[at + 1 :]] for at in (200, 500, 800)]
    family = [Member(ids) for ids in (first, *alternatives)]
    tally = Tally()
    log_likelihoods(CAUSAL, [family], batch_tokens=10_000, tally=tally)
    for counted_ in (tally, count_tokens([family], batch_tokens=10_000)):
        assert (counted_.computed, counted_.naive) == (800 + 800 + 500 + 2 * 200, 4 * 1000)


# -- tiles ----------------------------------------------------------------------------------------------------------


def likelihood(sequence):
    ids = list(sequence.encode())
    with torch.no_grad():
        log_probs = CAUSAL.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [float(log_probs[t - 1, ids[t]]) for t in range(1, len(ids))]


@given(st.lists(st.integers(300, 3600), min_size=1, max_size=6), st.integers(1, 4000))
def test_a_tiled_score_is_that_of_the_window_of_its_tile(tmp_path_factory, positions, batch):
    path = write_fasta(tmp_path_factory.mktemp("f") / "ref.fa", chr1=GENOME)
    variants = [snv(p) for p in sorted(positions)]
    values, _, _ = counted(
        CAUSAL, variants, Fasta(path), window=400, strand="forward", windowing="tiled", batch_tokens=batch,
        readouts=("llr_sum", "site"),
    )  # fmt: skip
    expected = []
    for v in variants:
        start = v.pos0 - (100 + v.pos0 % 200)
        ref, at = GENOME[start : start + 400], v.pos0 - start
        of_ref = likelihood(ref)
        for alt in v.alts:
            of_alt = likelihood(ref[:at] + alt + ref[at + 1 :])
            expected += [sum(of_alt) - sum(of_ref), of_alt[at - 1] - of_ref[at - 1]]
    assert values == pytest.approx(expected, abs=5e-5)


def test_a_tile_branches_from_one_trunk(fasta):
    window, tile, before = 400, 200, 100  # bases: of a window, of the tile in its middle, in front of the tile
    at = [snv(p) for p in range(1000, 1000 + tile)]  # one tile: 1000 is a multiple of its step
    options = dict(window=window, strand="forward", windowing="tiled", batch_tokens=65_536)
    _, computed, naive = counted(CAUSAL, at, fasta, **options)
    alternatives = 3 * tile
    assert naive == window * (1 + alternatives)
    # the trunk once; each alternative from a branch point less than FORWARD_TOKENS bases before it
    exact = window + 3 * sum(window - (before + i) for i in range(tile))
    assert exact <= computed <= exact + alternatives * (FORWARD_TOKENS - 1)
    assert computed < 0.6 * naive


@pytest.mark.parametrize("strand", ["forward", "both"])
def test_the_site_ratio_of_a_region_is_one_pass_for_each_tile_and_strand(fasta, tmp_path, strand):
    """2,000 bases are 10 tiles of 200; a pass ends with the last base that is asked for."""
    window, tiles = 400, 10
    out = tmp_path / "out.parquet"
    summary = run_job(
        None, fasta.path, out, model=tiny_loaded(), saturate="chr1:1,001-3,000",
        options=Options(window=window, windowing="tiled", readouts=("site",), strand=strand),
    )  # fmt: skip
    strands = 1 if strand == "forward" else 2
    assert summary.scored == 6000
    assert summary.tally.computed <= strands * tiles * window
    rows = list(read_rows(out))
    assert all(row.llr is None and row.extra["SITE_TILED"] is not None for row in rows)
    (alone,) = list(score_variants(
        CAUSAL, [Variant("chr1", rows[1234].pos - 1, rows[1234].ref, (rows[1234].alt,))], fasta,
        Options(window=window, windowing="tiled", readouts=("site",), strand=strand, share=False, batch_tokens=1),
    ))  # fmt: skip
    assert rows[1234].extra["SITE_TILED"] == pytest.approx(alone.extra["SITE_TILED"], abs=1e-6)


def test_tiled_scores_are_labelled_in_every_output(fasta, tmp_path):
    vcf, table = tmp_path / "out.vcf", tmp_path / "out.tsv"
    run_job(
        None, fasta.path, [vcf, table], model=tiny_loaded(), saturate="chr1:1,001-1,003",
        options=Options(window=400, windowing="tiled"),
    )  # fmt: skip
    text = vcf.read_text()
    assert "NEXVAR_LLR_TILED=" in text and "windowing=tiled (not the score of a window around the variant)" in text
    assert all(";NEXVAR_LLR=.,.,." in f";{line.split()[7]}" for line in text.splitlines() if line[0] != "#")
    names = table.read_text().splitlines()[0].split("\t")
    assert "LLR_TILED" in names and "LLR_TILED_REV" in names


@example(0, [(70, 3), (200, 1), (210, 1), (10, 2)], 1)
@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 299), st.integers(1, 30)), min_size=1, max_size=8),
       st.integers(1, 3000))  # fmt: skip
def test_members_that_leave_the_first_anywhere_get_their_own_value(seed, leaves, batch):
    base = random.Random(seed).choices(b"ACGT", k=300)
    family = [Member(base, (1, 150, 300))]
    for at, more in leaves:
        ids = [*base[:at], *[78] * more, *base[at + 1 :]]
        family.append(Member(ids, (at + more, len(ids))))
    tally = Tally()
    values = log_likelihoods(CAUSAL, [family], batch_tokens=batch, tally=tally)[0]
    planned = count_tokens([family], batch_tokens=10_000)
    assert planned.naive == tally.naive
    assert planned.computed <= tally.computed <= planned.computed + 29 * len(family)  # lengths differ by up to 29
    for member, value in zip(family, values, strict=True):
        of = likelihood(bytes(member.ids).decode())
        assert value.total == pytest.approx(sum(of), rel=1e-5)
        assert value.until == pytest.approx([sum(of[: end - 1]) for end in member.ends], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("readout", ["site", "llr"])
def test_indels_of_one_site_share_what_stands_before_them_on_both_strands(readout, fasta):
    """Whichever edge moves: three windows, two beginnings."""
    ref = GENOME[1000:1004]
    other = next(base for base in "ACGT" if base not in (GENOME[1001], GENOME[1004], GENOME[1000]))
    indels = Variant("chr1", 1000, ref, (ref[0] + other + ref[1:], ref[0]))
    window, span, strands, sequences = 300, 20, 2, 3  # the reference and two alternatives
    options = dict(window=window, readouts=(readout,), **({"span": span} if readout == "site" else {}))
    _, computed, naive = counted(CAUSAL, [indels], fasta, **options)
    beginnings = window - len(ref)  # what stands before the site, on both strands together
    at_most = {"site": strands * sequences * (len(ref) + span + 6), "llr": sequences * (window + len(ref))}
    assert beginnings < computed <= beginnings + at_most[readout] + FORWARD_TOKENS < naive


@pytest.mark.parametrize("pool", ["mean", "max", "last", "site", "site+3", "flat"])
def test_an_equivariant_model_gets_the_other_strand_right(pool, fasta, golden):
    """Caduceus-PS runs once where the other strand must be the same, and twice where pooling looks at one end."""
    loaded = load(golden / "caduceus_ps_tiny", device="cpu")
    options = Options(window=60, readouts=("cosine", "l1", "masked_llr"), pool=pool)
    alone = replace(loaded, module=copy(loaded.module))
    alone.module.rc_equivariant = False
    indels = [
        replace(snv(1004), alts=(GENOME[1004] + "GAT",)),
        Variant("chr1", 1010, GENOME[1010:1014], (GENOME[1010],)),
    ]
    rows, both = (list(score_variants(m, [snv(1000), *indels], fasta, options)) for m in (loaded, alone))
    for row, twice in zip(rows, both, strict=True):
        assert row.llr_rev == pytest.approx(twice.llr_rev, abs=1e-5)
        for name, value in twice.extra.items():
            assert row.extra[name] == pytest.approx(value, abs=1e-5), name


def test_a_resumed_run_keeps_its_batches_when_memory_changed(fasta, tmp_path, monkeypatch):
    def run(out, free, **options):
        monkeypatch.setattr(batching.machine, "free_memory", lambda device: free)
        region = dict(saturate="chr1:501-620", options=Options(window=64), **options)
        return run_job(None, fasta.path, tmp_path / out, model=tiny_loaded(), **region)

    run("whole.tsv", 1 << 40)
    run("out.tsv", 1 << 40, shard=(1, 2))
    run("out.tsv", 1 << 22)
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
