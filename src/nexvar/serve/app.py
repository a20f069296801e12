"""The application: guard, routes, and one shape for every error."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from nexvar import __version__
from nexvar.errors import RESEARCH_ONLY, NexVarError, printable
from nexvar.serve.errors import FAULT, Malformed, body_of, headers_of, in_shape, status_of
from nexvar.serve.guard import Guard
from nexvar.serve.routes import (
    catalogue,
    features,
    files,
    generation,
    genomes,
    genos,
    health,
    jobs,
    nim,
    page,
    scoring,
    sequences,
    tracks,
    webapps,
)
from nexvar.serve.state import Server

ROUTERS = (
    page.router,
    health.router,
    catalogue.router,
    genomes.router,
    features.router,
    scoring.router,
    sequences.router,
    tracks.router,
    generation.router,
    files.router,
    jobs.router,
    nim.router,
    genos.router,
    webapps.router,
)
_UNION = re.compile(r"constrained-\w+|list\[.*\]")  # pydantic's names of what a field may also be
MOST_PROBLEMS = 20  # of one body that are told
STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 415, 416, 422, 500, 501, 503, 507)


class Problem(BaseModel):
    """One thing that is wrong with a body."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(BaseModel):
    """What comes with every status from 400 on. error: one line, ``where: what: fix``."""

    detail: str | list[Problem]
    error: str
    where: str | None = None
    fix: str | None = None


def build(server: Server, routers: Sequence[APIRouter] = ROUTERS) -> FastAPI:
    """The application around an open server; it closes the server when it ends."""
    at_mcp = _tools(server)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.jobs.start()
        async with nullcontext() if at_mcp is None else at_mcp.running():
            yield
        await run_in_threadpool(server.close)

    app = FastAPI(
        title="NexVar",
        version=__version__,
        description=f"Genomic foundation models on this machine. {RESEARCH_ONLY}",
        openapi_url="/openapi.json" if server.settings.open_docs else None,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses={status: {"model": ErrorBody} for status in STATUSES},
    )
    app.state.server = server
    for router in routers:
        app.include_router(router)
    if at_mcp is not None:
        app.router.routes.append(at_mcp.route)
    app.add_exception_handler(NexVarError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Guard, server=server)
    if origins := server.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"]
        )
    return app


def _tools(server: Server) -> Any | None:
    """What answers at /mcp; None without nexvar[mcp]."""
    try:
        from nexvar.serve import mcp
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        return None
    return mcp.OverHttp(mcp.Desk(lambda: server))


async def _error(request: Request, error: Exception) -> JSONResponse:
    if status_of(error) == FAULT:  # a Fault from the model thread: the guard writes it down
        raise error
    status = status_of(error)
    return JSONResponse(in_shape(body_of(error), status, request.url.path), status, headers_of(error))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow")
    fixes = {404: "GET /openapi.json lists the paths", 405: f"use {allowed}" if allowed else None}
    what, fix = printable(error.detail, 200), fixes.get(error.status_code)
    line = f"{what}: {fix}" if fix else what
    body = ErrorBody(detail=line, error=line, fix=fix).model_dump()
    return JSONResponse(in_shape(body, error.status_code, request.url.path), error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What pydantic found, without what was sent: FastAPI's own answer holds the body once more."""
    assert isinstance(error, RequestValidationError)
    found = [
        Problem(
            loc=[_place(part) for part in each["loc"] if not _UNION.fullmatch(str(part))],
            msg=printable(each["msg"].removeprefix("Value error, "), 200),
            type=each["type"],
        )
        for each in error.errors()[:MOST_PROBLEMS]
    ]
    first = found[0]
    where = ".".join(map(str, first.loc[1:])) or "body"
    fixes = {"missing": "add it", "extra_forbidden": "there is no such field: remove it"}
    said = Malformed(first.msg, where=where, fix=fixes.get(first.type))
    body = ErrorBody(detail=found, error=str(said), where=where, fix=fixes.get(first.type, first.msg))
    return JSONResponse(in_shape(body.model_dump(), 422, request.url.path), 422)


def _place(part: str | int) -> str | int:
    return part if isinstance(part, int) else printable(part, 60)
