"""POST /api/v1/generate: JSON, or tokens as server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from nexvar.doors import explain
from nexvar.inference.core.sampling import Sampling
from nexvar.serve.errors import FAULT, body_of, status_of
from nexvar.serve.routes.bodies import answer
from nexvar.serve.routes.shapes import Body, Name, Number, OfModel, Provenance
from nexvar.serve.running import Emit, run, server_of, stream
from nexvar.serve.service import generate as service
from nexvar.serve.worker import Ticket

router = APIRouter(prefix="/api/v1", tags=["generation"])
DEFAULT_TOKENS = 100
LOG = logging.getLogger("nexvar.serve")
EVENTS = "text/event-stream"
Event = tuple[str, Any]  # its name, its data


class Tag(Body):
    """A phylogenetic tag before every prompt: of a species in the server's taxonomy (--taxonomy), or of a lineage."""

    species: Name | int | None = None
    lineage: Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=20)] | None = None


class ToGenerate(OfModel):
    """As ``NexVar.generate``. n_tokens: default 100. alphabet: "auto" draws A, C, G and T, null every token.

    seed: null draws one. stop: texts and token ids that end a sequence.
    """

    prompts: Annotated[list[Annotated[str, Field(max_length=4_000_000)]], Field(min_length=1, max_length=1000)]
    n_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 4
    top_p: float = 1.0
    seed: int | None = None
    alphabet: Annotated[str, Field(min_length=1, max_length=200)] | None = "auto"
    stop: Annotated[list[Annotated[str, Field(max_length=1000)] | int], Field(max_length=16)] = []
    tag: Tag | None = None


class Generated(BaseModel):
    """sequences: the new text alone. logprobs: of each new token. stopped: what ended each; null: n_tokens.

    left_out: tokens of each that are no text. seed: gives the same again.
    """

    sequences: list[str]
    logprobs: list[list[Number]]
    stopped: list[str | int | None]
    left_out: list[int]
    seed: int
    provenance: Provenance


@router.post("/generate", response_model=Generated, responses={200: {"content": {"application/json": {}, EVENTS: {}}}})
async def generate(request: Request, body: ToGenerate) -> Response:
    """New sequences after prompts. With ``Accept: text/event-stream`` events: ``token`` {prompt, text, token_id,
    logprob} for each, then ``done`` with the whole answer, or ``failed`` with an error."""
    server = server_of(request)
    tag = body.tag or Tag()
    most = server.settings.max_tokens
    n_tokens = min(DEFAULT_TOKENS, most) if body.n_tokens is None else body.n_tokens
    ask = service.Ask(
        service.tagged(body.prompts, tag.species, tag.lineage, server.taxonomy),
        Sampling(n_tokens, body.temperature, body.top_k, body.top_p, body.alphabet, tuple(body.stop)),
        body.seed,
    )
    found = server.models.find(body.model, "causal")

    def made(ticket: Ticket, emit: Emit[Event] | None = None) -> dict[str, Any]:
        def drawn(token: dict[str, Any]) -> None:
            ticket.check()  # decoding by recorded steps calls no module
            if emit is not None:
                emit(("token", token))

        with server.models.using(found, ticket) as loaded:
            whole = service.generate(loaded, ask, most_tokens=most, emit=drawn)
        server.metrics.add("tokens", sum(map(len, whole["logprobs"])))
        return whole

    if EVENTS not in request.headers.get("accept", ""):
        whole = await run(request, made)
        return await answer(lambda: whole)

    def told(ticket: Ticket, emit: Emit[Event]) -> None:
        emit(("done", made(ticket, emit)))

    events = await stream(request, told)
    first = await anext(events)  # what is wrong with the body is a status, not an event
    return StreamingResponse(_written(first, events), media_type=EVENTS, headers={"X-Accel-Buffering": "no"})


async def _written(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[str]:
    try:
        yield _event(*first)
        async for event in events:
            yield _event(*event)
    except Exception as error:
        if status_of(error) == FAULT:
            LOG.error("%s", explain(error))
        yield _event("failed", body_of(error))


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
