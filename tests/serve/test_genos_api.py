"""The Genos API: pairs recorded of its client, its envelope, the self-hosted paths, and what is never made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nexvar.inference.embed import embed
from nexvar.inference.track_windows import predict_tracks
from nexvar.serve.routes import genos
from nexvar.weights.load import load
from places import GOLDEN
from served import listening, make_server, serving
from tiny_track_run import tiny_tracked
from toy_genome import random_bases, write_fasta

PATH = "/api/aigateway/genos"
NO_TOKEN = {"Authorization": "Bearer <your_api_key>"}  # what the client sends when it has none
SEQUENCE = "ATCGATCGATCGATCGATCGATCGATCG"
VARIANT = {"assembly": "hg19", "chrom": "chr6", "pos": 51484075, "ref": "T", "alt": "G"}


def named(folder, name):
    loaded = load(GOLDEN / folder, device="cpu", dtype="float32")
    return replace(loaded, card=replace(loaded.card, name=name))


GENOS = named("genos_tiny", "genos_1.2b")
NTV3 = named("ntv3_post_tiny", "ntv3_100m_post")


@pytest.fixture(scope="module")
def client():
    with serving(GENOS) as asked:
        yield asked


@pytest.fixture(scope="module")
def chromosome(tmp_path_factory):
    return write_fasta(tmp_path_factory.mktemp("genome") / "hg38.fa", chr19=random_bases(3000))


@pytest.fixture()
def tracked(chromosome, monkeypatch):
    monkeypatch.setattr(genos, "TRACK_BASES", 320)
    with serving(NTV3, genomes={"hg38": chromosome}) as asked:
        yield asked


# --------------------------------------------------------------------------------------------------------- embedding


def test_an_embedding_is_enveloped_and_nested_as_the_client_reads_it(client):
    body = {"sequence": SEQUENCE, "model_name": "Genos-1.2B", "pooling_method": "mean"}
    answer = client.post(f"{PATH}/embedding", json=body, headers=NO_TOKEN)
    assert answer.status_code == 200
    assert answer.json()["status"] == 200 and answer.json()["message"] is None
    result = answer.json()["result"]
    assert list(result) == [
        "sequence", "sequence_length", "token_count", "embedding_shape", "embedding_dim", "pooling_method",
        "model_type", "device", "embedding",
    ]  # fmt: skip
    width = GENOS.module.config.width
    assert result["sequence"] == SEQUENCE and result["sequence_length"] == 28
    assert result["embedding_shape"] == [1, width] and result["embedding_dim"] == width
    assert result["device"] == "cpu"
    assert torch.equal(torch.tensor(result["embedding"]), embed(GENOS, [SEQUENCE]))


@pytest.mark.parametrize("pooling", ["mean", "max", "last", "none"])
def test_every_pooling_is_pythons_and_both_servers_give_the_same(client, pooling):
    body = {"sequence": SEQUENCE, "pooling_method": pooling}
    hosted = client.post(f"{PATH}/embedding", json=body | {"model_name": "Genos-1.2B"}).json()["result"]
    own = client.post("/extract", json=body | {"model_name": "1.2B"}).json()
    expected = embed(GENOS, [SEQUENCE], pool=pooling)
    expected = expected[0][None] if pooling == "none" else expected
    assert torch.equal(torch.tensor(hosted["embedding"]), expected)
    assert hosted["embedding_shape"] == list(expected.shape)
    assert own["success"] is True and own["result"] == hosted


@pytest.mark.parametrize("path", [f"{PATH}/embedding", "/extract"])
@pytest.mark.parametrize(
    "change, field",
    [
        ({"pooling_method": "min"}, "pooling_method"), ({"pooling_method": 1}, "pooling_method"),
        ({"sequence": ""}, "sequence"), ({"sequence": "ACGU"}, "sequence"), ({"sequence": "A" * 128_001}, "sequence"),
        ({"sequence": ["ACGT"]}, "sequence"), ({"model_name": "Genos-10B"}, "model_name"), ({"layer": 3}, "layer"),
        ({"model_name": "nobody"}, "model_name"), ({"model_name": ""}, "model_name"),
    ],
)  # fmt: skip
def test_embedding_refuses(client, path, change, field):
    answer = client.post(path, json={"sequence": SEQUENCE, "model_name": "Genos-1.2B", **change})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"].startswith(f"{field}: ")
    if field == "model_name" and change["model_name"]:
        assert answer.status_code == 400 and "genos_1.2b" in answer.json()["error"]


def test_tokens_that_would_be_too_much_json_are_refused(client, monkeypatch):
    monkeypatch.setattr(genos, "MOST_NUMBERS", 28 * GENOS.module.config.width - 1)
    answer = client.post(f"{PATH}/embedding", json={"sequence": SEQUENCE, "pooling_method": "none"})
    assert answer.status_code == 400 and "npz" in answer.json()["error"]


# ---------------------------------------------------------------------------------------------------------- envelope


def test_every_error_of_the_hosted_paths_is_in_the_envelope(client):
    asked = [
        client.post(f"{PATH}/embedding", json={"sequence": "ACGU"}),
        client.post(f"{PATH}/embedding", json={}),
        client.post(f"{PATH}/embedding", content="{", headers={"Content-Type": "application/json"}),
        client.post(f"{PATH}/embedding", content="a=b", headers={"Content-Type": "text/plain"}),
        client.post(f"{PATH}/embedding", json={"sequence": SEQUENCE}, headers={"Origin": "http://elsewhere"}),
        client.post(f"{PATH}/variant_predict", json=VARIANT),
        client.get(f"{PATH}/embedding"),
    ]
    assert [answer.status_code for answer in asked] == [400, 422, 422, 415, 403, 501, 405]
    for answer in asked:
        body = answer.json()
        assert body["result"] == {} and body["status"] == str(answer.status_code)
        assert body["messages"] == body["message"] == body["error"] != ""


def test_a_wrong_key_is_in_the_envelope_too():
    with serving(GENOS, api_key="secret") as client:
        answer = client.post(f"{PATH}/embedding", json={"sequence": SEQUENCE}, headers=NO_TOKEN)
    assert answer.status_code == 401 and answer.json()["messages"]


def test_health(client):
    assert client.get(f"{PATH}/health").json() == {"status": "healthy"}


# ----------------------------------------------------------------------------------------------------- self-hosted


def test_predict_gives_the_most_likely_bases(client):
    answer = client.post("/predict", json={"sequence": SEQUENCE, "model_name": "1.2B", "predict_length": 5}).json()
    assert answer["success"] is True
    result = answer["result"]
    assert result["predicted_sequence"] == SEQUENCE + result["predicted_bases"] and result["total_length"] == 33
    assert result["predict_length"] == 5
    text = SEQUENCE
    for base in result["predicted_bases"]:
        ids = GENOS.tokenizer.encode(text, special=False).ids
        with torch.no_grad():
            logits = GENOS.module(torch.tensor([ids])).logits[0, -1]
        columns = GENOS.tokenizer.base_ids()
        assert base == max("ACGT", key=lambda letter: logits[columns[letter]])
        text += base


@pytest.mark.parametrize(
    "change, field",
    [({"predict_length": 0}, "predict_length"), ({"predict_length": 1001}, "predict_length"),
     ({"predict_length": "5"}, "predict_length"), ({"sequence": "ACGU"}, "sequence"),
     ({"model_name": "2B"}, "model_name")],
)  # fmt: skip
def test_predict_refuses(client, change, field):
    answer = client.post("/predict", json={"sequence": SEQUENCE, **change})
    assert 400 <= answer.status_code < 500 and answer.json()["error"].startswith(f"{field}")


# ----------------------------------------------------------------------------------------------------------- variants


def test_no_probability_is_invented(client):
    answer = client.post(f"{PATH}/variant_predict", json=VARIANT)
    assert answer.status_code == 501
    assert "no calibration is configured" in answer.json()["messages"]
    assert not {"prediction", "score_Benign", "score_Pathogenic"} & set(answer.json()["result"])


@pytest.mark.parametrize(
    "change, field",
    [({"assembly": "mm10"}, "assembly"), ({"pos": 0}, "pos"), ({"pos": "5"}, "pos"), ({"pos": True}, "pos"),
     ({"ref": ""}, "ref"), ({"alt": "X"}, "alt"), ({"alt": "<DEL>"}, "alt"), ({"chrom": ""}, "chrom"), ({"x": 1}, "x")],
)  # fmt: skip
def test_variant_predict_refuses(client, change, field):
    answer = client.post(f"{PATH}/variant_predict", json=VARIANT | change)
    assert answer.status_code == 422 and answer.json()["error"].startswith(f"{field}: ")


# ------------------------------------------------------------------------------------------------------------- tracks


def test_tracks_cover_each_base_and_are_the_models(tracked, chromosome):
    answer = tracked.post(f"{PATH}/rna_seq_coverage_track", json={"chrom": "chr19", "start_pos": 1201})
    result = answer.json()["result"]
    assert result["position"] == ["chr19", 1201, 1521]
    assert result["sequence"] == random_bases(3000)[1200:1520]
    assert list(result["values"]) == [f"human_track_{i}" for i in range(5)]
    (expected,) = predict_tracks(NTV3, [random_bases(3000)])  # the whole chromosome, as `nexvar tracks` reads it
    for name, track in result["values"].items():
        np.testing.assert_allclose(track["value"], expected[name][1200:1520], rtol=1e-5)


def test_beyond_the_ends_of_a_chromosome_stands_n(tracked, chromosome):
    for start in (1, 2681):
        answer = tracked.post(f"{PATH}/rna_seq_coverage_track", json={"chrom": "chr19", "start_pos": start})
        assert answer.status_code == 200
        assert all(len(track["value"]) == 320 for track in answer.json()["result"]["values"].values())


@pytest.mark.parametrize(
    "body, status, field",
    [({"chrom": "chr19", "start_pos": 2682}, 400, "start_pos"), ({"chrom": "chr19", "start_pos": 0}, 422, "start_pos"),
     ({"chrom": "chrQ", "start_pos": 1}, 400, "chrom"), ({"chrom": 19, "start_pos": 1}, 422, "chrom"),
     ({"start_pos": 1}, 422, "chrom"), ({"chrom": "chr19", "start_pos": 10**12}, 400, "start_pos")],
)  # fmt: skip
def test_tracks_refuse(tracked, body, status, field):
    answer = tracked.post(f"{PATH}/rna_seq_coverage_track", json=body)
    assert answer.status_code == status and answer.json()["error"].startswith(f"{field}: ")


def test_no_model_with_tracks_is_501_and_names_some(client):
    answer = client.post(f"{PATH}/rna_seq_coverage_track", json={"chrom": "chr19", "start_pos": 39407000})
    assert answer.status_code == 501 and "ntv3" in answer.json()["messages"]


def test_many_tracks_must_be_chosen(chromosome, monkeypatch):
    monkeypatch.setattr(genos, "TRACK_BASES", 320)
    monkeypatch.setattr(genos, "MOST_TRACKS", 4)
    body = {"chrom": "chr19", "start_pos": 1000}
    with serving(NTV3, genomes={"hg38": chromosome}) as client:
        answer = client.post(f"{PATH}/rna_seq_coverage_track", json=body)
    assert answer.status_code == 501 and "--genos-track" in answer.json()["messages"]
    with serving(NTV3, genomes={"hg38": chromosome}, genos_tracks=("human_track_3",)) as client:
        answer = client.post(f"{PATH}/rna_seq_coverage_track", json=body)
    assert list(answer.json()["result"]["values"]) == ["human_track_3"]


def test_a_trained_head_serves_the_path_with_a_value_for_each_base_of_its_bins(chromosome, tmp_path, monkeypatch):
    """Its tracks are of no species; position counts from 1, and the values begin at that base."""
    monkeypatch.setattr(genos, "TRACK_BASES", 320)
    trained = tiny_tracked(tmp_path, 3)
    with serving(trained, genomes={"hg38": chromosome}) as client:
        body = {"chrom": "chr19", "start_pos": 1003}
        result = client.post(f"{PATH}/rna_seq_coverage_track", json=body).json()["result"]
    (made,) = predict_tracks(trained, [random_bases(3000)])
    assert result["position"] == ["chr19", 1003, 1323] and list(result["values"]) == ["plus", "minus", "both"]
    expected = np.repeat(made["minus"], 3)[1002:1322]
    np.testing.assert_allclose(result["values"]["minus"]["value"], expected, rtol=1e-4)
    assert result["sequence"] == random_bases(3000)[1002:1322]


# ------------------------------------------------------------------------------------------------------ the real client


def test_the_published_client_understands_every_answer(chromosome, monkeypatch):
    client_of_genos = pytest.importorskip("genos.client", reason="needs genos-client (72 MB)")
    from genos.exceptions import APIRequestError

    monkeypatch.setattr(genos, "TRACK_BASES", 320)
    with listening(make_server([GENOS, NTV3], genomes={"hg38": chromosome})) as address:
        paths = {"variant": "variant_predict", "embedding": "embedding/", "rna": "rna_seq_coverage_track"}
        urls = {kind: f"http://{address}{PATH}/{path}" for kind, path in paths.items()}
        client = client_of_genos.GenosClient(token="any", api_map=urls)
        result = client.get_embedding(SEQUENCE)["result"]
        assert torch.equal(torch.as_tensor(result["embedding"]), embed(GENOS, [SEQUENCE]))
        assert client.rna_coverage_track_pred("chr19", 1000)["result"]["position"] == ["chr19", 1000, 1320]
        with pytest.raises(APIRequestError, match="no calibration is configured"):
            client.variant_predict("hg19", "chr6", 51484075, "T", "G")
