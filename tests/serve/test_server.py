"""The program: what it prints, how it ends, whom it gives up; and settings that are refused."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import uvicorn

from nexvar.errors import NexVarError
from nexvar.serve import connections
from nexvar.serve.server import greeting
from nexvar.serve.settings import Settings, by_id, tracks_by_id
from running import PATIENCE, running
from served import make_server

SLOW = {"prompts": ["ACGTACGT"], "n_tokens": 32_000}  # minutes of work
MUCH = ("--max-tokens", "32000", "--seconds", "100000")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server"), *MUCH) as server:
        yield server


def until(true, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def busy(server) -> bool:
    return server.ask("GET", "/api/v1/server")[1]["queue"]["busy"]


def send(server, path: str, body: dict) -> socket.socket:
    """A request whose answer nobody has read yet."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_it_says_where_it_is_with_what_and_that_nothing_leaves(server):
    assert server.said[0] == f"NexVar serves at http://127.0.0.1:{server.port}"
    text = "\n".join(server.said)
    assert "model: nexvar_mito on cpu, float32" in text and "genomes: chrM" in text
    assert "nothing leaves this machine" in text and "not a diagnosis" in text
    assert server.ask("GET", "/v1/health/ready") == (200, {"status": "ready"})


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_the_work_of_a_client_that_leaves_is_stopped(server, accept):
    connection = send(server, "/api/v1/generate", SLOW)
    until(lambda: busy(server))
    connection.close()
    until(lambda: not busy(server), 30)


def test_health_answers_while_the_model_computes(server):
    connection = send(server, "/api/v1/generate", SLOW)
    until(lambda: busy(server))
    for _ in range(20):
        assert server.ask("GET", "/v1/health/live")[0] == 200
    assert busy(server)
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT"],
    ids=["nothing", "half a request", "half a second request"],
)
def test_a_client_that_never_ends_its_headers_is_given_up(monkeypatch, sent):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def ask() -> bytes:
        config = uvicorn.Config(app, http=connections.Patient, log_config=None, lifespan="off", timeout_keep_alive=1)
        config.load()
        state = uvicorn.Server(config).server_state
        listening = await asyncio.get_running_loop().create_server(
            lambda: connections.Patient(config, state, {}), "127.0.0.1", 0
        )
        async with listening:
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            writer.write(sent)
            try:
                return await asyncio.wait_for(reader.read(), PATIENCE)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    answered = asyncio.run(ask())
    assert answered.count(b"HTTP/1.1 204") == sent.count(b"\r\n\r\n")


def test_no_server_header_and_odd_requests_are_400(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).lower()
    assert answer.startswith(b"http/1.1 200") and b"\r\nserver:" not in answer
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_sigterm_lets_requests_in_flight_end_and_exits_with_0(tmp_path):
    with running(tmp_path, "--drain-seconds", "5") as server:
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(server.ask("POST", "/api/v1/generate", SLOW | {"n_tokens": 400, "seed": 1}))
        )
        asking.start()
        until(lambda: busy(server))
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.ask("GET", "/v1/health/ready")[0] == 503)  # it drains, and still answers
        assert server.ended() == 0
        asking.join(PATIENCE)
    ((status, answer),) = answers
    assert status == 200 and len(answer["sequences"][0]) == 400
    assert "Traceback" not in (tmp_path / "log").read_text()


def refusal(*options: str) -> str:
    words = [sys.executable, "-m", "nexvar", "serve", *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout, done
    return done.stderr


def test_an_address_that_is_taken_is_one_line(server, tmp_path):
    said = refusal("--port", str(server.port), "--data-dir", str(tmp_path))
    assert "cannot listen there" in said and "another --port" in said


def test_so_is_a_model_that_is_not_there(tmp_path):
    assert "no model called 'evo9'" in refusal("--model", "evo9", "--port", "0", "--data-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": "0.0.0.0"}, "give a key"),
        ({"host": "192.0.2.7"}, "give a key"),
        ({"host": "gpu1"}, "give a key"),
        ({"host": "bad host"}, "is no host"),
        ({"port": 70_000}, "port is 70000"),
        ({"port": True}, "port is True"),
        ({"queue": 0}, "queue is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"models": ()}, "no model"),
        ({"api_key": ""}, "key"),
        ({"api_key": "a b\n"}, "key"),
        ({"api_key": "a b"}, "without blanks"),
        ({"api_key": ""}, "the key is empty"),
        ({"host": "[0.0.0.0"}, "is no host"),
        ({"cors_origins": ("localhost:3000",)}, "no origin"),
        ({"cors_origins": ("http://localhost:3000/",)}, "no origin"),
        ({"allowed_hosts": ("evo2:8000",)}, "--allowed-host: .* is no host"),
        ({"genomes": {"../x": "g.fa"}}, "is no id"),
    ],
    ids=str,
)
def test_settings_that_are_wrong_are_refused(settings, says):
    with pytest.raises(NexVarError, match=says):
        Settings(**settings)


def test_off_the_loopback_with_a_key_or_where_that_is_meant():
    assert not Settings(host="0.0.0.0", api_key="k").local and not Settings(host="::", no_auth=True).local
    assert Settings(host="127.0.0.2").local and Settings(host="::1").local and Settings(host="localhost").local
    assert Settings(host="[::1]").local and not Settings(host="[::]", api_key="k").local


def test_ids_with_their_files():
    assert {k: str(v) for k, v in by_id(["a=x=y.fa", "b=z"], "--genome").items()} == {"a": "x=y.fa", "b": "z"}
    assert list(tracks_by_id(["a:t=x.bw"])) == [("a", "t")]
    for given in (["x.fa"], ["=x.fa"], ["a="], ["a=1", "a=2"], ["a/b=x"]):
        with pytest.raises(NexVarError, match="--genome"):
            by_id(given, "--genome")
    for given in (["a=x"], ["a:=x"], ["a:b=1", "a:b=2"]):
        with pytest.raises(NexVarError, match="--track"):
            tracks_by_id(given)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_key_is_printed_for_people_only(host, monkeypatch):
    server = make_server(api_key="secret", host=host)
    assert greeting(server, 80)[0] == "NexVar serves at http://[::1]:80"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert greeting(server, 80)[0] == "NexVar serves at http://[::1]:80/#key=secret"
    server.close()


def test_a_server_that_may_download_says_so():
    server = make_server(allow_load=True)
    assert "nothing leaves this machine but requests for weights; no key is needed" in greeting(server, 80)
    server.close()
