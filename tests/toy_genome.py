"""A small genome that is always the same, its FASTA, and variants on it: for tests on top of files."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from nexvar.genome.reference import Variant

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def random_bases(length: int, seed: int = 0) -> str:
    """A, C, G, T, each as likely as the others; the same for the same seed on every machine."""
    return "".join(random.Random(seed).choices("ACGT", k=length))


def write_fasta(path: Path, **contigs: str) -> Path:
    """``write_fasta(path, chr1=..., chr2=...)``: a contig a line."""
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    return path


def other_bases(base: str) -> str:
    """The three bases that it is not, in alphabetical order."""
    return "ACGT".replace(base, "")


def snv(genome: str, pos0: int, chrom: str = "chr1") -> Variant:
    """A 0-based site's base to each of the three others."""
    return Variant(chrom, pos0, genome[pos0], tuple(other_bases(genome[pos0])))


def vcf_line(genome: str, pos0: int, alt: str | None = None, chrom: str = "chr1", info: str = ".") -> str:
    """The record of one 0-based site: its base to ``alt``, or to each of the three others."""
    return f"{chrom}\t{pos0 + 1}\t.\t{genome[pos0]}\t{alt or ','.join(other_bases(genome[pos0]))}\t.\t.\t{info}\n"


def write_vcf(path: Path, lines: Iterable[str], header: str = HEADER) -> Path:
    path.write_text(header + "".join(lines))
    return path
