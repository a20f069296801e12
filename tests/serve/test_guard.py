"""What a local server does not let pass: other sites' pages, strangers, bodies that are bombs; and what it says."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from nexvar.serve import guard
from served import HOST, client_of, make_server

KEY = "a-key-of-some-length"
FIELDS = {"detail", "error", "where", "fix"}
router = APIRouter()
reached: list[str] = []


class Anything(BaseModel):
    x: object = None


@router.post("/api/v1/try")
async def attempt(body: Anything) -> dict[str, bool]:
    reached.append("post")
    return {"ok": True}


@router.get("/api/v1/try")
async def look() -> dict[str, bool]:
    reached.append("get")
    return {"ok": True}


@router.delete("/api/v1/try")
async def delete() -> dict[str, bool]:
    reached.append("delete")
    return {"ok": True}


@router.post("/api/v1/files")
async def raw(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@router.get("/v1/health/live")
async def live() -> dict[str, str]:
    return {"status": "live"}


@router.get("/web/x.js")
async def page() -> dict[str, str]:
    return {}


@router.get("/api/v1/broken")
async def broken() -> StreamingResponse:
    async def parts():
        yield b"a part"
        raise RuntimeError("ACGTACGT is a secret")

    return StreamingResponse(parts())


@pytest.fixture
def client():
    reached.clear()
    with client_of(make_server(max_body=2000, max_upload=5000), routers=[router]) as client:
        yield client


def refused(answer, status: int, where: str) -> None:
    said = answer.json()
    assert answer.status_code == status and said["where"] == where and said["fix"], said
    assert set(said) == FIELDS and not reached


# -- who asks


def test_head_is_answered_as_get_is(client):
    head, got = client.head("/api/v1/try"), client.get("/api/v1/try")
    assert head.status_code == got.status_code == 200
    assert {**head.headers, "date": 0} == {**got.headers, "date": 0}
    assert client.head("/api/v1/nothing").status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:8000", "[::1]:8000", "LocalHost:1"])
def test_this_machines_names_are_answered(client, host):
    assert client.get("/api/v1/try", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", "", "[::1", "127.0.0.1:x"]
)
def test_other_names_are_dns_rebinding(client, host):
    refused(client.get("/api/v1/try", headers={"Host": host}), 400, "Host")


def test_two_host_headers_are_refused(client):
    refused(client.get("/api/v1/try", headers=[("Host", "localhost"), ("Host", "evil.example")]), 400, "Host")


def test_a_name_that_the_operator_allows():
    with client_of(make_server(allowed_hosts=("evo2-nim",)), routers=[router]) as client:
        assert client.get("/api/v1/try", headers={"Host": "evo2-nim:8000"}).status_code == 200


CROSS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": f"{HOST}.evil.example"},
    {"Origin": "http://["},
    {"Origin": "http://[::1"},
    [("Origin", HOST), ("Origin", "http://evil.example")],
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
]


def test_an_origin_that_is_none_is_no_fault(client):
    assert client.get("/api/v1/try", headers={"Origin": "http://["}).status_code == 200


@pytest.mark.parametrize("headers", CROSS, ids=str)
def test_pages_of_other_sites_change_nothing(client, headers):
    refused(client.post("/api/v1/try", json={}, headers=headers), 403, "Origin")
    refused(client.delete("/api/v1/try", headers=headers), 403, "Origin")


def test_pages_of_other_sites_read_nothing_but_may_link_here(client):
    refused(client.get("/api/v1/try", headers={"Sec-Fetch-Site": "cross-site"}), 403, "Origin")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/api/v1/try", headers=link).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Origin": HOST}, {"Origin": HOST, "Sec-Fetch-Site": "same-origin"}], ids=str)
def test_our_own_page_and_programs_may(client, headers):
    assert client.post("/api/v1/try", json={}, headers=headers).status_code == 200


def test_a_page_that_the_operator_named_may_and_no_other():
    origin = "http://localhost:3000"
    with client_of(make_server(cors_origins=(origin,), api_key=KEY), routers=[router]) as client:
        ask = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        preflight = client.options("/api/v1/try", headers=ask)
        assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == origin
        keyed = {"Authorization": f"Bearer {KEY}"}
        answer = client.post("/api/v1/try", json={}, headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"} | keyed)
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == origin
        other = client.post("/api/v1/try", json={}, headers={"Origin": "http://localhost:3001"} | keyed)
        assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


# -- the key


PATHS = ["/api/v1/try", "/metrics", "/openapi.json", "/nowhere", "/biology/arc/evo2/generate", "/mcp", "/api/v1/../try"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": KEY}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}, {"X-Api-Key": KEY}]
    + [{"Authorization": f"Basic {KEY}"}, {"Authorization": b"Bearer \xff\xfe"}],
    ids=str,
)
def test_without_the_key_no_path_answers(path, headers):
    reached.clear()
    with client_of(make_server(api_key=KEY, docs=True), routers=[router]) as client:
        answer = client.get(path, headers=headers)
    refused(answer, 401, "Authorization")
    assert answer.headers["www-authenticate"] == "Bearer" and KEY not in answer.text


def test_with_the_key_all_do_and_health_and_the_pages_files_need_none():
    with client_of(make_server(api_key=KEY), routers=[router]) as client:
        assert client.get("/api/v1/try", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.get("/api/v1/try", headers={"Authorization": f"bearer  {KEY}"}).status_code == 200
        assert client.get("/v1/health/live").status_code == 200
        assert client.get("/web/x.js").status_code == 200
        assert client.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).status_code == 404  # no --docs


# -- bodies


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_json_bodies_say_that_they_are(client, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    refused(client.post("/api/v1/try", content=b"{}", headers=headers), 415, "Content-Type")
    good = client.post("/api/v1/try", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert good.status_code == 200


def _parts(total: int, size: int = 100):
    for _ in range(total // size):
        yield b" " * size


def test_large_bodies_are_413_told_or_chunked_and_files_have_their_own_cap(client):
    json_ = {"Content-Type": "application/json"}
    refused(client.post("/api/v1/try", content=b" " * 2001, headers=json_), 413, "body")
    refused(client.post("/api/v1/try", content=_parts(10_000), headers=json_), 413, "body")
    refused(client.post("/api/v1/try", content=b"{}", headers=json_ | {"Content-Length": "9" * 30}), 413, "body")
    assert client.post("/api/v1/files", content=b"x" * 4000).json() == {"bytes": 4000}
    assert client.post("/api/v1/files", content=b"x" * 5001).status_code == 413


BOMBS = {
    "no JSON": b"{",
    "nothing": b" ",
    "deep": b"[" * 900 + b"]" * 900,
    "deep objects": b'{"x":' * 300 + b"1" + b"}" * 300,
    "NaN": b'{"x": NaN}',
    "infinite": b'{"x": 1e999}',
    "many digits": b'{"x": ' + b"9" * 1500 + b"}",
    "a key twice": b'{"x": 1, "x": 2}',
    "no UTF-8": b'{"x": "\xff\xfe"}',
    "UTF-16": '{"x": 1}'.encode("utf-16"),
    "half a surrogate": b'{"x": "\\ud800"}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_json_with_surprises_is_422(client, name):
    answer = client.post("/api/v1/try", content=BOMBS[name], headers={"Content-Type": "application/json"})
    refused(answer, 422, "body")
    assert len(answer.content) < 1500


def test_a_body_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    sent = []

    async def ask():
        app = guard.Guard(None, make_server())
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"10")]
        scope = {"type": "http", "method": "POST", "path": "/api/v1/score", "headers": headers}

        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408 and b"did not come" in sent[1]["body"]


# -- answers


def test_every_answer_has_the_headers(client):
    answers = [
        client.get("/api/v1/try"),
        client.get("/nowhere"),
        client.get("/api/v1/try", headers={"Host": "evil.example"}),
        client.post("/api/v1/try", content=b"{"),
        client.get("/web/x.js"),
    ]
    for answer in answers:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "server" not in answer.headers and "access-control-allow-origin" not in answer.headers
    assert all(answer.headers["cache-control"] == "no-store" for answer in answers[:-1])


def test_an_answer_that_breaks_off_tells_nothing_of_why(client, caplog):
    with caplog.at_level(logging.INFO), pytest.raises(ConnectionAbortedError):
        client_raises(client)
    assert "fault of NexVar" in caplog.text


def client_raises(client) -> None:
    client._transport.raise_server_exceptions = True
    client.get("/api/v1/broken")


def test_the_log_has_paths_and_lengths_and_no_query_key_or_body(caplog):
    with (
        caplog.at_level(logging.INFO, logger="nexvar.serve"),
        client_of(make_server(api_key=KEY), routers=[router]) as client,
    ):
        headers = {"Authorization": f"Bearer {KEY}"}
        client.post("/api/v1/try?region=chr17", json={"x": "ACGTTTGA"}, headers=headers)
        client.get("/a%1b[31m%0Aforged%20line", headers=headers)
    assert "POST /api/v1/try 200" in caplog.text and "16 B in" in caplog.text
    assert not any(word in caplog.text for word in ("chr17", "ACGTTTGA", KEY))
    assert "\x1b" not in caplog.text and len(caplog.messages) == 2


def test_metrics_count_by_route_and_hold_no_names_of_requests():
    server = make_server()
    with client_of(server) as client:
        client.get("/api/v1/models/nexvar_mito")
        client.get("/api/v1/models/secret")
        client.get("/secret/path")
        client.post("/api/v1/generate", json={"prompts": ["ACGT"], "n_tokens": 5})
        text = client.get("/metrics").text
    assert 'nexvar_requests_total{path="/api/v1/models/{name}",status="200"} 1' in text
    assert 'path="other",status="404"' in text and "nexvar_tokens_total 5" in text
    assert "secret" not in text


def test_the_key_is_compared_in_constant_time(monkeypatch):
    seen = threading.Event()
    original = guard.hmac.compare_digest
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: seen.set() or original(a, b))
    with client_of(make_server(api_key=KEY), routers=[router]) as client:
        client.get("/api/v1/try", headers={"Authorization": "Bearer x"})
    assert seen.is_set()


def test_json_of_the_page_is_never_echoed(client):
    body = json.dumps({"x": "<script>alert(1)</script>"}).encode() + b"}"
    answer = client.post("/api/v1/try", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and "script" not in answer.text
