"""What needs no model: the place of a variant, its bases, and scores that others computed.

Higher = more likely class 1. A value that a file does not have is missing (NaN), never 0, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pysam

from nexvar.errors import NexVarError
from nexvar.evals.noncoding.alleles import Allele
from nexvar.evals.noncoding.windows import Cut
from nexvar.genome.reference import Fasta
from nexvar.genome.signals import Signal

Scores = dict[str, np.ndarray]  # name -> (N,) float64, NaN where there is none
REGION, REGION_CLASS = "promoter, 5'UTR or splice site", "region class"  # baselines that are constant in a region
NEAR_GENE = ("promoter", "utr_5prime", "splice_proximal")
TRANSITIONS = {frozenset("AG"), frozenset("CT")}
TRACKS = ("phyloP", "phastCons")


def of_alleles(alleles: Sequence[Allele], fasta: Fasta, exon_distance_N: np.ndarray | None) -> Scores:
    """What a variant's place and bases say. exon_distance_N: (N,), inf where there is no exon."""
    made: Scores = {}
    if any(a.region in NEAR_GENE for a in alleles):
        made[REGION] = np.array([float(a.region in NEAR_GENE) for a in alleles])
    if exon_distance_N is not None:
        made["nearness to an exon's end"] = np.where(np.isfinite(exon_distance_N), -exon_distance_N, np.nan)
    made["transversion"] = np.array([_transversion(a) for a in alleles])
    if not all(a.contig in fasta.circular for a in alleles):
        made["nearness to its contig's middle"] = np.array([_centrality(a, fasta) for a in alleles])
    return made


def of_windows(cut: Cut) -> Scores:
    """Composition of the reference window: NaN where there is none."""
    texts = [w.ref_seq for w in cut.windows]
    return {"GC": _each(gc, texts), "CpG": _each(cpg, texts)}


def _each(value: Callable[[str], float], texts: Sequence[str]) -> np.ndarray:
    return np.array([value(text) if text else np.nan for text in texts])


def gc(text: str) -> float:
    """The share of G and C."""
    return (text.count("G") + text.count("C")) / len(text)


def cpg(text: str) -> float:
    """How many CpG."""
    return float(text.count("CG"))


def _transversion(allele: Allele) -> float:
    """1, 0 of a transition, missing for what is no SNV."""
    return float({allele.ref, allele.alt} not in TRANSITIONS) if allele.is_snv else np.nan


def _centrality(allele: Allele, fasta: Fasta) -> float:
    """Minus the bases to the middle of what the FASTA has: a contig a variant may have been cut around its variant."""
    if allele.contig in fasta.circular:
        return np.nan
    low, high = fasta.span(allele.contig, allele.pos0)
    return -float(abs(allele.pos0 - low - (high - low) // 2))


def of_region(region_N: np.ndarray, positive_N: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    """(N,) log-odds of a positive in the class of each variant less those of all classes, both in the other folds."""
    scores = np.full(len(region_N), np.nan)
    for fold in np.unique(fold_N):
        others = fold_N != fold
        for region in np.unique(region_N[~others].astype(str)):
            there = others & (region_N == region)
            scores[~others & (region_N == region)] = _log_odds(positive_N[there]) - _log_odds(positive_N[others])
    return scores


def _log_odds(positive_N: np.ndarray) -> float:
    """One more of each class is counted: of nothing, 0."""
    return float(np.log((positive_N.sum() + 1) / ((~positive_N).sum() + 1)))


def of_track(path: str | Path, fasta: Fasta, alleles: Sequence[Allele]) -> np.ndarray:
    """(N,) a bigWig's value at POS; NaN where it has none."""
    with closing(Signal(path, fasta)) as track:
        found = [track.means(a.contig, a.pos0, a.pos0 + 1, 1) for a in alleles]
    return np.array([bins[0][2] if bins else np.nan for bins in found])


def of_cadd(path: str | Path, fasta: Fasta, alleles: Sequence[Allele]) -> np.ndarray:
    """(N,) PHRED of each allele, from CADD's tabix-indexed TSV (Chrom Pos Ref Alt RawScore PHRED); NaN for none."""
    if not any(Path(f"{path}{ending}").is_file() for ending in (".tbi", ".csi")):
        raise NexVarError("no tabix index beside it", where=path, fix="download its .tbi, or `tabix -s 1 -b 2 -e 2` it")
    try:
        with closing(pysam.TabixFile(str(path), encoding="utf-8")) as tabix:
            names = {match.contig: name for name in tabix.contigs if (match := fasta.resolve(name))}
            if not names:
                raise NexVarError(f"none of its contigs ({', '.join(tabix.contigs[:3])}) is in {fasta.path.name}",
                                  where=path, fix="is it of the same assembly?")  # fmt: skip
            return np.array([_phred(tabix, names.get(a.contig), a, path) for a in alleles])
    except (OSError, ValueError) as error:
        raise NexVarError(f"cannot be read ({error})", where=path, fix="is the index of this very file?") from None


def _phred(tabix: pysam.TabixFile, name: str | None, allele: Allele, path: str | Path) -> float:
    for line in tabix.fetch(name, allele.pos0, allele.pos0 + 1) if name else ():
        fields = line.split("\t")
        if len(fields) < 5:
            raise NexVarError(f"{line[:40]!r} is no line of CADD", where=path, fix="Chrom Pos Ref Alt RawScore PHRED")
        if (int(fields[1]) - 1, fields[2], fields[3]) == (allele.pos0, allele.ref, allele.alt):
            return float(fields[-1])
    return np.nan
