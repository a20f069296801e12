"""The bases that readouts of the site compare: as many of the one window as of the other.

    reference     ... c c A C G T t t g a ...        ACGT>A: the alleles without shared first and last bases are CGT
    alternative   ... c c A t t g a c c t ...        and nothing, so 3 bases count, from the first that differs:
                          ^ ^ ^                      CGT of the one window, ttg of the other

The sum over an inserted or a deleted allele alone would have more terms in one window than in the other, and every term
is below zero: deletions would look likely and insertions unlikely, whatever they hold.
"""

from __future__ import annotations

from itertools import takewhile
from operator import eq

from nexvar.genome.windows import Windows

Interval = tuple[int, int]


def stretch(w: Windows, before: int = 0, behind: int = 0) -> tuple[Interval, Interval]:
    """[start, end) of the bases to compare in the reference and in the alternative window, equally many.

    They begin with the first base, in reading direction and from the allele on, at which the windows differ; so a
    repeat's deletion is the same wherever in the repeat the file puts it. They are as many as the longer allele has
    without the alleles' shared first and last bases. before, behind: bases more, or as many as both windows have.
    Windows that never differ (a repeat up to the end of both) give empty intervals.
    """
    ref, alt = w.ref_seq[slice(*w.ref_site)], w.alt_seq[slice(*w.alt_site)]
    first = _shared(ref, alt)
    last = _shared(ref[first:][::-1], alt[first:][::-1])
    bases = max(len(ref), len(alt)) - first - last
    same = _shared(w.ref_seq[w.ref_site[0] :], w.alt_seq[w.alt_site[0] :])
    ref_at, alt_at = w.ref_site[0] + same, w.alt_site[0] + same
    there = len(w.ref_seq) - max(ref_at, alt_at)  # bases up to the nearer end
    start, end = (-min(before, ref_at, alt_at), min(bases + behind, there)) if there else (0, 0)
    return (ref_at + start, ref_at + end), (alt_at + start, alt_at + end)


def _shared(one: str, two: str) -> int:
    """With how many equal letters the two begin."""
    return sum(1 for _ in takewhile(bool, map(eq, one, two)))
