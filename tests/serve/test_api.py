"""/api/v1: what every path answers, and one line with field and fix for whatever is wrong."""

from __future__ import annotations

import io
import json
from typing import get_args

import numpy as np
import pytest
import torch

from nexvar.inference import embed, options, per_base, score
from nexvar.serve.routes import scoring, sequences
from nexvar.serve.service.score import percentiles
from nexvar.serve.settings import Settings
from nexvar.serve.state import Server
from nexvar.weights.choice import ModelChoice
from served import client_of, make_server
from tiny_masked import tiny_masked

PROVENANCE = {"model", "revision", "window", "strand", "dtype", "readout", "device", "nexvar", "settings"}


@pytest.fixture(scope="module")
def client():
    server = make_server([ModelChoice().load(), tiny_masked()], max_tokens=50)
    with client_of(server) as client:
        yield client


def post(client, path: str, **body):
    return client.post(f"/api/v1/{path}", json=body)


def test_what_the_server_is_and_has(client):
    about = client.get("/api/v1/server").json()
    assert about["models"] == ["nexvar_mito", "tiny_masked"] and about["genomes"] == ["chrM"]
    assert about["auth"] is False and about["online"] is False and about["queue"] == {"length": 0, "busy": False}
    assert about["limits"]["generate_tokens"] == 50
    rows = client.get("/api/v1/models").json()["models"]
    assert [row["name"] for row in rows if row["loaded"]] == about["models"] and len(rows) > 40
    assert rows[0]["readout"] == "site" and "llr" in rows[0]["readouts"] and rows[0]["commercial"]
    assert not next(row for row in rows if row["name"].startswith("ntv3"))["commercial"]
    one = client.get("/api/v1/models/nexvar_mito").json()
    assert "blocks.0.mlp.l3" in one["layers"] and one["tracks"] == {}
    other = client.get("/api/v1/models/togethercomputer/evo-1-8k-base")  # names have no slashes here
    assert other.status_code == 404


def test_genomes_and_their_bases(client):
    (genome,) = client.get("/api/v1/genomes").json()["genomes"]
    assert genome["contigs"] == [{"name": "chrM", "length": 16569, "circular": True}]
    assert genome["genes"] and genome["known"] and genome["tracks"] == []
    bases = client.get("/api/v1/genomes/chrM/sequence", params={"region": "MT:3,230-3,304"}).json()
    assert (bases["contig"], bases["start"], bases["end"]) == ("chrM", 3229, 3304)
    assert len(bases["sequence"]) == 75 and bases["sequence"].startswith("GTTAAG")


def test_a_score_for_every_allele_or_a_status(client):
    answer = post(client, "score", variants=["chrM:3243A>G", "m.8993T>G", "chrM:1C>A", "chrX:5A>C"]).json()
    assert [row["status"] for row in answer["rows"]] == ["OK", "OK", "REF_MISMATCH", "UNKNOWN_CONTIG"]
    assert answer["rows"][0]["llr"] < 0 and answer["rows"][2]["llr"] is None
    assert answer["summary"][0].startswith("4 alleles in 4 records = 2 scored + 2 skipped")
    assert set(answer["provenance"]) == PROVENANCE and answer["provenance"]["window"] == 1024
    assert any("knows mitochondria only" in line for line in answer["notes"])
    assert "research output, not a diagnosis" in answer["notes"][-1]


def test_saturation_has_a_percentile_for_every_snv_and_says_what_it_rests_on(client):
    answer = post(client, "saturate", region="chrM:3,230-3,304").json()
    scores = np.array(answer["scores"], dtype=float)
    assert scores.shape == (75, 4) and np.isfinite(scores).sum() == 225
    assert all(np.isnan(scores[i, "ACGT".index(base)]) for i, base in enumerate(answer["ref"]))
    assert answer["readout"] == "SITE_TILED" and answer["provenance"]["settings"]["windowing"].startswith("tiled")
    assert answer["basis"].startswith("225 SNVs of chrM:3230-3304 by SITE_TILED, tiled")
    ranks = np.array(answer["percentiles"], dtype=float)
    assert ranks[np.isfinite(ranks)].mean() == pytest.approx(50)
    lowest = np.unravel_index(np.nanargmin(scores), scores.shape)
    assert ranks[lowest] == np.nanmin(ranks) < 1


