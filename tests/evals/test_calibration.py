"""nexvar calibrate: on simulated scores the truth is known; what cannot be calibrated is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.evals import calibration
from nexvar.evals.calibration import calibrate, fit_logistic, local_evidence, local_ratios, odds_of_very_strong
from nexvar.inference.calibration import STRENGTHS, Calibration
from toy_genome import random_bases, write_fasta

BASES = random_bases(3000, seed=11)
HOW = "model=tiny, revision=abc, window=64, strand=both, dtype=float32, readout=site, span=8"
HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=3000>\n"
    '##INFO=<ID=LABEL,Number=1,Type=Integer,Description="1 pathogenic, 0 benign">\n'
    f'##INFO=<ID=NEXVAR_LLR,Number=A,Type=Float,Description="Score; lower is less likely; {HOW}">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
)


def simulated(ones: int, zeros: int, seed: int, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """(classes, badness): N(apart, 1) and N(0, 1), so that the log ratio at x is apart x - apart² / 2."""
    rng = np.random.default_rng(seed)
    classes = np.arange(ones + zeros) < ones
    return classes, rng.normal(size=ones + zeros) + apart * classes


def scored_vcf(path, ones=120, zeros=400, seed=0, apart=2.0, head=HEAD, sign=-1.0):
    classes, badness = simulated(ones, zeros, seed, apart)
    order = np.random.default_rng(seed).permutation(len(classes))
    lines = []
    for place, i in enumerate(order):
        ref = BASES[5 * place]
        alt = "CATG"["ACGT".index(ref)]
        lines.append(
            f"1\t{5 * place + 1}\t.\t{ref}\t{alt}\t.\t.\tLABEL={int(classes[i])};NEXVAR_LLR={sign * badness[i]:.6f}\n"
        )
    path.write_text(head + "".join(lines))
    return path


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "ref.fa", chr1=BASES)


# -- the logistic


@pytest.mark.parametrize("prior", [0.0441, 0.2, 0.5])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_logistic_of_two_normals_is_recovered(prior, sign):
    classes, badness = simulated(4000, 12000, seed=1)
    found = fit_logistic(classes, sign * badness, prior)
    assert found.slope == pytest.approx(sign * 2, abs=0.12)
    assert found.intercept == pytest.approx(-2 + math.log(prior / (1 - prior)), abs=0.2)


def test_probabilities_are_calibrated_at_the_labelled_share():
    classes, badness = simulated(3000, 9000, seed=2)
    found = fit_logistic(classes, badness, 0.25)
    other_classes, other = simulated(3000, 9000, seed=3)
    probability = 1 / (1 + np.exp(-(found.intercept + found.slope * np.clip(other, found.low, found.high))))
    for low in np.arange(0, 1, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        assert other_classes[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1e4), st.floats(-1e4, 1e4))
def test_units_of_the_score_do_not_matter(scale, shift):
    classes, badness = simulated(60, 90, seed=4)
    one, other = fit_logistic(classes, badness, 0.1), fit_logistic(classes, scale * badness + shift, 0.1)
    assert other.slope * scale == pytest.approx(one.slope, rel=1e-4)
    at = 1.3
    assert other.intercept + other.slope * (scale * at + shift) == pytest.approx(
        one.intercept + one.slope * at, abs=1e-3
    )


def test_classes_that_do_not_overlap_have_a_finite_slope():
    classes = np.arange(60) < 30
    found = fit_logistic(classes, np.where(classes, 5.0, -5.0) + np.arange(60) / 60, 0.5)
    assert 0 < found.slope < 10


# -- evidence


def test_odds_are_the_published_ones():
    assert odds_of_very_strong(0.10) == pytest.approx(350, abs=1)  # Tavtigian et al. 2018
    for points, published in ((1, 2.41), (2, 5.79), (4, 33.53)):  # Pejaver et al. 2022, at 0.0441
        assert odds_of_very_strong(0.0441) ** (points / 8) == pytest.approx(published, rel=0.005)


def test_bounds_cover_the_true_ratio():
    """Of one-sided 95 % bounds about one in twenty may be on the wrong side, where they are used."""
    lower, upper, right = [], [], []
    for seed in range(40):
        classes, badness = simulated(300, 1500, seed)
        at, ratio, low, high = local_ratios(classes, badness, draws=200, seed=seed)
        truth = np.exp(2 * at - 2)
        lower.append((low <= truth)[truth >= 2.4])
        upper.append((high >= truth)[truth <= 1 / 2.4])
        both = ratio > 0
        assert np.corrcoef(np.log(ratio[both]), np.log(truth[both]))[0, 1] > 0.9
        found, _ = local_evidence(classes, badness, 0.0441, draws=200, seed=seed)
        assert found is not None and found.one["supporting"] is not None
        right.append(math.exp(2 * found.one["supporting"] - 2) >= found.odds ** (1 / 8))
    for covered in (lower, upper):
        assert np.concatenate(covered).mean() >= 0.93
    assert np.mean(right) >= 0.9


def test_thresholds_hold_from_there_on_and_grow_with_strength():
    classes, badness = simulated(800, 3000, seed=5)
    found, why = local_evidence(classes, badness, 0.1, draws=300)
    assert found is not None and why == ""
    reached = [t for t in found.one.values() if t is not None]
    assert len(reached) >= 2 and reached == sorted(reached)
    assert [t for t in found.zero.values() if t is not None] == sorted(
        (t for t in found.zero.values() if t is not None), reverse=True
    )
    for strength, points in STRENGTHS.items():
        needed = found.odds ** (points / 8)
        if (start := found.one[strength]) is not None:
            assert all(row[2] >= needed for row in found.curve if row[0] >= start)
            assert math.exp(2 * start - 2) >= 0.9 * needed
            assert found.points(start) >= points > found.points(start - 1e-6)


def test_chance_gives_no_evidence():
    for seed in range(5):
        classes, badness = simulated(200, 800, seed, apart=0.0)
        found, _ = local_evidence(classes, badness, 0.0441, draws=200, seed=seed)
        assert found is not None and {*found.one.values(), *found.zero.values()} == {None}
        assert {found.points(x) for x in badness} == {0}


@pytest.mark.parametrize(("ones", "zeros"), [(49, 1000), (1000, 49), (60, 100)])
def test_too_few_labels_give_no_evidence_and_say_so(ones, zeros):
    found, why = local_evidence(*simulated(ones, zeros, seed=6), 0.0441)
    assert found is None and str(ones) in why and str(zeros) in why


# -- files


def test_a_vcf_becomes_a_calibration_and_is_read_back(tmp_path, fasta):
    vcf = scored_vcf(tmp_path / "scored.vcf")
    made, lines = calibrate(vcf, fasta, draws=200)
    assert made.counts == (120, 400) and made.classes == ("pathogenic", "benign")
    assert made.scope.contigs == {"chr1": 3000} and made.scope.readout == "site"
    assert (made.scope.model, made.scope.window, made.scope.settings) == ("tiny", "64", {"span": "8"})
    low, value, high = made.auroc[1], made.auroc[0], made.auroc[2]
    assert low < value < high and value == pytest.approx(0.92, abs=0.03)
    assert made.logistic.slope == pytest.approx(-2, abs=0.5)
    assert made.evidence is not None and made.evidence.direction == "down"
    assert made.points(-6.0) is not None and made.points(-6.0) >= 1 and made.points(3.0) <= 0
    made.write(tmp_path / "c.json")
    assert Calibration.read(tmp_path / "c.json") == made
    again, _ = calibrate(vcf, fasta, draws=200)
    again.write(tmp_path / "d.json")
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "d.json").read_bytes()
    assert any("120 pathogenic, 400 benign" in line for line in lines)
    assert "not a diagnosis" in json.loads((tmp_path / "c.json").read_text())["note"]


def test_higher_is_class_1(tmp_path, fasta):
    made, _ = calibrate(scored_vcf(tmp_path / "s.vcf", sign=1.0), fasta, higher=True, draws=100)
    assert made.logistic.slope > 1 and made.evidence.direction == "up" and made.points(6.0) >= 1


def test_regions_choose_the_variants_and_stay_in_the_scope(tmp_path, fasta):
    (tmp_path / "r.bed").write_text("chr1\t0\t1000\nchr1\t900\t2000\n")
    made, _ = calibrate(
        scored_vcf(tmp_path / "s.vcf"), fasta, regions=tmp_path / "r.bed", region_class="toy", draws=100
    )
    assert sum(made.counts) == 400
    assert made.scope.regions == {"chr1": [[0, 2000]]} and made.scope.region_class == "toy"


def test_labels_of_another_file_and_of_words(tmp_path, fasta):
    vcf = scored_vcf(tmp_path / "s.vcf")
    rows = [line.split("\t") for line in vcf.read_text().splitlines() if not line.startswith("#")]
    table = ["chrom\tpos\tref\talt\tclass\n"]
    table += [f"chr1\t{r[1]}\t{r[3]}\t{r[4]}\t{'LOF' if 'LABEL=1' in r[7] else 'FUNC'}\n" for r in rows]
    (tmp_path / "labels.tsv").write_text("".join(table))
    made, _ = calibrate(vcf, fasta, tmp_path / "labels.tsv", label="class", positive="LOF", draws=100)
    assert made.counts == (120, 400) and made.classes == ("LOF", "not LOF")
    assert made.logistic == calibrate(vcf, fasta, draws=100)[0].logistic


BAD = {
    "few": (lambda p: scored_vcf(p, ones=19), {}, "19 variants of class 1 and 400 of class 0"),
    "prior_0": (scored_vcf, {"prior": 0.0}, "--prior"),
    "prior_nan": (scored_vcf, {"prior": math.nan}, "--prior"),
    "no_column": (scored_vcf, {"score": "COSINE"}, "does not say how its COSINE was made"),
    "no_label": (scored_vcf, {"label": "CLASS"}, "no column or INFO key 'CLASS'"),
    "positive": (scored_vcf, {"positive": "2"}, "no LABEL is '2'"),
    "not_scored": (
        lambda p: scored_vcf(p, head=HEAD.replace(HOW, "of unknown origin")), {}, "does not say how its LLR was made"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_calibrated_is_one_line(tmp_path, fasta, name):
    make, options, says = BAD[name]
    with pytest.raises(NexVarError) as caught:
        calibrate(make(tmp_path / "s.vcf"), fasta, draws=100, **options)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("bases", "says"), [
    (BASES[:100], "is scored as ., here it is beyond the end"),
    (random_bases(3000, seed=12), "is scored as ., here it is [ACGT]:"),
    ("A" + BASES, "give the FASTA that the scores were made with"),
])  # fmt: skip
def test_scores_of_another_genome_are_refused(tmp_path, bases, says):
    with pytest.raises(NexVarError, match=f"other.fa: chr1:.*{says}"):
        calibrate(scored_vcf(tmp_path / "s.vcf"), write_fasta(tmp_path / "other.fa", chr1=bases), draws=100)


def test_a_tsv_does_not_say_which_model_it_is_of(tmp_path, fasta):
    (tmp_path / "s.tsv").write_text("#CHROM\tPOS\tREF\tALT\tLLR\tLABEL\n")
    with pytest.raises(NexVarError, match="VCF or Parquet"):
        calibrate(tmp_path / "s.tsv", fasta)


def test_equal_scores_are_refused():
    with pytest.raises(NexVarError, match="all scores are the same"):
        fit_logistic(np.arange(40) < 20, np.ones(40), 0.1)


def test_the_window_is_the_nearest_labels():
    values = np.sort(np.random.default_rng(0).normal(size=500))
    low, high = calibration._windows(values, values[::7])
    for at, first, last in zip(values[::7], low, high, strict=True):
        assert last - first == calibration.WINDOW
        nearest = np.sort(np.abs(values - at))[: calibration.WINDOW]
        assert np.abs(values[first:last] - at).max() == pytest.approx(nearest[-1])
