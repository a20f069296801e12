"""What an assistant may ask of a server (mcp.py): small answers with a structure, no tensors; arrays go to files."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from nexvar.errors import NexVarError, printable
from nexvar.files import replacing
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Interval
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.options import Options
from nexvar.serve.errors import ServeError
from nexvar.serve.service import catalogue, finding, sequences
from nexvar.serve.service import generate as generation
from nexvar.serve.service import score as scoring
from nexvar.serve.state import Server
from nexvar.serve.store import DONE
from nexvar.serve.uploads import Upload
from nexvar.weights.load import Loaded

FORMATS = ("vcf.gz", "tsv")
HITS = 10  # of a search, and on either end of a saturation
MOST_VARIANTS, MOST_BASES, MOST_SEQUENCES, MOST_TOKENS = 50, 200, 50, 2000
NOT_FOR_HARM = "Not for designing, reconstructing or enhancing a pathogen or a toxin. New sequences are hypotheses."
Row = dict[str, Any]


class ModelLine(BaseModel):
    name: str
    architecture: str
    parameters: int
    context: int
    objective: str
    readout: str
    species: str | None
    licence: str


class Listed(BaseModel):
    """models: loaded, the first is the default; others: known by name, to be named when the server is started."""

    models: list[ModelLine]
    genomes: list[str]
    others: list[str]


class Place(BaseModel):
    """region: 1-based, inclusive, as other tools take it."""

    kind: str
    name: str
    region: str
    strand: str


class Found(BaseModel):
    places: list[Place]
    near: list[str]


class VariantScore(BaseModel):
    """score: the mean of both strands; None where status is not OK or EDGE."""

    variant: str
    status: str
    score: float | None
    forward: float | None
    reverse: float | None
    detail: str


class Scored(BaseModel):
    variants: list[VariantScore]
    summary: list[str]
    notes: list[str]
    provenance: Row


class SiteScore(BaseModel):
    variant: str
    score: float
    percentile: float


class Saturated(BaseModel):
    """lowest: the least likely changes, the lowest first; highest: the highest first. path: a table of all, or None."""

    readout: str
    count: int
    lowest: list[SiteScore]
    highest: list[SiteScore]
    path: str | None
    basis: str
    notes: list[str]
    provenance: Row


class Embedded(BaseModel):
    """shape: (sequences, width); norms: Euclidean. path: an .npz whose array of the layer's name they are, or None."""

    layer: str
    shape: list[int]
    norms: list[float]
    path: str | None
    notes: list[str]
    provenance: Row


class Generated(BaseModel):
    sequence: str
    mean_logprob: float | None
    seed: int
    notes: list[str]
    provenance: Row


class JobState(BaseModel):
    """state: queued, running, done, failed, cancelled. results: format -> where it is."""

    id: str
    state: str
    done: int
    total: int | None
    eta_seconds: float | None
    error: str | None
    summary: list[str]
    results: dict[str, str]


def list_models(server: Server) -> Listed:
    rows = catalogue.models(server.models)
    fields = ModelLine.model_fields
    return Listed(
        models=[ModelLine(**{name: row[name] for name in fields}) for row in rows if row["loaded"]],
        genomes=list(server.genomes.by_id),
        others=[row["name"] for row in rows if not row["loaded"]],
    )


def find_region(server: Server, query: str, genome: str | None) -> Found:
    found = finding.search(server.genomes.get(genome), query, HITS)
    places = [
        Place(
            kind=hit["kind"],
            name=hit["name"],
            region=str(Interval(hit["contig"], hit["start"], max(hit["end"], hit["start"] + 1))),
            strand=hit["strand"],
        )
        for hit in found["results"]
    ]
    return Found(places=places, near=found["near"])


def score_variants(server: Server, loaded: Loaded, variants: Sequence[str], genome: str | None) -> Scored:
    made = scoring.score(loaded, server.genomes.get(genome).fasta, variants, Options(max_ref_mismatch=1.0))
    server.metrics.add("alleles", len(made["rows"]))
    return Scored(variants=[_variant_score(row) for row in made.pop("rows")], **made)


def _variant_score(row: Row) -> VariantScore:
    score, forward, reverse = scoring.by_strand(row)
    return VariantScore(
        variant=f"{row['contig'] or row['chrom']}:{row['pos']}{row['ref']}>{row['alt']}",
        status=row["status"],
        score=score,
        forward=forward,
        reverse=reverse,
        detail=row["detail"],
    )


def saturate(server: Server, loaded: Loaded, region: str, genome: str | None) -> Saturated:
    fasta = server.genomes.get(genome).fasta
    if (bases := len(parse_region(region, fasta))) > MOST_BASES:
        raise NexVarError(f"{bases:,} bases", where="region", fix=f"at most {MOST_BASES} bases at once")
    made = scoring.saturate(loaded, fasta, region)
    server.metrics.add("alleles", 3 * len(made["ref"]))
    rows = sorted(_sites(made), key=lambda row: row.score)
    named = f"saturate_{made['contig']}_{made['start'] + 1}_{made['end']}.tsv"
    return Saturated(
        readout=made["readout"],
        count=len(rows),
        lowest=rows[:HITS],
        highest=rows[: -HITS - 1 : -1],
        path=_saved(server, named, lambda file: file.write(_table(rows, made["readout"]).encode())),
        basis=made["basis"],
        notes=[*made["notes"], *_unsaved(server)],
        provenance=made["provenance"],
    )


