"""Running it: one process, one address; what is printed, and how it ends."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from nexvar.doors import EXIT_FAULT
from nexvar.errors import RESEARCH_ONLY, NexVarError
from nexvar.serve.app import build
from nexvar.serve.connections import Patient
from nexvar.serve.settings import Settings
from nexvar.serve.state import Server

GRACE = 60  # seconds that requests in flight have after SIGTERM
MOST_CONNECTIONS = 512


def run(settings: Settings) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit code. NexVarError, before it serves, for what cannot be opened."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("nexvar.serve").setLevel(logging.INFO)
    with _bound(settings) as listening:
        server = Server.open(settings)
        config = uvicorn.Config(
            build(server),
            http=Patient,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=1 << 16,
            lifespan="on",
            ws="none",
        )
        running = _Uvicorn(config, server, listening.getsockname()[1])
        running.run(sockets=[listening])
        return 0 if running.started else EXIT_FAULT


def _bound(settings: Settings) -> socket.socket:
    """The address, taken; nobody is listened to before the models are there."""
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.address, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise NexVarError(
            f"cannot listen there ({error.strerror})", where=where, fix="another --port or --host"
        ) from None
    return listening


class _Uvicorn(uvicorn.Server):
    """uvicorn that says where it is, drains first, and ends with 0 when it was told to end."""

    def __init__(self, config: uvicorn.Config, server: Server, port: int) -> None:
        super().__init__(config)
        self.server, self.port = server, port
        self.stop_at: float | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.stop_at is not None:  # once more: now
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
        self.server.draining = True
        self.stop_at = self.stop_at or time.monotonic() + self.server.settings.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or (self.stop_at is not None and time.monotonic() >= self.stop_at)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for line in greeting(self.server, self.port):
            print(line, flush=True)


def greeting(server: Server, port: int) -> list[str]:
    """What a person reads when it is ready."""
    settings = server.settings
    key = f"/#key={settings.api_key}" if settings.api_key and sys.stdout.isatty() else ""
    leaves = "nothing leaves this machine" + (" but requests for weights" if settings.allow_load else "")
    models = [f"{each.card.name} on {each.device}, {each.precision}" for each in server.models.loaded.values()]
    return [
        f"NexVar serves at http://{settings.host_in_url}:{port}{key}",
        f"model: {'; '.join(models)}",
        f"genomes: {', '.join(server.genomes.by_id)}",
        f"{leaves}; {'everybody must bring the key' if settings.api_key else 'no key is needed'}",
        RESEARCH_ONLY,
    ]
