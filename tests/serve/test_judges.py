"""Verdicts: from the operator's calibration alone, for what it is for, by Genos' path and the web pages'."""

from __future__ import annotations

import math

import pytest

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.inference.calibration import Calibration, Logistic, Scope, scope_of
from nexvar.inference.options import Options
from nexvar.runs.partscorer import provenance_of
from nexvar.runs.rows import score_variants
from served import make_server, serving
from tiny import tiny_loaded
from toy_genome import other_bases, random_bases, write_fasta

GENOS, PAGES = "/api/aigateway/genos/variant_predict", "/api/compat/analyze_single_variant"
MODEL = tiny_loaded(window=64)
BASES = random_bases(400)
INTERCEPT, SLOPE = 0.0, -5.0


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return write_fasta(tmp_path_factory.mktemp("genome") / "hg38.fa", chr1=BASES, chr2=BASES[:300])


def written(folder, classes=("pathogenic", "benign"), contigs=None, regions=None, **scope):
    """A calibration of the tiny model's own score."""
    how = provenance_of(MODEL, Options().resolve(MODEL)).how()
    values = {**scope_of(how, "LLR"), "column": "LLR", "assembly": "", "contigs": contigs or {"chr1": 400}}
    path = folder / "calibration.json"
    Calibration(
        scope=Scope(**values | {"regions": regions or {}} | scope), classes=classes, counts=(60, 70),
        auroc=(0.8, 0.7, 0.9), prior=0.1, logistic=Logistic(INTERCEPT, SLOPE, -50.0, 50.0), evidence=None,
        why_no_evidence="too few", scores="scored.vcf", labels="labelled.vcf", nexvar="0",
    ).write(path)  # fmt: skip
    return path


def asked(pos0, contig="chr1", ref=None):
    alt = other_bases(BASES[pos0])[0]
    return {"assembly": "hg38", "chrom": contig, "pos": pos0 + 1, "ref": ref or BASES[pos0], "alt": alt}


def page_asked(pos0, **more):
    return {
        "variant_position": pos0 + 1,
        "alternative": other_bases(BASES[pos0])[0],
        "genome": "hg38",
        "chromosome": "chr1",
        **more,
    }


def expected(fasta, pos0):
    """(score, probability of class 1) by hand."""
    variant = f"chr1:{pos0 + 1}{BASES[pos0]}>{other_bases(BASES[pos0])[0]}"
    score = next(score_variants(MODEL, [variant], Fasta(fasta), Options())).llr
    return score, 1 / (1 + math.exp(-(INTERCEPT + SLOPE * score)))


def test_genos_answers_by_the_logistic_of_the_operators_labels(fasta, tmp_path):
    with serving(MODEL, genomes={"hg38": fasta}, calibration=written(tmp_path)) as client:
        seen = set()
        for pos0 in range(100, 130):
            score, probability = expected(fasta, pos0)
            result = client.post(GENOS, json=asked(pos0)).json()["result"]
            assert result["variant"] == f"chr1-{pos0 + 1}-{BASES[pos0]}-{other_bases(BASES[pos0])[0]}"
            assert result["llr"] == pytest.approx(score, abs=1e-5)
            assert result["score_Pathogenic"] == pytest.approx(probability, abs=1e-5)
            assert result["score_Benign"] == 1 - result["score_Pathogenic"]
            assert result["prediction"] == ("Pathogenic" if probability >= 0.5 else "Benign")
            seen.add(result["prediction"])
    assert seen == {"Pathogenic", "Benign"}
    assert result["calibration"]["counts"] == [60, 70] and result["calibration"]["auroc"] == [0.8, 0.7, 0.9]
    assert result["status"] == "OK" and "not a diagnosis" in result["note"] and result["evidence_points"] is None


def test_the_pages_get_the_likelier_class_in_the_operators_words(fasta, tmp_path):
    path = written(tmp_path, classes=("damaging", "tolerated"))
    with serving(MODEL, genomes={"hg38": fasta}, calibration=path) as client:
        _, probability = expected(fasta, 120)
        answer = client.post(PAGES, json=page_asked(120)).json()
        one_strand = client.post(PAGES, json=page_asked(120, orientation="forward")).json()
        genos = client.post(GENOS, json=asked(120))
    assert answer["prediction"] == ("Damaging" if probability >= 0.5 else "Tolerated")
    assert answer["classification_confidence"] == pytest.approx(max(probability, 1 - probability), abs=1e-5)
    assert one_strand["prediction"] == "Not classified"
    assert genos.status_code == 501 and "damaging and tolerated" in genos.json()["messages"]


def test_it_does_not_speak_of_other_places(fasta, tmp_path):
    path = written(tmp_path, regions={"chr1": [[100, 110]]})
    with serving(MODEL, genomes={"hg38": fasta}, calibration=path) as client:
        assert client.post(GENOS, json=asked(105)).status_code == 200
        for other in (asked(120), asked(105, "chr2")):
            answer = client.post(GENOS, json=other)
            assert answer.status_code == 501 and "does not speak" in answer.json()["messages"]
        assert client.post(PAGES, json=page_asked(120)).json()["prediction"] == "Not classified"


@pytest.mark.parametrize(
    "change, status, said",
    [({"ref": "T" if BASES[120] != "T" else "A"}, 400, "REF_MISMATCH"), ({"pos": 5000}, 400, "OUT_OF_RANGE"),
     ({"chrom": "chr7"}, 400, "UNKNOWN_CONTIG"), ({"alt": BASES[120]}, 400, "SAME_AS_REF"),
     ({"assembly": "hg19"}, 404, "hg19")],
)  # fmt: skip
def test_what_has_no_score_has_no_verdict(fasta, tmp_path, change, status, said):
    with serving(MODEL, genomes={"hg38": fasta}, calibration=written(tmp_path)) as client:
        answer = client.post(GENOS, json=asked(120) | change)
    assert answer.status_code == status and said in answer.json()["messages"]


@pytest.mark.parametrize(
    "scope, said",
    [({"model": "other"}, "other"), ({"readout": "site"}, "readout"), ({"window": "512"}, "window"),
     ({"strand": "forward"}, "strand"), ({"contigs": {"chr1": 999}}, "another genome")],
)  # fmt: skip
def test_a_server_does_not_start_with_a_calibration_that_is_for_something_else(fasta, tmp_path, scope, said):
    with pytest.raises(NexVarError, match=said) as caught:
        make_server([MODEL], genomes={"hg38": fasta}, calibration=written(tmp_path, **scope))
    assert "calibration.json" in str(caught.value)


def test_a_file_that_is_no_calibration_is_one_line(fasta, tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(NexVarError, match="not a calibration"):
        make_server([MODEL], genomes={"hg38": fasta}, calibration=path)
