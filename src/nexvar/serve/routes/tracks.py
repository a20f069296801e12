"""POST /api/v1/tracks: tracks along a region, by models that predict them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from nexvar.errors import RESEARCH_ONLY, NexVarError
from nexvar.genome.bed import parse_region
from nexvar.inference.tracks import track_predictor
from nexvar.serve import limits
from nexvar.serve.routes.bodies import answer
from nexvar.serve.routes.shapes import Name, OfModel, Provenance, Region
from nexvar.serve.running import server_of, with_model
from nexvar.serve.service import tracks as service
from nexvar.serve.service.provenance import provenance
from nexvar.weights.load import Loaded

router = APIRouter(prefix="/api/v1", tags=["tracks"])


class ToTrack(OfModel):
    """region: such as ``chr1:1,000-2,000`` (1-based, inclusive). species: of models that
    know some; default: human. names: which tracks, or patterns such as ``RNA*``; default: all, if few."""

    genome: Name | None = None
    region: Annotated[str, Field(min_length=1, max_length=300)]
    species: Name | None = None
    names: Annotated[list[Name], Field(min_length=1, max_length=10_000)] | None = None


class Track(BaseModel):
    """values: a number for every ``step`` bases from ``start`` (0-based) on, to the end of the last bin."""

    name: str
    start: int
    step: int
    values: list[float]


class Tracks(Region):
    tracks: list[Track]
    notes: list[str]
    provenance: Provenance


@router.post("/tracks", response_model=Tracks)
async def tracks(request: Request, body: ToTrack) -> Response:
    """The tracks of a species along a region; 501 where no loaded model has any."""
    server = server_of(request)
    fasta = server.genomes.get(body.genome).fasta
    place = parse_region(body.region, fasta)
    model = body.model or service.model_with_tracks(server.models)

    def verb(loaded: Loaded) -> dict[str, Any]:
        names = track_predictor(loaded, body.species, body.names).names
        if len(names) * len(place) > limits.TRACK_VALUES:
            fix = f"fewer names, or fewer bases: at most {limits.TRACK_VALUES:,} values at once"
            raise NexVarError(f"{len(names):,} tracks of {len(place):,} bases", where="region", fix=fix)
        made = service.predict(loaded, fasta, place.chrom, place.start, place.end, names, body.species)
        return {
            "contig": place.chrom,
            "start": place.start,
            "end": place.end,
            "tracks": [
                {"name": name, "start": made.start, "step": made.resolution, "values": values_N.tolist()}
                for name, values_N in zip(made.names, made.values_KN, strict=True)
            ],
            "notes": [RESEARCH_ONLY],
            "provenance": provenance(loaded, "tracks", strand=service.STRAND, species=body.species),
        }

    made = await with_model(request, model, verb)
    return await answer(lambda: made)
