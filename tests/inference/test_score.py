"""Scoring: every allele accounted for, shared work exact, no score depends on its neighbours."""

from __future__ import annotations

from dataclasses import replace

import pysam
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, Variant, reverse_complement
from nexvar.inference import score
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import Options
from nexvar.runs.rows import score_variants
from nexvar.runs.writers import read_rows
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import other_bases, random_bases, write_fasta, write_vcf

LOADED = tiny_loaded(window=256)
GENOME = random_bases(3000, seed=1)


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "ref.fa", chr1=GENOME, chr2="N" * 50 + GENOME[:500])


def mean_log_likelihood(sequence: str) -> float:
    ids = list(sequence.encode())
    with torch.no_grad():
        log_probs = LOADED.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs[t - 1, ids[t]]) for t in range(1, len(ids))) / (len(ids) - 1)


def snv(pos: int, alts: str | None = None) -> Variant:
    return Variant("chr1", pos, GENOME[pos], tuple(alts or other_bases(GENOME[pos])))


def score_all(variants, fasta, **options):
    return list(score_variants(LOADED, variants, fasta, Options(**options)))


def test_the_score_is_its_definition(fasta):
    row = score_all([snv(1500, "A" if GENOME[1500] != "A" else "C")], fasta)[0]
    ref = GENOME[1500 - 128 : 1500 + 128]
    alt = ref[:128] + row.alt + ref[129:]
    forward = mean_log_likelihood(alt) - mean_log_likelihood(ref)
    reverse = mean_log_likelihood(reverse_complement(alt)) - mean_log_likelihood(reverse_complement(ref))
    assert row.llr_fwd == pytest.approx(forward, abs=1e-6)
    assert row.llr_rev == pytest.approx(reverse, abs=1e-6)
    assert row.llr == pytest.approx((forward + reverse) / 2, abs=1e-6)
    assert (row.pos, row.window_start, row.window_end) == (1501, 1500 - 128, 1500 + 128)


def test_forward_strand_alone(fasta):
    row = score_all([snv(900)], fasta, strand="forward")[0]
    assert row.llr == row.llr_fwd and row.llr_rev is None


@given(st.lists(st.integers(0, 2999), min_size=1, max_size=6), st.integers(1, 5000), st.booleans())
def test_neither_sharing_nor_batches_nor_neighbours_change_a_score(tmp_path_factory, positions, batch, share):
    fasta = Fasta(write_fasta(tmp_path_factory.mktemp("f") / "ref.fa", chr1=GENOME))
    variants = [snv(p) for p in sorted(positions)]
    together = score_all(variants, fasta, batch_tokens=batch, share=share)
    alone = [row for v in variants for alt in v.alts for row in score_all([replace(v, alts=(alt,))], fasta)]
    assert [r.llr for r in together] == pytest.approx([r.llr for r in alone], abs=1e-6)


def test_a_reference_window_is_computed_once(fasta):
    tally = Tally()
    items = [(None, snv(1500)), (None, snv(1500))]
    list(score.score_alleles(LOADED, items, Fasta(fasta), Options(strand="forward").resolve(LOADED), tally))
    window = LOADED.card.window
    sequences = 1 + 3  # a reference and its alternatives: those of the second record are the same
    before_the_site = window // 2
    assert tally.naive == sequences * window
    assert tally.computed == before_the_site + sequences * (window - before_the_site)


def line(chrom, pos1, ref, alt, info="."):
    return f"{chrom}\t{pos1}\t.\t{ref}\t{alt}\t.\tPASS\t{info}\n"


@pytest.fixture
def mixed_vcf(tmp_path):
    """Every kind of allele; 11 alleles in 9 records."""
    wrong = "A" if GENOME[499] != "A" else "C"
    lines = [
        line("chr1", 3, GENOME[2], ",".join(other_bases(GENOME[2])), "DP=3"),
        line("chr1", 500, wrong, "G"),
        line("chr1", 600, GENOME[599], "<DEL>"),
        line("chr1", 700, GENOME[699], "*"),
        line("chr1", 800, GENOME[799], "."),
        line("chr1", 900, GENOME[899:903], "T" if GENOME[899] != "T" else "G"),
        line("chr1", 999999, "A", "C"),
        line("2", 10, "N", "A"),
        line("chr9", 10, "A", "C"),
    ]
    return write_vcf(tmp_path / "in.vcf", lines)


def test_alleles_in_are_scored_plus_skipped(mixed_vcf, fasta, tmp_path):
    outputs = [tmp_path / name for name in ("out.vcf.gz", "out.tsv", "out.parquet")]
    summary = run_job(mixed_vcf, fasta, outputs, model=LOADED, options=Options(window=256))
    assert summary.records == 9 and summary.alleles == 11
    assert summary.scored + sum(summary.skipped.values()) == summary.alleles
    assert summary.scored == 4
    assert "11 alleles in 9 records = 4 scored + 7 skipped" in summary.lines()[0]
    assert any("2 read as chr2" in text for text in summary.lines())

    with pysam.VariantFile(str(outputs[0])) as out:
        records = list(out)
    assert [r.pos for r in records] == [3, 500, 600, 700, 800, 900, 999999, 10, 10]
    assert records[0].info["NEXVAR_STATUS"] == ("EDGE",) * 3
    assert records[0].info["NEXVAR_LLR"] == pytest.approx([r.llr for r in read_rows(outputs[2])][:3], rel=1e-5)
    assert "NEXVAR_LLR" not in records[1].info or records[1].info["NEXVAR_LLR"] == (None,)
    rows = list(read_rows(outputs[2]))
    assert [str(r.status) for r in rows] == [
        "EDGE", "EDGE", "EDGE", "REF_MISMATCH", "SYMBOLIC", "STAR", "MISSING_ALT", "OK", "OUT_OF_RANGE",
        "N_AT_SITE", "UNKNOWN_CONTIG",
    ]  # fmt: skip
    assert len(outputs[1].read_text().splitlines()) == 12


