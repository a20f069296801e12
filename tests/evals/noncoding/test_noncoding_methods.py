"""What each score is made of: windows of the right allele, groups, baselines with missing values, held-out probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pybigtools
import pysam
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.evals.metrics import auroc
from nexvar.evals.noncoding import baselines, lora, probe
from nexvar.evals.noncoding.alleles import Allele
from nexvar.evals.noncoding.windows import cut_windows, groups
from nexvar.evals.noncoding.zero_shot import zero_shot
from nexvar.files import read_json
from nexvar.genome.reference import Fasta
from nexvar.weights.load import load
from noncoding_genome import CHR1
from places import GOLDEN
from toy_genome import other_bases, write_fasta


def snv(pos0: int, alt: int = 0, **facts: object) -> Allele:
    return Allele("chr1", pos0, CHR1[pos0], other_bases(CHR1[pos0])[alt], **facts)


# -- windows and groups


def test_every_allele_has_its_own_centred_window(genome: Fasta) -> None:
    """Two alleles of one place, as a positive and its match, share the reference and not the alternative."""
    alleles = [snv(1000, 0), snv(1000, 1), snv(5, 0), Allele("chr1", 2000, CHR1[2000], CHR1[2000] + "A" * 40)]
    found = cut_windows(genome, alleles, 64)
    assert found.usable_N.tolist() == [True, True, False, False]
    first, second = found.windows[:2]
    assert first.ref_seq == second.ref_seq == CHR1[968:1032]
    for allele, w in zip(alleles, (first, second), strict=False):
        assert w.alt_seq == CHR1[968:1000] + allele.alt + CHR1[1001:1032]
    assert any("1 variants too near to the end" in note for note in found.notes)
    assert any("1 variants longer than half the window" in note for note in found.notes)
    with pytest.raises(NexVarError, match="--window 64: no variant has a window: 1 too near"):
        cut_windows(genome, alleles[2:3], 64)


RING = CHR1[:1020]


@given(st.lists(st.integers(100, 20_000), min_size=2, max_size=30, unique=True), st.integers(2, 3000))
def test_no_base_of_two_groups_is_the_same(places: list[int], width: int) -> None:
    alleles = [snv(pos0) for pos0 in sorted(places)]
    found = groups(alleles, width, [""] * len(alleles))
    for i, a in enumerate(alleles):
        for j in range(i):
            if found[i] != found[j]:
                assert a.pos0 - alleles[j].pos0 >= width


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 20)), min_size=2, max_size=12), st.integers(40, 300))
@example([(0, 1), (990, 1)], 40)
@example([(0, 1), (45, 1), (100, 20), (148, 1)], 48)
def test_no_window_of_one_group_shares_a_base_with_another_groups(places: list[tuple[int, int]], width: int) -> None:
    """On a ring, too; and the alternative window of a deletion is filled up with bases from behind."""
    alleles = [Allele("ring", pos0, RING[pos0 : pos0 + length], RING[pos0]) for pos0, length in sorted(set(places))]
    found = groups(alleles, width, [""] * len(alleles), {"ring": 1000})
    bases = [{(a.pos0 - width // 2 + i) % 1000 for i in range(width + len(a.ref) - 1)} for a in alleles]
    for i, some in enumerate(bases):
        assert all(found[i] == found[j] or not some & bases[j] for j in range(i))


def test_windows_around_the_origin_of_a_ring_are_neighbours(tmp_path: Path) -> None:
    fasta = Fasta(write_fasta(tmp_path / "ring.fa", ring=RING[:1000]), circular=["ring"])
    alleles = [Allele("ring", p, RING[p], other_bases(RING[p])[0]) for p in (5, 500, 990)]
    assert cut_windows(fasta, alleles, 64).group_N.tolist() == [1, 0, 1]
    deletion = Allele("ring", 300, RING[300:320], RING[300])
    (window,) = cut_windows(fasta, [deletion], 64).windows
    assert window.alt_seq == RING[268:301] + RING[320:351], "as far behind as the deletion is long"


def test_a_name_joins_what_lies_apart(genome: Fasta) -> None:
    alleles = [snv(1000), snv(1010), snv(5000), snv(9000)]
    assert groups(alleles, 64, ["a", "", "b", "a"]).tolist() == groups(alleles, 64, ["a", "a", "b", "a"]).tolist()
    assert len(set(groups(alleles, 64, ["a", "", "b", "a"]))) == 2


# -- baselines


def test_a_missing_value_is_missing_and_an_allele_has_its_own_cadd(tmp_path: Path, genome: Fasta) -> None:
    one, other, absent = snv(1000, 0), snv(1000, 1), snv(2000, 0)
    table = tmp_path / "cadd.tsv"
    rows = [f"1\t1001\t{a.ref}\t{a.alt}\t0.1\t{phred}\n" for a, phred in ((one, 3.5), (other, 22.25))]
    table.write_text("## CADD\n#Chrom\tPos\tRef\tAlt\tRawScore\tPHRED\n" + "".join(rows))
    with pytest.raises(NexVarError, match="no tabix index beside it"):
        baselines.of_cadd(table, genome, [one])
    path = pysam.tabix_index(str(table), seq_col=0, start_col=1, end_col=1, meta_char="#", force=True)
    np.testing.assert_array_equal(baselines.of_cadd(path, genome, [one, other, absent]), [3.5, 22.25, np.nan])

    track = tmp_path / "phylop.bw"
    pybigtools.open(str(track), "w").write({"chr1": len(CHR1)}, iter([("chr1", 1000, 1001, 0.0)]))
    np.testing.assert_array_equal(baselines.of_track(track, genome, [one, absent]), [0.0, np.nan])


def test_place_and_bases_as_scores(genome: Fasta) -> None:
    transition = {"A": "G", "G": "A", "C": "T", "T": "C"}[CHR1[1000]]
    alleles = [Allele("chr1", 1000, CHR1[1000], transition, region="promoter"), snv(14_999, 0, region="intergenic"),
               Allele("chr1", 10, CHR1[10], CHR1[10] + "A", region="utr_5prime")]  # fmt: skip
    scores = baselines.of_alleles(alleles, genome, np.array([3.0, np.inf, 0.0]))
    np.testing.assert_array_equal(scores["promoter, 5'UTR or splice site"], [1, 0, 1])
    np.testing.assert_array_equal(scores["nearness to an exon's end"], [-3, np.nan, 0])
    assert scores["transversion"][0] == 0 and np.isnan(scores["transversion"][2])
    np.testing.assert_array_equal(scores["nearness to its contig's middle"], [-14_000, -1, -14_990])
    assert baselines.gc("ACGTGG") == pytest.approx(4 / 6) and baselines.cpg("CGCGA") == 2


def test_the_region_class_is_judged_by_other_folds() -> None:
    """A class that occurs once, in the fold that is judged, has the odds of nothing: 1 to 1."""
    region = np.array(["promoter"] * 4 + ["enhancer"], dtype=object)
    scores = baselines.of_region(region, np.array([True, True, True, False, True]), np.array([0, 1, 1, 1, 0]))
    promoters, everything = np.log(3 / 2), np.log(3 / 2)  # of fold 1: two of three, and one more of each
    assert scores[0] == pytest.approx(promoters - everything) and scores[4] == pytest.approx(0 - everything)
    assert scores[1:4] == pytest.approx(np.log(2 / 1) - np.log(3 / 1))


# -- models


@pytest.fixture(scope="module")
def model():
    return load(GOLDEN / "hyenadna_tiny", device="cpu")


def test_zero_shot_is_log_p_of_the_reference_minus_that_of_the_alternative(genome: Fasta, model) -> None:
    from nexvar.inference.score import score_sequences

    alleles = [snv(1000), snv(1001), snv(3)]
    found, readout = zero_shot(model, genome, alleles, 32, "llr_sum", "forward")
    pairs = [cut_windows(genome, alleles[:2], 32).windows[i] for i in (0, 1)]
    for value, w in zip(found, pairs, strict=False):
        ref, alt = score_sequences(model, [w.ref_seq, w.alt_seq], reduce_method="sum")
        assert value == pytest.approx(ref - alt, abs=1e-4)
    assert readout == "llr_sum"
    cosine, _ = zero_shot(model, genome, alleles[:2], 32, "cosine")
    assert (cosine > 0).all(), "a distance is not turned around"
    with pytest.raises(NexVarError, match="context"):
        zero_shot(model, genome, alleles, model.card.context + 2)


def test_a_probe_never_saw_what_it_predicts() -> None:
    """Random labels, more features than variants: fitted and tested on the same rows it would be perfect."""
    rng = np.random.default_rng(0)
    x_ND, labels = rng.normal(size=(80, 90)).astype(np.float32), rng.random(80) < 0.4
    group_N = np.arange(80) // 4
    found = probe.out_of_fold(x_ND, labels, group_N, probe.folds(group_N, 0), 0)
    assert np.isfinite(found).all() and 0.25 < auroc(labels, found) < 0.75
    x_ND[:, :5] += 4 * labels[:, None]  # every fold finds this, whatever its penalty and its share of positives
    assert auroc(labels, probe.out_of_fold(x_ND, labels, group_N, probe.folds(group_N, 0), 0)) > 0.9


def test_groups_stay_in_one_fold_and_too_few_of_them_are_one_line() -> None:
    group_N = np.random.default_rng(0).integers(20, size=200)
    fold_N = probe.folds(group_N, 0)
    assert all(len(set(fold_N[group_N == g])) == 1 for g in range(20)) and set(fold_N) == set(range(5))
    with pytest.raises(NexVarError, match="3 groups of neighbours do not fill 5 folds"):
        probe.folds(np.array([0, 0, 1, 2]), 0)


def test_a_probe_of_the_reference_is_at_chance_where_windows_are_shared() -> None:
    rng = np.random.default_rng(0)
    ref_ND = np.repeat(rng.normal(size=(60, 8)).astype(np.float32), 2, axis=0)
    alt_ND, labels, group_N = ref_ND.copy(), np.tile([True, False], 60), np.repeat(np.arange(60), 2)
    alt_ND[labels, 0] += 1
    fold_N = probe.folds(group_N, 0)
    scores = {read: probe.out_of_fold(probe.features(ref_ND, alt_ND, read), labels, group_N, fold_N, 0)
              for read in probe.READS}  # fmt: skip
    assert auroc(labels, scores["ref"]) == 0.5 and auroc(labels, scores["alt - ref"]) == 1.0


def test_lora_chooses_its_epoch_on_rows_of_the_training_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "FOLDS", 2)
    texts = [CHR1[i * 40 : i * 40 + 24] for i in range(60)]
    labels, group_N = np.array([i % 3 == 0 for i in range(60)]), np.arange(60) // 2
    found = lora.out_of_fold(
        str(GOLDEN / "hyenadna_tiny"), texts, labels, group_N, tmp_path, epochs=1, rate=1e-3, seed=0, device="cpu"
    )
    assert np.isfinite(found).all()
    for fold in (1, 2):
        counts = {name: each["rows"] for name, each in read_json(tmp_path / f"run/fold-{fold}/metrics.json").items()}
        assert counts["valid"] > 0 and counts["test"] == 30, "the test fold chooses nothing"


def test_replaced_alleles_have_their_own_key() -> None:
    """However it is written, and whatever else is known of it."""
    written = Allele("chr1", 9, "AC", "AG")
    assert written.key == Allele("chr1", 10, "C", "G", positive=True).key != replace(written, alt="AT").key
