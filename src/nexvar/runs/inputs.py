"""The input files of a job, open and checked: what is wrong with them is found before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexvar.genome.bed import Regions, parse_region, read_bed
from nexvar.genome.haplotypes import Haplotypes, check_sample
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import VariantSource, open_variants
from nexvar.genome.variants import saturate as every_snv
from nexvar.inference.calibration import Calibration
from nexvar.inference.score import make_circular
from nexvar.runs.job import ScoreJob
from nexvar.runs.output import check_contig_names, check_output
from nexvar.runs.plan import Survey, survey
from nexvar.runs.tracks import check_track


@dataclass(frozen=True)
class Inputs:
    """The files of a job, checked and open. sample: whose haplotypes, if any. paths: for ``merge``."""

    reader: VariantSource
    fasta: Fasta
    regions: Regions | None
    survey: Survey
    sample: str | None
    paths: dict[str, Any]

    def as_haplotypes(self, reach: int) -> Inputs:
        """The same files with the haplotypes of ``sample`` as the records, where there is one.

        reach: bases within which variants of one copy act together.
        """
        if self.sample is None:
            return self
        reader = Haplotypes(self.reader, self.fasta, self.sample, reach)
        paths = {**self.paths, "sample": self.sample, "reach": str(reach)}
        surveyed = replace(survey(reader, self.fasta, 1.0), notes=self.survey.notes)
        return replace(self, reader=reader, survey=surveyed, paths=paths)


def check(job: ScoreJob) -> Inputs:
    """Open the files and read every variant once; NexVarError for the first thing that is wrong with them, or with an
    output that could not be written."""
    job.check_paths()
    for path in job.targets:
        check_output(path)
    if job.calibration is not None:
        Calibration.read(job.calibration)
    inputs = _open(job)
    for path in job.targets:
        check_contig_names(path, inputs.survey.contigs)
        check_track(Path(path), inputs.survey.records[-1])
    return inputs


def _open(job: ScoreJob) -> Inputs:
    files = job.inputs
    fasta = Fasta(files.fasta, synonyms=files.synonyms)
    reader = open_source(files.variants, files.saturate, fasta)
    make_circular(fasta, files.circular, reader.circular)
    regions = read_bed(files.regions, fasta) if files.regions is not None else None
    surveyed = survey(reader, fasta, job.options.max_ref_mismatch, job.ask)
    sample = check_sample(reader, files.sample) if files.haplotypes else None
    return Inputs(reader, fasta, regions, surveyed, sample, files.paths)


def open_source(source: str | Path | Sequence[str] | None, saturate: str | None, fasta: Fasta) -> VariantSource:
    """The variants of a file, or every SNV of a region."""
    if saturate is not None:
        return every_snv(fasta, parse_region(saturate, fasta))
    assert source is not None
    return open_variants(source, fasta)