def test_saturation_by_the_models_own_score_is_what_score_says(client):
    answer = post(client, "saturate", region="chrM:3243-3244", windowing="anchored").json()
    assert answer["readout"] == "LLR" and answer["provenance"]["settings"]["windowing"] == "anchored"
    options = {"windowing": "anchored"}
    rows = post(client, "score", variants=["chrM:3243A>C", "chrM:3243A>G"], options=options).json()["rows"]
    assert [row["llr"] for row in rows] == pytest.approx(answer["scores"][0][1:3], rel=1e-5)


def test_equal_scores_share_their_percentile():
    ranks = percentiles(np.array([[1.0, 2.0], [2.0, np.nan]]))
    assert ranks[0, 0] == pytest.approx(100 / 6) and ranks[0, 1] == ranks[1, 0] == pytest.approx(100 * 2 / 3)
    assert np.isnan(ranks[1, 1])


def test_a_masked_model_saturates_with_its_own_readout(client):
    answer = post(client, "saturate", region="chrM:3230-3232", model="tiny_masked").json()
    assert answer["readout"] == "UNMASKED_LLR_TILED" and answer["provenance"]["model"] == "tiny_masked"


def test_sequences_by_whichever_loaded_model_can(client):
    assert post(client, "score-sequences", sequences=["ACGTACGT"]).json()["provenance"]["model"] == "nexvar_mito"
    pll = post(client, "score-sequences", sequences=["ACGTACGT"], reduce="pll").json()
    assert pll["provenance"]["model"] == "tiny_masked" and pll["scores"][0] < 0
    each = post(client, "score-sequences", sequences=["ACGT"], reduce="none").json()["scores"]
    assert each[0][0] is None and len(each[0]) == 4
    filled = post(client, "fill", sequences=["ACNNT"]).json()
    assert filled["provenance"]["model"] == "tiny_masked"
    assert filled["filled"][0]["positions"] == [2, 3] and "N" not in filled["filled"][0]["sequence"]
    assert np.sum(filled["filled"][0]["probabilities"][0]) == pytest.approx(1)
    said = post(client, "likelihood", sequences=["ACGT", "ACGTN"], strand="both").json()["sequences"]
    assert said[0]["strands"] == ["forward", "reverse"] and said[1]["log_probs"][0][4] is None


def test_embeddings_of_tokens_come_as_npz(client):
    answer = post(client, "embed", sequences=["ACGT", "ACGTAC"], layer=["norm", "blocks.0"], pool="none", format="npz")
    assert answer.headers["content-type"] == "application/octet-stream"
    arrays = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert set(arrays) == {"provenance", "norm/0", "norm/1", "blocks.0/0", "blocks.0/1"}
    assert arrays["norm/1"].shape[0] == 6 and arrays["norm/1"].dtype == np.float32
    assert set(json.loads(str(arrays["provenance"]))) == PROVENANCE


def test_generation_tells_the_seed_that_gives_the_same_again(client):
    first = post(client, "generate", prompts=["ACGTACGT"], n_tokens=12).json()
    again = post(client, "generate", prompts=["ACGTACGT"], n_tokens=12, seed=first["seed"]).json()
    assert again == first and len(first["sequences"][0]) == len(first["logprobs"][0]) == 12
    assert first["provenance"]["settings"]["seed"] == first["seed"]


