"""A Hugging Face hub on loopback: serves small repositories, takes uploads, cuts connections, lies."""

from __future__ import annotations

import base64
import hashlib
import json
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
    tokens: set[str] = field(default_factory=set)  # that may write
    private: set[str] = field(default_factory=set)  # repositories that were made so

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

            def do_POST(self) -> None:
                hub.take(self)

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

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        """An upload: the repository is made, files are announced (all small), and come in one commit."""
        path = handler.path.split("?")[0].lstrip("/")
        self.requests[f"POST {path}"] += 1
        content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if handler.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self.refuse(handler, 401, "")
        if path == "api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories.setdefault(name, Repository({}))
            if asked.get("visibility") == "private" or asked.get("private"):
                self.private.add(name)
            return self.reply(handler, {"url": f"{self.endpoint}/{name}"})
        match = re.fullmatch(r"api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if match is None:
            return self.refuse(handler, 404, "RepoNotFound")
        if match[2] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(content)["files"]
            ]
            return self.reply(handler, {"files": files})
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                data = base64.b64decode(line["value"]["content"])
                self.repositories[match[1]].files[line["value"]["path"]] = data
        url = f"{self.endpoint}/{match[1]}/commit/{COMMIT}"
        return self.reply(handler, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def reply(self, handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

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
