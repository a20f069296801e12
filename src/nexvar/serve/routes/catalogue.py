"""GET /api/v1/server, /models, /models/{name}: what this server is and has."""

from __future__ import annotations

import torch
from fastapi import APIRouter, Request
from pydantic import BaseModel

from nexvar import __version__, cards
from nexvar.serve import limits
from nexvar.serve.errors import NotFound
from nexvar.serve.running import server_of
from nexvar.serve.service import catalogue

router = APIRouter(prefix="/api/v1", tags=["catalogue"])


class Limits(BaseModel):
    score_alleles: int = limits.SCORE_ALLELES
    saturate_bases: int = limits.SATURATE_BASES
    sequence_bases: int = limits.SEQUENCE_BASES
    sequences: int = limits.SEQUENCES
    prompts: int = limits.PROMPTS
    generate_tokens: int
    upload_bytes: int
    body_bytes: int
    seconds: float


class Queue(BaseModel):
    length: int
    busy: bool


class About(BaseModel):
    version: str
    device: str
    threads: int
    auth: bool
    online: bool = False
    taxonomy: bool
    limits: Limits
    genomes: list[str]
    models: list[str]
    queue: Queue


class Model(BaseModel):
    """A card. fits: how it fits this machine's memory, where that was asked for; None for loaded models."""

    name: str
    aliases: list[str]
    architecture: str
    parameters: int
    context: int
    window: int
    objective: str
    licence: str
    commercial: bool
    parity: str
    citation: str
    species: str | None
    notes: str
    readout: str
    readouts: list[str]
    heads: list[str]
    loaded: bool
    device: str | None
    dtype: str | None
    fits: str | None


class ModelWithLayers(Model):
    layers: list[str]
    tracks: dict[str, list[str]]


class Models(BaseModel):
    models: list[Model]


@router.get("/server")
async def server(request: Request) -> About:
    """Version, device, limits, genomes, models, and how many requests wait."""
    this = server_of(request)
    settings, loaded = this.settings, this.models.loaded
    return About(
        version=__version__,
        device=str(loaded[this.models.default].device),
        threads=torch.get_num_threads(),
        auth=settings.api_key is not None,
        taxonomy=this.taxonomy is not None,
        limits=Limits(
            generate_tokens=settings.max_tokens,
            upload_bytes=settings.max_upload,
            body_bytes=settings.max_body,
            seconds=settings.seconds,
        ),
        genomes=list(this.genomes.by_id),
        models=list(loaded),
        queue=Queue(length=this.thread.waiting, busy=this.thread.busy),
    )


@router.get("/models")
def models(request: Request, fits: bool = False) -> Models:
    """Loaded models, then all that NexVar knows. fits: also how each would fit this machine, which takes seconds."""
    rows = catalogue.models(server_of(request).models, fits=fits)
    return Models(models=[Model(**row) for row in rows])


@router.get("/models/{name}")
def model(request: Request, name: str) -> ModelWithLayers:
    """One model by name or alias; layers and tracks if it is loaded."""
    this = server_of(request).models
    if name not in this.loaded and not cards.is_known(name):
        raise NotFound(f"no model {name[:60]!r}", where="name", fix="GET /api/v1/models lists all")
    card = this.loaded[name].card if name in this.loaded else cards.get(name)
    return ModelWithLayers(**catalogue.model(this, card))
