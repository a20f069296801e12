"""POST /api/v1/tracks: what a model with track heads predicts, and 501 from a server without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nexvar.inference.track_windows import predict_tracks
from nexvar.inference.tracks import track_names
from nexvar.serve import limits
from nexvar.weights.load import load
from places import GOLDEN
from served import serving
from tiny import tiny_loaded
from tiny_track_run import tiny_tracked
from toy_genome import random_bases, write_fasta


@pytest.fixture(scope="module")
def ntv3():
    loaded = load(GOLDEN / "ntv3_post_tiny", device="cpu", dtype="float32")
    return replace(loaded, card=replace(loaded.card, name="ntv3_100m_post"))


@pytest.fixture(scope="module")
def client(ntv3, tmp_path_factory):
    genome = write_fasta(tmp_path_factory.mktemp("genome") / "g.fa", chr1=random_bases(3000))
    with serving(tiny_loaded(), ntv3, genomes={"toy": genome}) as client:
        yield client


def test_every_track_of_a_species_along_a_region(client, ntv3):
    answer = client.post("/api/v1/tracks", json={"region": "chr1:1,001-1,040"}).json()
    names = track_names(ntv3)["human"]
    assert names and [track["name"] for track in answer["tracks"]] == names
    assert (answer["contig"], answer["start"], answer["end"]) == ("chr1", 1000, 1040)
    assert answer["provenance"]["model"] == "ntv3_100m_post"
    fasta = client.app.state.server.genomes.get("toy").fasta
    (made,) = predict_tracks(ntv3, [fasta.fetch("chr1", 0, 3000)])
    for track in answer["tracks"]:
        assert (track["start"], track["step"]) == (1000, 1)
        np.testing.assert_allclose(track["values"], made[track["name"]][1000:1040], rtol=1e-5)
    assert client.get("/api/v1/models/ntv3_100m_post").json()["tracks"]["human"] == names


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"region": "chr1:1-9", "species": "unicorn"}, 400, "species"),
        ({"region": "chr1:1-9", "names": ["nothing"]}, 400, "track"),
        ({"region": "chr1:1-9", "names": []}, 422, "names"),
        ({"region": "chr1:1-9", "model": "tiny"}, 400, "model"),
        ({"region": "chr9:1-9"}, 400, "region"),
    ],
)
def test_what_is_not_there_is_said(client, body, status, where):
    answer = client.post("/api/v1/tracks", json=body)
    assert (answer.status_code, answer.json()["where"]) == (status, where)


def test_more_values_than_an_answer_holds_are_refused(client, monkeypatch):
    monkeypatch.setattr(limits, "TRACK_VALUES", 199)
    assert client.post("/api/v1/tracks", json={"region": "chr1:1-39"}).status_code == 200
    answer = client.post("/api/v1/tracks", json={"region": "chr1:1-40"})
    assert (answer.status_code, answer.json()["where"]) == (400, "region")


def test_bins_of_a_trained_head_begin_where_the_first_one_does(tmp_path):
    trained = tiny_tracked(tmp_path, 3)
    genome = write_fasta(tmp_path / "g.fa", chr1=random_bases(300))
    with serving(trained, genomes={"toy": genome}) as client:
        body = {"region": "chr1:101-110", "names": ["m*"]}
        (track,) = client.post("/api/v1/tracks", json=body).json()["tracks"]
        model = client.get(f"/api/v1/models/{trained.card.name}").json()
        refused = client.post("/api/v1/tracks", json=body | {"species": "human"})
    assert (track["name"], track["start"], track["step"], len(track["values"])) == ("minus", 99, 3, 4)
    assert model["tracks"] == {"": ["plus", "minus", "both"]} and "tracks" in model["heads"]
    assert refused.status_code == 400 and "knows no species" in refused.json()["error"]


def test_a_server_without_track_heads_says_501():
    with serving(tiny_loaded()) as client:
        answer = client.post("/api/v1/tracks", json={"region": "chrM:1-9"})
    assert answer.status_code == 501 and "ntv3" in answer.json()["fix"]
