"""nexvar tracks --variants: sums and largest differences by hand, indels side by side, genes, files, bad input."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.inference.track_windows import predict_tracks
from nexvar.runs import score_run, track_variants
from nexvar.runs.job import InputFiles, Placement, ScoreJob
from nexvar.runs.track_variants import Effects, differences, score_by_tracks
from nexvar.runs.tracks_run import TrackOptions
from tiny_track_run import tiny_tracked
from toy_genome import random_bases, write_fasta

TEXT = random_bases(900, seed=5)
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}
WINDOW = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_tracked(tmp_path_factory.mktemp("model"), 3)


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "in.fa", chr1=TEXT)


def line(pos0, ref, alts):
    return f"chr1\t{pos0 + 1}\t.\t{ref}\t{alts}\t.\t.\tDP=3\n"


def vcf(path, *lines):
    path.write_text("##fileformat=VCFv4.2\n##contig=<ID=chr1,length=900>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
                    + "".join(lines))  # fmt: skip
    return path


def run(model, output, fasta, variants, over="window", annotation=None, shard=None, **tracks):
    files = InputFiles(fasta, variants)
    effects = Effects(TrackOptions(**{"window": WINDOW, **tracks}), over, annotation)
    return score_by_tracks(ScoreJob(files, output, model, placement=Placement(shard)), effects)


def of_bases(model, text):
    (made,) = predict_tracks(model, [text], window=1200)
    return np.repeat(made.values_NK, 3, axis=0)[: len(text)]


def test_snvs_by_hand(model, fasta, tmp_path):
    places = [200, 301, 440]
    variants = vcf(tmp_path / "in.vcf", *(line(p, TEXT[p], OTHER[TEXT[p]]) for p in places))
    run(model, [tmp_path / "out.parquet", tmp_path / "out.vcf", tmp_path / "out.tsv"], fasta, variants)
    frame = pq.read_table(tmp_path / "out.parquet").to_pandas()
    for row, p in zip(frame.itertuples(), places, strict=True):
        window = TEXT[p - 60 : p + 60]
        ref, alt = of_bases(model, window), of_bases(model, window[:60] + OTHER[TEXT[p]] + window[61:])
        for k, name in enumerate(("plus", "minus", "both")):
            assert getattr(row, f"{name}_SUM") == pytest.approx((alt - ref)[:, k].sum(), rel=1e-3, abs=1e-4)
            assert getattr(row, f"{name}_MAX") == pytest.approx(np.abs(alt - ref)[:, k].max(), rel=1e-4)
            assert getattr(row, f"{name}_MAX") > 0
    text = (tmp_path / "out.vcf").read_text()
    assert (
        '##INFO=<ID=NEXVAR_plus_SUM,Number=A,Type=Float,Description="plus: alternative - reference, summed over the'
        in text
    )
    assert "DP=3;NEXVAR_LLR=.;" in text and text.count("NEXVAR_both_MAX=") == 3
    assert "plus_SUM\tplus_MAX" in (tmp_path / "out.tsv").read_text()


@given(seed=st.integers(0, 99), site=st.integers(5, 20), ref=st.integers(1, 4), alt=st.integers(1, 4))
def test_values_that_move_along_with_their_bases_differ_nowhere(seed, site, ref, alt):
    """Alleles of other lengths: the alternative's values are the reference's, shifted behind the site."""
    ref_LK = np.random.default_rng(seed).random((40, 2))
    shared = min(ref, alt)
    inserted = np.full((max(alt - shared, 0), 2), 7.0)
    alt_LK = np.concatenate([ref_LK[: site + shared], inserted, ref_LK[site + ref :]])[:40]
    told_K2 = differences(ref_LK, alt_LK, (site, site + ref), (site, site + alt), np.ones(40, dtype=bool))
    more = 7.0 * len(inserted) - ref_LK[site + shared : site + ref].sum(0)
    np.testing.assert_allclose(told_K2[:, 0], more, atol=1e-9)
    if alt <= ref:
        np.testing.assert_allclose(told_K2[:, 1], 0, atol=1e-9)


def test_indels_multi_allelic_and_what_has_no_score(model, fasta, tmp_path):
    p = 300
    lines = [line(p, TEXT[p], f"{TEXT[p]}ACGT,{OTHER[TEXT[p]]}"), line(p + 9, TEXT[p + 9 : p + 14], TEXT[p + 9]),
             line(p + 30, TEXT[p + 30], "*")]  # fmt: skip
    run(model, tmp_path / "out.parquet", fasta, vcf(tmp_path / "in.vcf", *lines))
    frame = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert list(frame.STATUS) == ["OK", "OK", "OK", "STAR"]
    assert frame.plus_SUM.notna().tolist() == frame.plus_MAX.notna().tolist() == [True, True, True, False]


def test_over_the_exons_of_a_gene(model, fasta, tmp_path):
    genes = tmp_path / "genes.gff3"
    rows = [("mRNA", 250, 420, "ID=t1;Name=NEAR"), ("exon", 250, 290, "Parent=t1"), ("exon", 400, 420, "Parent=t1"),
            ("mRNA", 700, 720, "ID=t2;Name=FAR"), ("exon", 700, 720, "Parent=t2")]  # fmt: skip
    genes.write_text("##gff-version 3\n" + "".join(f"chr1\t.\t{k}\t{a}\t{b}\t.\t+\t.\t{x}\n" for k, a, b, x in rows))
    p = 285
    variants = vcf(tmp_path / "in.vcf", *(line(q, TEXT[q], OTHER[TEXT[q]]) for q in (p, 560)))
    run(model, tmp_path / "out.parquet", fasta, variants, "gene", genes)
    frame = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert list(frame.DETAIL) == ["NEAR", "no gene in the window"]
    window = TEXT[p - 60 : p + 60]
    ref, alt = of_bases(model, window), of_bases(model, window[:60] + OTHER[TEXT[p]] + window[61:])
    exon = slice(249 - (p - 60), 290 - (p - 60))
    assert frame.minus_SUM[0] == pytest.approx((alt - ref)[exon, 1].sum(), rel=1e-3)
    assert frame.minus_MAX[0] == pytest.approx(np.abs(alt - ref)[exon, 1].max(), rel=1e-3)
    assert np.isnan(frame.minus_SUM[1])


def test_shards_give_the_same_bytes_and_other_tracks_are_refused(model, fasta, tmp_path):
    variants = vcf(tmp_path / "in.vcf", *(line(p, TEXT[p], OTHER[TEXT[p]]) for p in range(100, 800, 20)))
    run(model, tmp_path / "whole.vcf", fasta, variants)
    run(model, tmp_path / "cut.vcf", fasta, variants, shard=(1, 2))
    with pytest.raises(NexVarError, match="changed: model"):
        run(model, tmp_path / "cut.vcf", fasta, variants, shard=(2, 2), tracks=("both",))
    run(model, tmp_path / "cut.vcf", fasta, variants, shard=(2, 2))
    score_run.merge(tmp_path / "cut.vcf")
    assert (tmp_path / "cut.vcf").read_bytes() == (tmp_path / "whole.vcf").read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"over": "genes"}, "no sum over 'genes'"),
        ({"over": "gene"}, "no genes to sum over.*--annotation"),
        ({"annotation": "genes.gff3"}, "--annotation: a sum over the window needs no genes"),
        ({"blend": True}, "a variant has one window"),
        ({"output": "x.bw"}, "no format for the ending"),
        ({"tracks": ("pluss",)}, "did you mean plus"),
        ({"window": 100}, "in steps of 3.*such as 99"),
    ],
)
def test_bad_input_is_one_line(model, fasta, tmp_path, given, message):
    given = dict(given)
    variants = vcf(tmp_path / "in.vcf", line(300, TEXT[300], OTHER[TEXT[300]]))
    with pytest.raises(NexVarError, match=message):
        run(model, tmp_path / given.pop("output", "x.vcf"), fasta, variants, **given)


def test_tracks_whose_names_a_vcf_cannot_tell_apart():
    assert track_variants._keys(["RNA-seq (+)", "RNA-seq (-)", "b.1"]) == ["RNA_seq_plus", "RNA_seq_minus", "b.1"]
    with pytest.raises(NexVarError, match="two tracks would both be RNA_seq in a VCF"):
        track_variants._keys(["RNA seq", "RNA-seq"])


def test_the_name_is_that_of_the_gene_and_a_file_without_exons_is_refused(model, fasta, tmp_path):
    rows = [("gene", "ID=g;Name=ABC"), ("mRNA", "ID=t;Parent=g;Name=ABC-201"), ("CDS", "Parent=t")]
    lines = [f"chr1\t.\t{kind}\t250\t420\t.\t+\t.\t{about}\n" for kind, about in rows]
    genes, variants = tmp_path / "genes.gff3", vcf(tmp_path / "in.vcf", line(300, TEXT[300], OTHER[TEXT[300]]))
    genes.write_text("##gff-version 3\n" + "".join(lines))
    run(model, tmp_path / "out.parquet", fasta, variants, "gene", genes)
    assert pq.read_table(tmp_path / "out.parquet")["DETAIL"].to_pylist() == ["ABC"]
    genes.write_text("##gff-version 3\n" + lines[0])
    with pytest.raises(NexVarError, match=r"genes\.gff3: no exon and no CDS in it"):
        run(model, tmp_path / "none.parquet", fasta, variants, "gene", genes)
