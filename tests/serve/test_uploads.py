"""Uploaded files: streamed, counted, hashed; whatever is sent is one answer and leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.serve.app import build
from nexvar.serve.routes import files as routes
from nexvar.serve.uploads import clean_name
from served import client_of, make_server

VCF = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LIMIT = 10_000


@pytest.fixture
def server(tmp_path):
    return make_server(data_dir=tmp_path / "data", max_upload=LIMIT, data_gb=0.001)


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client


def send(client, content, name="a.vcf", **headers):
    return client.post("/api/v1/files", content=content, headers={"X-Filename": name, **headers})


def kept(server):
    return list((server.store.folder / "files").iterdir())


@pytest.mark.parametrize(("content", "name", "kind"), [
    (VCF, "a.vcf", "vcf"), (gzip.compress(VCF, mtime=0), "a.vcf.gz", "vcf"), (VCF, "what", "vcf"),
    (gzip.compress(b"BCF\2\2xx", mtime=0), "a.bcf", "bcf"),
    (b">chr1\nACGT\n", "a.fa", "fasta"), (b"chr1:5A>C\n", "a.tsv", "list"), (b"chr1:5A>C\n", "a.TXT.gz", "list"),
    (b"hello\n", "a.doc", "text"),
])  # fmt: skip
def test_a_file_is_kept_and_known_by_what_it_holds(client, server, content, name, kind):
    answer = send(client, content, name)
    body = answer.json()
    assert answer.status_code == 201
    assert body == {
        "id": body["id"], "name": name, "bytes": len(content), "kind": kind,
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert client.get(f"/api/v1/files/{body['id']}").json() == body
    assert server.store.path_of(server.store.file(body["id"])).read_bytes() == content
    assert client.delete(f"/api/v1/files/{body['id']}").status_code == 204
    assert client.get(f"/api/v1/files/{body['id']}").status_code == 404
    assert client.delete(f"/api/v1/files/{body['id']}").status_code == 404
    assert not kept(server)


def test_any_content_type_will_do(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"):
        assert send(client, VCF, **{"Content-Type": kind}).status_code == 201


def pieces(size, block=999):
    yield VCF
    for start in range(len(VCF), size, block):
        yield b"x" * min(block, size - start)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_cap_is_exact_and_what_is_above_leaves_nothing(client, server, monkeypatch, chunked):
    monkeypatch.setattr(routes, "BLOCK", 1500)
    whole = b"".join(pieces(LIMIT))
    assert send(client, pieces(LIMIT) if chunked else whole).status_code == 201
    before = len(kept(server))
    answer = send(client, pieces(LIMIT + 1) if chunked else whole + b"x")
    assert answer.status_code == 413 and answer.json()["fix"].endswith("more --max-upload")
    assert "10,000 bytes" in answer.json()["error"]
    assert len(kept(server)) == before


@pytest.mark.parametrize(("content", "status", "said"), [
    (b"", 400, "the body is empty"),
    (b"PK\3\4 zip", 415, "a.vcf:1: this is a zip archive: unpack it first"),
    (b"\xef\xbb\xbf##fileformat", 415, "byte-order mark"),
    (gzip.compress(VCF, mtime=0)[:-9], 415, "the gzip data ends too early"),
    (gzip.compress(b"PAR1 inside", mtime=0), 415, "Parquet"),
    (b"\x1f\x8b\x08\x00garbage", 415, "gzip data"),
    (gzip.compress(gzip.compress(VCF, mtime=0), mtime=0), 415, "this is no text: send a VCF"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 415, "this is no text: send a VCF"),
])  # fmt: skip
def test_what_nobody_can_read_is_refused_at_once(client, server, content, status, said):
    answer = send(client, content)
    assert answer.status_code == status and said in answer.json()["error"], answer.text
    assert "/" not in answer.json()["error"] and not kept(server)


def test_a_disk_that_is_full_is_507_and_the_next_file_is_kept(client, server, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        answer = send(client, VCF)
    assert answer.status_code == 507 and "No space left on device" in answer.json()["error"]
    assert not kept(server) and server.store.room() == 1e6
    assert send(client, VCF).status_code == 201


def test_a_server_that_keeps_enough_says_so(client, server):
    server.store.max_bytes = 3 * LIMIT
    answers = [send(client, b"".join(pieces(LIMIT))).status_code for _ in range(5)]
    assert answers == [201, 201, 201, 507, 507] and len(kept(server)) == 3


@pytest.mark.parametrize(("silent", "status"), [(False, 499), (True, 408)])
def test_a_client_that_leaves_or_falls_silent_leaves_nothing(server, monkeypatch, silent, status):
    monkeypatch.setattr(routes, "SILENCE", 0.05)
    messages = [{"type": "http.request", "body": VCF, "more_body": True}, {"type": "http.disconnect"}]
    answers = []

    async def receive():
        if silent and len(messages) == 1:
            await asyncio.sleep(60)
        return messages.pop(0)

    async def send(message):
        answers.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/files", "headers": headers, "query_string": b""}
    asyncio.run(build(server)(scope, receive, send))
    assert answers[0]["status"] == status
    assert not kept(server) and server.store.room() == 1e6
    server.close()


@pytest.mark.parametrize(("given", "name"), [
    ("cohort.vcf.gz", "cohort.vcf.gz"), ("../../etc/passwd", "passwd"), ("C:\\data\\x y.vcf", "x_y.vcf"),
    ("-rf.vcf", "rf.vcf"), ("..", "variants.vcf"), ("", "variants.vcf"), (None, "variants.vcf"),
    ("%2e%2e%2fa.vcf", "a.vcf"),
    ("a" * 300 + ".vcf.gz", "a" * 93 + ".vcf.gz"), ("<img src=x>.vcf", "img_src_x_.vcf"),
])  # fmt: skip
def test_names_are_cleaned(given, name):
    assert clean_name(given) == name


@given(st.text(max_size=300))
def test_a_clean_name_is_one_harmless_file_name(given):
    name = clean_name(given)
    assert 0 < len(name) <= 100 and name.isascii() and name[0].isalnum()
    assert not set(name) & set("/\\ \0\n'\"<>&;|$`") and clean_name(name) == name
