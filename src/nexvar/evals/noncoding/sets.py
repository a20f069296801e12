"""Which variants are compared with which: the positives, and each set of negatives.

    labelled   the file's negatives             where the labels are not ClinVar's
    N1         benign in ClinVar                stars as the positives'
    N2         common: minor allele frequency above 5 %, of a gnomAD VCF or the file's own af
    N3         a random allele at the place of each positive, of the same kind

N2 leaves out places of positives, whatever ClinVar calls pathogenic, and coding bases. N3 draws no allele that the
files know. An SNV is matched with an SNV, an insertion with as many other bases, a substitution of several bases with
others; a deletion has no other allele at its place, so that its positive is not in N3: a model that tells deletions
from SNVs would look good. Positives and N3 share their reference windows: whatever reads the reference alone is at
chance there by construction.

Sets: Hollis36/genomic-fm-noncoding-benchmark, data/scripts/02_filter_noncoding.py and 03_build_negative_sets.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals.noncoding.alleles import Allele, Key, Labelled, on_genome
from nexvar.genome.reference import Fasta
from nexvar.genome.vcf import VcfReader

SETS = ("labelled", "N1", "N2", "N3")
COMMON = 0.05  # the minor allele is more frequent
RATIO = 10  # negatives a positive, at most
_BOTH = "labels of both classes; fewer --min-stars, other --only"
TRIES = 100  # draws until an allele is none that is known


@dataclass(frozen=True)
class Sets:
    """alleles: each once, by place. positive_N: (N,) bool. rows: set -> (M,) which alleles are in it, sorted."""

    alleles: list[Allele]
    positive_N: np.ndarray
    rows: dict[str, np.ndarray]
    notes: list[str]


@dataclass(frozen=True)
class Common:
    """Of a gnomAD VCF: common SNVs that may be negatives, and the alleles at places of positives."""

    alleles: list[Allele]
    known: set[Key]
    notes: list[str]


def build(
    labelled: Labelled,
    *,
    common: Common | None = None,
    wanted: Sequence[str] = (),
    min_stars: int = 1,
    ratio: int = RATIO,
    seed: int = 0,
    only: Sequence[str] = (),
    is_coding: Callable[[list[Allele]], np.ndarray] | None = None,
) -> Sets:
    """Every set that the files allow, or those ``wanted``; NexVarError where one of these cannot be, or none can.

    min_stars: of ClinVar's, or where the file has stars. ratio: negatives a positive at most, drawn with ``seed``; 0:
    all. only: regions that count. is_coding: of alleles of no known consequence (gnomAD's).
    """
    notes = list(labelled.notes)
    usable = [a for a in labelled.alleles if a.positive is not None]
    if neither := len(labelled.alleles) - len(usable):
        notes.append(f"{neither:,} variants are of neither class, or coding")
    if only:
        usable = [a for a in usable if a.region in only]
        notes.append(f"{len(usable):,} variants in {', '.join(only)}")
        if common is not None:
            common = replace(common, alleles=[a for a in common.alleles if a.region in only])
    starred = [a for a in usable if a.stars is None or a.stars >= min_stars]
    if fewer := len(usable) - len(starred):
        notes.append(f"{fewer:,} variants with fewer than {min_stars} stars are left out")
    positives = [a for a in starred if a.positive]
    if not positives:
        raise NexVarError("no positive is left", where="--vcf", fix=_BOTH)
    negatives = {"N1" if labelled.clinvar else "labelled": [a for a in starred if not a.positive]}
    negatives["N2"] = _n2(labelled, starred, positives, common, is_coding, notes)
    known = {a.key for a in labelled.alleles} | (common.known if common is not None else set())
    rng = np.random.default_rng(seed)
    matched = _n3(positives, known, rng, notes)
    negatives["N3"] = [match for match in matched if match is not None]
    for name in wanted:
        if not negatives.get(name):
            fix = {"N1": "ClinVar's VCF", "N2": "--gnomad, or af in the file"}.get(name, "negatives in the file")
            raise NexVarError(f"no variant is in set {name}", where="--set", fix=fix)
    chosen = {name: some for name, some in negatives.items() if some and (not wanted or name in wanted)}
    if not chosen:
        raise NexVarError("no negative is left", where="--vcf", fix=_BOTH)
    return _joined(positives, chosen, matched, ratio, rng, notes)


def _joined(
    positives: list[Allele],
    chosen: dict[str, list[Allele]],
    matched: Sequence[Allele | None],
    ratio: int,
    rng: np.random.Generator,
    notes: list[str],
) -> Sets:
    """All alleles once, and the rows of each set among them."""
    partners = [a for a, match in zip(positives, matched, strict=True) if match is not None]
    members: dict[str, list[Allele]] = {}
    for name, some in chosen.items():
        most = ratio * len(positives)
        if ratio and len(some) > most:
            notes.append(f"{name}: {most:,} of {len(some):,} negatives are drawn, {ratio} for each positive")
            some = [some[i] for i in np.sort(rng.choice(len(some), most, replace=False))]
        members[name] = [*(partners if name == "N3" else positives), *some]
    unique: dict[Key, Allele] = {}
    for a in (a for some in members.values() for a in some):
        unique.setdefault(a.key, a)  # ClinVar's before gnomAD's: it names a gene
    alleles = sorted(unique.values(), key=lambda a: (a.contig, a.pos0, a.ref, a.alt))
    place = {a.key: i for i, a in enumerate(alleles)}
    positive = np.array([bool(a.positive) for a in alleles])
    rows = {name: np.unique([place[a.key] for a in some]) for name, some in members.items()}
    for name, each in rows.items():
        count = int(positive[each].sum())
        notes.append(f"set {name}: {count:,} positives, {len(each) - count:,} negatives")
    return Sets(alleles, positive, rows, notes)


def _n2(
    labelled: Labelled,
    starred: Sequence[Allele],
    positives: Sequence[Allele],
    common: Common | None,
    is_coding: Callable[[list[Allele]], np.ndarray] | None,
    notes: list[str],
) -> list[Allele]:
    places = {a.key[:2] for a in positives}
    if common is None:
        found = [a for a in starred if not a.positive and a.af is not None and is_common(a.af)]
        return [a for a in found if a.key[:2] not in places]
    notes += common.notes
    harmful = {a.key for a in labelled.alleles if a.pathogenic}
    kept = [a for a in common.alleles if a.key not in harmful and a.key[:2] not in places]
    if left := len(common.alleles) - len(kept):
        notes.append(f"N2: {left:,} common variants are pathogenic in ClinVar, or at the place of a positive")
    if is_coding is None:
        notes.append("N2: coding variants are among them: without an annotation nothing tells them")
    elif kept:
        coding_N = is_coding(kept)
        notes.append(f"N2: {int(coding_N.sum()):,} common variants are coding")
        kept = [a for a, coding in zip(kept, coding_N, strict=True) if not coding]
    return kept


def is_common(af: float) -> bool:
    """Whether the minor allele is frequent: an allele that nearly everybody has is no variant of the reference's."""
    return min(af, 1 - af) > COMMON


def read_common(path: str | Path, fasta: Fasta, labelled: Labelled, most: int, seed: int) -> Common:
    """Common SNVs of a gnomAD VCF that pass its filters, at most ``most`` of them, drawn in one pass.

    NexVarError where no record has AF, or none is on the genome.
    """
    reader = VcfReader(path, require_sorted=False)
    left_out: Counter[str] = Counter()
    rng, kept, seen, known = np.random.default_rng(seed), list[Allele](), 0, set[Key]()
    places = {a.key[:2] for a in labelled.alleles if a.positive}
    for allele in on_genome(_of_gnomad(reader, {pos0 for _, pos0 in places}, left_out), fasta, path, left_out):
        if any((allele.contig, allele.pos0 + i) in places for i in range(len(allele.ref))):
            known.add(allele.key)
        if not (allele.is_snv and allele.af is not None and is_common(allele.af)):
            continue
        seen += 1
        if len(kept) < most:
            kept.append(allele)
        elif (at := int(rng.integers(seen))) < most:
            kept[at] = allele
    notes = [f"{path}: {count:,} {why}" for why, count in left_out.items() if count]
    notes.append(f"{path}: {seen:,} SNVs with a minor allele frequency above {COMMON:.0%}")
    return Common(kept, known, notes)


def _of_gnomad(reader: VcfReader, places: set[int], left_out: Counter[str]) -> Iterator[Allele]:
    """Common alleles, and those at 0-based ``places``, whatever the contig; af is None where the filters fail."""
    stated = False
    for record in reader:
        values = next((item[3:] for item in record.info.split(";") if item.startswith("AF=")), "")
        stated |= bool(values)
        fails = record.filter not in ("PASS", ".")
        left_out["records do not pass the filters"] += fails
        near = any(record.pos0 + i in places for i in range(len(record.ref)))
        for alt, text in zip(record.alts, values.split(","), strict=False):
            af = None if fails else _frequency(text)
            if alt.isalpha() and (near or (af is not None and is_common(af))):
                yield Allele(record.chrom, record.pos0, record.ref.upper(), alt.upper(), False, af=af)
    if not stated:
        raise NexVarError("no record has AF", where=reader.name, fix="give gnomAD's sites VCF")


def _frequency(text: str) -> float | None:
    """From 0 to 1; None for what is none."""
    with suppress(ValueError):
        return value if 0 <= (value := float(text)) <= 1 else None
    return None


def _n3(
    positives: Sequence[Allele], known: set[Key], rng: np.random.Generator, notes: list[str]
) -> list[Allele | None]:
    """A negative for each positive, or None."""
    made, taken = list[Allele | None](), set(known)
    for allele in positives:
        match = _match(allele, taken, rng)
        if match is not None:
            taken.add(match.key)
        made.append(match)
    if without := sum(match is None for match in made):
        notes.append(f"N3: {without:,} positives have no match: deletions, or every allele there is known")
    return made


def _match(positive: Allele, known: set[Key], rng: np.random.Generator) -> Allele | None:
    """A random allele in the place of ``positive``, of as many bases; None where there is no other."""
    _, pos0, ref, alt = positive.key
    anchor = int(ref[0] == alt[0])  # the first base of an indel stays
    kept, new = alt[:anchor], len(alt) - anchor
    if not new:
        return None
    for _ in range(TRIES):
        drawn = kept + "".join(rng.choice(list("ACGT"), new))
        match = replace(positive, pos0=pos0, ref=ref, alt=drawn, positive=False, pathogenic=False, stars=None, af=None,
                        numbers=())  # fmt: skip
        whole = all(a != b for a, b in zip(ref[anchor:], drawn[anchor:], strict=False))  # no base of REF stays
        if match.key not in known and whole:
            return match
    return None
