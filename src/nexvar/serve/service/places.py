"""Places on a genome: bases of a region, and what a person may mean by a word."""

from __future__ import annotations

from typing import Any

from nexvar.errors import NexVarError
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Fasta


def bases(fasta: Fasta, region: str, most: int) -> dict[str, Any]:
    """contig, start, end (0-based half-open) and sequence of ``chrM:3,230-3,304`` (1-based) or of a contig."""
    interval = parse_region(region, fasta)
    if len(interval) > most:
        raise NexVarError(f"{len(interval):,} bases", where="region", fix=f"at most {most:,} bases at once")
    text = fasta.fetch(interval.chrom, interval.start, interval.end)
    return {"contig": interval.chrom, "start": interval.start, "end": interval.end, "sequence": text}
