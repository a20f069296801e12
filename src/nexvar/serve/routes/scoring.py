"""POST /api/v1/score, /saturate, /score-sequences."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from nexvar.inference.options import Options
from nexvar.serve.routes.bodies import answer
from nexvar.serve.routes.shapes import Body, Name, Number, OfModel, Provenance, Region, Sequences
from nexvar.serve.running import server_of, with_model
from nexvar.serve.service import score as service

router = APIRouter(prefix="/api/v1", tags=["scores"])
Strand = Literal["both", "forward"]
Windowing = Literal["centred", "tiled", "anchored"]
Reduce = Literal["mean", "sum", "none", "pll"]
Most = Annotated[int, Field(ge=0, le=10_000_000)]


class ScoreOptions(Body):
    """As the options of ``nexvar score``; what is left out is the protocol's choice, or the model's own."""

    protocol: Name | None = None
    window: Most | None = None
    left: Most | None = None
    windowing: Windowing | None = None
    stride: Most | None = None
    readouts: Annotated[list[Name], Field(min_length=1, max_length=12)] | None = None
    strand: Strand | None = None
    layer: Name | None = None
    pool: Name | None = None
    begin: bool | None = None
    span: Most | None = None

    def made(self) -> Options:
        given = self.model_dump()
        readouts = given.pop("readouts")
        return Options(**given, readouts=None if readouts is None else tuple(readouts), max_ref_mismatch=1.0)


class ToScore(OfModel):
    """genome: an id of this server; default: its first. variants: such as ``chrM:3243A>G``, HGVS or SPDI."""

    genome: Name | None = None
    variants: Annotated[list[Annotated[str, Field(max_length=20_000)]], Field(min_length=1, max_length=10_000)]
    options: ScoreOptions = ScoreOptions()


class Row(BaseModel):
    """One allele. record, allele: index of its variant and ALT, from 0; pos: 1-based; window: 0-based half-open.

    llr is the score, lower is less likely; llr_fwd, llr_rev each strand's; extra: other readouts by column. Without a
    score, status says why.
    """

    record: int
    line_no: int
    allele: int
    chrom: str
    pos: int
    id: str
    ref: str
    alt: str
    status: str
    llr: Number
    llr_fwd: Number
    llr_rev: Number
    contig: str
    rule: str
    window_start: int | None
    window_end: int | None
    n_fraction: Number
    detail: str
    extra: dict[str, Number]


class Scores(BaseModel):
    rows: list[Row]
    summary: list[str]
    notes: list[str]
    provenance: Provenance


class ToSaturate(OfModel):
    """region: such as ``chrM:3,230-3,304`` (1-based, inclusive).

    windowing: ``tiled`` is fast, and another score than /score gives: by ``site``, of masked models ``unmasked_llr``.
    With ``anchored`` and ``centred`` the readout is the model's own. readout: in place of these.
    """

    genome: Name | None = None
    region: Annotated[str, Field(min_length=1, max_length=300)]
    readout: Name | None = None
    windowing: Windowing = "tiled"


class Saturated(Region):
    """scores, percentiles: for each base those of A, C, G, T; null at REF. basis: what the percentiles rest on."""

    ref: str
    readout: str
    scores: list[list[Number]]
    percentiles: list[list[Number]]
    basis: str
    notes: list[str]
    provenance: Provenance


class SequencesToScore(OfModel):
    """reduce: mean or sum over the tokens; none: of every base; pll: masked models' pseudo-log-likelihood."""

    sequences: Sequences
    reduce: Reduce = "mean"
    both_strands: bool = False


class SequenceScores(BaseModel):
    scores: list[Number] | list[list[Number]]
    notes: list[str]
    provenance: Provenance


@router.post("/score", response_model=Scores)
async def score(request: Request, body: ToScore) -> Response:
    """Variants -> a row each, as ``nexvar score`` does; every one has a score or a status that says why not."""
    fasta, options = server_of(request).genomes.get(body.genome).fasta, body.options.made()
    made = await with_model(request, body.model, lambda loaded: service.score(loaded, fasta, body.variants, options))
    server_of(request).metrics.add("alleles", len(made["rows"]))
    return await answer(lambda: made)


@router.post("/saturate", response_model=Saturated)
async def saturate(request: Request, body: ToSaturate) -> Response:
    """Every SNV of a region by one readout, with percentiles among them."""
    fasta = server_of(request).genomes.get(body.genome).fasta
    made = await with_model(
        request, body.model, lambda loaded: service.saturate(loaded, fasta, body.region, body.readout, body.windowing)
    )
    server_of(request).metrics.add("alleles", 3 * len(made["ref"]))
    return await answer(lambda: made)


@router.post("/score-sequences", response_model=SequenceScores)
async def score_sequences(request: Request, body: SequencesToScore) -> Response:
    """Log-likelihoods of sequences, natural logarithm."""
    objective = "masked" if body.reduce == "pll" else "causal" if body.reduce in ("mean", "sum") else None
    made = await with_model(
        request,
        body.model,
        lambda loaded: service.score_sequences(loaded, body.sequences, body.reduce, body.both_strands),
        objective,
    )
    return await answer(lambda: made)
