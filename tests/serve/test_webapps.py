"""The endpoint of the variant-analysis web pages: both forms of a request, the genome's bases, and no verdict."""

from __future__ import annotations

import pytest

from nexvar.genome.reference import Fasta
from nexvar.inference.options import Options
from nexvar.runs.rows import score_variants
from nexvar.serve.genomes import BUILT_IN
from nexvar.weights.load import load
from served import serving
from tiny import tiny_loaded
from toy_genome import other_bases, random_bases, write_fasta

PATH = "/api/compat/analyze_single_variant"
MITO = load("nexvar_mito", device="cpu")
PAGE = "http://localhost:3000"


@pytest.fixture(scope="module")
def client():
    with serving(MITO, cors_origins=(PAGE,)) as asked:
        yield asked


def test_the_pages_form_gives_the_models_own_score_and_no_verdict(client):
    asked = {"variant_position": 3243, "alternative": "G", "genome": "hg38", "chromosome": "chrM"}
    answer = client.post(PATH, json=asked, headers={"Origin": PAGE})
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == PAGE
    row = next(score_variants(MITO, ["chrM:3243A>G"], client.app.state.server.genomes.get(BUILT_IN).fasta, Options()))
    assert answer.json() == {
        "position": 3243, "reference": "A", "alternative": "G", "delta_score": row.llr, "prediction": "Not classified",
        "classification_confidence": 0.0, "status": "OK", "model": "nexvar_mito",
    }  # fmt: skip
    assert not {"benign", "pathogenic"} & set(answer.text.lower().replace('"', " ").split())


@pytest.mark.parametrize("path", [PATH, f"{PATH}/score/variant"])  # a later page puts this behind its address
def test_a_later_pages_form_chooses_strands_and_states_the_reference(client, path):
    row = next(score_variants(MITO, ["chrM:3243A>G"], client.app.state.server.genomes.get(BUILT_IN).fasta, Options()))
    for orientation, value in (("both", row.llr), ("forward", row.llr_fwd), ("reverse", row.llr_rev)):
        asked = {
            "assembly": "GRCh38", "chromosome": "chrM", "position_1based": 3243, "reference": "A", "alternate": "G",
            "orientation": orientation,
        }  # fmt: skip
        assert client.post(path, json=asked).json()["delta_score"] == value


def test_a_page_of_another_site_is_refused_unless_it_was_named(client):
    asked = {"variant_position": 3243, "alternative": "G", "genome": "hg38", "chromosome": "chrM"}
    assert client.post(PATH, json=asked, headers={"Origin": "http://elsewhere:3000"}).status_code == 403
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    assert client.options(PATH, headers=preflight).status_code == 200


@pytest.mark.parametrize(
    "change, status, field",
    [
        ({"variant_position": 16570}, 400, "position"), ({"variant_position": 0}, 422, "variant_position"),
        ({"variant_position": "3243"}, 422, "variant_position"), ({"variant_position": None}, 422, "variant_position"),
        ({"alternative": "X"}, 422, "alternative"), ({"alternative": ""}, 422, "alternative"),
        ({"alternative": "A"}, 400, "variant"), ({"genome": "mm10"}, 404, "assembly"), ({"genome": ""}, 422, "genome"),
        ({"chromosome": "chr17"}, 404, "assembly"), ({"chromosome": 17}, 422, "chromosome"),
        ({"reference": "C"}, 400, "variant"), ({"orientation": "up"}, 422, "orientation"),
        ({"gene": "TL1"}, 422, "gene"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_the_field(client, change, status, field):
    asked = {"variant_position": 3243, "alternative": "G", "genome": "hg38", "chromosome": "chrM"} | change
    answer = client.post(PATH, json=asked)
    assert answer.status_code == status and answer.json()["error"].startswith(f"{field}: ")
    if change.get("reference"):
        assert "REF_MISMATCH" in answer.json()["error"]


def test_a_genome_is_found_by_its_id_and_its_own_chromosomes_are_told(tmp_path):
    path = write_fasta(tmp_path / "toy.fa", chr1=random_bases(400))
    alternative = other_bases(random_bases(400)[99])[0]
    with serving(tiny_loaded(window=64), genomes={"toy": path}) as client:
        asked = {"variant_position": 100, "alternative": alternative, "genome": "toy", "chromosome": "1"}
        assert client.post(PATH, json=asked).json()["reference"] == Fasta(path).fetch("chr1", 99, 100)
        answer = client.post(PATH, json=asked | {"chromosome": "chr9"})
    assert answer.status_code == 400 and answer.json()["error"] == "chromosome: no chromosome 'chr9': toy has chr1"
