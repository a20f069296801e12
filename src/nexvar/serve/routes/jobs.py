"""Jobs over HTTP: submit, look, watch by events, fetch results, cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from nexvar.serve.errors import NotFound
from nexvar.serve.jobs import Jobs, Progress
from nexvar.serve.routes.scoring import ScoreOptions
from nexvar.serve.routes.shapes import Name, OfModel
from nexvar.serve.running import server_of
from nexvar.serve.state import Server
from nexvar.serve.store import FINAL, Job

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])
POLL = 0.25  # seconds between two looks at a job that is watched
KEEP_ALIVE = 15.0  # seconds after which a silent stream says that it lives
Format = Literal["vcf.gz", "tsv", "parquet"]


class JobOptions(ScoreOptions):
    """As those of a request, and: batch_tokens, tokens in one forward; max_ref_mismatch, the share of wrong REFs above
    which the job fails (default 0.05)."""

    batch_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    max_ref_mismatch: Annotated[float, Field(ge=0, le=1)] | None = None


class JobRequest(OfModel):
    """file: the id of an uploaded list of variants. genome: an id of this server; default: its first."""

    kind: Literal["score"] = "score"
    file: Name
    genome: Name | None = None
    options: JobOptions = JobOptions()
    outputs: Annotated[list[Format], Field(min_length=1, max_length=3)] = ["vcf.gz"]


class JobBody(BaseModel):
    """A job. done, total: alleles. rate: alleles in a second; eta: seconds. summary: lines about what was scored.

    created, started, ended: seconds since 1970. bytes: of what it keeps on the disk.
    """

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    name: str
    file: str
    genome: str
    model: str
    options: dict[str, Any]
    outputs: list[str]
    done: int
    total: int | None
    rate: float | None
    eta: float | None
    error: str | None
    summary: list[str]
    bytes: int
    created: float
    started: float | None
    ended: float | None


class JobsBody(BaseModel):
    """jobs: the newest first."""

    jobs: list[JobBody]


def _body(job: Job, progress: Progress | None) -> JobBody:
    return JobBody(
        **vars(job),
        rate=None if progress is None else progress.rate,
        eta=None if progress is None else progress.eta,
    )


def _jobs(request: Request) -> Jobs:
    return server_of(request).jobs


@router.post("", status_code=202)
def submit(request: Request, body: JobRequest, response: Response) -> JobBody:
    """Score an uploaded file, by the engine of `nexvar score`: the same bytes."""
    options = {name: value for name, value in body.options.model_dump().items() if value is not None}
    job = _jobs(request).submit(body.file, body.genome, body.model, options, list(body.outputs))
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    return _body(job, None)


@router.get("")
def newest(request: Request) -> JobsBody:
    """The last hundred jobs."""
    return JobsBody(jobs=[_body(*each) for each in _jobs(request).newest()])


@router.get("/{id}")
def one(request: Request, id: str) -> JobBody:
    """A job as it is now."""
    return _body(*_jobs(request).get(id))


@router.get(
    "/{id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 204: {"description": "it ended, and you know it"}},
)
async def events(
    request: Request, id: str, last_event_id: Annotated[str | None, Header(max_length=40)] = None
) -> Response:
    """Server-sent events, each with the job: `progress` again and again, at the end `done`, `failed` or `cancelled`."""
    server = server_of(request)
    job, _ = await run_in_threadpool(server.jobs.get, id)
    last = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() else 0
    if job.state in FINAL and last >= _moment(job):
        return Response(status_code=204)  # which tells an EventSource not to come back
    return StreamingResponse(_stream(server, id, last), media_type="text/event-stream")


def _moment(job: Job) -> int:
    """Milliseconds: of its end, or now."""
    return int(1000 * (job.ended or time.time()))


async def _stream(server: Server, id_: str, last: int) -> AsyncIterator[bytes]:
    """Ids are milliseconds, and increase. It ends with the job, or with the server: a client comes back then."""
    told, quiet = None, time.monotonic()
    while not server.draining:
        try:
            job, progress = await run_in_threadpool(server.jobs.get, id_)
        except NotFound:  # somebody deleted it
            return
        now = job.state, job.done, job.total
        if now != told:
            told, quiet, last = now, time.monotonic(), max(last + 1, _moment(job))
            event = job.state if job.state in FINAL else "progress"
            data = _body(job, progress).model_dump_json()
            yield format_sse_event(data_str=data, event=event, id=str(last))
        elif time.monotonic() - quiet > KEEP_ALIVE:
            quiet = time.monotonic()
            yield b": keep-alive\n\n"
        if job.state in FINAL:
            return
        await asyncio.sleep(POLL)


@router.get("/{id}/result/{format}", response_class=FileResponse)
def result(request: Request, id: str, format: str) -> FileResponse:
    """A result as a file: vcf.gz, vcf.gz.tbi, tsv or parquet. Ranges work."""
    path = _jobs(request).result(id, format)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.delete("/{id}", response_model=None, responses={200: {"model": JobBody}, 204: {"description": "deleted"}})
def delete(request: Request, id: str) -> JobBody | Response:
    """Cancel a job that waits or runs (200); delete one that has ended, and its results (204)."""
    jobs = _jobs(request)
    if jobs.cancel(id):
        return _body(*jobs.get(id))
    jobs.store.remove_job(id)
    return Response(status_code=204)
