"""BED as an annotation: a line is a transcript with its blocks as exons (BED12), or else a region with a name.

Columns: chrom, start, end (0-based half-open), name, score, strand, thickStart, thickEnd, rgb, blockCount, blockSizes,
blockStarts. What is thick is coding. Source: UCSC's FAQ on formats.
"""

from __future__ import annotations

from collections.abc import Iterator

from nexvar.errors import NexVarError
from nexvar.genome.columns import remedy
from nexvar.genome.gff import FeatureRow
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import MAX_POS

MAX_BLOCKS = 100_000


def bed_features(lines: Lines) -> Iterator[FeatureRow]:
    """The features of a BED file. Transcripts of one name are told apart by ``name#2``, ``name#3``, …"""
    times: dict[str, int] = {}
    for number, line in lines:
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        where = f"{lines.name}:{number}"
        fields = line.split("\t")
        if len(fields) < 3:
            raise NexVarError(
                f"{len(fields)} columns", where=where, fix=remedy(line, 3, "BED has chrom, start and end")
            )
        start, end = _numbers(fields[1:3], where)
        name = fields[3] if len(fields) > 3 else ""
        strand = fields[5] if len(fields) > 5 else "."
        if not start < end <= MAX_POS or strand not in ("+", "-", "."):
            raise NexVarError(f"start {start}, end {end}, strand {strand[:10]!r}", where=where,
                              fix="BED is 0-based, end exclusive; its strand is +, - or .")  # fmt: skip
        if len(fields) < 12:
            yield FeatureRow(number, fields[0], start, end, strand, "region", -1, name, "", name)
            continue
        times[name] = times.get(name, 0) + 1
        own = name if times[name] == 1 else f"{name}#{times[name]}"
        yield FeatureRow(number, fields[0], start, end, strand, "transcript", -1, own, "", name)
        for low, high, kind in _parts(fields, start, end, where):
            yield FeatureRow(number, fields[0], low, high, strand, kind, -1, "", own)


def _parts(fields: list[str], start: int, end: int, where: str) -> Iterator[tuple[int, int, str]]:
    """The exons of a transcript, and what of them is coding."""
    thick_start, thick_end, count = _numbers([*fields[6:8], fields[9]], where)
    sizes, starts = (_numbers(text.rstrip(",").split(","), where) for text in fields[10:12])
    if not count == len(sizes) == len(starts) or not 0 < count <= MAX_BLOCKS:
        raise NexVarError(f"{count} blocks, {len(sizes)} sizes, {len(starts)} starts", where=where,
                          fix="as many sizes and starts as blockCount says")  # fmt: skip
    for size, offset in zip(sizes, starts, strict=True):
        low, high = start + offset, start + offset + size
        if not low < high <= end:
            raise NexVarError(f"a block {low}-{high} is empty or beyond the end {end}", where=where,
                              fix="blockStarts count from chromStart")  # fmt: skip
        yield low, high, "exon"
        low, high = max(low, thick_start), min(high, thick_end)
        if low < high:
            yield low, high, "CDS"


def _numbers(texts: list[str], where: str) -> list[int]:
    bad = next((t for t in texts if not (t.isascii() and t.isdigit() and len(t) <= 10)), None)
    if bad is not None:
        raise NexVarError(f"{bad[:20]!r} is not a position", where=where, fix="write whole numbers, 0 or more")
    return [int(t) for t in texts]
