"""Elements that a model tells of every base, against the annotation of a genome: MCC, AUPRC, segment overlap.

What is true is read from a GFF3 or GTF, both strands together, since the models tell no strand:

    protein_coding_gene, lncRNA      genes of this type
    exon, 5UTR, 3UTR                 exons and untranslated regions of every transcript
    intron                           what lies between the exons of a transcript, of any
    splice_donor, splice_acceptor    the first and the last two bases of an intron, on its strand
    others                           features whose kind is the element's name; not measured where there is none

Only bases with a probability count. MCC is at the threshold; AUPRC is the average precision, of probabilities in steps
of 1/10,000, so that a genome needs no more memory than a gene. Segment overlap is SOV (Zemla et al. 1999,
doi:10.1002/(SICI)1097-0134(19990201)34:2<220::AID-PROT7>3.0.CO;2-K) of the segments of the element, from 0 to 1.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.errors import NexVarError
from nexvar.evals.metrics import FEW, auprc_of
from nexvar.files import write_atomically
from nexvar.genome.annotation import Annotation, read_annotation
from nexvar.genome.reference import Fasta
from nexvar.inference.annotate import THRESHOLD, Caller
from nexvar.runs.annotate_run import pieces

STEPS = 10_000
SPLICE_BASES = 2
GENE_TYPES = {"protein_coding_gene": "protein_coding", "lncRNA": "lncRNA"}
KINDS = {"exon": "exon", "5UTR": "five_prime_UTR", "3UTR": "three_prime_UTR"}
OF_INTRONS = ("intron", "splice_donor", "splice_acceptor")
CHUNK = 1 << 16
Piece = tuple[str, int, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One element. bases: with a probability; inside: of these, in the element. note: why there is no number."""

    element: str
    bases: int
    inside: int
    mcc: float = math.nan
    auprc: float = math.nan
    overlap: float = math.nan
    note: str = ""


def run(
    probabilities: str | Path,
    gff3: str | Path,
    fasta: str | Path,
    *,
    threshold: float = THRESHOLD,
    gap: int = 0,
    min_length: int = 1,
) -> list[Row]:
    """A row for each element of ``nexvar annotate``'s .parquet or bigWigs (``out.bw``: out.exon.bw, …).

    threshold, gap, min_length: of segments, as there. NexVarError for files of another assembly, or without exons.
    """
    genome = Fasta(fasta)
    names, given = _probabilities(Path(probabilities))
    caller = Caller(names, threshold, gap=gap, min_length=min_length)
    annotation = read_annotation(gff3, genome)
    if not any(len(annotation.spans(contig, "exon")) for contig in annotation.contigs):
        what = "no exon in it: neither exons nor introns nor splice sites can be had"
        raise NexVarError(what, where=gff3, fix="give the annotation with its exons")
    counted = [_Counts() for _ in names]
    called: dict[tuple[str, str], list[tuple[int, int]]] = {}
    covered: dict[str, list[tuple[int, int]]] = {}
    truths = _Truths(annotation, genome, names)
    for contig, start, probs_NE in given:
        end = start + len(probs_NE)
        _check_place(genome, contig, end, probabilities)
        _check_probabilities(contig, start, probs_NE, probabilities)
        ranges = covered.setdefault(contig, [])
        if ranges and ranges[-1][1] == start:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
        for one in caller.add(contig, start, probs_NE):
            called.setdefault((one.contig, one.element), []).append((one.start, one.end))
        for e, name in enumerate(names):
            if (spans := truths.spans(contig, name)) is not None:
                counted[e].add(probs_NE[:, e], _inside(spans, start, end), threshold)
    for one in caller.end():
        called.setdefault((one.contig, one.element), []).append((one.start, one.end))
    if not covered:
        raise NexVarError("no probabilities in it", where=probabilities, fix="what `nexvar annotate` wrote")
    return [_row(name, counts, truths, called, covered) for name, counts in zip(names, counted, strict=True)]


def _row(
    name: str,
    counts: _Counts,
    truths: _Truths,
    called: dict[tuple[str, str], list[tuple[int, int]]],
    covered: dict[str, list[tuple[int, int]]],
) -> Row:
    bases = sum(end - start for ranges in covered.values() for start, end in ranges)
    if name not in truths.known:
        return Row(name, bases, 0, note="the annotation does not tell it")
    inside = int(counts.pos_U.sum())
    if min(inside, bases - inside) < FEW:
        return Row(name, bases, inside, note=f"fewer than {FEW} bases in it or out of it")
    pairs = []
    for contig, ranges in covered.items():
        spans = truths.spans(contig, name)
        true = _cut(spans, ranges) if spans is not None else []
        pairs.append((true, called.get((contig, name), [])))
    return Row(name, bases, inside, counts.mcc(), auprc_of((counts.pos_U[::-1], counts.neg_U[::-1])), sov(pairs))