def test_header_and_untouched_fields_are_kept(mixed_vcf, fasta, tmp_path):
    out = tmp_path / "out.vcf"
    run_job(mixed_vcf, fasta, out, model=LOADED, options=Options(window=256), command="nexvar score x")
    text = out.read_text()
    assert "##nexvar_command=nexvar score x\n" in text
    assert 'ID=NEXVAR_LLR,Number=A,Type=Float,Description="' in text and "model=tiny" in text
    before = [row.split("\t")[:7] for row in mixed_vcf.read_text().splitlines() if not row.startswith("#")]
    after = [row.split("\t")[:7] for row in text.splitlines() if not row.startswith("#")]
    assert before == after


def test_a_wrong_assembly_stops_before_anything_is_computed(fasta, tmp_path):
    wrong = [line("chr1", p, reverse_complement(GENOME[p - 1]), GENOME[p - 1]) for p in range(100, 140)]
    vcf, out = write_vcf(tmp_path / "wrong.vcf", wrong), tmp_path / "out.vcf"
    before = LOADED.module.tokens
    with pytest.raises(NexVarError, match="assembly") as error:
        run_job(vcf, fasta, out, model=LOADED, options=Options(window=256))
    assert all(f"chr1:{p} REF" in str(error.value) for p in (100, 101, 102))
    assert LOADED.module.tokens == before and not out.exists()
    summary = run_job(vcf, fasta, out, model=LOADED, options=Options(window=256, max_ref_mismatch=1.0))
    assert summary.skipped == {"REF_MISMATCH": 40}


def test_the_default_model_is_for_mitochondria_only(mixed_vcf, fasta, tmp_path):
    with pytest.raises(NexVarError, match="knows mitochondria only") as error:
        run_job(mixed_vcf, fasta, tmp_path / "out.vcf")
    assert "choose nexvar_1b_base (smallest" in str(error.value) and "nexvar models --fits" in str(error.value)


def test_variants_outside_the_regions_keep_their_place(mixed_vcf, fasta, tmp_path):
    bed, out = tmp_path / "r.bed", tmp_path / "out.parquet"
    bed.write_text("1\t0\t100\n2\t0\t5\n")
    summary = run_job(mixed_vcf, fasta, out, model=LOADED, options=Options(window=256), regions=bed)
    assert summary.scored == 3 and summary.alleles == 11
    statuses = [str(row.status) for row in read_rows(out)]
    assert statuses[:3] == ["EDGE"] * 3 and statuses[-1] == "UNKNOWN_CONTIG"
    assert statuses[3:-1] == ["OUTSIDE_REGIONS"] * 7


@pytest.mark.parametrize(
    "options",
    [{"strand": "reverse"}, {"window": 1}, {"batch_tokens": 0}],
)
def test_bad_options(options):
    with pytest.raises(NexVarError):
        Options(**options)


def test_a_window_beyond_the_context_is_refused(fasta):
    with pytest.raises(NexVarError, match="context"):
        score_all([snv(5)], fasta, window=100_000)


# -- score_sequences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 2, 7])
def test_sequences_of_unequal_length_do_not_see_each_other(batch_size):
    sequences = [GENOME[:n] for n in (2, 50, 7, 300, 299)]
    got = score.score_sequences(LOADED, sequences, batch_size=batch_size)
    assert got == pytest.approx([mean_log_likelihood(s) for s in sequences], abs=1e-6)


def test_reverse_complement_average_and_sum():
    sequence = GENOME[:100]
    both = score.score_sequences(LOADED, [sequence], average_reverse_complement=True)
    total = score.score_sequences(LOADED, [sequence], reduce_method="sum")
    other = mean_log_likelihood(reverse_complement(sequence))
    assert both == pytest.approx([(mean_log_likelihood(sequence) + other) / 2], abs=1e-6)
    assert total == pytest.approx([99 * mean_log_likelihood(sequence)], rel=1e-6)


def test_a_begin_token_scores_the_first_base_too():
    loaded = tiny_loaded(bos_id=0)
    with torch.no_grad():
        log_probs = loaded.module(torch.tensor([[0, *b"ACG"]])).logits[0].double().log_softmax(-1)
    expected = sum(float(log_probs[t, base]) for t, base in enumerate(b"ACG")) / 3
    assert score.score_sequences(loaded, ["ACG"]) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize(
    ("seqs", "options"),
    [
        (["A"], {}),
        ([""], {}),
        ("ACGT", {}),
        (["ACGT"], {"reduce_method": "median"}),
        (["ACGT"], {"batch_size": 0}),
        (["A" * 9000], {}),
        (["ACé"], {}),
    ],
)
def test_bad_sequences_are_one_clear_line(seqs, options):
    with pytest.raises(NexVarError) as error:
        score.score_sequences(LOADED, seqs, **options)
    assert "\n" not in str(error.value)


def test_progress_moves_with_every_batch(fasta):
    """Nine alleles of one piece, in batches of one window: not in one step at the end."""
    steps = []
    resolved = Options(window=256, batch_tokens=256, readouts=("llr", "cosine")).resolve(LOADED)
    items = [(None, snv(p)) for p in (1000, 1300, 1600)]
    list(score.score_alleles(LOADED, items, Fasta(fasta), resolved, Tally(), progress=steps.append))
    assert sum(steps) == 9 and len(steps) > 5 and all(step > 0 for step in steps)