def _sites(made: Row) -> Iterator[SiteScore]:
    """Every SNV that has a score, by its place."""
    for offset, (ref, scores, percentiles) in enumerate(
        zip(made["ref"], made["scores"], made["percentiles"], strict=True)
    ):
        for alt, score, percentile in zip("ACGT", scores, percentiles, strict=True):
            if score is not None:
                place = f"{made['contig']}:{made['start'] + offset + 1}{ref}>{alt}"
                yield SiteScore(variant=place, score=score, percentile=percentile)


def _table(rows: Sequence[SiteScore], readout: str) -> str:
    lines = [f"{row.variant}\t{row.score}\t{row.percentile}\n" for row in rows]
    return "".join([f"variant\t{readout}\tpercentile\n", *lines])


def embed(server: Server, loaded: Loaded, texts: Sequence[str], layer: str | None, pool: str) -> Embedded:
    made, said = sequences.embed(loaded, texts, layer, pool)
    ((name, vectors),) = made.items()
    if not isinstance(vectors, Tensor):
        raise NexVarError(f"no pool {pool!r}", where="pool", fix="mean, max, last or cls")
    arrays: dict[str, Any] = {name: vectors.numpy()}
    return Embedded(
        layer=name,
        shape=list(vectors.shape),
        norms=vectors.norm(dim=1).tolist(),
        path=_saved(server, f"embed_{len(texts)}.npz", lambda file: np.savez(file, **arrays)),
        notes=_unsaved(server),
        provenance=said,
    )


def generate(server: Server, loaded: Loaded, prompt: str, species: str | None, n: int, seed: int | None) -> Generated:
    (text,) = generation.tagged([prompt], species, None, server.taxonomy)
    ask = generation.Ask([text], Sampling(n, alphabet="ACGT"), seed)
    made = generation.generate(loaded, ask, most_tokens=MOST_TOKENS)
    (sequence,), (logprobs,) = made["sequences"], made["logprobs"]
    server.metrics.add("tokens", len(logprobs))
    return Generated(
        sequence=sequence,
        mean_logprob=None if None in logprobs else sum(logprobs) / len(logprobs),
        seed=made["seed"],
        notes=[NOT_FOR_HARM],
        provenance=made["provenance"],
    )


def score_vcf(server: Server, path: str, genome: str | None, model: str | None) -> JobState:
    found = allowed(server, path)
    upload = Upload(server.store, found.name, server.settings.max_upload)
    try:
        with found.open("rb") as file:
            while piece := file.read(1 << 20):
                upload.write(piece)
        stored = upload.keep()
    finally:
        upload.close()
    return job(server, server.jobs.submit(stored.id, genome, model, {}, list(FORMATS)).id)


def job(server: Server, id_: str) -> JobState:
    now, progress = server.jobs.get(id_)
    formats = now.outputs if now.state == DONE else []
    return JobState(
        id=now.id,
        state=now.state,
        done=now.done,
        total=now.total,
        eta_seconds=None if progress is None else progress.eta,
        error=now.error,
        summary=list(now.summary),
        results={name: str(server.jobs.result(id_, name)) for name in formats},
    )


# -- files


def allowed(server: Server, path: str) -> Path:
    """A file that can be read, under a folder of ``--allow-dir``; ServeError for any other."""
    folders = [folder.resolve() for folder in server.settings.allow_dirs]
    if not folders:
        fix = "start the server with --allow-dir FOLDER"
        raise ServeError("no folder is open to tools", where="path", fix=fix)
    try:
        found = Path(path).expanduser().resolve()
        inside = any(found.is_relative_to(folder) for folder in folders) and found.is_file()
        inside = inside and os.access(found, os.R_OK)
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        fix = f"a file in {', '.join(map(str, folders))}"
        raise ServeError(f"no such file under --allow-dir: {printable(path, 100)}", where="path", fix=fix)
    return found


def _saved(server: Server, name: str, write: Callable[[IO[bytes]], Any]) -> str | None:
    """Where a new file of about this name was written: in the first folder of ``--allow-dir``; None without one."""
    if not server.settings.allow_dirs:
        return None
    stem, dot, ending = re.sub(r"[^A-Za-z0-9._-]+", "_", name).rpartition(".")  # a contig may be called anything
    path = server.settings.allow_dirs[0].resolve() / f"{stem}_{secrets.token_hex(4)}{dot}{ending}"
    with replacing(path, tidy=False) as temporary, temporary.open("wb") as file:
        write(file)
    return str(path)


def _unsaved(server: Server) -> list[str]:
    return [] if server.settings.allow_dirs else ["nothing was saved: the server was started without --allow-dir"]
