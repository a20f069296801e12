"""GET /api/v1/genomes and what lies on them: bases, names, features."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from nexvar.serve import limits
from nexvar.serve.routes.shapes import Region
from nexvar.serve.running import server_of
from nexvar.serve.service import catalogue, places

router = APIRouter(prefix="/api/v1/genomes", tags=["genomes"])
RegionText = Annotated[str, Query(min_length=1, max_length=300, description="chrM:3,230-3,304 (1-based) or a contig")]


class Contig(BaseModel):
    name: str
    length: int
    circular: bool


class GenomeAbout(BaseModel):
    id: str
    contigs: list[Contig]
    genes: bool
    known: bool
    tracks: list[str]


class Genomes(BaseModel):
    genomes: list[GenomeAbout]


class Bases(Region):
    sequence: str


@router.get("")
def genomes(request: Request) -> Genomes:
    """Every genome of this server; the first is the default."""
    every = server_of(request).genomes.by_id.values()
    return Genomes(genomes=[GenomeAbout(**catalogue.genome(each)) for each in every])


@router.get("/{genome}/sequence")
def sequence(request: Request, genome: str, region: RegionText) -> Bases:
    """The bases of a region, upper-case, on the forward strand."""
    fasta = server_of(request).genomes.get(genome).fasta
    return Bases(**places.bases(fasta, region, limits.SEQUENCE_BASES))
