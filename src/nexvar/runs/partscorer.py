"""One loaded model that turns records into the bytes of a part: here, in each worker process, in each actor."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from nexvar.genome.reference import Fasta
from nexvar.inference import scorers
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.embedding_cache import EmbeddingCache, identity
from nexvar.inference.options import Options, ScoreSettings
from nexvar.inference.score import score_alleles
from nexvar.ops import arithmetic
from nexvar.runs.executor import Done, Identity, PartTask, Report, Setup
from nexvar.runs.rows import columns_of, rows
from nexvar.runs.writers import ParquetWriter, Provenance
from nexvar.weights.choice import loaded_model
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.load import Loaded


class PartScorer:
    """The executor of a run in one process: a model, and the genome of the present job."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.setup: Setup | None = None
        self.loaded: Loaded
        self.fasta: Fasta
        self.identity: Identity
        self.cache: EmbeddingCache | None = None

    def prepare(self, setup: Setup, fasta: Fasta | None = None) -> Identity:
        if setup.threads is not None:
            torch.set_num_threads(setup.threads)
        if setup.products is not None:
            arithmetic.use(setup.products)
        if self.setup is None or self.setup.model != setup.model:
            self.loaded = loaded_model(setup.model)
        self.setup = setup
        self.fasta = fasta or Fasta(setup.fasta, synonyms=setup.synonyms, circular=setup.circular)
        self.identity = _identity(self.loaded, setup.options)
        self.cache = None
        if setup.cache is not None:
            self.cache = EmbeddingCache(setup.cache, identity(self.loaded), setup.cache_bytes)
        return self.identity

    def run(self, tasks: Iterable[PartTask], report: Report) -> Iterator[Done]:
        for task in tasks:
            yield self.score(task, report)

    def score(self, task: PartTask, report: Report) -> Done:
        """Compute one part."""
        assert self.setup is not None, "prepare comes first"
        tally, file = Tally(), io.BytesIO()
        writer = ParquetWriter(file, replace(self.identity.provenance, command=""))
        items = ((record, record.variant) for record in task.records)
        scored = score_alleles(
            self.loaded, items, self.fasta, task.resolved, tally, self.setup.regions, report, self.cache
        )
        for index, (record, scores) in enumerate(scored, start=task.part.first):
            writer.write(record, rows(index, record, scores, task.resolved))
        writer.close()
        return Done(task.part.index, file.getvalue(), tally.computed, tally.naive)


def _identity(loaded: Loaded, options: Options) -> Identity:
    resolved = options.resolve(loaded)
    return Identity(
        provenance_of(loaded, resolved), resolved, fingerprint(loaded), loaded.device.type, loaded.card.species
    )


def provenance_of(loaded: Loaded, resolved: ScoreSettings) -> Provenance:
    """What a reader of scores must know of how they were made."""
    return Provenance(
        model=loaded.card.name,
        revision=loaded.card.origin,
        window=resolved.window,
        strand=resolved.strand,
        dtype=loaded.precision,
        readout=", ".join(resolved.readout.names),
        extra=_extra_columns(resolved),
        settings=resolved.settings(),
    )


def _extra_columns(resolved: ScoreSettings) -> dict[str, str]:
    strands = ("mean over strands", "forward strand", "reverse strand")
    return {
        column: f"{scorers.DESCRIPTIONS[name]} ({which})"
        for name in resolved.readout.names
        for column, which in zip(columns_of(name, resolved), strands, strict=True)
        if column not in ("LLR", "LLR_FWD", "LLR_REV")
    }


def default_threads(workers: int) -> int:
    """Threads of each of ``workers`` processes on this machine's CPU."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), allowed) // workers)