def events_of(text: str) -> list[tuple[str, dict]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_tokens_as_events_are_those_of_the_whole_answer(client):
    body = {"prompts": ["ACGTACGT", "ACG"], "n_tokens": 7, "seed": 5}
    streamed = client.post("/api/v1/generate", json=body, headers={"Accept": "text/event-stream"})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *tokens, (last, done) = events_of(streamed.text)
    assert last == "done" and done == post(client, "generate", **body).json()
    for i, sequence in enumerate(done["sequences"]):
        assert "".join(data["text"] for name, data in tokens if data["prompt"] == i) == sequence
    wrong = client.post("/api/v1/generate", json=body | {"prompts": ["QQ"]}, headers={"Accept": "text/event-stream"})
    assert wrong.status_code == 400 and wrong.json()["where"] == "prompts[0]"


def test_a_tag_by_lineage_goes_before_the_prompt(client):
    tag = {"lineage": {"domain": "Eukaryota", "species": "Gallus gallus"}}
    assert post(client, "generate", prompts=["ACGT"], n_tokens=2, tag=tag).status_code == 200
    both = post(client, "generate", prompts=["ACGT"], tag=tag | {"species": "Gallus"})
    assert both.status_code == 400 and both.json()["where"] == "tag"


def test_a_taxonomy_of_the_server_gives_tags_by_species(tmp_path):
    (tmp_path / "t.tsv").write_text("Gallus gallus\td__Eukaryota;p__Chordata;s__Gallus gallus\n")
    with client_of(Server.open(Settings(taxonomy=tmp_path / "t.tsv", data_dir=tmp_path / "data"))) as client:
        by_name, by_lineage, unknown = (
            post(client, "generate", prompts=["ACGT"], n_tokens=9, seed=1, tag=tag)
            for tag in (
                {"species": "gallus gallus"},
                {"lineage": {"domain": "Eukaryota", "phylum": "Chordata", "species": "Gallus gallus"}},
                {"species": "Unicorn"},
            )
        )
    assert by_name.status_code == 200 and by_name.json() == by_lineage.json()
    assert unknown.status_code == 400 and "no taxon 'Unicorn'" in unknown.json()["error"]
    assert str(tmp_path) not in unknown.text  # no folder of this machine


def test_the_choices_of_the_api_are_those_of_the_package():
    assert get_args(scoring.Strand) == options.STRANDS and set(get_args(scoring.Windowing)) == set(options.WINDOWINGS)
    assert get_args(scoring.Reduce) == score.REDUCE_METHODS
    assert get_args(sequences.Strand) == embed.STRANDS == per_base.STRANDS and get_args(sequences.Pool) == embed.POOLS


def test_memory_that_runs_out_is_507_and_the_next_request_works(client, monkeypatch):
    model = client.app.state.server.models.get("nexvar_mito").module
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward", _no_memory)
        answer = post(client, "generate", prompts=["ACGT"], n_tokens=3)
    assert answer.status_code == 507 and "memory" in answer.json()["error"]
    assert post(client, "generate", prompts=["ACGT"], n_tokens=3).status_code == 200


def _no_memory(self, *args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


LONG = "ACGT" * 10_000
WRONG = [
    ("score", {"variants": []}, 422, "variants"),
    ("score", {"variants": "chrM:3243A>G"}, 422, "variants"),
    ("score", {"variants": [3243]}, 422, "variants.0"),
    ("score", {"variants": ["chrM:3243A>G"] * 101}, 400, "variants"),
    ("score", {"variants": ["chrM:3243A>G", "3243"]}, 400, "variants[1]"),
    ("score", {"variants": [""]}, 400, "variants[0]"),
    ("score", {"variants": ["chrM:3243A>G\x00"]}, 400, "variants[0]"),
    ("score", {"variants": ["chrM:0A>G"]}, 400, "variants[0]"),
    ("score", {"variants": ["A" * 30_000]}, 422, "variants.0"),
    ("score", {"variants": ["chrM:3243A>G"], "model": "evo9"}, 404, "model"),
    ("score", {"variants": ["chrM:3243A>G"], "model": "nexvar_7b"}, 409, "model"),
    ("score", {"variants": ["chrM:3243A>G"], "genome": "hg99"}, 404, "genome"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"window": 1}}, 400, "window"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"window": 40_000}}, 400, "window"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"window": "8"}}, 422, "options.window"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"strand": "up"}}, 422, "options.strand"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"readouts": ["best"]}}, 400, "readout"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"batch_tokens": 1}}, 422, "options.batch_tokens"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"protocol": "mine"}}, 400, "protocol"),
    ("score", {"variants": ["chrM:3243A>G"], "options": {"readouts": ["l2"], "layer": "blocks.99"}}, 400, None),
    ("score", {"variants": ["chrM:3243A>G"], "fasta": "/etc/passwd"}, 422, "fasta"),
    ("saturate", {}, 422, "region"),
    ("saturate", {"region": "chrM"}, 400, "region"),
    ("saturate", {"region": "chrM:9-3"}, 400, None),
    ("saturate", {"region": "chrM:16,560-16,580"}, 400, None),
    ("saturate", {"region": "chr1:1-5"}, 400, "region"),
    ("saturate", {"region": "chrM:1-5", "windowing": "none"}, 422, "windowing"),
    ("saturate", {"region": "chrM:1-5", "readout": "masked_llr"}, 400, "readout"),
    ("score-sequences", {"sequences": ["ACGU"]}, 400, "sequences[0]"),
    ("score-sequences", {"sequences": ["A"]}, 400, "sequences[0]"),
    ("score-sequences", {"sequences": ["ACGT"], "reduce": "max"}, 422, "reduce"),
    ("score-sequences", {"sequences": ["ACGT"], "reduce": "pll", "model": "nexvar_mito"}, 400, "reduce"),
    ("score-sequences", {"sequences": ["ACGT"], "reduce": "sum", "model": "tiny_masked"}, 400, "reduce"),
    ("score-sequences", {"sequences": ["ACGT"], "both_strands": 1}, 422, "both_strands"),
    ("score-sequences", {"sequences": [LONG]}, 400, "sequences[0]"),
    ("score-sequences", {"sequences": [""]}, 422, "sequences.0"),
    ("score-sequences", {"sequences": ["ACGT"] * 101}, 422, "sequences"),
    ("embed", {"sequences": ["ACGT"], "layer": "blocks.99"}, 400, "layer"),
    ("embed", {"sequences": ["ACGT"], "layer": []}, 422, "layer"),
    ("embed", {"sequences": ["ACGT"], "layer": ""}, 422, "layer"),
    ("embed", {"sequences": ["ACGT"], "layer": [""]}, 422, "layer"),
    ("saturate", {"region": "chrM:10-1"}, 400, "region"),
    ("embed", {"sequences": ["ACGT"], "pool": "median"}, 422, "pool"),
    ("embed", {"sequences": ["ACGT"], "pool": "cls"}, 400, "pool"),
    ("embed", {"sequences": ["ACGT"], "pool": "none"}, 400, "pool"),
    ("embed", {"sequences": ["ACGT"], "format": "pickle"}, 422, "format"),
    ("embed", {"sequences": [LONG] * 90, "pool": "none", "format": "npz"}, 400, "sequences"),
    ("likelihood", {"sequences": ["ACGT" * 8000] * 7}, 400, "sequences"),
    ("likelihood", {"sequences": ["ACGT"], "strand": "up"}, 422, "strand"),
    ("fill", {"sequences": ["ACGT"]}, 400, "sequences[0]"),
    ("fill", {"sequences": ["ACNT"], "model": "nexvar_mito"}, 400, "model"),
    ("fill", {"sequences": ["ACNT"], "steps": 0}, 422, "steps"),
    ("fill", {"sequences": ["ACNT"], "temperature": -1}, 422, "temperature"),
    ("generate", {"prompts": ["ACGT"], "model": "tiny_masked"}, 400, "model"),
    ("generate", {"prompts": [""]}, 400, "prompts[0]"),
    ("generate", {"prompts": []}, 422, "prompts"),
    ("generate", {"prompts": ["ACGT"] * 17}, 400, "prompts"),
    ("generate", {"prompts": ["ACGT"], "n_tokens": 0}, 400, "n_tokens"),
    ("generate", {"prompts": ["ACGT"], "n_tokens": 51}, 400, "n_tokens"),
    ("generate", {"prompts": ["ACGT"], "n_tokens": True}, 422, "n_tokens"),
    ("generate", {"prompts": ["ACGT"], "temperature": 0}, 400, "temperature"),
    ("generate", {"prompts": ["ACGT"], "top_p": 2}, 400, "top_p"),
    ("generate", {"prompts": ["ACGT"], "top_k": -1}, 400, "top_k"),
    ("generate", {"prompts": ["ACGT"], "seed": -5}, 400, "seed"),
    ("generate", {"prompts": ["ACGT"], "alphabet": "é"}, 400, "alphabet"),
    ("generate", {"prompts": ["ACGT"], "stop": [""]}, 400, "stop"),
    ("generate", {"prompts": ["ACGT"], "stop": [100_000]}, 400, "stop"),
    ("generate", {"prompts": ["ACGT"], "tag": {"species": "Gallus"}}, 400, "tag.species"),
    ("generate", {"prompts": ["ACGT"], "tag": {"lineage": {"rank": "x"}}}, 400, "lineage"),
]


