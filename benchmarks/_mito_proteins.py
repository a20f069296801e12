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
from nexvar.train import data
from nexvar.train.markov import CODE

PROTEINS = ("ND1", "ND2", "COX1", "COX2", "ATP8", "ATP6", "COX3", "ND3", "ND4L", "ND4", "ND5", "ND6", "CYTB")
AMINO_ACIDS = "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG"  # vertebrate mitochondrial, TCAG order


def translate(dna: str) -> str:
    index = {b: i for i, b in enumerate("TCAG")}
    codons = (dna[i : i + 3] for i in range(0, len(dna) - 2, 3))
    return "".join(
        AMINO_ACIDS[16 * index[c[0]] + 4 * index[c[1]] + index[c[2]]] if set(c) <= set("TCAG") else "X" for c in codons
    )


def kmers(text: str, k: int) -> set[str]:
    return {text[i : i + k] for i in range(len(text) - k + 1)}


def open_frames(dna: str, least: int = 50) -> list[tuple[int, str, int]]:
    """(start on the forward strand, protein, strand) of every stop-free stretch of at least ``least`` codons."""
    frames = []
    reverse = dna[::-1].translate(str.maketrans("ACGT", "TGCA"))
    for strand, text in ((1, dna), (-1, reverse)):
        for frame in range(3):
            at = frame
            for protein in translate(text[frame:]).split("*"):
                if len(protein) >= least:
                    frames.append((at if strand == 1 else len(dna) - at - 3 * len(protein), protein, strand))
                at += 3 * (len(protein) + 1)
    return frames


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
            proteins[row["gene"]].append(translate(dna.tobytes().decode().upper()))
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
    for start, protein, strand in open_frames(dna):
        for gene, profile in known.items():
            hits = np.array([protein[i : i + 3] in profile.words for i in range(len(protein) - 2)], dtype=float)
            sums = np.convolve(hits, np.ones(min(profile.length, len(hits))), mode="valid")
            best = int(sums.argmax())
            alike = len(kmers(protein[best : best + profile.length], 3) & profile.words)  # different ones: no FFFFFF
            if alike >= max(profile.least, best_match.get(gene, (0.0, 0.0))[0] + 1):
                middle = 3 * (best + min(profile.length, len(hits)) / 2)
                best_match[gene] = (float(alike), start + middle if strand == 1 else start + 3 * len(protein) - middle)
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
