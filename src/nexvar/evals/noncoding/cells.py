"""The cells of one model: zero-shot, probes and LoRA at every width, computed or read from disk.

A model is NexVar's own, loaded when its first cell is missing, or a wrapper of the user's (wrapped.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.noncoding import lora, probe, wrapped
from nexvar.evals.noncoding.sets import Sets
from nexvar.evals.noncoding.store import Cell, Store
from nexvar.evals.noncoding.windows import Cut
from nexvar.evals.noncoding.wrapped import Wrapped
from nexvar.evals.noncoding.zero_shot import zero_shot
from nexvar.genome.reference import Fasta
from nexvar.inference.core.embedding_cache import EmbeddingCache, identity
from nexvar.inference.options import STRANDS
from nexvar.inference.scorers.settings import READOUTS
from nexvar.weights.choice import BUILT_IN, ModelChoice
from nexvar.weights.load import Loaded

METHODS = ("zero-shot", "probe", "lora")
Model = ModelChoice | Wrapped
Say = Callable[[str], None]
Embedded = Callable[[], tuple[np.ndarray, np.ndarray]]  # of the reference and the alternative windows, (N, D) each


@dataclass(frozen=True)
class Asked:
    """How models are asked. methods: of ``METHODS``. readout, strand: of zero-shot; None is the model's own.

    epochs, rate: of LoRA. seed: of folds.
    """

    methods: Sequence[str] = ("zero-shot", "probe")
    readout: str | None = None
    strand: str | None = None
    epochs: int = 10
    rate: float = 1e-4
    seed: int = 42

    def __post_init__(self) -> None:
        for name in self.methods:
            arguments.one_of(name, "--method", METHODS)
        if self.readout is not None:
            arguments.one_of(self.readout, "--readout", READOUTS)
        if self.strand is not None:
            arguments.one_of(self.strand, "--strand", STRANDS)
        arguments.whole(self.epochs, "--epochs", 1)
        arguments.number(self.rate, "--rate", "a learning rate", 1e-9, 10)
        arguments.whole(self.seed, "--seed", 0)


@dataclass(frozen=True)
class Failure:
    """A cell that could not be computed, and why."""

    width: int
    model: str
    method: str
    set: str
    why: str


def model_name(model: Model) -> str:
    """The last part of a checkpoint's name or folder; what a wrapper calls itself."""
    return Path(str(model.source or BUILT_IN) if isinstance(model, ModelChoice) else model.model_name).name


