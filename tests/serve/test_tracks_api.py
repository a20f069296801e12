"""POST /api/v1/tracks: what a model with track heads predicts, and 501 from a server without one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexvar.serve.service import tracks
from nexvar.weights.load import load
from places import GOLDEN
from served import serving
from tiny import tiny_loaded
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
    names = tracks.track_names(ntv3)
    assert names and [track["name"] for track in answer["tracks"]] == names
    assert (answer["contig"], answer["start"], answer["end"]) == ("chr1", 1000, 1040)
    assert answer["provenance"]["model"] == "ntv3_100m_post"
    fasta = client.app.state.server.genomes.get("toy").fasta
    made = tracks.predict(ntv3, fasta, "chr1", 1000, 1040, names)
    for track in answer["tracks"]:
        assert track["start"] == 1000 and track["values"] == made[track["name"]].tolist()
    assert client.get("/api/v1/models/ntv3_100m_post").json()["tracks"]["human"] == names


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"region": "chr1:1-9", "species": "unicorn"}, 400, "species"),
        ({"region": "chr1:1-9", "names": ["nothing"]}, 400, "track"),
        ({"region": "chr1:1-9", "names": []}, 422, "names"),
        ({"region": "chr1:1-9", "model": "tiny"}, 400, "species"),
        ({"region": "chr9:1-9"}, 400, "region"),
        ({"region": "chr1", "names": ["x"] * 10_000}, 400, "region"),
    ],
)
def test_what_is_not_there_is_said(client, body, status, where):
    answer = client.post("/api/v1/tracks", json=body)
    assert (answer.status_code, answer.json()["where"]) == (status, where)


def test_a_server_without_track_heads_says_501():
    with serving(tiny_loaded()) as client:
        answer = client.post("/api/v1/tracks", json={"region": "chrM:1-9"})
    assert answer.status_code == 501 and "ntv3" in answer.json()["fix"]
