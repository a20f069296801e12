"""Genos, as its hosted API (/api/aigateway/genos/…) and its own server (/extract, /predict) answer (docs/serving.md).

The hosted paths answer ``{"result", "status", "message"}``. Nothing is made up: a variant is called benign or
pathogenic only by a calibration that the operator gave, and tracks come from a model that has them; else 501.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from nexvar.errors import RESEARCH_ONLY
from nexvar.genome.reference import Variant
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.core.sequences import clean, encoding
from nexvar.inference.embed import embed
from nexvar.inference.options import Options
from nexvar.inference.tracks import track_names
from nexvar.serve.errors import Conflict, NotAvailable, NotFound, ServeError
from nexvar.serve.judges import Judges
from nexvar.serve.models import Models
from nexvar.serve.routes.bodies import Whole, answer
from nexvar.serve.running import server_of, with_model
from nexvar.serve.service import tracks
from nexvar.serve.service.assemblies import contig_of, genome_of
from nexvar.serve.service.drawing import drawn
from nexvar.serve.service.score import by_strand, score
from nexvar.serve.state import Server
from nexvar.weights.load import Loaded

PATH = "/api/aigateway/genos"
MODELS = {"Genos-1.2B": "genos_1.2b", "1.2B": "genos_1.2b", "Genos-10B": "genos_10b", "10B": "genos_10b"}
MOST_BASES = 128_000
MOST_NUMBERS = 4_000_000  # of an answer: about 80 MB of JSON
TRACK_BASES = 32_000
MOST_TRACKS = 16  # that are sent without being named
router = APIRouter(tags=["Genos"])

Bases = Annotated[str, Field(min_length=1, max_length=MOST_BASES)]
Allele = Annotated[str, Field(pattern="^[ACGTNacgtn]+$", max_length=10_000)]
Chromosome = Annotated[str, Field(min_length=1, max_length=100)]
ModelName = Annotated[str, Field(min_length=1, max_length=100)]
Pooling = Literal["mean", "max", "last", "none"]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class VariantRequest(Asked):
    """pos: 1-based."""

    assembly: Literal["hg38", "hg19"]
    chrom: Chromosome
    pos: Annotated[Whole, Field(ge=1, lt=1 << 40)]
    ref: Allele
    alt: Allele


class EmbeddingRequest(Asked):
    sequence: Bases
    model_name: ModelName = "Genos-1.2B"
    pooling_method: Pooling = "mean"


class TrackRequest(Asked):
    """start_pos: 1-based; 32,000 bases from there."""

    chrom: Chromosome
    start_pos: Annotated[Whole, Field(ge=1, lt=1 << 40)]


class PredictRequest(Asked):
    sequence: Bases
    model_name: ModelName = "Genos-1.2B"
    predict_length: Annotated[Whole, Field(ge=1, le=1000)] = 10


class Envelope(BaseModel):
    result: dict[str, Any]
    status: int = 200
    message: str | None = None


class Success(BaseModel):
    """What Genos' own server answers."""

    success: bool
    message: str
    result: dict[str, Any]


class Health(BaseModel):
    status: Literal["healthy"] = "healthy"


@router.get(f"{PATH}/health")
async def health() -> Health:
    """What the client's HealthAPI asks."""
    return Health()


@router.post(f"{PATH}/variant_predict")
async def variant_predict(request: Request, asked: VariantRequest) -> Envelope:
    """Benign or pathogenic, by the operator's calibration; 501 without one, and for what it does not speak of."""
    server = server_of(request)
    judges = _judges(server)
    genome = genome_of(server.genomes, asked.assembly, asked.chrom)
    judge = judges.of(genome)
    variant = Variant(asked.chrom, asked.pos - 1, asked.ref.upper(), (asked.alt.upper(),))
    made = await with_model(
        request, judges.model, lambda loaded: score(loaded, genome.fasta, [variant], Options(), judge)
    )
    server.metrics.add("alleles")
    (row,) = made["rows"]
    if by_strand(row)[0] is None:
        raise ServeError(f"{row['status']}: {row['detail'] or 'no score'}", where="variant", fix="another variant")
    verdict = judges.verdict(row)
    if verdict is None:
        raise NotAvailable(f"the calibration does not speak of {variant}"[:200], where="variant")
    result = {
        "variant": f"{asked.chrom}-{asked.pos}-{asked.ref.upper()}-{asked.alt.upper()}",
        "prediction": verdict.prediction.capitalize(),
        "score_Benign": 1 - verdict.probability,
        "score_Pathogenic": verdict.probability,
        "evidence_points": verdict.points,
        "llr": by_strand(row)[0],
        "status": row["status"],
        "calibration": judges.told(),
        "note": RESEARCH_ONLY,
    }
    return Envelope(result=result)


def _judges(server: Server) -> Judges:
    """The calibration, if there is one and its classes are those of Genos; NotAvailable."""
    instead = "POST /api/v1/score gives the score itself"
    if server.judges is None:
        fix = f"make one with `nexvar calibrate` and start the server with --calibration FILE; {instead}"
        raise NotAvailable("no calibration is configured: a probability would be made up", fix=fix)
    if not server.judges.clinical:
        classes = " and ".join(server.judges.calibration.classes)[:100]
        raise NotAvailable(f"the calibration is of {classes}, not of pathogenic and benign", fix=instead)
    return server.judges


