"""``nexvar serve`` as a process of its own, on a free port, asked through sockets."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds: a machine that is busy


@dataclass
class Running:
    """A server: its process, port, what it printed, seconds until it answered."""

    process: subprocess.Popen[str]
    port: int
    said: list[str]
    seconds: float

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded JSON (or text) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = None if body is None else json.dumps(body)
            given = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**given, **headers})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if answer.headers.get_content_type() == "application/json" else text
        finally:
            connection.close()

    def ended(self) -> int:
        """The exit code, when it ends."""
        return self.process.wait(PATIENCE)


@contextmanager
def running(folder: Path, *options: str, **environment: str) -> Iterator[Running]:
    """A server with its files in ``folder``, until the block ends."""
    words = [sys.executable, "-m", "nexvar", "serve", "--port", "0", "--data-dir", str(folder / "data"), *options]
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **environment}
        )
    try:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if "research output" in line:
                break
        assert said, (folder / "log").read_text()
        port = int(said[0].rpartition(":")[2].partition("/")[0])
        yield Running(process, port, said, time.monotonic() - began)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
