"""One loaded model that turns records into the bytes of a part: in this process, in N processes, on a cluster.

    Setup (pickled to wherever the model runs) -> PartScorer: loads model and FASTA -> Identity (what it is)
    PartTask (records of one part) -> PartScorer.score -> Done (the part's Parquet file as bytes, the token counts)

Only the process that was started by the user writes files (parts.py): whoever dies elsewhere leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from nexvar.genome.bed import Regions
from nexvar.genome.reference import Fasta
from nexvar.genome.vcf import Record
from nexvar.inference import scorers
from nexvar.inference.core import embedding_cache
from nexvar.inference.core.batching import Tally
from nexvar.inference.score import Options, ScoreSettings, score_alleles
from nexvar.runs.plan import Part
from nexvar.runs.rows import columns_of, rows
from nexvar.runs.table import ParquetWriter, Provenance
from nexvar.weights.load import Loaded, load
from nexvar.weights.quantize import stored

HASHED_WHOLE = 1 << 28  # bytes of weights; of larger models a sample of every tensor is hashed

Progress = Callable[[int], None]  # called with how many alleles more are scored


@dataclass(frozen=True)
class Setup:
    """What a process needs to become a ``PartScorer``; plain values only.

    circular: names of the FASTA's circular contigs. threads: of torch; None leaves them alone.
    cache: a folder for pooled embeddings (embedding_cache.py).
    """

    model: str | Path
    device: str
    dtype: str
    options: Options
    fasta: Path
    synonyms: str | Path | None = None
    circular: tuple[str, ...] = ()
    regions: Regions | None = None
    threads: int | None = None
    quantize: str | None = None
    device_map: str | None = None
    cache: Path | None = None
    cache_bytes: int = embedding_cache.MAX_BYTES


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
    """Where parts are computed. Parts come back in any order, each once."""

    identity: Identity
    notes: list[str]  # what the user should know of: workers that died

    def run(self, tasks: Iterable[PartTask], progress: Progress) -> Iterator[Done]: ...


def slim(record: Record) -> Record:
    """The record without INFO and the samples, which may be megabytes and which no score depends on."""
    r = record
    return Record(r.line_no, r.chrom, r.pos0, r.id, r.ref, r.alt, "", "", "", "", "", r.ends)


class PartScorer:
    """A model with its genome. It is also the engine of a run in one process."""

    def __init__(self, setup: Setup, loaded: Loaded | None = None, fasta: Fasta | None = None) -> None:
        if setup.threads is not None:
            torch.set_num_threads(setup.threads)
        self.loaded = loaded or load(
            setup.model,
            device=setup.device,
            dtype=setup.dtype,
            quantize=setup.quantize,
            device_map=setup.device_map,
        )
        self.fasta = fasta or Fasta(setup.fasta, synonyms=setup.synonyms, circular=setup.circular)
        self.regions = setup.regions
        self.notes: list[str] = []
        self.cache: embedding_cache.EmbeddingCache | None = None
        self.identity = _identity(self.loaded, setup.options)
        if setup.cache is not None:
            model = f"{self.identity.fingerprint} {self.loaded.precision} {self.loaded.device.type}"
            self.cache = embedding_cache.EmbeddingCache(setup.cache, model, setup.cache_bytes)

    def run(self, tasks: Iterable[PartTask], progress: Progress) -> Iterator[Done]:
        for task in tasks:
            yield self.score(task, progress)

    def score(self, task: PartTask, progress: Progress) -> Done:
        """Compute one part."""
        tally, file = Tally(), io.BytesIO()
        writer = ParquetWriter(file, replace(self.identity.provenance, command=""))
        items = ((record, record.variant) for record in task.records)
        scored = score_alleles(self.loaded, items, self.fasta, task.resolved, tally, self.regions, progress, self.cache)
        for index, (record, scores) in enumerate(scored, start=task.part.first):
            writer.write(record, rows(index, record, scores, task.resolved))
        writer.close()
        return Done(task.part.index, file.getvalue(), tally.computed, tally.naive)


def _identity(loaded: Loaded, options: Options) -> Identity:
    resolved, card = options.resolve(loaded), loaded.card
    provenance = Provenance(
        model=card.name,
        revision=card.revision or ("built in" if card.weights else "main" if card.repo else "local folder"),
        window=resolved.window,
        strand=resolved.strand,
        dtype=loaded.precision,
        readout=", ".join(resolved.readout.names),
        extra=_extra_columns(resolved),
        settings=resolved.settings(),
    )
    return Identity(provenance, resolved, fingerprint(loaded), loaded.device.type, card.species)


def _extra_columns(resolved: ScoreSettings) -> dict[str, str]:
    strands = ("mean over strands", "forward strand", "reverse strand")
    return {
        column: f"{scorers.DESCRIPTIONS[name]} ({which})"
        for name in resolved.readout.names
        for column, which in zip(columns_of(name, resolved), strands, strict=True)
        if column not in ("LLR", "LLR_FWD", "LLR_REV")
    }


def fingerprint(loaded: Loaded) -> str:
    """A short hash of the weights: tells a local folder's retrained model apart. NOTE of large models a sample."""
    state = loaded.module.state_dict()
    whole = sum(tensor.nbytes for tensor in state.values()) <= HASHED_WHOLE
    digest = hashlib.sha256()
    for name, tensor in state.items():
        for part in stored(tensor):
            flat = part.detach().reshape(-1)
            chosen = flat if whole else flat[:: max(1, flat.numel() // 64)][:64]
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + chosen.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def default_threads(workers: int) -> int:
    """Threads of each of ``workers`` processes on this machine's CPU."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), allowed) // workers)
