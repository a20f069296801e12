"""Is it alive, is it ready, how busy is it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from nexvar.serve.errors import Busy
from nexvar.serve.running import server_of

router = APIRouter(tags=["health"])


class Live(BaseModel):
    status: Literal["live"] = "live"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"


@router.get("/v1/health/live")
async def live() -> Live:
    """200 as long as the process answers."""
    return Live()


@router.get("/v1/health/ready")
async def ready(request: Request) -> Ready:
    """200 when models are loaded; 503 while the server drains."""
    if server_of(request).draining:
        raise Busy("the server is stopping", retry_after=10)
    return Ready()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@router.get("/v1/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Counts for Prometheus; no sequence, variant or file name is in them."""
    server = server_of(request)
    now: list[tuple[str, dict[str, str], float]] = [
        ("queue_length", {}, server.thread.waiting),
        ("busy", {}, server.thread.busy),
    ]
    now += [("jobs", {"state": state}, float(count)) for state, count in server.store.counts().items()]
    models = list(server.models.loaded.values())
    now += [("model_info", {"name": each.card.name, "device": str(each.device)}, 1.0) for each in models]
    text = server.metrics.text(now)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
