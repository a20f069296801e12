"""Intervals, variants and the reference genome.

Coordinates are 0-based half-open here and everywhere inside; only readers and writers of VCF and tables know 1-based.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.genome.bytesource import open_source
from nexvar.genome.fasta import BLANKS, build_index
from nexvar.genome.names import ContigMatch, ContigNames, read_synonyms

_COMPLEMENT = str.maketrans("ACGTUNRYSWKMBDHVacgtunryswkmbdhv", "TGCAANYRSWMKVHDBtgcaanyrswmkvhdb")
_UPPER = bytes(range(256)).upper()


def reverse_complement(sequence: str) -> str:
    """The other strand, IUPAC codes included, case kept."""
    return sequence.translate(_COMPLEMENT)[::-1]


@dataclass(frozen=True)
class Interval:
    """[start, end) on ``chrom``, 0-based half-open."""

    chrom: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise NexVarError(
                f"interval {self.chrom}:{self.start}-{self.end} is empty or negative",
                fix="start must be below end, 0-based half-open",
            )

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start + 1}-{self.end}"


@dataclass(frozen=True)
class Variant:
    """REF -> ALTs at ``pos0`` (0-based). Bases are upper-case; ALTs may be symbolic ('<DEL>', '*', '.', breakends).

    ends: for symbolic alleles, the 0-based exclusive end of each ALT's event (VCF's END or SVLEN), None where the file
    gives none; () where no ALT is symbolic.
    """

    chrom: str
    pos0: int
    ref: str
    alts: tuple[str, ...]
    ends: tuple[int | None, ...] = ()

    def __str__(self) -> str:
        return f"{self.chrom}:{self.pos0 + 1}{self.ref}>{','.join(self.alts)}"


class Fasta:
    """A reference genome on disk: plain, bgzip or small gzip; validated, indexed by us, read in windows.

    synonyms: {other name: name} (either side may be the FASTA's), or a file of two tab-separated columns.
    circular: names of circular contigs; ``fetch`` then wraps around their end.

    Records named like ``chr17:41176312-41350000`` (1-based, as `samtools faidx` writes regions) whose length agrees
    also answer to ``chr17``, in that chromosome's coordinates; of several, the one that holds the interval.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synonyms: Mapping[str, str] | str | Path | None = None,
        circular: Iterable[str] = (),
    ) -> None:
        self.path = arguments.path(path, "genome")
        self.source = open_source(self.path)
        self._entries = {entry.name: entry for entry in build_index(self.source, self.path)}
        self.contigs: dict[str, int] = {name: entry.length for name, entry in self._entries.items()}
        self._slices = _find_slices(self.contigs)
        self.synonyms = dict(synonyms) if isinstance(synonyms, Mapping) else read_synonyms(synonyms)
        self._names = ContigNames(self.contigs, self._slices, self.synonyms)
        self.circular: set[str] = set()
        for name in circular:
            self.set_circular(name)

    def set_circular(self, name: str) -> str:
        """Treat a contig as circular from now on; returns its name in the FASTA."""
        resolved = self.resolve(name)
        if resolved is None or resolved.contig in self._slices:
            why = self.why_unknown(name)
            raise NexVarError(
                f"circular contig {name!r} is not in the FASTA" + (f": {why}" if why else ""),
                where=self.path,
                fix=f"it has {self.some_names()}",
            )
        self.circular.add(resolved.contig)
        return resolved.contig

    def some_names(self) -> str:
        """The first five contigs, and how many more there are, for messages."""
        names = list(self.contigs)
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    def resolve(self, name: str) -> ContigMatch | None:
        """The FASTA's contig for ``name`` and the rule that found it; None for an unknown contig."""
        return self._names.resolve(name)

    def why_unknown(self, name: str) -> str:
        """Why a name that might mean a contig of the FASTA does not; "" where nothing is like it."""
        return self._names.why_unknown(name)

    @property
    def ends(self) -> dict[str, int]:
        """Contigs as ``resolve`` names them, and where they end: a chromosome in place of the regions that are here."""
        regions = {record for slices in self._slices.values() for record, _, _ in slices}
        whole = {name: length for name, length in self.contigs.items() if name not in regions}
        return whole | {name: slices[-1][2] for name, slices in self._slices.items()}

    def is_slice(self, contig: str) -> bool:
        """Whether the FASTA has only parts of a resolved contig: its length is not known, then."""
        return contig in self._slices

    def spans(self, contig: str) -> list[tuple[int, int]]:
        """The coordinates this FASTA has of a resolved contig: (0, length), or the parts that region records cover."""
        if contig in self._slices:
            return [(start, end) for _, start, end in self._slices[contig]]
        if contig not in self.contigs:
            raise NexVarError(f"no contig {contig!r}", where=self.path, fix=f"it has {self.some_names()}")
        return [(0, self.contigs[contig])]

    def span(self, contig: str, start: int | None = None, end: int | None = None) -> tuple[int, int]:
        """The one of ``spans`` that holds [start, end) with the most room on either side, or is nearest to it.

        Without a place, the contig must be in one piece.
        """
        spans = self.spans(contig)
        if start is None and len(spans) > 1:
            raise NexVarError(f"{contig} is here in {len(spans)} pieces: {self.extent(contig)}", where=self.path,
                              fix="name one of them, with its coordinates")  # fmt: skip
        first = 0 if start is None else start
        last = first + 1 if end is None else end
        return max(spans, key=lambda s: min(first - s[0], s[1] - last))

    def extent(self, contig: str) -> str:
        """What the FASTA has of a contig, for people, 1-based: "101-200, 301-400"."""
        spans = self.spans(contig)
        return ", ".join(f"{low + 1}-{high}" for low, high in spans[:5]) + (", …" if len(spans) > 5 else "")

    def fetch(self, contig: str, start: int, end: int, *, upper: bool = True) -> str:
        """Bases [start, end) of a resolved contig; on a circular one, coordinates wrap (at most one full turn)."""
        low, high = self.span(contig, start, end)
        if contig in self.circular:
            if not 0 <= end - start <= high:
                raise NexVarError(f"{contig}:{start}-{end} is more than one turn of {high}", where=self.path)
            start, count = start % high, end - start
            first = self._read(contig, start, min(start + count, high), upper)
            rest = start + count - high
            return first + (self._read(contig, 0, rest, upper) if rest > 0 else "")
        if not low <= start <= end <= high:
            raise NexVarError(f"{contig}:{start + 1}-{end} is outside of {self.extent(contig)}", where=self.path)
        return self._read(contig, start, end, upper)

    def pieces(self, contig: str) -> Iterator[bytes]:
        """All bases of a resolved contig, upper-case, in pieces: about 0.7 GB/s where lines are joined one by one."""
        for name, _, _ in self._slices.get(contig, [(contig, 0, 0)]):
            entry, bases = self._entries[name], 0
            for start in range(entry.start, entry.end, 1 << 22):
                raw = self.source.read(start, min(1 << 22, entry.end - start)).translate(_UPPER, BLANKS)
                bases += len(raw)
                yield raw
            if bases != entry.length:
                raise NexVarError(
                    f"{name} has {bases:,} bases, not {entry.length:,} as its index says",
                    where=self.path,
                    fix="the file changed, or its .fai is stale: delete the .fai and start again",
                )

    def _read(self, contig: str, start: int, end: int, upper: bool) -> str:
        if start == end:
            return ""
        name, offset = contig, 0
        if contig in self._slices:
            wanted = self.span(contig, start, end)
            name, offset, _ = next(s for s in self._slices[contig] if s[1:] == wanted)
        raw = self._entries[name].fetch(self.source, start - offset, end - offset)
        if len(raw) != end - start or not raw.isalpha():
            raise NexVarError(
                f"bases {start + 1}-{end} of {contig} are not where the index says",
                where=self.path,
                fix="the file changed, or its .fai is stale: delete the .fai and start again",
            )
        return (raw.upper() if upper else raw).decode("ascii")


def _find_slices(contigs: Mapping[str, int]) -> dict[str, list[tuple[str, int, int]]]:
    """{chromosome: [(record, start, end), …]} of the records that are regions, by their start, each region once."""
    slices: dict[str, dict[tuple[int, int], str]] = {}
    for name, length in contigs.items():
        if match := re.fullmatch(r"(.+):([0-9,]{1,20})-([0-9,]{1,20})", name):
            start, end = (int(g.replace(",", "") or 0) for g in match.group(2, 3))
            if start >= 1 and end - start + 1 == length and match[1] not in contigs:
                slices.setdefault(match[1], {}).setdefault((start - 1, end), name)
    return {chrom: [(name, *span) for span, name in sorted(found.items())] for chrom, found in slices.items()}