@pytest.mark.parametrize(("path", "body", "status", "where"), WRONG, ids=lambda v: str(v)[:60])
def test_whatever_is_wrong_is_one_line_that_names_the_field(client, path, body, status, where):
    answer = post(client, path, **body)
    said = answer.json()
    assert answer.status_code == status, said
    assert set(said) == {"detail", "error", "where", "fix"} and len(answer.content) < 5000
    assert "\n" not in said["error"] and len(said["error"]) < 500
    assert said["fix"] and (where is None or said["where"] == where), said
    assert LONG[:200] not in answer.text and "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [
        ("models/evo9", 404, "name"),
        ("genomes/hg99/sequence?region=chr1:1-5", 404, "genome"),
        ("genomes/chrM/sequence", 422, "region"),
        ("genomes/chrM/sequence?region=", 422, "region"),
        ("genomes/chrM/sequence?region=chrM:0-5", 400, "region"),
        ("genomes/chrM/sequence?region=chrM:16560-16575", 400, "region"),
        ("genomes/chrM/sequence?region=%ff%fe", 400, "region"),
        ("genomes/chrM/sequence?region=../../etc/passwd", 400, "region"),
        ("genomes/..%2f..%2fetc%2fpasswd/sequence?region=chrM:1-5", 404, None),
    ],
)
def test_so_it_is_for_what_is_asked_by_get(client, path, status, where):
    answer = client.get(f"/api/v1/{path}")
    said = answer.json()
    assert answer.status_code == status and set(said) == {"detail", "error", "where", "fix"}, said
    assert where is None or said["where"] == where


