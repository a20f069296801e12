"""A value for every base, from a bigWig or bedGraph: a genome browser's tracks. 0-based half-open.

A bedGraph is written once as a bigWig, so that any stretch is read in the same time. Needs pybigtools.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.files import check_regular, replacing
from nexvar.genome.reference import Fasta
from nexvar.genome.textio import Lines


class Signal:
    """One track on one genome. path: its bigWig, which a browser may read.

    cache: a folder that keeps the bigWig made of a bedGraph; without one it lies in a temporary folder, which goes with
    this object. NexVarError for a file of another assembly.
    """

    def __init__(self, path: str | Path, fasta: Fasta, *, cache: Path | None = None) -> None:
        try:
            import pybigtools
        except ModuleNotFoundError:
            raise NexVarError("pybigtools is not installed", where=path, fix="pip install 'nexvar[tracks]'") from None
        self.source, self.fasta = check_regular(path), fasta
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self.path = self.source
        try:
            self._reader: Any = pybigtools.open(str(self.source))
        except Exception:  # the library has a kind of its own for every way in which a file is none
            if cache is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="nexvar-track-", ignore_cleanup_errors=True)
                cache = Path(self._temporary.name)
            self.path = _as_bigwig(self.source, fasta, cache)
            self._reader = pybigtools.open(str(self.path))
        if not self._reader.is_bigwig:
            raise NexVarError("a bigBed has no values", where=self.source, fix="give a bigWig or a bedGraph")
        self._names = self._contigs(self._reader.chroms())

    def _contigs(self, chroms: dict[str, int]) -> dict[str, str]:
        """{the FASTA's contig: the file's}; NexVarError where a length says that it is another sequence."""
        names: dict[str, str] = {}
        for name, length in chroms.items():
            match = self.fasta.resolve(name)
            if match is None:
                continue
            has = max(end for _, end in self.fasta.spans(match.contig))
            if length != has and not (self.fasta.is_slice(match.contig) and length > has):
                raise NexVarError(f"{name} has {length:,} bases, {has:,} in {self.fasta.path.name}",
                                  where=self.source, fix="give the track of this assembly")  # fmt: skip
            names[match.contig] = name
        if not names:
            some = ", ".join(list(chroms)[:3]) or "none"
            raise NexVarError(f"none of its contigs ({some}) is in {self.fasta.path.name}", where=self.source,
                              fix="give the track of this assembly")  # fmt: skip
        return names

    def means(self, contig: str, start: int, end: int, most: int = 1000) -> list[tuple[int, int, float]]:
        """(start, end, mean) of [start, end) in at most ``most`` bins; those without a value are left out."""
        match = self.fasta.resolve(contig)
        name = self._names.get(match.contig) if match else None
        if name is None or start >= end:
            return []
        bins = min(most, end - start)
        with self._lock:
            values_B = self._reader.values(name, start, end, bins=bins, fillna=None, oob=np.nan)
        edges = np.linspace(start, end, bins + 1).astype(int).tolist()
        spans = zip(edges, edges[1:], values_B.tolist(), strict=False)
        return [(low, high, value) for low, high, value in spans if math.isfinite(value)]

    def has(self, contig: str) -> bool:
        """Whether the file has a contig of the FASTA."""
        return contig in self._names

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """(end - start,) float64: the value of every base of a contig that the file has; 0 where none is given."""
        with self._lock:
            values: np.ndarray = self._reader.values(
                self._names[contig], start, end, uncovered=0.0, fillna=0.0, oob=0.0
            )
        return values

    def check_counts(self) -> None:
        """NexVarError where a value is negative, infinite or no number, by the file's own summary."""
        summary = self._reader.info()["summary"]
        if not all(math.isfinite(summary[key]) for key in ("sum", "min", "max")):
            raise NexVarError("it holds NaN or infinite values", where=self.source, fix="leave such positions out")
        if summary["min"] < 0:
            raise NexVarError(f"it holds negative values, down to {summary['min']:g}", where=self.source,
                              fix="absolute values, where they tell the strand; no log-ratios")  # fmt: skip

    def close(self) -> None:
        """The temporary copy of a bedGraph goes."""
        if self._temporary is not None:
            self._temporary.cleanup()


def _as_bigwig(path: Path, fasta: Fasta, folder: Path) -> Path:
    """A bedGraph as a bigWig in ``folder``, by the file's contents and the genome's contigs."""
    import pybigtools

    lines = Lines(path)
    lengths: dict[str, int] = {}
    for contig, _, _, _ in _bedgraph(lines, fasta):
        if contig not in lengths:
            lengths[contig] = max(end for _, end in fasta.spans(contig))
    if not lengths:
        raise NexVarError("no values on contigs of the genome", where=f"{path}:1", fix="is it of the same assembly?")
    digest = hashlib.sha256(repr(lengths).encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    copy = folder / f"track-{digest.hexdigest()[:32]}.bw"
    if not copy.exists():
        with replacing(copy) as temporary:
            pybigtools.open(str(temporary), "w").write(lengths, _bedgraph(lines, fasta))
    return copy


def _bedgraph(lines: Lines, fasta: Fasta) -> Iterator[tuple[str, int, int, float]]:
    """(contig, start, end, value) of a sorted bedGraph, checked; contigs that the FASTA does not have are left out."""
    seen: set[str] = set()
    chrom, contig, last = "", "", 0
    for number, line in lines:
        where = f"{lines.name}:{number}"
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split()
        value = math.nan
        with suppress(ValueError):
            value = float(fields[3]) if len(fields) == 4 else math.nan
        whole = all(f.isascii() and f.isdigit() and len(f) <= 10 for f in fields[1:3])
        if not (len(fields) == 4 and whole and math.isfinite(value)):
            raise NexVarError(f"{line[:40]!r} is neither of a bigWig nor of a bedGraph", where=where,
                              fix="a bedGraph has chrom, start, end and a number")  # fmt: skip
        if fields[0] != chrom:
            chrom, last = fields[0], 0
            if chrom in seen:
                raise NexVarError(f"{chrom[:40]} appears again", where=where, fix="`sort -k1,1 -k2,2n` it first")
            seen.add(chrom)
            match = fasta.resolve(chrom)
            contig = match.contig if match else ""
        start, end = int(fields[1]), int(fields[2])
        if not last <= start < end or (contig and end > max(high for _, high in fasta.spans(contig))):
            raise NexVarError(f"{chrom[:40]}:{start}-{end} is empty, out of order or beyond the end", where=where,
                              fix="`sort -k1,1 -k2,2n` it; is it of this assembly?")  # fmt: skip
        last = end
        if contig:
            yield contig, start, end, value
