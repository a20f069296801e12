"""What every request must pass before a route sees it, and what every answer carries (docs/serving.md, security).

    Host ── Origin, Sec-Fetch-Site ── key ── content type ── body: size, time, JSON without surprises ── routes
    answer ── headers ── metrics, one line of log: method, path, status, milliseconds, lengths; never a query or a body

Pure ASGI: streams pass through as they come.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexvar.doors import explain
from nexvar.errors import NexVarError, printable
from nexvar.files import parse_json
from nexvar.serve.errors import (
    BAD_INPUT,
    FAULT,
    Cancelled,
    Forbidden,
    Malformed,
    ServeError,
    TooLarge,
    TooSlow,
    Unauthorized,
    WrongType,
    body_of,
    headers_of,
    in_shape,
    plain_body,
    status_of,
)
from nexvar.serve.state import Server

LOG = logging.getLogger("nexvar.serve")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
RAW = ("/api/v1/files",)  # bodies that are files, not JSON
BODY_SECONDS = 30.0  # for a JSON body to arrive
READING = ("GET", "HEAD", "OPTIONS")
# igv.js 3.8.10 brings two <style> elements: these are their hashes
CSP = (
    "default-src 'self'; style-src 'self' 'sha256-ITHmamcImsZ/Je1xrdtDLZVvRSpj1Zokb6uHXORB824=' "
    "'sha256-NTwDUA6nIvRRpI2lIBtHJqkV0TlTj4HVmI6vI81fIfM='; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::\d{1,5})?")


def is_page(path: str) -> bool:
    """Whether the path is of the page itself: files of the package, the same for everybody, without any data."""
    return path == "/" or path.startswith("/web/")


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        settings = server.settings
        self.app, self.server, self.settings = app, server, settings
        self.hosts = {name.lower() for name in (*LOOPBACK, *settings.allowed_hosts, settings.host_in_url)}
        self.key = None if settings.api_key is None else settings.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        if scope["method"] == "HEAD":  # as GET: the connection leaves the body out
            scope = {**scope, "method": "GET"}
        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            receive = await self._body(scope, headers, receive)
            await self.app(scope, receive, answer.send)
        except Exception as error:
            if status_of(error) == FAULT:
                LOG.error("%s", explain(error), exc_info=LOG.isEnabledFor(logging.DEBUG))
            if answer.status:  # it began: that its end is missing tells the client
                raise ConnectionAbortedError from None  # NOTE without the error, whose text may hold a request's
            status = status_of(error)
            response = JSONResponse(in_shape(body_of(error), status, scope["path"]), status, headers_of(error))
            await response(scope, receive, answer.send)
        finally:
            answer.record(self.server, scope.get("route"))

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raises ServeError for who may not ask this."""
        hosts = headers.getlist("host")
        name = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if name is None or (name[1].lower() not in self.hosts and "*" not in self.hosts):
            fix = "ask for localhost, or start the server with --allowed-host NAME"
            raise ServeError("Invalid host header", where="Host", fix=fix)
        self._check_site(scope, headers, hosts[0])
        path = scope["path"]
        if self.key is None or path.startswith("/v1/health/") or is_page(path):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.key):
            raise Unauthorized("no key, or a wrong one", where="Authorization", fix="send Authorization: Bearer KEY")

    def _check_site(self, scope: Scope, headers: Headers, host: str) -> None:
        """No page of another site asks, unless the operator named it."""
        origins = headers.getlist("origin")
        if origins and all(origin in self.settings.cors_origins for origin in origins):
            return
        foreign = any(_place(origin) != host.lower() for origin in origins)
        changes = scope["method"] not in READING
        followed = not changes and headers.get("sec-fetch-mode") == "navigate"  # a link to here
        if (changes and foreign) or (headers.get("sec-fetch-site") == "cross-site" and not followed):
            raise Forbidden("a page of another site asks", where="Origin", fix="start the server with --cors-origin")

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """The body, read whole and found to be JSON, to be received once more; files as they come."""
        path, length = scope["path"].rstrip("/"), headers.get("content-length")
        if scope["method"] in READING or (not (length or "0").strip("0") and "transfer-encoding" not in headers):
            return receive
        cap = self.settings.max_upload if path in RAW else self.settings.max_body
        if length is not None and (not length.isdecimal() or len(length) > 15 or int(length) > cap):
            raise TooLarge(cap, file=path in RAW)
        if path in RAW:
            return receive
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            fix = "send JSON with Content-Type: application/json"
            raise WrongType("the body is of another type", where="Content-Type", fix=fix)
        try:
            body = await asyncio.wait_for(_read(receive, cap), BODY_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise TooSlow(f"the body did not come within {BODY_SECONDS:g} s", where="body") from None
        try:
            parse_json(body, "body", cap)
        except NexVarError as error:
            raise Malformed(error.what, where="body", fix="send JSON, as /openapi.json says") from None
        return _again(body, receive)


def _place(origin: str) -> str | None:
    """Its host and port; None for what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as an address with half of its brackets
        return None


async def _read(receive: Receive, cap: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client left")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > cap:
            raise TooLarge(cap)
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    left = [body]

    async def once_more() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return once_more


class _Answer:
    """What goes out: with the headers that all answers carry, and counted."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.status, self.bytes, self.began = 0, 0, time.monotonic()
        self._plain: Message | None = None  # the start of an error that is not in the shape of all the others

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if not is_page(self.scope["path"]):
                headers.setdefault("Cache-Control", "no-store")
            if self.status >= BAD_INPUT and not headers.get("content-type", "").startswith("application/json"):
                self._plain = message  # a library's, such as that of a Range beyond the end
                return
        elif self._plain is not None:
            start, self._plain = self._plain, None
            message = self._in_shape(start, message)
            await self._send(start)
        self.bytes += len(message.get("body", b""))
        await self._send(message)

    def _in_shape(self, start: Message, message: Message) -> Message:
        line = printable(message.get("body", b"").decode("latin-1"), 200) or HTTPStatus(self.status).phrase
        body = json.dumps(in_shape(plain_body(line), self.status, self.scope["path"])).encode()
        headers = MutableHeaders(scope=start)
        headers["Content-Type"], headers["Content-Length"] = "application/json", str(len(body))
        return {**message, "body": body}

    def record(self, server: Server, route: object) -> None:
        seconds = time.monotonic() - self.began
        place = getattr(route, "path", None) or ("page" if is_page(self.scope["path"]) else "other")
        server.metrics.request(place, self.status or FAULT, seconds)
        length = Headers(scope=self.scope).get("content-length", "0")
        asked_often = self.scope["path"].endswith(("/health/live", "/health/ready", "/metrics"))
        LOG.log(
            logging.DEBUG if asked_often else logging.INFO,
            "%s %s %d %.0f ms, %s B in, %d B out",
            printable(self.scope["method"], 20), printable(self.scope["path"], 200), self.status, 1000 * seconds,
            printable(length, 20), self.bytes,
        )  # fmt: skip