def _check_place(genome: Fasta, contig: str, end: int, where: object) -> None:
    match = genome.resolve(contig)
    if match is None or end > max(high for _, high in genome.spans(match.contig)):
        what = f"it tells of {contig}:{end:,}, which {genome.path.name} does not have"
        raise NexVarError(what, where=where, fix="give the genome that was annotated")


def _check_probabilities(contig: str, start: int, probs_NE: np.ndarray, where: object) -> None:
    odd_N = ~((probs_NE >= 0) & (probs_NE <= 1)).all(1)
    if odd_N.any():
        what = f"a value at {contig}:{start + int(odd_N.argmax()) + 1:,} is no probability"
        raise NexVarError(what, where=where, fix=_ANNOTATE)


# -- probabilities


def _probabilities(path: Path) -> tuple[list[str], Iterator[Piece]]:
    """(elements, pieces of bases that stand side by side) of a file, or of the bigWigs beside each other."""
    if path.suffix == ".parquet":
        try:
            names = [name for name in pq.read_schema(path).names if name not in ("chrom", "pos")]
            kinds = {field.name: field.type for field in pq.read_schema(path)}
        except (OSError, pa.ArrowException) as error:
            raise NexVarError(f"it cannot be read ({str(error)[:80]})", where=path, fix=_ANNOTATE) from None
        wanted = {"chrom": pa.string(), "pos": pa.int64(), **dict.fromkeys(names, pa.float32())}
        if not names or kinds != wanted:
            raise NexVarError("its columns are not chrom, pos and elements", where=path, fix=_ANNOTATE)
        return names, pieces([path], names)
    if path.suffix == ".bw":
        files = {
            file.name[len(path.stem) + 1 : -3]: file
            for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*.bw"))
        }
        if not files:
            raise NexVarError(f"no {path.stem}.ELEMENT.bw beside it", where=path, fix=_ANNOTATE)
        return list(files), _bigwigs(list(files.values()))
    raise NexVarError(f"no format for the ending of {path.name!r}", where=path, fix=_ANNOTATE)


_ANNOTATE = "the .parquet or the out.bw that `nexvar annotate -o` was given"


def _bigwigs(files: Sequence[Path]) -> Iterator[Piece]:
    import pybigtools

    readers = []
    for file in files:
        try:
            readers.append(pybigtools.open(str(file)))
        except pybigtools.BBIReadError as error:
            raise NexVarError(f"no bigWig ({str(error)[:60]})", where=file, fix=_ANNOTATE) from None
    lengths = readers[0].chroms()
    for file, reader in zip(files, readers, strict=True):
        if reader.chroms() != lengths:
            fix = f"move away what is no file of `nexvar annotate`: each {files[0].name.split('.')[0]}.*.bw is read"
            raise NexVarError(f"its contigs are not those of {files[0].name}", where=file, fix=fix)
    for contig, length in lengths.items():
        for start in range(0, length, CHUNK):
            end = min(start + CHUNK, length)
            probs_NE = np.stack([r.values(contig, start, end, fillna=None) for r in readers], 1).astype(np.float32)
            known = np.concatenate(([False], ~np.isnan(probs_NE).any(1), [False]))
            edges = np.flatnonzero(known[1:] != known[:-1]).tolist()
            for a, b in zip(edges[::2], edges[1::2], strict=True):
                yield contig, start + a, probs_NE[a:b]


# -- what is true


class _Truths:
    """Merged spans of each element, a contig at a time."""

    def __init__(self, annotation: Annotation, genome: Fasta, elements: Sequence[str]) -> None:
        self.annotation, self.genome = annotation, genome
        self._contig, self._spans = "", dict[str, np.ndarray]()
        of_genes = {*GENE_TYPES, *KINDS, *OF_INTRONS}
        self.known = {
            e for e in elements if e in of_genes or any(len(annotation.spans(c, e)) for c in annotation.contigs)
        }

    def spans(self, contig: str, element: str) -> np.ndarray | None:
        """(N, 2), sorted and merged; None where the annotation does not tell it."""
        if contig != self._contig:
            self._contig, self._spans = contig, {}
        if element not in self.known:
            return None
        if element not in self._spans:
            self._spans[element] = merged(self._of(contig, element))
        return self._spans[element]

    def _of(self, contig: str, element: str) -> np.ndarray:
        match = self.genome.resolve(contig)
        if match is None:
            return np.empty((0, 2), dtype=np.int64)
        name, end = match.contig, max(high for _, high in self.genome.spans(match.contig))
        if element in GENE_TYPES:
            genes = self.annotation.features(name, 0, end)
            found = [(f.start, f.end) for f in genes if f.kind == "gene" and f.type == GENE_TYPES[element]]
        elif element in OF_INTRONS:
            found = []
            for transcript in self.annotation.transcripts(name, 0, end):
                minus = transcript.feature.strand == "-"
                for first, last in transcript.introns:
                    site = min(SPLICE_BASES, last - first)
                    left, right = (first, first + site), (last - site, last)
                    donor, acceptor = (right, left) if minus else (left, right)
                    found.append({"intron": (first, last), "splice_donor": donor, "splice_acceptor": acceptor}[element])
        else:
            return self.annotation.spans(name, KINDS.get(element, element))
        return np.array(found, dtype=np.int64).reshape(-1, 2)


