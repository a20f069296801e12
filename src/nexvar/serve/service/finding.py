"""What a person may mean by a word: a variant, a region, a gene. Answers are those of GET …/search."""

from __future__ import annotations

import re
from typing import Any

from nexvar.errors import NexVarError
from nexvar.genome.bed import parse_region
from nexvar.genome.reference import Fasta, Interval
from nexvar.genome.strings import parse_variant
from nexvar.genome.transcripts import Feature
from nexvar.serve.genomes import Genome

Hit = dict[str, Any]
MOST_LETTERS = 1000
_POSITION = re.compile(r"\S+:(?P<pos>[0-9,]+)")
_REGION = re.compile(r"\S+:[0-9,]+-[0-9,]+")


def search(genome: Genome, text: str, most: int) -> dict[str, Any]:
    """{"results": at most ``most`` hits, "near": gene symbols like the text where there is no hit}.

    A hit is {kind, name, contig, start, end, strand}, 0-based half-open, kind "variant" (with ref and alt), "region"
    or "gene". NexVarError where the text is a variant or a region that the genome does not have.
    """
    text = text.strip()
    if not text or len(text) > MOST_LETTERS:
        raise NexVarError(
            f"{len(text):,} characters", where="q", fix="a gene, a region, or a variant such as m.3243A>G"
        )
    hits = _places(genome.fasta, text)
    if genome.genes is not None:
        hits += [_named(feature) for feature in genome.genes.search(text, most)]
        near = [] if hits else genome.genes.nearest(text)
    else:
        near = []
    return {"results": hits[:most], "near": near}


def _places(fasta: Fasta, text: str) -> list[Hit]:
    """The variant or region that the text is; none where it is neither."""
    if whole := fasta.resolve(text):
        return [_region(Interval(whole.contig, *span)) for span in fasta.spans(whole.contig)]
    if _REGION.fullmatch(text):
        return [_region(parse_region(text, fasta))]
    if match := _POSITION.fullmatch(text):
        return [_region(parse_region(f"{text}-{match['pos']}", fasta))]
    try:
        variant = parse_variant(text, fasta, where="q")
    except NexVarError as error:
        if error.where == "q":  # it is not written as a variant; others say what is wrong with one
            return []
        raise
    resolved = fasta.resolve(variant.chrom)
    if resolved is None:
        why = fasta.why_unknown(variant.chrom) or f"the genome has {fasta.some_names()}"
        raise NexVarError(f"no contig {variant.chrom[:40]!r}", where="q", fix=why)
    contig, start, end = resolved.contig, variant.pos0, variant.pos0 + len(variant.ref)
    if end > max(high for _, high in fasta.spans(contig)):
        raise NexVarError(f"{text[:60]} is beyond the end", where="q", fix=f"{contig} has {fasta.extent(contig)}")
    alleles = {"ref": variant.ref, "alt": variant.alts[0]}
    name = f"{contig}:{start + 1}{variant.ref}>{variant.alts[0]}"
    return [{"kind": "variant", "name": name, "contig": contig, "start": start, "end": end, "strand": ".", **alleles}]


def _region(interval: Interval) -> Hit:
    place = {"contig": interval.chrom, "start": interval.start, "end": interval.end, "strand": "."}
    return {"kind": "region", "name": str(interval), **place, "ref": None, "alt": None}


def _named(feature: Feature) -> Hit:
    kind = "gene" if "gene" in feature.kind or feature.strand != "." else "region"
    place = {"contig": feature.contig, "start": feature.start, "end": feature.end, "strand": feature.strand}
    return {"kind": kind, "name": feature.name or feature.id, **place, "ref": None, "alt": None}
