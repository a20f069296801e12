"""Regions: BED files (0-based half-open) and strings such as ``chr17:41,197,000-41,198,000`` (1-based, inclusive)."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.genome.columns import remedy
from nexvar.genome.reference import Fasta, Interval
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import MAX_POS

_REGION = re.compile(r"(?P<chrom>\S+):(?P<start>[0-9,]+)-(?P<end>[0-9,]+)")  # the last colon: HLA-A*01:01:5-9


def parse_position(text: str, where: str) -> int:
    """The 0-based position of a 1-based text, with or without commas."""
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 10 or not 1 <= int(digits) <= MAX_POS:
        raise NexVarError(f"position {text[:40]!r}", where=where, fix=f"write a whole number from 1 to {MAX_POS:,}")
    return int(digits) - 1


def parse_region(text: str, fasta: Fasta) -> Interval:
    """``chr17:41,197,000-41,198,000`` (1-based, inclusive) or a contig's name, as an interval of ``fasta``'s names."""
    resolved = fasta.resolve(text)
    if resolved is not None:
        return Interval(resolved.contig, *fasta.span(resolved.contig))
    match = _REGION.fullmatch(text)
    resolved = fasta.resolve(match["chrom"]) if match else None
    if match is None or resolved is None:
        why = fasta.why_unknown(match["chrom"] if match else text)
        what = f"no contig {match['chrom'][:40]!r}" if match else f"{text[:60]!r} is not a region"
        fix = f"the genome has {fasta.some_names()}" if match else "write it as chr17:41,197,000-41,198,000"
        raise NexVarError(f"{what}: {why}" if why else what, where="region", fix=fix)
    where = f"region {text[:60]}"
    start, end = parse_position(match["start"], where), parse_position(match["end"], where) + 1
    low, high = fasta.span(resolved.contig, start, end)
    if not low <= start < end <= high:
        raise NexVarError("it is backwards or outside of the contig", where=where,
                          fix=f"{resolved.contig} has {fasta.extent(resolved.contig)}")  # fmt: skip
    return Interval(resolved.contig, start, end)


class Regions:
    """Intervals of a BED file (or given), merged; ``(contig, pos) in regions`` with the FASTA's contig names."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        by_contig: dict[str, list[tuple[int, int]]] = {}
        for interval in intervals:
            by_contig.setdefault(interval.chrom, []).append((interval.start, interval.end))
        self._starts: dict[str, list[int]] = {}
        self._ends: dict[str, list[int]] = {}
        for contig, spans in by_contig.items():
            starts: list[int] = []
            ends: list[int] = []
            for start, end in sorted(spans):
                if ends and start <= ends[-1]:
                    ends[-1] = max(ends[-1], end)
                else:
                    starts.append(start)
                    ends.append(end)
            self._starts[contig], self._ends[contig] = starts, ends

    def __contains__(self, place: tuple[str, int]) -> bool:
        contig, pos = place
        index = bisect.bisect_right(self._starts.get(contig, []), pos) - 1
        return index >= 0 and pos < self._ends[contig][index]

    def intervals(self, contig: str) -> list[tuple[int, int]]:
        """The merged (start, end) on a contig, sorted."""
        return list(zip(self._starts.get(contig, []), self._ends.get(contig, []), strict=True))

    def digest(self) -> str:
        """A hash of the merged intervals."""
        return hashlib.sha256(repr((sorted(self._starts.items()), sorted(self._ends.items()))).encode()).hexdigest()

    def __len__(self) -> int:
        return sum(sum(self._ends[c]) - sum(self._starts[c]) for c in self._starts)


def read_bed(path: str | Path, fasta: Fasta) -> Regions:
    """The regions of a BED file (0-based half-open, tab-separated), names resolved like those of a VCF."""
    intervals = []
    for interval, _ in bed_rows(path, fasta):
        for low, high in fasta.spans(interval.chrom):
            if max(interval.start, low) < min(interval.end, high):
                intervals.append(Interval(interval.chrom, max(interval.start, low), min(interval.end, high)))
    if not intervals:
        raise NexVarError("no regions in the file", where=f"{path}:1", fix="BED has chrom, start and end, by tabs")
    return Regions(intervals)


def bed_rows(path: str | Path, fasta: Fasta) -> Iterator[tuple[Interval, list[str]]]:
    """The rows of a BED file in order: the region, with the FASTA's contig name, and the fields as they are."""
    lines = Lines(path)
    for number, line in lines:
        where = f"{lines.name}:{number}"
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        if len(fields) < 3:
            hint = remedy(line, 3, "BED has chrom, start and end")
            raise NexVarError(f"{len(fields)} columns", where=where, fix=hint)
        if not all(re.fullmatch("[0-9]{1,10}", f) for f in fields[1:3]):
            raise NexVarError(
                f"start {fields[1][:20]!r}, end {fields[2][:20]!r}", where=where, fix="write whole numbers"
            )
        start, end = int(fields[1]), int(fields[2])
        resolved = fasta.resolve(fields[0])
        if resolved is None:
            why = fasta.why_unknown(fields[0])
            what = f"contig {fields[0][:40]!r} is not in {fasta.path}"
            raise NexVarError(f"{what}: {why}" if why else what, where=where,
                              fix="is this BED of the same assembly?")  # fmt: skip
        high = max(high for _, high in fasta.spans(resolved.contig))
        if not start < end or end > high:
            raise NexVarError(f"{fields[0][:40]}:{start}-{end} is empty or beyond the end ({high})", where=where,
                              fix="BED is 0-based, end exclusive")  # fmt: skip
        yield Interval(resolved.contig, start, end), fields
