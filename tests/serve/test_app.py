"""The application: health, metrics, how work is asked for and given up, and one shape for every error."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import pytest
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from nexvar.errors import NexVarError
from nexvar.serve import running
from nexvar.serve.errors import Cancelled, NotFound
from served import client_of, make_server

FIELDS = {"detail", "error", "where", "fix"}
router = APIRouter()


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field(max_length=10)
    count: int = 1


@router.post("/try")
async def attempt(request: Request, body: Body) -> dict[str, str]:
    def work(ticket):
        if body.text == "fault":
            raise RuntimeError(f"a secret: {body.text}")
        if body.text == "bad":
            raise NexVarError("no good", where="/home/someone/data/x.fa:7", fix="look into /home/someone/data")
        if body.text == "lost":
            raise NotFound("no such thing", where="text", fix="GET /try/this")
        return body.text.upper()

    return {"text": await running.run(request, work)}


@pytest.fixture
def client():
    with client_of(make_server(), routers=[router]) as client:
        yield client


def test_health_and_metrics():
    server = make_server()
    with client_of(server) as client:
        assert client.get("/v1/health/live").json() == {"status": "live"}
        assert client.get("/v1/health/ready").json() == {"status": "ready"}
        text = client.get("/metrics").text
        assert 'nexvar_requests_total{path="/v1/health/live",status="200"} 1' in text
        assert 'nexvar_model_info{name="tiny",device="cpu"} 1' in text and "nexvar_queue_length 0" in text
        assert client.get("/v1/metrics").status_code == 200
        server.draining = True
        assert client.get("/v1/health/ready").status_code == 503
        assert client.get("/v1/health/live").status_code == 200


def test_work_is_done_in_the_model_thread(client):
    assert client.post("/try", json={"text": "abc"}).json() == {"text": "ABC"}


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("bad", 400, {"error": "x.fa:7: no good: look into data", "where": "x.fa:7", "fix": "look into data"}),
        ("lost", 404, {"error": "text: no such thing: GET /try/this", "where": "text", "fix": "GET /try/this"}),
        ("fault", 500, {"error": "an error inside the server: see the server's log"}),
    ],
)
def test_every_error_has_the_same_fields_and_no_folder_of_this_machine(client, text, status, said):
    answer = client.post("/try", json={"text": text})
    body = answer.json()
    assert answer.status_code == status and set(body) == FIELDS and body["detail"] == body["error"]
    assert said.items() <= body.items()
    assert "secret" not in answer.text and "Traceback" not in answer.text


def test_what_is_not_there_has_them_too(client):
    for answer in (client.get("/nowhere"), client.delete("/try")):
        assert answer.status_code in (404, 405) and set(answer.json()) == FIELDS and answer.json()["fix"]


@pytest.mark.parametrize(
    ("body", "where", "fix"),
    [
        ({}, "text", "add it"),
        ({"text": "a", "Secret": 1}, "Secret", "remove it"),
        ({"text": 5}, "text", "string"),
        ({"text": "Secret value"}, "text", "10 characters"),
        ({"text": "a", "count": "Secret"}, "count", "integer"),
        ({"text": "a", "count": True}, "count", "integer"),
        ([], "body", "object"),
    ],
)
def test_a_body_of_another_shape_is_422_that_names_the_field_and_holds_no_input(client, body, where, fix):
    answer = client.post("/try", json=body)
    said = answer.json()
    assert answer.status_code == 422 and set(said) == FIELDS
    assert said["where"] == where and fix in said["fix"] and where in said["error"]
    assert all(set(problem) == {"loc", "msg", "type"} for problem in said["detail"])
    assert "Secret value" not in answer.text and '"input"' not in answer.text
    assert where == "Secret" or "Secret" not in answer.text


def test_a_thousand_wrong_fields_are_told_in_a_short_answer(client):
    answer = client.post("/try", json={"text": "a", **{f"x{i}" * 500: i for i in range(1000)}})
    assert answer.status_code == 422 and len(answer.content) < 10_000


def test_a_full_queue_is_503_with_retry_after():
    server = make_server(queue=1)
    go = threading.Event()
    with client_of(server, routers=[router]) as client:
        server.thread.submit(lambda _: go.wait(20))
        while not server.thread.busy:
            pass
        server.thread.submit(lambda _: None)
        answer = client.post("/try", json={"text": "a"})
        go.set()
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
        assert "queue full" in answer.json()["error"]


class Gone:
    """A request whose client leaves while its work runs."""

    def __init__(self, server):
        self.app = type("App", (), {"state": type("State", (), {"server": server})})

    async def is_disconnected(self):
        return True


def test_the_work_of_a_client_that_left_is_stopped_without_a_word_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(running, "POLL", 0.01)
    server, ended = make_server(), threading.Event()

    def work(ticket):
        try:
            while True:
                ticket.check()
        finally:
            ended.set()

    async def leave():
        with pytest.raises(Cancelled):
            await running.run(Gone(server), work)
        assert await asyncio.to_thread(ended.wait, 20)
        server.thread.submit(lambda _: None).future.result(20)  # so the work before has been told of
        await asyncio.sleep(0.05)
        gc.collect()

    asyncio.run(leave())
    assert not caplog.text
    server.close()


def test_a_stream_gives_what_comes_and_stops_the_work_when_it_is_left():
    server, ended = make_server(), threading.Event()

    def work(ticket, emit):
        try:
            for i in range(10**9):
                ticket.check()
                if i < 3:
                    emit(i)
        finally:
            ended.set()

    async def first(n):
        events = await running.stream(Gone(server), work)
        seen = []
        async for event in events:
            seen.append(event)
            if len(seen) == n:
                break
        await events.aclose()
        return seen

    assert asyncio.run(first(3)) == [0, 1, 2] and ended.wait(20)
    server.close()


def test_the_error_model_is_declared_for_every_status():
    with client_of(make_server()) as client:
        document = client.get("/openapi.json").json()
    assert set(document["components"]["schemas"]["ErrorBody"]["properties"]) == FIELDS
    for path in document["paths"].values():
        for operation in path.values():
            for status in ("400", "401", "404", "413", "422", "503", "507"):
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, status
    assert "HTTPValidationError" not in json.dumps(document)


def test_a_request_past_its_time_is_stopped_and_says_so():
    server = make_server(seconds=0.2, max_tokens=8000)
    with client_of(server) as client:
        answer = client.post("/api/v1/generate", json={"prompts": ["ACGT"], "n_tokens": 8000})
        assert answer.status_code == 503 and "timed out after 0.2 s" in answer.json()["error"]
        while server.thread.busy:  # it would be refused: one that takes a second cannot be done within 0.2
            pass
        assert client.post("/api/v1/generate", json={"prompts": ["ACGT"], "n_tokens": 2}).status_code == 200
