"""Windows of one width with the variant in the middle, and which variants are neighbours.

A window that is shifted or cut at a contig's end is left out: where in its window a variant lies must not tell its
label. All windows come from ``genome/windows.py``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
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
    digest = hashlib.sha256("\n".join(f"{w.ref_seq} {w.alt_seq}" for w in windows).encode()).hexdigest()[:16]
    return Cut(width, windows, usable, groups(alleles, width, names), any(names), digest, notes)


def groups(alleles: Sequence[Allele], width: int, names: Sequence[str]) -> np.ndarray:
    """(N,) int: variants whose windows overlap, or that have a name in common, and all that hang together by these.

    alleles: sorted by place. Folds keep groups whole: no base of a test window was in a training window.
    """
    parent = np.arange(len(alleles))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = int(parent[parent[i]])
        return i

    first: dict[str, int] = {}
    for i, (allele, name) in enumerate(zip(alleles, names, strict=True)):
        before = alleles[i - 1] if i else None
        if before is not None and before.contig == allele.contig and allele.pos0 - before.pos0 < width:
            parent[root(i)] = root(i - 1)
        if name:
            parent[root(i)] = root(first.setdefault(name, i))
    return np.unique([root(i) for i in range(len(alleles))], return_inverse=True)[1]
