"""The operator's calibration (`nexvar calibrate`), for paths whose clients expect a verdict: Genos, the web pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.inference.calibration import Calibration
from nexvar.inference.options import Options
from nexvar.runs.judged import Judge
from nexvar.runs.partscorer import provenance_of
from nexvar.serve.errors import NotAvailable
from nexvar.serve.genomes import Genome, Genomes
from nexvar.serve.models import Models

CLINICAL = ("pathogenic", "benign")


@dataclass(frozen=True)
class Verdict:
    """probability: of class 1, at the calibration's prior. points: of evidence. prediction: the likelier class."""

    probability: float
    points: int | None
    prediction: str


@dataclass(frozen=True)
class Judges:
    """model: whose own score it is for. by_genome: genomes of the server that it is for."""

    calibration: Calibration
    model: str
    by_genome: Mapping[str, Judge]

    @classmethod
    def open(cls, path: Path, models: Models, genomes: Genomes) -> Judges:
        """NexVarError where it is for another model, other scores than the model's own, or none of the genomes."""
        calibration = Calibration.read(path)
        model = calibration.scope.model
        if model not in models.loaded:
            raise NexVarError(
                f"it is for {model[:60]}, which is not loaded", where=path, fix=f"add --model {model[:60]}"
            )
        loaded = models.loaded[model]
        how = provenance_of(loaded, Options().resolve(loaded)).how()
        found, refused = {}, list[NexVarError]()
        for genome in genomes.by_id.values():
            try:
                found[genome.id] = Judge(calibration.on(how, genome.fasta, where=path))
            except NexVarError as error:
                refused.append(error)
        if not found:
            raise refused[0]
        return cls(calibration, model, found)

    @property
    def clinical(self) -> bool:
        """Whether its classes are pathogenic and benign, in so many words."""
        return tuple(name.lower() for name in self.calibration.classes) == CLINICAL

    def of(self, genome: Genome) -> Judge:
        """Its judge of a genome; NotAvailable."""
        if genome.id not in self.by_genome:
            fix = f"it is for {', '.join(self.by_genome)}"
            raise NotAvailable(f"the calibration is not for {genome.id}", where="calibration", fix=fix)
        return self.by_genome[genome.id]

    def verdict(self, row: dict[str, Any]) -> Verdict | None:
        """Of a row that a judge has seen; None for what the calibration does not speak of."""
        probability = row["extra"].get("PROBABILITY")
        if probability is None:
            return None
        classes = self.calibration.classes
        return Verdict(probability, row["extra"]["EVIDENCE"], classes[0 if probability >= 0.5 else 1])

    def told(self) -> dict[str, Any]:
        """What a reader of a verdict should know of the calibration."""
        made = self.calibration
        return {
            "model": self.model,
            "classes": list(made.classes),
            "counts": list(made.counts),
            "auroc": list(made.auroc),
            "prior": made.prior,
            "labels": made.labels,
        }