@router.post(f"{PATH}/embedding", responses={200: {"model": Envelope}})
async def embedding(request: Request, asked: EmbeddingRequest) -> Response:
    """The last hidden state of a sequence, pooled."""
    result = await _embedded(request, asked)
    return await answer(lambda: {"result": _lists(result), "status": 200, "message": None})


@router.post("/extract", responses={200: {"model": Success}})
async def extract(request: Request, asked: EmbeddingRequest) -> Response:
    """``embedding``, as Genos' own server answers it."""
    result = await _embedded(request, asked)
    return await answer(lambda: {"success": True, "message": "embedding extracted", "result": _lists(result)})


async def _embedded(request: Request, asked: EmbeddingRequest) -> dict[str, Any]:
    name = _find(server_of(request).models, asked.model_name)
    return await with_model(request, name, lambda loaded: embedded(loaded, asked))


def embedded(loaded: Loaded, asked: EmbeddingRequest) -> dict[str, Any]:
    """The result, with its ``embedding`` still a tensor: (1, D), or (1, T, D) with the pooling "none"."""
    text = clean(loaded, asked.sequence, "sequence")
    tokens = len(encoding(loaded, text).ids)
    width = loaded.module.config.width
    if asked.pooling_method == "none" and tokens * width > MOST_NUMBERS:
        fix = f"at most {MOST_NUMBERS // width:,} tokens, or POST /api/v1/embed with format npz"
        what = f"{tokens:,} tokens of {width:,} numbers each are too many for JSON"
        raise ServeError(what, where="pooling_method", fix=fix)
    made: Any = embed(loaded, [text], pool=asked.pooling_method)
    values = made[0][None] if asked.pooling_method == "none" else made
    return {
        "sequence": asked.sequence,
        "sequence_length": len(text),
        "token_count": tokens,
        "embedding_shape": list(values.shape),
        "embedding_dim": values.shape[-1],
        "pooling_method": asked.pooling_method,
        "model_type": loaded.card.name,
        "device": str(loaded.device),
        "embedding": values,
    }


def _lists(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "embedding": result["embedding"].tolist()}


@router.post("/predict")
async def predict(request: Request, asked: PredictRequest) -> Success:
    """The most likely next bases, one after the other, as Genos' own server answers."""
    server = server_of(request)
    name = _find(server.models, asked.model_name)
    greedy = Sampling(asked.predict_length, top_k=1, alphabet="ACGT")
    bases = await with_model(request, name, lambda loaded: drawn(loaded, asked.sequence, greedy).text)
    server.metrics.add("tokens", len(bases))
    whole = asked.sequence + bases
    result = {
        "original_sequence": asked.sequence,
        "predicted_sequence": whole,
        "predicted_bases": bases,
        "predict_length": len(bases),
        "total_length": len(whole),
    }
    return Success(success=True, message="bases predicted", result=result)


@router.post(f"{PATH}/rna_seq_coverage_track", responses={200: {"model": Envelope}})
async def rna_seq_coverage_track(request: Request, asked: TrackRequest) -> Response:
    """Tracks of 32,000 bases of hg38, a number for each base."""
    server = server_of(request)
    name, wanted = _with_tracks(server)
    genome = genome_of(server.genomes, "hg38", asked.chrom)
    contig = contig_of(genome, asked.chrom, "chrom")
    start, end = asked.start_pos - 1, asked.start_pos - 1 + TRACK_BASES
    last = genome.fasta.span(contig)[1]
    if end > last:
        fix = f"at most {last - TRACK_BASES + 1:,}" if last >= TRACK_BASES else "a longer chromosome"
        raise ServeError(f"{asked.chrom} has {last:,} bases", where="start_pos", fix=fix)

    made = await with_model(
        request, name, lambda loaded: tracks.predict(loaded, genome.fasta, contig, start, end, wanted)
    )

    def enveloped() -> dict[str, Any]:
        result = {
            "position": [asked.chrom, asked.start_pos, asked.start_pos + TRACK_BASES],
            "sequence": genome.fasta.fetch(contig, start, end),
            "values": {
                track: {"value": values_L.tolist()}
                for track, values_L in zip(made.names, made.by_base(start, end), strict=True)
            },
        }
        return {"result": result, "status": 200, "message": None}

    return await answer(enveloped)


def _with_tracks(server: Server) -> tuple[str, list[str] | None]:
    """A loaded model that predicts tracks, and which of them are sent (None: all); NotAvailable."""
    name = tracks.model_with_tracks(server.models)
    chosen = list(server.settings.genos_tracks) or None
    known = track_names(server.models.loaded[name])
    count = len(known.get("human", known.get("", ())))
    if chosen is None and not 0 < count <= MOST_TRACKS:
        what = f"{name} has {count:,} human tracks and none was chosen"
        raise NotAvailable(what, where="rna_seq_coverage_track", fix="start the server with --genos-track NAME")
    return name, chosen


def _find(models: Models, name: str) -> str:
    """The card's name of a model that Genos calls so; bad input if it is not loaded."""
    try:
        return models.find(MODELS.get(name, name))
    except (NotFound, Conflict) as error:
        raise ServeError(error.what, where="model_name", fix=error.fix) from error