def merged(spans_N2: np.ndarray) -> np.ndarray:
    """Sorted spans; those that touch or overlap joined."""
    result: list[list[int]] = []
    for start, end in sorted(spans_N2.tolist()):
        if result and start <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([start, end])
    return np.array(result, dtype=np.int64).reshape(-1, 2)


def _inside(spans_N2: np.ndarray, start: int, end: int) -> np.ndarray:
    """(end - start,) bool: which bases are in one of the spans."""
    first = np.searchsorted(spans_N2[:, 1], start, side="right")
    last = np.searchsorted(spans_N2[:, 0], end, side="left")
    inside = np.zeros(end - start, dtype=bool)
    for low, high in spans_N2[first:last]:
        inside[max(low - start, 0) : high - start] = True
    return inside


def _cut(spans_N2: np.ndarray, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of the spans lies in the ranges, by start."""
    result = []
    for start, end in ranges:
        first = np.searchsorted(spans_N2[:, 1], start, side="right")
        last = np.searchsorted(spans_N2[:, 0], end, side="left")
        result += [(max(int(a), start), min(int(b), end)) for a, b in spans_N2[first:last]]
    return result


# -- numbers


class _Counts:
    """Bases by probability, in and out of the element; and at the threshold."""

    def __init__(self) -> None:
        self.pos_U, self.neg_U = np.zeros(STEPS + 1), np.zeros(STEPS + 1)
        self.confusion = np.zeros((2, 2))  # [inside, called]

    def add(self, probs_N: np.ndarray, inside_N: np.ndarray, threshold: float) -> None:
        step_N = np.rint(probs_N * STEPS).astype(np.int64)
        self.pos_U += np.bincount(step_N[inside_N], minlength=STEPS + 1)
        self.neg_U += np.bincount(step_N[~inside_N], minlength=STEPS + 1)
        both_N = 2 * inside_N + (probs_N >= threshold)
        self.confusion += np.bincount(both_N, minlength=4).reshape(2, 2)

    def mcc(self) -> float:
        """Matthews correlation coefficient; 0 where it is undefined."""
        (tn, fp), (fn, tp) = self.confusion.tolist()
        root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return (tp * tn - fp * fn) / root if root else 0.0


def sov(pairs: Sequence[tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]]) -> float:
    """Segment overlap (SOV, 1999) of (true, called) segments of each contig, each sorted: 0 to 1; NaN without any.

    Of each true segment and each called one that overlaps it: (overlap + d) / extent of both, d the least of extent -
    overlap, overlap and half of either; weighted by the true one's length. True ones that nothing overlaps count as 0.
    """
    total = weight = 0.0
    for true, called in pairs:
        starts, ends = np.array([s for s, _ in called]), np.array([e for _, e in called])
        for a, b in true:
            length = b - a
            first = int(np.searchsorted(ends, a, side="right"))
            last = int(np.searchsorted(starts, b, side="left"))
            weight += length * max(last - first, 1)
            for c, d in called[first:last]:
                overlap, extent = min(b, d) - max(a, c), max(b, d) - min(a, c)
                allowed = min(extent - overlap, overlap, length // 2, (d - c) // 2)
                total += length * (overlap + allowed) / extent
    return total / weight if weight else math.nan


# -- output


COLUMNS = ("element", "bases", "in it", "MCC", "AUPRC", "segment overlap")


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of aligned text."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]  # behind them stand numbers or a note
    lines = []
    for element, bases, inside, *rest in cells:
        first = element.ljust(widths[0]), bases.rjust(widths[1]), inside.rjust(widths[2])
        lines.append("  ".join([*first, *rest]))
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    first = row.element, f"{row.bases:,}", f"{row.inside:,}"
    return (*first, row.note) if row.note else (*first, *(f"{v:.3f}" for v in (row.mcc, row.auprc, row.overlap)))


def write(rows: Sequence[Row], folder: Path) -> list[str]:
    """``metrics.tsv`` in the folder; a line that says so."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["element\tbases\tinside\tmcc\tauprc\tsegment_overlap\tnote"]
    for row in rows:
        numbers = ("" if math.isnan(v) else f"{v:.6f}" for v in (row.mcc, row.auprc, row.overlap))
        lines.append("\t".join([row.element, str(row.bases), str(row.inside), *numbers, row.note]))
    with write_atomically(folder / "metrics.tsv") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return [f"written to {folder / 'metrics.tsv'}"]
