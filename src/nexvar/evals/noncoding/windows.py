"""Windows of one width with the variant in the middle, and which variants are neighbours.

A window that is shifted or cut at a contig's end is left out: where in its window a variant lies must not tell its
label. All windows come from ``genome/windows.py``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals.noncoding.alleles import Allele
from nexvar.genome.reference import Fasta
from nexvar.genome.windows import Status, Windows, allele_windows

_WHY = {
    Status.EDGE: "too near to the end of their contig for a centred window",
    Status.TOO_LONG: "longer than half the window",
    Status.N_AT_SITE: "with N at the site",
}


@dataclass(frozen=True)
class Cut:
    """windows: of every allele, empty where it is not centred; digest: of all of them. usable_N (N,) bool: where it is
    centred. group_N: (N,) int, neighbours are one group.

    grouped: whether the file named groups, genes for instance.
    """

    width: int
    windows: list[Windows]
    usable_N: np.ndarray
    group_N: np.ndarray
    grouped: bool
    digest: str
    notes: list[str]


def cut_windows(fasta: Fasta, alleles: Sequence[Allele], width: int) -> Cut:
    """The windows of all alleles; NexVarError where none is centred."""
    windows = [allele_windows(fasta, a.contig, a.pos0, a.ref, a.alt, width) for a in alleles]
    windows = [w if w.status is Status.OK else Windows(w.status) for w in windows]
    status = Counter(w.status for w in windows)
    if not status[Status.OK]:
        why = ", ".join(f"{count:,} {_WHY.get(what, what)}" for what, count in status.items())
        raise NexVarError(f"no variant has a window: {why}", where=f"--window {width}", fix="a smaller --window")
    notes = [f"{width} bp: {count:,} variants {_WHY.get(what, what)} are left out"
             for what, count in status.items() if what is not Status.OK]  # fmt: skip
    usable = np.array([w.status is Status.OK for w in windows])
    names = [a.group for a in alleles]
    turns = {name: fasta.contigs[name] for name in fasta.circular}
    group_N = groups(alleles, width, names, turns)
    digest = hashlib.sha256("\n".join(f"{w.ref_seq} {w.alt_seq}" for w in windows).encode()).hexdigest()[:16]
    return Cut(width, windows, usable, group_N, any(names), digest, notes)


def groups(alleles: Sequence[Allele], width: int, names: Sequence[str], turns: Mapping[str, int] = {}) -> np.ndarray:
    """(N,) int: variants whose windows overlap, or that have a name in common, and all that hang together by these.

    alleles: sorted by place. turns: length of each circular contig, whose last windows may reach its first. Folds keep
    groups whole: no base of a test window was in a training window.
    """
    parent = np.arange(len(alleles))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = int(parent[parent[i]])
        return i

    def reach(allele: Allele) -> int:  # the alternative window of a deletion is filled up on the right
        return allele.pos0 + width + max(0, len(allele.ref) - len(allele.alt))

    first: dict[str, int] = {}
    farthest: dict[str, int] = {}  # contig -> the variant whose windows reach farthest
    for i, (allele, name) in enumerate(zip(alleles, names, strict=True)):
        before = farthest.setdefault(allele.contig, i)
        if allele.pos0 < reach(alleles[before]):
            parent[root(i)] = root(before)
        if reach(allele) > reach(alleles[before]):
            farthest[allele.contig] = i
        if name:
            parent[root(i)] = root(first.setdefault(name, i))
    for i, allele in enumerate(alleles):
        last = farthest[allele.contig]
        if allele.contig in turns and allele.pos0 + turns[allele.contig] < reach(alleles[last]):
            parent[root(i)] = root(last)
    return np.unique([root(i) for i in range(len(alleles))], return_inverse=True)[1]