class ModelCells:
    """Every cell of one model on these sets: iterate over ``compute``."""

    def __init__(self, model: Model, asked: Asked, fasta: Fasta, sets: Sets, store: Store, say: Say) -> None:
        self.model, self.asked, self.fasta, self.sets, self.store, self.say = model, asked, fasta, sets, store, say
        self.name = model_name(model)
        self._loaded: Loaded | None = None

    def compute(self, cuts: Iterable[Cut]) -> Iterator[Cell | Failure]:
        """Cell by cell: what is on disk, or is computed and put there; a ``Failure`` where it cannot be.

        NexVarError where something else made what is on disk.
        """
        asked = self.asked
        for cut in cuts:
            if "zero-shot" in asked.methods:
                how: dict[str, Any] = {"readout": asked.readout, "strand": asked.strand}
                yield self._cell(cut, "zero-shot", "", how, partial(self._zero_shot, cut))
            if "probe" in asked.methods:
                embedded = cache(partial(self._embeddings, cut))
                for set in self.sets.rows:
                    for read in probe.READS:
                        yield self._cell(cut, f"probe {read}", set, {}, partial(self._probe, cut, set, read, embedded))
            if "lora" in asked.methods:
                how = {"epochs": asked.epochs, "rate": asked.rate}
                for set in self.sets.rows:
                    yield self._cell(cut, "LoRA", set, how, partial(self._lora, cut, set))

    def _cell(
        self, cut: Cut, method: str, set: str, how: dict[str, Any], scores: Callable[[], tuple[np.ndarray, str]]
    ) -> Cell | Failure:
        """scores: ((N,), the cell's detail)."""
        made_of = {**self._made_of(), "windows": cut.digest, **how}
        there = self.store.read(cut.width, self.name, method, set, made_of)
        if there is not None:
            return there
        try:
            self.say(f"{self.name}: {method}{f' {set}' if set else ''}, {cut.width} bp")
            score_N, detail = scores()
            parameters = self._parameters()
        except NexVarError as error:
            return Failure(cut.width, self.name, method, set, str(error))
        except torch.OutOfMemoryError:
            return Failure(cut.width, self.name, method, set, "out of memory")
        cell = Cell(cut.width, self.name, method, score_N, set, detail, parameters)
        self.store.write(cell, made_of)
        return cell

    def _spread(self, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(N,) with NaN where a variant is not among ``rows``."""
        made = np.full(len(self.sets.alleles), np.nan)
        made[rows] = scores
        return made

    def _members(self, cut: Cut, set: str) -> np.ndarray:
        rows = self.sets.rows[set]
        return rows[cut.usable_N[rows]]

    # -- methods

    def _zero_shot(self, cut: Cut) -> tuple[np.ndarray, str]:
        rows = np.flatnonzero(cut.usable_N)
        if isinstance(self.model, ModelChoice):
            some = [self.sets.alleles[i] for i in rows]
            scores, detail = zero_shot(self.loaded, self.fasta, some, cut.width, self.asked.readout, self.asked.strand)
        else:
            self._load_wrapper()
            scores, note = wrapped.scores(self.model, [cut.windows[i] for i in rows])
            detail = "its own"
            if note:
                self.say(f"{self.name}, {cut.width} bp: {note}")
        return self._spread(rows, scores), detail

    def _embeddings(self, cut: Cut) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.model, ModelChoice):
            kept = EmbeddingCache(self.store.folder / "embeddings", identity(self.loaded))
            return probe.embeddings(self.loaded, cut.windows, kept)
        self._load_wrapper()
        return wrapped.embeddings(self.model, cut.windows)

    def _probe(self, cut: Cut, set: str, read: str, embedded: Embedded) -> tuple[np.ndarray, str]:
        rows, seed = self._members(cut, set), self.asked.seed
        positive_N, group_N = self.sets.positive_N[rows], cut.group_N[rows]
        fold_N = probe.folds(group_N, seed)
        x_ND = probe.features(*embedded(), read)[rows]
        return self._spread(rows, probe.out_of_fold(x_ND, positive_N, group_N, fold_N, seed)), ""

    def _lora(self, cut: Cut, set: str) -> tuple[np.ndarray, str]:
        if not isinstance(self.model, ModelChoice):
            raise NexVarError("a wrapper's weights are its own", where=self.name, fix="--method zero-shot or probe")
        rows, asked = self._members(cut, set), self.asked
        group_N = cut.group_N[rows]
        probe.folds(group_N, asked.seed)
        scores = lora.out_of_fold(
            str(self.model.source or BUILT_IN),
            [cut.windows[i].alt_seq for i in rows],
            self.sets.positive_N[rows],
            group_N,
            self.store.place(cut.width) / f"lora_{self.name}_{set}",
            epochs=asked.epochs,
            rate=asked.rate,
            seed=asked.seed,
            device=self.model.device,
        )
        return self._spread(rows, scores), ""

    # -- the model

    @property
    def loaded(self) -> Loaded:
        """NexVar's own, in memory."""
        assert isinstance(self.model, ModelChoice)
        if self._loaded is None:
            self._loaded = self.model.load()
        return self._loaded

    def _load_wrapper(self) -> None:
        assert not isinstance(self.model, ModelChoice)
        wrapped.load(self.model)

    def _parameters(self) -> int:
        if isinstance(self.model, ModelChoice):
            return sum(p.numel() for p in self.loaded.module.parameters())
        return wrapped.parameters(self.model)

    def _made_of(self) -> dict[str, Any]:
        """What a cell on disk must have been made of; of a local folder also sizes and times of its files."""
        if not isinstance(self.model, ModelChoice):
            return {"model": f"wrapper {self.name}", "code": wrapped.digest(self.model)}
        source = str(self.model.source or BUILT_IN)
        folder = Path(source)
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        stamp = [f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files if p.is_file()]
        return {"model": source, "dtype": self.model.dtype, "quantize": self.model.quantize, "stamp": stamp}
