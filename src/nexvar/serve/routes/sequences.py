"""POST /api/v1/embed, /likelihood, /fill."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from nexvar.serve.routes.bodies import answer
from nexvar.serve.routes.shapes import Name, Number, OfModel, Provenance, Sequences
from nexvar.serve.running import with_model
from nexvar.serve.service import sequences as service

router = APIRouter(prefix="/api/v1", tags=["sequences"])
Strand = Literal["forward", "reverse", "both"]
Pool = Literal["mean", "max", "last", "cls", "none"]


class ToEmbed(OfModel):
    """layer: a name, or several; default: the final hidden state. pool "none" (a row a token) needs format "npz"."""

    sequences: Sequences
    layer: Name | Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    pool: Pool = "mean"
    strand: Strand = "forward"
    format: Literal["json", "npz"] = "json"


class Embedded(BaseModel):
    """embeddings: layer -> a row for each sequence."""

    embeddings: dict[str, list[list[Number]]]
    provenance: Provenance


class ForLikelihood(OfModel):
    sequences: Sequences
    strand: Strand = "forward"


class PerBase(BaseModel):
    """log_probs (natural logarithm), entropies (nats): a row a strand, a value a base, null where there is none."""

    strands: list[str]
    log_probs: list[list[Number]]
    entropies: list[list[Number]]


class Likelihoods(BaseModel):
    sequences: list[PerBase]
    notes: list[str]
    provenance: Provenance


class ToFill(OfModel):
    """steps: forwards a sequence; default: one for each N, the surest first. temperature 0 takes the most probable."""

    sequences: Sequences
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1000)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0


class FilledSequence(BaseModel):
    """positions: of the former N, from 0. probabilities: of A, C, G, T at each."""

    sequence: str
    positions: list[int]
    probabilities: list[list[Number]]
    log_probs: list[Number]
    score: Number


class Filled(BaseModel):
    filled: list[FilledSequence]
    provenance: Provenance


NPZ: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}, "application/octet-stream": {}}}}


@router.post("/embed", response_model=Embedded, responses=NPZ)
async def embed(request: Request, body: ToEmbed) -> Response:
    """Hidden states of sequences, pooled; as JSON, or as an .npz of float32 arrays by layer."""
    given = (body.sequences, body.layer, body.pool, body.strand)
    if body.format == "json":
        made = await with_model(request, body.model, lambda loaded: service.embed_values(loaded, *given))
        return await answer(lambda: made)
    data = await with_model(request, body.model, lambda loaded: service.embed_npz(loaded, *given))
    named = {"Content-Disposition": 'attachment; filename="embeddings.npz"'}
    return Response(data, media_type="application/octet-stream", headers=named)


@router.post("/likelihood", response_model=Likelihoods)
async def likelihood(request: Request, body: ForLikelihood) -> Response:
    """Log-probability and entropy of every base."""
    made = await with_model(request, body.model, lambda loaded: service.likelihood(loaded, body.sequences, body.strand))
    return await answer(lambda: made)


@router.post("/fill", response_model=Filled)
async def fill(request: Request, body: ToFill) -> Response:
    """Masked models: every N replaced by the base that the model expects."""
    made = await with_model(
        request,
        body.model,
        lambda loaded: service.fill(loaded, body.sequences, body.steps, body.temperature, body.seed),
        "masked",
    )
    return await answer(lambda: made)
