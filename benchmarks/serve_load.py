"""`nexvar serve` under load, on this machine alone: what 200 connections get, whether memory grows, how fast health is.

    python benchmarks/serve_load.py                    about five minutes
    python benchmarks/serve_load.py --requests 200 --soak 500      a minute

A server of its own with nexvar_mito on a free port, asked through plain sockets:

    burst    --requests scores of one variant on --connections at once: statuses, Retry-After, how long they took
    health   GET /v1/health/live, one after the other, while a generation computes: median and 99 % of their times
    soak     --soak requests of five kinds, right and wrong, ten at a time: resident memory after a tenth and at the end
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

SCORE = ("POST", "/api/v1/score", {"variants": ["chrM:3243A>G"], "options": {"window": 128, "strand": "forward"}})
CLICK = ("POST", "/api/v1/score", {"variants": ["chrM:3243A>G"]})  # by the model's own readout, as the page asks
KINDS: list[tuple[str, str, Any]] = [
    SCORE,
    ("POST", "/api/v1/embed", {"sequences": ["ACGT" * 16]}),
    ("POST", "/api/v1/generate", {"prompts": ["ACGTACGT"], "n_tokens": 3}),
    ("POST", "/api/v1/score", {"variants": ["no variant"]}),
    ("GET", "/api/v1/genomes/chrM/sequence?region=chrM:1-2000", None),
]
BUSY = ("POST", "/api/v1/generate", {"prompts": ["ACGTACGT"], "n_tokens": 30_000})


class Answer:
    """status, headers in lower case, seconds from the first byte sent to the last one received."""

    def __init__(self, raw: bytes, seconds: float) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        self.seconds = seconds


async def ask(port: int, method: str, path: str, body: Any) -> Answer:
    """One request on a connection of its own."""
    data = b"" if body is None else json.dumps(body).encode()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" if data else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}\r\n"
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + data)
    raw = await reader.read()
    writer.close()
    return Answer(raw, time.monotonic() - began)


async def many(port: int, asked: list[tuple[str, str, Any]], at_once: int) -> list[Answer]:
    """All of them, so many at once."""
    left, answers = iter(asked), []

    async def connection() -> None:
        for each in left:
            answers.append(await ask(port, *each))

    await asyncio.gather(*(connection() for _ in range(at_once)))
    return answers


def milliseconds(answers: list[Answer]) -> str:
    if not answers:
        return "none"
    values = 1000 * np.array([answer.seconds for answer in answers])
    return f"median {np.median(values):.0f} ms, 99 % {np.quantile(values, 0.99):.0f} ms, most {values.max():.0f} ms"


async def burst(port: int, requests: int, connections: int) -> None:
    began = time.monotonic()
    answers = await many(port, [SCORE] * requests, connections)
    statuses = Counter(answer.status for answer in answers)
    told = all("retry-after" in answer.headers for answer in answers if answer.status == 503)
    print(f"burst: {requests:,} requests on {connections} connections in {time.monotonic() - began:.0f} s")
    print(f"  statuses {dict(statuses)}, Retry-After with every 503: {told}")
    print(f"  those with 200: {milliseconds([a for a in answers if a.status == 200])}")
    print(f"  those with 503: {milliseconds([a for a in answers if a.status == 503])}")


async def health(port: int, seconds: float) -> None:
    live = ("GET", "/v1/health/live", None)
    idle = [await ask(port, *live) for _ in range(100)]
    work = asyncio.create_task(ask(port, *BUSY))
    await asyncio.sleep(1)
    busy, end = [], time.monotonic() + seconds
    while time.monotonic() < end and not work.done():
        busy.append(await ask(port, *live))
    work.cancel()
    print(f"health: idle {milliseconds(idle)}")
    print(f"  while a generation computes ({len(busy)} requests): {milliseconds(busy)}")


async def soak(port: int, pid: int, requests: int) -> None:
    await many(port, KINDS * (requests // 50), 10)
    before = resident_mb(pid)
    answers = await many(port, KINDS * ((requests - requests // 10) // 5), 10)
    after = resident_mb(pid)
    statuses = dict(Counter(answer.status for answer in answers))
    print(f"soak: {requests:,} requests, statuses of the last nine tenths {statuses}")
    print(f"  resident {before:.0f} MB after a tenth, {after:.0f} MB at the end: {after / before - 1:+.1%}")


def resident_mb(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1000  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--soak", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the health check")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "nexvar", "serve", "--port", "0", "--max-tokens", "30000", "--data-dir", folder]
        began = time.monotonic()
        server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2])
            load = os.getloadavg()[0]
            print(f"ready after {time.monotonic() - began:.1f} s; load {load:.1f} on {os.cpu_count()} cores")
            clicks = [asyncio.run(ask(port, *CLICK)) for _ in range(5)]
            print(f"a click's score: first {1000 * clicks[0].seconds:.0f} ms, then {milliseconds(clicks[1:])}")
            asyncio.run(burst(port, options.requests, options.connections))
            asyncio.run(health(port, options.seconds))
            asyncio.run(soak(port, server.pid, options.soak))
        finally:
            server.terminate()
            print(f"SIGTERM: exit code {server.wait()}")


if __name__ == "__main__":
    main()
