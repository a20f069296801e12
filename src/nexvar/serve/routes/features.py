"""GET /api/v1/genomes/{genome}/search, /features, /tracks/{name}: what a browser of genomes asks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from nexvar.errors import NexVarError
from nexvar.genome.bed import parse_region
from nexvar.serve.errors import NotFound
from nexvar.serve.running import server_of
from nexvar.serve.service import features, finding

router = APIRouter(prefix="/api/v1/genomes", tags=["genomes"])
MOST_HITS = 20
Text = Annotated[str, Query(min_length=1, max_length=1000)]


class Hit(BaseModel):
    """A place with a name, 0-based half-open. ref, alt: of a variant."""

    kind: Literal["variant", "region", "gene"]
    name: str
    contig: str
    start: int
    end: int
    strand: str
    ref: str | None
    alt: str | None


class Found(BaseModel):
    """near: the gene symbols most like what was asked for, where nothing was found."""

    results: list[Hit]
    near: list[str]


class GeneFeature(BaseModel):
    """A gene, transcript or part of one; phase 0, 1, 2 or null; tags by commas."""

    contig: str
    start: int
    end: int
    strand: str
    kind: str
    name: str
    id: str
    parent: str
    phase: int | None
    type: str
    description: str
    tags: str


class KnownAllele(BaseModel):
    """A labelled allele, on the plus strand. pos: 1-based. label: the file's words. stars: null without a status."""

    contig: str
    start: int
    end: int
    pos: int
    ref: str
    alt: str
    id: str
    label: str
    group: Literal["pathogenic", "benign", "uncertain", "conflicting", "other"]
    stars: int | None
    review: str
    genes: list[str]
    consequence: str
    source: str


class Value(BaseModel):
    """The mean of a track over [start, end)."""

    contig: str
    start: int
    end: int
    value: float


class Features(BaseModel):
    features: list[GeneFeature] | list[KnownAllele] | list[Value]


@router.get("/{genome}/search")
def search(request: Request, genome: str, q: Text) -> Found:
    """Genes by symbol, ID or description; a region (1-based) or contig; a variant, as `nexvar score` takes it."""
    return Found(**finding.search(server_of(request).genomes.get(genome), q, MOST_HITS))


@router.get("/{genome}/features")
def in_region(
    request: Request,
    genome: str,
    set: Literal["genes", "known", "track"],
    region: Text | None = None,
    contig: Text | None = None,
    start: float | None = None,
    end: float | None = None,
    name: Text | None = None,
) -> Features:
    """What overlaps `region` (1-based), or [`start`, `end`) of `contig` (0-based, fractions too). name: of a track."""
    this = server_of(request).genomes.get(genome)
    if region is not None and (contig, start, end) == (None, None, None):
        place = parse_region(region, this.fasta)
    elif region is None and contig is not None and start is not None and end is not None:
        place = features.stretch(this.fasta, contig, start, end)
    else:
        raise NexVarError("no place, or two", where="region", fix="give region, or contig, start and end")
    return Features.model_validate({"features": features.features(this, set, place, name)})


@router.get("/{genome}/tracks/{name}")
def track(request: Request, genome: str, name: str) -> FileResponse:
    """A track's bigWig, whole or by Range."""
    tracks = server_of(request).genomes.get(genome).tracks
    if name not in tracks:
        raise NotFound(f"no track {name[:40]!r}", where="name", fix=f"it has {', '.join(tracks) or 'none'}")
    return FileResponse(tracks[name].path, media_type="application/octet-stream")
