"""The page: its files are read once and found by name, so that no path of a request is ever opened."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from nexvar.serve.errors import NotFound

WEB = Path(__file__).parents[1] / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".md": "text/plain; charset=utf-8",
    ".LICENSE": "text/plain; charset=utf-8",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class PageFile:
    """body: compressed where ``gzipped``. etag: of its contents, so that a browser asks again and gets 304."""

    body: bytes
    type: str
    gzipped: bool
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """Everything below ``web/``, by its path there; ``x.js.gz`` is ``x.js``, compressed."""
    found = {}
    for path in sorted(WEB.rglob("*")):
        gzipped = path.suffix == ".gz"
        name = path.with_suffix("") if gzipped else path
        if name.suffix in TYPES:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
            found[name.relative_to(WEB).as_posix()] = PageFile(body, TYPES[name.suffix], gzipped, etag)
    return found


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return answer(request, "index.html")


@router.get("/web/{path:path}")
async def file(request: Request, path: str) -> Response:
    """One of its files."""
    return answer(request, path)


def answer(request: Request, path: str) -> Response:
    """A file, or 304 where the browser has it already; NotFound."""
    found = page_files().get(path)
    if found is None:
        raise NotFound("there is no such file of the page", where="path", fix="begin at /")
    headers = {"ETag": found.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = found.body
    if found.gzipped and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    elif found.gzipped:
        body = gzip.decompress(body)
    return Response(body, media_type=found.type, headers=headers)
