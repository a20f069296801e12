"""What travels between a run and whoever computes its parts: this process, N processes, a cluster.

    Setup (of one job) ──> Executor.prepare ──> Identity (what the model is, and how it will score)
    PartTask (records of one part) ──> Executor.run ──> Done (the part's Parquet file as bytes, the token counts)

An executor that was made for one job can serve the next ones: it keeps the model where the next Setup asks for the
same one. Only the process that was started by the user writes files (parts.py): whoever dies elsewhere leaves nothing
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nexvar.errors import NexVarError
from nexvar.genome.bed import Regions
from nexvar.genome.reference import Fasta
from nexvar.genome.vcf import Record
from nexvar.inference.core import embedding_cache
from nexvar.inference.options import Options, ScoreSettings
from nexvar.runs.plan import Part
from nexvar.runs.writers import Provenance
from nexvar.weights.choice import ModelChoice
from nexvar.weights.load import Loaded

Report = Callable[[int], None]  # called with how many alleles more are scored


@dataclass(frozen=True)
class Setup:
    """What computes the parts of one job; plain values, but for a model that is loaded in this process already.

    circular: names of the FASTA's circular contigs. threads: of torch; None leaves them alone. products: the arithmetic
    of bfloat16 on CPUs (``ops/arithmetic.py``), which all processes of a run share; None leaves it to this one.
    cache: a folder for pooled embeddings (embedding_cache.py), of at most cache_bytes.
    """

    model: ModelChoice | Loaded
    options: Options
    fasta: Path
    synonyms: Path | None = None
    circular: tuple[str, ...] = ()
    regions: Regions | None = None
    cache: Path | None = None
    cache_bytes: int = embedding_cache.MAX_BYTES
    threads: int | None = None
    products: str | None = None

    @property
    def choice(self) -> ModelChoice:
        """The model for another process."""
        if isinstance(self.model, Loaded):
            raise NexVarError("a loaded model stays in its process", where="model", fix="give its name or folder")
        return self.model


@dataclass(frozen=True)
class Identity:
    """What a loaded model is and how it will score: what the manifest and the output's header say of it."""

    provenance: Provenance
    resolved: ScoreSettings
    fingerprint: str
    device: str
    species: str | None


@dataclass(frozen=True)
class PartTask:
    """One part to compute."""

    part: Part
    records: list[Record]
    resolved: ScoreSettings


@dataclass(frozen=True)
class Done:
    """A computed part: a Parquet file."""

    index: int
    data: bytes
    computed: int  # tokens
    naive: int


class Executor(Protocol):
    """Where parts are computed."""

    notes: list[str]  # what the user should know of: workers that died

    def prepare(self, setup: Setup, fasta: Fasta | None = None) -> Identity:
        """Be ready for a job's parts: load its model, unless it is there already. fasta: its genome, if it is open."""
        ...

    def run(self, tasks: Iterable[PartTask], report: Report) -> Iterator[Done]:
        """Compute parts of the job that was prepared last. They come back in any order, each once.

        A caller may leave in the middle, by an exception that ``report`` raises or by closing the iterator; the
        executor can be used again.
        """
        ...


def slim(record: Record) -> Record:
    """The record without INFO and the samples, which may be megabytes and which no score depends on."""
    r = record
    return Record(r.line_no, r.chrom, r.pos0, r.id, r.ref, r.alt, "", "", "", "", "", r.ends)
