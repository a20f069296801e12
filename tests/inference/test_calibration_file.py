"""A calibration's file: read strictly, and used for nothing but the scores it was made of."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.inference.calibration import NOTE, Calibration, scope_of, words_of
from toy_genome import random_bases, write_fasta

HOW = {
    "model": "tiny", "revision": "main", "window": "64", "strand": "both", "dtype": "float32", "readout": "site",
    "span": "8",
}  # fmt: skip
GOOD = {
    "format": "nexvar calibration",
    "version": 1,
    "note": NOTE,
    "scope": {
        "model": "tiny", "revision": "main", "column": "LLR", "readout": "site", "window": "64", "strand": "both",
        "settings": {"span": "8"}, "assembly": "", "contigs": {"chr1": 300}, "regions": {}, "region_class": "",
    },
    "classes": ["pathogenic", "benign"],
    "counts": [70, 200],
    "auroc": [0.8, 0.7, 0.9],
    "prior": 0.0441,
    "logistic": {"intercept": -3.0, "slope": -1.5, "low": -8.0, "high": 4.0},
    "evidence": {
        "direction": "down", "odds": 1131.0, "confidence": 0.95, "window": 100, "draws": 1000,
        "one": {"supporting": -3.0, "moderate": -5.0, "strong": None, "very_strong": None},
        "zero": {"supporting": 1.0, "moderate": None, "strong": None, "very_strong": None},
        "curve": [[-6.0, 9.0, 6.0, 20.0]],
    },
    "why_no_evidence": "",
    "scores": "scored.vcf",
    "labels": "scored.vcf",
    "nexvar": "0.1.0",
}  # fmt: skip


def changed(*path: str, to: object) -> dict:
    content = deepcopy(GOOD)
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return content


@pytest.fixture
def read(tmp_path):
    def _read(content: object) -> Calibration:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "c.json").write_text(text)
        return Calibration.read(tmp_path / "c.json")

    return _read


@pytest.fixture
def fasta(tmp_path):
    return Fasta(write_fasta(tmp_path / "x.fa", chr1=random_bases(300), chr2=random_bases(50)))


def test_probability_and_points(read):
    made = read(GOOD)
    assert made.probability(-2.0) == pytest.approx(0.5)
    assert made.probability(-100.0) == made.probability(-8.0) < 1  # no farther than the labelled scores
    assert made.probability(100.0) == made.probability(4.0) > 0
    assert [made.points(s) for s in (-9.0, -5.0, -4.9, -3.0, -2.9, 0.9, 1.0, 9.0)] == [2, 2, 1, 1, 0, 0, -1, -1]
    assert read(changed("evidence", to=None)).points(-9.0) is None


def test_use_on_a_genome(read, fasta):
    use = read(GOOD).on(HOW, fasta)
    assert use.judged("chr1", 5, -2.0) == (pytest.approx(0.5), 0)
    assert use.judged("chr2", 5, -2.0) is None  # no label was there
    assert use.judged("chr1", 5, None) is None


def test_use_inside_of_regions_alone(read, fasta):
    use = read(changed("scope", "regions", to={"chr1": [[10, 20]]})).on(HOW, fasta)
    assert [use.judged("chr1", pos0, -2.0) is not None for pos0 in (9, 10, 19, 20)] == [False, True, True, False]


def test_names_of_contigs_are_matched(read, tmp_path):
    other = Fasta(write_fasta(tmp_path / "y.fa", **{"1": random_bases(300)}))
    use = read(changed("scope", "regions", to={"chr1": [[10, 20]]})).on(HOW, other)
    assert use.judged("1", 15, -2.0) is not None and use.judged("1", 25, -2.0) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "other"), ("revision", "v2"), ("window", "128"), ("strand", "forward"), ("readout", "llr"),
     ("span", "16"), ("protocol", "evo2-brca1")],
)  # fmt: skip
def test_other_scores_are_refused_in_one_line(read, fasta, name, value):
    with pytest.raises(NexVarError) as caught:
        read(GOOD).on({**HOW, name: value}, fasta, where="c.json")
    what = "settings" if name in ("span", "protocol") else name
    assert f"it is for {what}" in str(caught.value) and value in str(caught.value)


def test_precision_and_settings_of_other_readouts_do_not_matter(read, fasta):
    read(GOOD).on({**HOW, "dtype": "bfloat16", "readout": "site, cosine", "layer": "x", "pool": "mean"}, fasta)


def test_another_genome_is_refused(read, tmp_path):
    other = Fasta(write_fasta(tmp_path / "y.fa", chr1=random_bases(301), chr2=random_bases(50)))
    both = changed("scope", "contigs", to={"chr1": 300, "chr2": 50})
    with pytest.raises(NexVarError, match="another genome, without a name: chr1 has 300 bases there, 301 here"):
        read(both).on(HOW, other)
    with pytest.raises(NexVarError, match="chr7: not in y.fa"):
        read(changed("scope", "contigs", to={"chr7": 300})).on(HOW, other)
    assert read(changed("scope", "contigs", to={"chr7": 9, "chr2": 50})).on(HOW, other).judged("chr2", 1, -2.0)


HOSTILE = {
    "not_json": ("{", "not readable as JSON"),
    "a_list": ("[]", "not a JSON table"),
    "twice": ('{"format": "nexvar calibration", "format": "x"}', "not readable"),
    "nan": (json.dumps(GOOD).replace("0.0441", "NaN"), "not readable as JSON"),
    "infinite": (json.dumps(GOOD).replace("0.0441", "1e999"), "not readable as JSON"),
    "deep": ("[" * 100_000, "not readable as JSON"),
    "another_format": (changed("format", to="x"), "not a calibration"),
    "a_later_version": (changed("version", to=2), "version 2"),
    "missing": (changed("prior", to=...), "prior is missing"),
    "unknown": (changed("extra", to=1), "extra is unknown"),
    "scope_missing": (changed("scope", to=None), "a table is missing"),
    "scope_field": (changed("scope", "model", to=...), "model is missing"),
    "prior_text": (changed("prior", to="0.1"), "prior is '0.1', not a number"),
    "prior_1": (changed("prior", to=1.0), "prior makes no sense"),
    "slope_huge": (changed("logistic", "slope", to=1e300), "slope is"),
    "slope_bool": (changed("logistic", "slope", to=True), "slope is 'True'"),
    "low_above_high": (changed("logistic", "low", to=9.0), "logistic makes no sense"),
    "counts": (changed("counts", to=[0, 5]), "counts makes no sense"),
    "classes": (changed("classes", to=["a"]), "classes makes no sense"),
    "auroc": (changed("auroc", to=[1.5, 0, 1]), "auroc makes no sense"),
    "no_contigs": (changed("scope", "contigs", to={}), "scope makes no sense"),
    "contig_length": (changed("scope", "contigs", "chr1", to="300"), "contigs is"),
    "region": (changed("scope", "regions", to={"chr1": [[9, 3]]}), "scope makes no sense"),
    "region_of_three": (changed("scope", "regions", to={"chr1": [[1, 2, 3]]}), "scope makes no sense"),
    "region_text": (changed("scope", "regions", to={"chr1": ["12"]}), "regions is"),
    "direction": (changed("evidence", "direction", to="sideways"), "evidence makes no sense"),
    "strength": (changed("evidence", "one", to={"certain": 1.0}), "evidence makes no sense"),
    "threshold": (changed("evidence", "one", "strong", to="x"), "one is"),
    "markup": (changed("scope", "model", to=5), "model is '5', not a text"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line(read, tmp_path, name):
    content, says = HOSTILE[name]
    with pytest.raises(NexVarError) as caught:
        read(content)
    message = str(caught.value)
    assert says in message and "\n" not in message and str(tmp_path / "c.json") in message


def test_headers_are_taken_apart():
    text = "Score; model=a b, revision=built in, readout=llr, cosine, layer=last hidden, special tokens=no, pool=mean"
    words = words_of(text)
    assert words == {
        "model": "a b", "revision": "built in", "readout": "llr, cosine", "layer": "last hidden",
        "special tokens": "no", "pool": "mean",
    }  # fmt: skip
    assert words_of("nothing") == {}
    assert scope_of(words, "LLR")["readout"] == "llr" and scope_of(words, "COSINE")["readout"] == "cosine"
    assert scope_of(words, "LLR")["settings"] == {"special tokens": "no"}
    assert scope_of(words, "COSINE")["settings"]["layer"] == "last hidden"
