"""How much of a protein a completed gene recovers: the scorers of Evo 2's benchmark, and what they leave out.

    prokaryote   translation to the first stop ── global alignment (BLOSUM62, -11, -1) ── identity of aligned columns
    eukaryote    exonerate protein2genome splices ── translation ── identity place by place

Source: ArcInstitute/evo2 @ 53f19599, scripts/gene_completion. Biopython aligns and translates; exonerate is a program
that must be installed. Residues count from 0; ``known`` of them are the prompt's.
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.genome.genetic_codes import STOP, genetic_code
from nexvar.genome.reference import reverse_complement

DRAWS = 20
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@dataclass(frozen=True)
class Recovery:
    """percent: identical among the compared residues, as published; covered: compared of those to be made, in percent.

    NaN where nothing can be compared, or nothing was to be made.
    """

    percent: float
    covered: float

    @property
    def of_all(self) -> float:
        """Identical of all residues that were to be made, in percent: what is missing counts as wrong."""
        return 0.0 if self.covered == 0 else self.percent * self.covered / 100


def translated(dna: str) -> str:
    """To the first stop."""
    return genetic_code(1).translate(dna).partition(STOP)[0]


def aligned(protein: str, reference: str, known: int) -> Recovery:
    """Prokaryotes: over columns without a gap, of reference residues from ``known`` on.

    NOTE what lies behind an early stop has no column: a stump can have 100 %. ``covered`` says how much was compared.
    """
    if not protein or not reference:
        return Recovery(math.nan, 0.0)
    aligner = _aligner()
    known_letters = str(aligner.substitution_matrix.alphabet)
    scored = ("".join(a if a in known_letters else "X" for a in text) for text in (reference, protein))  # U, O, J
    rows = aligner.align(*scored)[0].indices
    pairs = [(r, q) for r, q in zip(*rows, strict=True) if r >= known and q >= 0]
    same = sum(reference[r] == protein[q] for r, q in pairs)
    left = len(reference.rstrip(STOP)) - known
    return Recovery(100 * same / len(pairs) if pairs else math.nan, 100 * len(pairs) / left if left > 0 else math.nan)


def placewise(protein: str, reference: str, known: int) -> Recovery:
    """Eukaryotes: residue by residue from ``known`` on, over the shorter of the two, no gaps."""
    pairs = list(zip(protein[known:], reference[known:], strict=False))
    left = len(reference) - known
    same = sum(a == b for a, b in pairs)
    return Recovery(100 * same / len(pairs) if pairs else math.nan, 100 * len(pairs) / left if left > 0 else math.nan)


def chance(
    scorer: Callable[[str, str, int], Recovery], reference: str, known: int, seed: int = 0
) -> tuple[float, float]:
    """(random codons, the reference shuffled) behind the prompt's residues: mean percent of ``DRAWS``."""
    rng, whole = random.Random(seed), reference.rstrip(STOP)
    sense = [a for a in genetic_code(1).amino_acids if a != STOP]  # each amino acid as often as it has codons
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(DRAWS):
        rest = whole[known:]
        drawn = ("".join(rng.choices(sense, k=len(rest))), "".join(rng.sample(rest, len(rest))))
        for values, each in zip(found, drawn, strict=True):
            values.append(scorer(whole[:known] + each, reference, known).percent)
    return mean(found[0]), mean(found[1])


def mean(values: list[float]) -> float:
    """Of those that are numbers; NaN for none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


@cache
def _aligner() -> Any:
    try:
        from Bio.Align import PairwiseAligner, substitution_matrices
    except ImportError as error:
        raise NexVarError("Biopython is not installed", fix="pip install 'nexvar[genes]'") from error
    aligner = PairwiseAligner(mode="global", open_gap_score=-11, extend_gap_score=-1)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    return aligner


@dataclass(frozen=True)
class Spliced:
    """protein: of the joined exons, stops as "*"; exons: (start, end) 0-based half-open on the forward strand."""

    protein: str
    exons: tuple[tuple[int, int], ...]

    def residues_before(self, position: int) -> int:
        """Whole codons of a product of the forward strand that lie before a position."""
        return sum(min(end, position) - start for start, end in self.exons if start < position) // 3


def splice(dna: str, reference: str) -> Spliced:
    """The exons that exonerate finds for a protein (none: an empty protein). NexVarError without the program."""
    program = shutil.which("exonerate")
    if program is None:
        raise NexVarError("the program exonerate is not installed", where="eukaryotes", fix="apt install exonerate")
    letters = "".join(base if base in "ACGT" else "N" for base in dna.upper())
    with tempfile.TemporaryDirectory() as folder:
        query, target = Path(folder, "q.faa"), Path(folder, "t.fna")
        query.write_text(f">query\n{reference}\n", encoding="ascii")
        target.write_text(f">target\n{letters}\n", encoding="ascii")
        words = [program, "--model", "protein2genome", "--showalignment", "no", "--showvulgar", "no",
                 "--showquerygff", "no", "--showtargetgff", "yes", str(query), str(target)]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return Spliced("", ())
    rows = [line.split("\t") for line in done.stdout.splitlines() if not line.startswith("#")]
    found = sorted((int(r[3]) - 1, int(r[4]), r[6]) for r in rows if len(r) >= 9 and r[2] == "exon")
    exons = tuple((start, end) for start, end, _ in found)
    bases = "".join(letters[start:end] for start, end in exons)
    if found and found[-1][2] == "-":
        bases = reverse_complement(bases)
    return Spliced(genetic_code(1).translate(bases), exons)