def test_pieces_of_a_chromosome_are_named_as_the_chromosome(tmp_path):
    (tmp_path / "g.fa").write_text(">chr2\nACGT\n>chr17:101-108\nACGTACGT\n>chr17:201-204\nGGGG\n")
    with client_of(make_server(genomes={"g": tmp_path / "g.fa"})) as client:
        contigs = client.get("/api/v1/genomes").json()["genomes"][0]["contigs"]
        assert [(each["name"], each["length"]) for each in contigs] == [("chr2", 4), ("chr17", 204)]
        bases = client.get("/api/v1/genomes/g/sequence?region=chr17:201-204").json()
        assert bases["sequence"] == "GGGG"


def test_a_region_longer_than_the_cap_is_refused(tmp_path):
    (tmp_path / "g.fa").write_text(">chr1\n" + "ACGT" * 250_001 + "\n")
    with client_of(make_server(genomes={"g": tmp_path / "g.fa"})) as client:
        whole = client.get("/api/v1/genomes/g/sequence?region=chr1")
        assert whole.status_code == 400 and "at most 1,000,000" in whole.json()["fix"]
        assert [g["id"] for g in client.get("/api/v1/genomes").json()["genomes"]] == ["g", "chrM"]
        rows = client.post("/api/v1/score", json={"variants": ["chr1:5A>G"]}).json()["rows"]  # the first genome
        assert rows[0]["contig"] == "chr1"
