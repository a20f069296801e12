"""Uploaded files: the body is the file itself, and never in memory as a whole."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from nexvar.serve.errors import Cancelled, TooSlow
from nexvar.serve.running import server_of
from nexvar.serve.store import StoredFile
from nexvar.serve.uploads import Upload

router = APIRouter(prefix="/api/v1/files", tags=["files"])
BLOCK = 1 << 20  # bytes that are collected before the disk is asked
SILENCE = 60.0  # seconds without a byte after which an upload is given up
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class FileBody(BaseModel):
    """An uploaded file. kind: vcf, bcf, fasta, list (of variants) or text."""

    id: str
    name: str
    bytes: int
    sha256: str
    kind: str


def _body(file: StoredFile) -> FileBody:
    return FileBody(id=file.id, name=file.name, bytes=file.bytes, sha256=file.sha256, kind=file.kind)


@router.post("", status_code=201, openapi_extra=BODY)
async def upload(request: Request, x_filename: Annotated[str | None, Header(max_length=1000)] = None) -> FileBody:
    """Keep the body as a file; the ending of X-Filename tells lists of variants apart."""
    server = server_of(request)
    upload = await run_in_threadpool(Upload, server.store, x_filename, server.settings.max_upload)
    try:
        chunks, collected = aiter(request.stream()), bytearray()
        while True:
            chunk = await asyncio.wait_for(anext(chunks, None), SILENCE)
            if chunk:
                collected += chunk
            if collected and (chunk is None or len(collected) >= BLOCK):
                await run_in_threadpool(upload.write, bytes(collected))
                collected.clear()
            if chunk is None:
                return _body(await run_in_threadpool(upload.keep))
    except ClientDisconnect:
        raise Cancelled("the client left") from None
    except (TimeoutError, asyncio.TimeoutError):
        raise TooSlow(f"nothing came for {SILENCE:g} s", where="body") from None
    finally:
        await run_in_threadpool(upload.close)


@router.get("/{id}")
def one(request: Request, id: str) -> FileBody:
    """What is known of a file."""
    return _body(server_of(request).store.file(id))


@router.delete("/{id}", status_code=204)
def delete(request: Request, id: str) -> Response:
    """Delete it; 409 while a job needs it."""
    server_of(request).store.remove_file(id)
    return Response(status_code=204)
