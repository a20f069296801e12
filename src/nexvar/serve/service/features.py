"""What lies in a region: features of genes, known variants, values of a track. Answers are those of GET …/features."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from nexvar.errors import NexVarError
from nexvar.genome.known import KnownVariant
from nexvar.genome.reference import Fasta, Interval
from nexvar.serve.errors import NotFound
from nexvar.serve.genomes import Genome

MOST = 20_000
MOST_BINS = 1000


def stretch(fasta: Fasta, contig: str, start: float, end: float) -> Interval:
    """[start, end) of a contig as browsers ask for it: fractions are widened, what is outside is cut off."""
    match = fasta.resolve(contig)
    if match is None:
        raise NexVarError(f"no contig {contig[:40]!r}", where="contig", fix="GET /api/v1/genomes lists them")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise NexVarError(f"{start} to {end}", where="start", fix="give two numbers")
    low, high = fasta.span(match.contig, max(0, math.floor(start)), max(1, math.ceil(end)))
    first, last = max(low, math.floor(start)), min(high, math.ceil(end))
    if first >= last:
        raise NexVarError(f"{start:g} to {end:g} is empty or outside of the contig", where="start",
                          fix=f"{match.contig} has {fasta.extent(match.contig)} (1-based)")  # fmt: skip
    return Interval(match.contig, first, last)


def features(genome: Genome, kind: str, place: Interval, name: str | None = None) -> list[dict[str, Any]]:
    """The features of a kind that overlap a place, by start. name: of the track.

    genes: those that reach beyond it are whole. known: alleles with their labels. track: means of ``MOST_BINS`` bins.
    """
    if kind == "genes":
        return _genes(genome, place)
    if kind == "known":
        return _known(genome, place)
    if name not in genome.tracks:
        what = "no name of a track" if name is None else f"no track {name[:40]!r}"
        raise NotFound(what, where="name", fix=f"{genome.id} has {', '.join(genome.tracks) or 'no tracks'}")
    means = genome.tracks[name].means(place.chrom, place.start, place.end, MOST_BINS)
    return [{"contig": place.chrom, "start": low, "end": high, "value": value} for low, high, value in means]


def _genes(genome: Genome, place: Interval) -> list[dict[str, Any]]:
    if genome.genes is None:
        raise _without(genome, "genes", "x.gff3")
    if genome.genes.count(place.chrom, place.start, place.end) > MOST:
        raise _too_many(place, "features")
    return [asdict(feature) for feature in genome.genes.features(place.chrom, place.start, place.end)]


def _known(genome: Genome, place: Interval) -> list[dict[str, Any]]:
    if genome.known is None:
        raise _without(genome, "known", "clinvar.vcf.gz")
    rows = []
    for variant in genome.known.within(place.chrom, place.start, place.end):
        rows.append(known_row(variant, genome.known.path.name))
        if len(rows) > MOST:
            raise _too_many(place, "variants")
    return rows


def known_row(variant: KnownVariant, source: str) -> dict[str, Any]:
    """A known variant for people: pos is 1-based; a label that is a number is told in its header's word."""
    label = variant.group if variant.label.isdigit() and variant.group != "other" else variant.label
    place = {"start": variant.pos0, "end": variant.pos0 + len(variant.ref), "pos": variant.pos0 + 1}
    row = asdict(variant)
    del row["pos0"]
    return {**row, **place, "label": label, "source": source}


def _without(genome: Genome, what: str, example: str) -> NotFound:
    return NotFound(f"no {what} are given for {genome.id}", where="set",
                    fix=f"start the server with --{what} {genome.id}={example}")  # fmt: skip


def _too_many(place: Interval, what: str) -> NexVarError:
    return NexVarError(f"more than {MOST:,} {what} in {place}", where="region", fix="ask for a shorter one")
