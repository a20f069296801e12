"""A server for tests: with whatever model, its genomes and settings, asked through starlette's test client."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter
from fastapi.testclient import TestClient

from nexvar.serve.app import build
from nexvar.serve.genomes import Genomes
from nexvar.serve.models import Models
from nexvar.serve.settings import Settings
from nexvar.serve.state import Server
from nexvar.serve.store import Store
from nexvar.serve.worker import ModelThread
from nexvar.weights.load import Loaded
from tiny import tiny_loaded

HOST = "http://127.0.0.1:8000"


def make_server(loaded: Sequence[Loaded] = (), **settings: Any) -> Server:
    """An open server around models that are loaded already (default: the tiny causal one)."""
    own = tempfile.TemporaryDirectory(prefix="nexvar-serve-", ignore_cleanup_errors=True)
    chosen = Settings(**{"data_dir": Path(own.name), **settings})
    models = Models(loaded or [tiny_loaded()], allow_load=chosen.allow_load)
    server = Server(
        chosen,
        models,
        Genomes.open(chosen),
        ModelThread(chosen.queue),
        Store(chosen.data_dir, max_bytes=chosen.data_gb * 1e9),
    )
    server.own_folder = own  # it goes with the server
    return server


@contextmanager
def client_of(
    server: Server, *, routers: Sequence[APIRouter] = (), base_url: str = HOST, **options: Any
) -> Iterator[TestClient]:
    """A client of a server; routers: in place of the server's own."""
    app = build(server, routers) if routers else build(server)
    with TestClient(app, base_url=base_url, raise_server_exceptions=False, **options) as client:
        yield client


@contextmanager
def serving(*loaded: Loaded, **settings: Any) -> Iterator[TestClient]:
    """A client of a server with these models and settings; the server is ``client.app.state.server``."""
    with client_of(make_server(loaded, **settings)) as client:
        yield client


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """``127.0.0.1:PORT``, where a server listens in a thread, for clients that want a socket."""
    running = uvicorn.Server(uvicorn.Config(build(server), port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()
