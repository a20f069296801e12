"""The one endpoint that the variant-analysis web pages around Evo 2 call; one variable of theirs leads here.

They would show a verdict. Ours is "Not classified", unless the operator gave a calibration for this model and genome.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from nexvar.genome.reference import Variant
from nexvar.inference.options import Options
from nexvar.serve.errors import ServeError
from nexvar.serve.genomes import Genome
from nexvar.serve.routes.bodies import Whole
from nexvar.serve.running import server_of, with_model
from nexvar.serve.service.assemblies import contig_of, genome_of
from nexvar.serve.service.score import by_strand, score

PATH = "/api/compat/analyze_single_variant"
NOT_CLASSIFIED = "Not classified"
router = APIRouter(tags=["web apps"])

Allele = Annotated[str, Field(pattern="^[ACGTacgt]+$", max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class VariantRequest(BaseModel):
    """The first of two names is of the original pages, the other of a later one. The position is 1-based."""

    model_config = ConfigDict(extra="forbid")

    position: Annotated[
        Whole, Field(ge=1, lt=1 << 40, validation_alias=AliasChoices("variant_position", "position_1based"))
    ]
    alternative: Annotated[Allele, Field(validation_alias=AliasChoices("alternative", "alternate"))]
    genome: Annotated[Name, Field(validation_alias=AliasChoices("genome", "assembly"))]
    chromosome: Name
    reference: Allele | None = None
    orientation: Literal["both", "forward", "reverse"] = "both"


class VariantAnswer(BaseModel):
    """delta_score: the model's score, below 0 where it finds the reference likelier; mean of the strands, or of one.

    prediction, classification_confidence: the likelier class of the operator's calibration and its probability; without
    a calibration, and for what it does not speak of, "Not classified" and 0.
    """

    position: int
    reference: str
    alternative: str
    delta_score: float
    prediction: str
    classification_confidence: float
    status: str
    model: str


@router.post(PATH)
@router.post(f"{PATH}/score/variant", include_in_schema=False)
async def analyze_single_variant(request: Request, asked: VariantRequest) -> VariantAnswer:
    """The score of one variant."""
    server = server_of(request)
    genome = genome_of(server.genomes, asked.genome, asked.chromosome)
    variant = variant_of(genome, asked)
    judges = server.judges
    judge = None if judges is None else judges.by_genome.get(genome.id)
    model = None if judges is None or judge is None else judges.model
    made = await with_model(request, model, lambda loaded: score(loaded, genome.fasta, [variant], Options(), judge))
    server.metrics.add("alleles")
    (row,) = made["rows"]
    verdict = judges.verdict(row) if judges is not None and asked.orientation == "both" else None
    return VariantAnswer(
        position=asked.position,
        reference=variant.ref,
        alternative=variant.alts[0],
        delta_score=_score(row, asked.orientation),
        prediction=NOT_CLASSIFIED if verdict is None else verdict.prediction.capitalize(),
        classification_confidence=0.0 if verdict is None else max(verdict.probability, 1 - verdict.probability),
        status=row["status"],
        model=made["provenance"]["model"],
    )


def variant_of(genome: Genome, asked: VariantRequest) -> Variant:
    """The variant, with the genome's base as reference where none was given; ServeError for an unknown place."""
    contig = contig_of(genome, asked.chromosome, "chromosome")
    pos0 = asked.position - 1
    low, high = genome.fasta.span(contig, pos0)
    if not low <= pos0 < high:
        fix = f"from {low + 1} to {high}"
        raise ServeError(f"{asked.chromosome[:40]} has no position {asked.position}", where="position", fix=fix)
    reference = asked.reference or genome.fasta.fetch(contig, pos0, pos0 + 1)
    return Variant(asked.chromosome, pos0, reference.upper(), (asked.alternative.upper(),))


def _score(row: dict[str, Any], orientation: str) -> float:
    """The score of a row; ServeError with its status where it has none."""
    value = dict(zip(("both", "forward", "reverse"), by_strand(row), strict=True))[orientation]
    if value is None:
        what = f"{row['status']}: {row['detail'] or 'no score'}"
        raise ServeError(what, where="variant", fix="another allele or position")
    return value
