"""A scoring job from flat names, for tests that change one thing at a time."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from nexvar.runs.job import InputFiles, Placement, ScoreJob
from nexvar.runs.rows import ScoreSummary
from nexvar.runs.score_run import score_file
from nexvar.weights.choice import ModelChoice
from nexvar.weights.load import Loaded


def make_job(variants: Any, fasta: Any, outputs: Any, *, model: Any = None, **named: Any) -> ScoreJob:
    """model: loaded, or a name or folder. named: fields of ScoreJob, InputFiles, Placement or ModelChoice."""
    inputs, placement, choice = (
        {f.name: named.pop(f.name) for f in fields(kind) if f.name in named}
        for kind in (InputFiles, Placement, ModelChoice)
    )
    if not isinstance(model, Loaded):
        model = ModelChoice(model, **choice)
    files = InputFiles(fasta, variants, **inputs)
    return ScoreJob(files, outputs, model=model, placement=Placement(**placement), **named)


def run_job(variants: Any, fasta: Any, outputs: Any, **named: Any) -> ScoreSummary:
    return score_file(make_job(variants, fasta, outputs, **named))
