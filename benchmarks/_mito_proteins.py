"""Which of the 13 mitochondrial proteins a genome holds, and in what order; which known genome it is most like."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from _nexvar_mito import (
    annotation,
    in_one_piece,
)
from nexvar.evals.orfs import reading_frames
from nexvar.genome.genetic_codes import genetic_code
from nexvar.train import data
from nexvar.train.markov import CODE

PROTEINS = ("ND1", "ND2", "COX1", "COX2", "ATP8", "ATP6", "COX3", "ND3", "ND4L", "ND4", "ND5", "ND6", "CYTB")
CODE_NUMBER = 2  # NCBI's genetic code of vertebrate mitochondria


def kmers(text: str, k: int) -> set[str]:
    return {text[i : i + k] for i in range(len(text) - k + 1)}


@dataclass(frozen=True)
class Profile:
    """A protein as the 3-mers of amino acids that a tenth of its known versions share."""

    words: set[str]
    length: int
    least: float  # half of what a known version has, in the middle


def profiles(store: data.Store, records: list[data.CorpusRecord], features: Path) -> dict[str, Profile]:
    """From the annotated proteins of ``records``."""
    wanted = {r.name: r for r in records}
    proteins: dict[str, list[str]] = {gene: [] for gene in PROTEINS}
    for row in annotation(features, wanted, ("CDS",)):
        place = in_one_piece(row["location"])
        if row["gene"] in proteins and place:
            start, end, other_strand = place
            dna = store.sequence(wanted[row["species"]])[start:end]
            dna = data.COMPLEMENT[dna[::-1]] if other_strand else dna
            proteins[row["gene"]].append(genetic_code(CODE_NUMBER).translate(dna.tobytes().decode()))
    result = {}
    for gene, known in proteins.items():
        count = Counter(word for protein in known for word in kmers(protein, 3))
        words = {word for word, n in count.items() if n >= 0.1 * len(known)}
        typical = float(np.median([len(kmers(protein, 3) & words) for protein in known]))
        result[gene] = Profile(words, int(np.median([len(p) for p in known])), 0.5 * typical)
    return result


def proteins_found(dna: str, known: dict[str, Profile]) -> dict[str, float]:
    """Gene -> middle of the stretch, as long as the gene and inside one open frame, that is most like its profile."""
    best_match: dict[str, tuple[float, float]] = {}  # gene -> how alike, middle
    for frame in reading_frames(dna, CODE_NUMBER):
        protein = frame.protein
        for gene, profile in known.items():
            hits = np.array([protein[i : i + 3] in profile.words for i in range(len(protein) - 2)], dtype=float)
            sums = np.convolve(hits, np.ones(min(profile.length, len(hits))), mode="valid")
            best = int(sums.argmax())
            alike = len(kmers(protein[best : best + profile.length], 3) & profile.words)  # different ones: no FFFFFF
            if alike >= max(profile.least, best_match.get(gene, (0.0, 0.0))[0] + 1):
                middle = 3 * (best + min(profile.length, len(hits)) / 2)
                best_match[gene] = (float(alike), frame.start + middle if frame.strand == "+" else frame.end - middle)
    return {gene: place for gene, (_, place) in best_match.items()}


def in_order(places: dict[str, float]) -> int:
    """The most proteins that can be read off a genome in their order (the longest increasing run, gaps allowed)."""
    ranks = [PROTEINS.index(gene) for gene, _ in sorted(places.items(), key=lambda item: item[1])]
    longest: list[int] = []
    for i, rank in enumerate(ranks):
        longest.append(1 + max((longest[j] for j in range(i) if ranks[j] < rank), default=0))
    return max(longest, default=0)


class Nearest:
    """Which of many genomes shares the most 16-mers with another: an index of every 16-mer (32 bits), sorted."""

    def __init__(self, genomes: list[np.ndarray]) -> None:
        words = [np.unique(self.words(g)) for g in genomes]
        owner = np.repeat(np.arange(len(words), dtype=np.uint16), [len(w) for w in words])
        self.all = np.concatenate(words)
        order = self.all.argsort(kind="stable")
        self.all, self.owner = self.all[order], owner[order]

    @staticmethod
    def words(letters: np.ndarray) -> np.ndarray:
        """Every stretch of 16 letters A, C, G, T as a number, 2 bits a letter."""
        code = CODE[letters]
        count = len(code) - 15
        word, known = np.zeros(count, dtype=np.uint32), np.ones(count, dtype=bool)
        for i in range(16):
            part = code[i : i + count]
            word, known = word * np.uint32(4) + (part & 3), known & (part < 4)
        return word[known]

    def share(self, letters: np.ndarray) -> float:
        """The share of this genome's 16-mers that its nearest neighbour has, too."""
        mine = np.unique(self.words(letters))
        first, last = (np.searchsorted(self.all, mine, side) for side in ("left", "right"))
        hits = np.concatenate([self.owner[a:b] for a, b in zip(first, last, strict=True)])
        return float(np.bincount(hits, minlength=1).max()) / len(mine)
