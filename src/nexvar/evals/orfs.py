"""Reading frames of DNA: all six, under any of NCBI's genetic codes (genome/genetic_codes.py).

    open       a stretch without a stop: from behind a stop, or the sequence's end, to before the next
    complete   from the first start codon of such a stretch to its stop codon, which is there

A contig is read as a line: a frame that crosses the origin of a ring is seen in two pieces. An X (a codon with N) is no
stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.files import write_bytes, write_tsv
from nexvar.genome.genetic_codes import STOP, GeneticCode, genetic_code
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.paths import Read, Write, check_apart

KINDS = ("open", "complete")
ENDINGS = (".bed", ".tsv", ".faa")
COLUMNS = ("contig", "start", "end", "strand", "frame", "codons", "kind", "protein")


@dataclass(frozen=True)
class ReadingFrame:
    """start, end: 0-based half-open on the forward strand, without the stop codon. strand: "+" or "-".

    frame: 0, 1 or 2, the bases of its strand before the first codon of that frame. protein: without "*"; of a complete
    frame it begins with M, whatever the start codon. complete: a start codon at its beginning and a stop behind it.
    """

    start: int
    end: int
    strand: str
    frame: int
    protein: str
    complete: bool


def reading_frames(dna: str, code: int = 1, least: int = 50, kind: str = "open") -> list[ReadingFrame]:
    """Every frame of at least ``least`` codons (the stop not counted) in the six of ``dna``, strand by strand.

    kind: "open" or "complete", see above. Letters may be of either case. NexVarError: an unknown code or kind.
    """
    table = genetic_code(code)
    arguments.whole(least, "least", 1)
    arguments.one_of(kind, "kind", KINDS)
    found = []
    for strand, text in (("+", dna), ("-", reverse_complement(dna))):
        for frame in range(3):
            for at, protein, complete in _stretches(text, frame, table, least, kind):
                end = at + 3 * len(protein)
                place = (at, end) if strand == "+" else (len(dna) - end, len(dna) - at)
                found.append(ReadingFrame(*place, strand, frame, protein, complete))
    return found


def _stretches(text: str, frame: int, code: GeneticCode, least: int, kind: str) -> Iterator[tuple[int, str, bool]]:
    """(first base, protein, whether it is complete) of one frame of one strand."""
    whole = code.translate(text[frame:])
    at = frame  # of the stretch's first codon
    for protein in whole.split(STOP):
        behind = at + 3 * len(protein)
        stopped = behind < frame + 3 * len(whole)
        begins = (i for i in range(at, behind, 3) if text[i : i + 3].upper().replace("U", "T") in code.starts)
        first = next(begins, None) if len(protein) >= least else None
        if kind == "open" and len(protein) >= least:
            yield at, protein, stopped and first == at
        elif stopped and first is not None and behind - first >= 3 * least:
            yield first, "M" + protein[(first - at) // 3 + 1 :], True
        at = behind + 3


def write_frames(fasta: str | Path, output: str | Path, *, code: int = 1, least: int = 50, kind: str = "open") -> str:
    """The frames of every contig to .bed (0-based half-open), .tsv (with proteins) or .faa; a line for people.

    A record that is a region (chr17:1001-2000) gives places on its chromosome.
    """
    path = Path(output)
    if path.suffix not in ENDINGS:
        raise NexVarError(f"no format for the ending of {path.name!r}", where=path, fix=f"use {', '.join(ENDINGS)}")
    check_apart([Read(fasta)], [Write(path)])
    genetic_code(code)
    genome = Fasta(fasta)
    frames = [(name, replace(each, start=low + each.start, end=low + each.end))
              for name in genome.ends for low, high in genome.spans(name)
              for each in sorted(reading_frames(genome.fetch(name, low, high), code, least, kind),
                                 key=lambda f: (f.start, f.end))]  # fmt: skip
    if path.suffix == ".faa":
        lines = (f">{name}:{f.start + 1}-{f.end}({f.strand})\n{f.protein}\n" for name, f in frames)
        write_bytes(path, "".join(lines).encode())
    else:
        rows = (_row(path.suffix, kind, name, f) for name, f in frames)
        write_tsv(path, COLUMNS if path.suffix == ".tsv" else (), rows)
    return f"{len(frames):,} {kind} reading frames of {least} codons or more, code {code}: {path}"


def _row(ending: str, kind: str, name: str, f: ReadingFrame) -> Sequence[object]:
    if ending == ".bed":
        return name, f.start, f.end, f"{len(f.protein)}_codons", min(len(f.protein), 1000), f.strand
    return name, f.start, f.end, f.strand, f.frame, len(f.protein), kind, f.protein
