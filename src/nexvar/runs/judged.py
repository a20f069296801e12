"""What a calibration adds to the rows of a run: PROBABILITY and EVIDENCE beside the score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nexvar.genome.reference import Fasta
from nexvar.inference.calibration import COLUMNS, Calibrated, Calibration
from nexvar.runs.rows import ScoredAllele
from nexvar.runs.writers import Provenance


@dataclass(frozen=True)
class Judge:
    """A calibration for the scores of one run."""

    calibrated: Calibrated

    @classmethod
    def of(cls, path: str | Path, provenance: Provenance, fasta: Fasta) -> Judge:
        """NexVarError where the calibration in ``path`` is for other scores or another genome."""
        return cls(Calibration.read(path).on(provenance.how(), fasta, where=path))

    def described(self, provenance: Provenance) -> Provenance:
        """With the new columns, and what is supposed and meant by them."""
        made = self.calibrated.calibration
        of = f"class 1 is {made.classes[0]}, prior {made.prior:g}, {made.counts[0]} and {made.counts[1]} labels"
        return replace(provenance, extra=provenance.extra | {name: f"{text} ({of})" for name, text in COLUMNS.items()})

    def judge(self, row: ScoredAllele) -> None:
        """Fill the new columns of a row; both stay empty where the calibration does not speak of it."""
        column = self.calibrated.calibration.scope.column
        score = row.llr if column == "LLR" else row.extra.get(column)
        judged = self.calibrated.judged(row.contig, row.pos - 1, score)
        row.extra |= dict(zip(COLUMNS, judged or (None, None), strict=True))
