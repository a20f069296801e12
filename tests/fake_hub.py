"""A Hugging Face hub on loopback: serves small repositories, cuts connections, lies. Used by ``test_hub.py``."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" * 6 + "beef"


@dataclass
class Repository:
    """files: name -> content. The other fields are how it misbehaves."""

    files: dict[str, bytes]
    commit: str = COMMIT
    cut_after: int | None = None  # bytes of a body after which the connection closes …
    cuts: int = 0  # … so many times
    claimed_size: int | None = None  # a lie in Content-Length and X-Linked-Size
    etags: dict[str, str] = field(default_factory=dict)  # name -> a lie in ETag
    gated: bool = False


@dataclass
class FakeHub:
    """``with FakeHub({"owner/name": Repository(...)}) as hub: hub.endpoint``; ``requests`` counts what was asked."""

    repositories: dict[str, Repository]
    requests: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        path = handler.path.split("?")[0].lstrip("/")
        self.requests[f"{handler.command} {path}"] += 1
        match = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repository = self.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            return self.refuse(handler, 404, "RepoNotFound")
        if repository.gated:
            return self.refuse(handler, 403, "GatedRepo")
        if match[2] not in (repository.commit, "main", COMMIT):
            return self.refuse(handler, 404, "RevisionNotFound")
        content = repository.files.get(match[3])
        if content is None:
            return self.refuse(handler, 404, "EntryNotFound", {"X-Repo-Commit": repository.commit})
        etag = repository.etags.get(match[3]) or hashlib.sha256(content).hexdigest()
        return self.send(handler, repository, content, etag, body)

    def send(
        self, handler: BaseHTTPRequestHandler, repository: Repository, content: bytes, etag: str, body: bool
    ) -> None:
        start, total = 0, repository.claimed_size or len(content)
        if asked := handler.headers.get("Range"):
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").split("-")[0])
        handler.send_response(206 if asked else 200)
        handler.send_header("X-Repo-Commit", repository.commit)
        handler.send_header("ETag", f'"{etag}"')
        handler.send_header("Accept-Ranges", "bytes")
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        handler.send_header("Content-Length", str(total - start))
        handler.end_headers()
        if not body:
            return
        rest = content[start:]
        if repository.cut_after is not None and repository.cuts and len(rest) > repository.cut_after:
            repository.cuts -= 1
            rest = rest[: repository.cut_after]
        handler.wfile.write(rest)
        if len(rest) < total - start:
            handler.close_connection = True

    def refuse(
        self, handler: BaseHTTPRequestHandler, status: int, code: str, headers: dict[str, str] | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in {"X-Error-Code": code, "Content-Length": "0", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
