"""Labelled variants from a file, checked against the genome.

    ClinVar's VCF       CLNSIG is the label, MC the consequence (non-coding ones are kept), CLNREVSTAT the stars
    a VCF with LABEL    1 or 0, or ClinVar's words; INFO may have REGION, GENE (or GROUP), AF, STARS
    a table (.tsv)      columns chrom, pos, ref, alt, label; may have region, gene (or group), af, stars

Names of contigs with or without "chr". Symbolic and ambiguous alleles and REFs that the genome does not have are left
out, and counted. Alleles of records with several ALTs, with both labels, or with one that is neither class are in no
set; they are known, so that N3 does not draw them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.genome.alleles import checked_variant
from nexvar.genome.bcf import is_bcf
from nexvar.genome.columns import find_columns, first_row, table_rows, titles_of
from nexvar.genome.known import STARS, group_of, trimmed
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.tables import TITLES
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import VcfReader

PATHOGENIC = ("Pathogenic", "Likely_pathogenic", "Pathogenic/Likely_pathogenic")
BENIGN = ("Benign", "Likely_benign", "Benign/Likely_benign")
NONCODING = {
    *("intron_variant", "non-coding_transcript_variant", "5_prime_UTR_variant", "3_prime_UTR_variant"),
    *("upstream_gene_variant", "downstream_gene_variant", "intergenic_variant"),
    *("splice_donor_variant", "splice_acceptor_variant", "splice_region_variant"),
}
_FIELDS = ("label", "stars", "af", "region", "group", "gene")
Key = tuple[str, int, str, str]


@dataclass(frozen=True, slots=True)
class Allele:
    """One variant. contig: the FASTA's name; pos0: 0-based; positive: its class, None where its label is neither.

    pathogenic: whether ClinVar calls it so, with whatever review. numbers: the scores that were asked for.
    """

    contig: str
    pos0: int
    ref: str
    alt: str
    positive: bool | None = None
    pathogenic: bool = False
    stars: int | None = None
    af: float | None = None
    region: str = ""
    group: str = ""
    numbers: tuple[float, ...] = ()

    @property
    def key(self) -> Key:
        """The same for an allele however many bases it is written with."""
        return (self.contig, *trimmed(self.pos0, self.ref, self.alt))

    @property
    def variant(self) -> Variant:
        return Variant(self.contig, self.pos0, self.ref, (self.alt,))

    @property
    def is_snv(self) -> bool:
        return len(self.ref) == len(self.alt) == 1


@dataclass(frozen=True)
class Labelled:
    """alleles: all that are on the genome, by place, non-coding or not labelled ones included: ``positive`` tells.

    clinvar: whether the labels are ClinVar's. notes: what was left out, for people.
    """

    alleles: list[Allele]
    clinvar: bool
    notes: list[str]


def read_alleles(path: str | Path, fasta: Fasta, numbers: Sequence[str] = ()) -> Labelled:
    """Every allele of a file, each once. numbers: columns or INFO keys that hold scores.

    NexVarError for a file without labels, without one of ``numbers``, or of another genome.
    """
    lines = Lines(path, binary_ok=is_bcf)
    is_vcf = lines.is_binary or next(iter(lines), (0, ""))[1].startswith("##fileformat=VCF")
    if lines.is_binary:
        lines.close()
    left_out: Counter[str] = Counter()
    clinvar, rows = _vcf(path, numbers, left_out) if is_vcf else (False, _table(lines, numbers))
    placed = on_genome(rows, fasta, path, left_out)
    alleles = _once(placed, left_out)
    notes = [f"{path}: {count:,} {why}" for why, count in left_out.items() if count]
    if not any(allele.positive is not None for allele in alleles):
        raise NexVarError("no variant has a label", where=path, fix="INFO CLNSIG or LABEL, or a column label: 1 or 0")
    return Labelled(sorted(alleles, key=lambda a: (a.contig, a.pos0, a.ref, a.alt)), clinvar, notes)


# -- rows of files: alleles with the names of contigs that the file has


def _vcf(path: str | Path, numbers: Sequence[str], left_out: Counter[str]) -> tuple[bool, Iterator[Allele]]:
    reader = VcfReader(path, require_sorted=False)
    keys = {line[11:].partition(",")[0] for line in reader.header if line.startswith("##INFO=<ID=")}
    if not keys & {"CLNSIG", "LABEL"}:
        raise NexVarError("no INFO key CLNSIG or LABEL in its header", where=f"{path}:1",
                          fix="give ClinVar's VCF, or one with LABEL")  # fmt: skip
    if missing := [name for name in numbers if name not in keys]:
        raise NexVarError(f"no INFO key {missing[0]}", where=f"{path}:1", fix=f"it has {', '.join(sorted(keys)[:9])}")
    clinvar = "CLNSIG" in keys

    def rows() -> Iterator[Allele]:
        for record in reader:
            info = dict(item.partition("=")[::2] for item in record.info.split(";"))
            where = f"{path}:{record.line_no}"
            alleles = [Allele(record.chrom, record.pos0, record.ref.upper(), alt.upper()) for alt in record.alts]
            if len(alleles) > 1:  # whose label is it? They are in no set, and N3 does not draw them
                left_out["records with several ALTs are in no set"] += 1
                harmful = group_of(info.get("CLNSIG", "")) == "pathogenic"
                yield from (replace(allele, pathogenic=harmful) for allele in alleles)
                continue
            for bare in alleles:
                bare = replace(bare, numbers=tuple(_number(info.get(name, ""), name, where) for name in numbers))
                yield _of_clinvar(bare, info) if clinvar else _described(bare, _lower(info), where)

    return clinvar, rows()


def _of_clinvar(bare: Allele, info: Mapping[str, str]) -> Allele:
    """Its label, where its significance is one of the six words and one of its consequences is non-coding."""
    significance = info.get("CLNSIG", "")
    terms = {term.partition("|")[2] for term in info.get("MC", "").split(",")}
    positive = None
    if terms & NONCODING and significance in (*PATHOGENIC, *BENIGN):
        positive = significance in PATHOGENIC
    gene = info.get("GENEINFO", "").split("|")[0].partition(":")[0]
    return replace(bare, positive=positive, pathogenic=group_of(significance) == "pathogenic",
                   stars=STARS.get(info.get("CLNREVSTAT", ""), 0), group=gene)  # fmt: skip


def _lower(info: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in info.items()}


def _described(bare: Allele, row: Mapping[str, str], where: str) -> Allele:
    """An allele with what its row says: label, stars, af, region, and gene or group."""
    said = {name: "" if row.get(name, "") in (".", "NA", "nan") else row.get(name, "") for name in _FIELDS}
    stars = _number(said["stars"], "stars", where)
    if said["stars"] and stars not in range(5):
        raise NexVarError(f"stars is {said['stars'][:20]!r}", where=where, fix="a whole number from 0 to 4")
    af = _number(said["af"], "af", where)
    if said["af"] and not 0 <= af <= 1:
        raise NexVarError(f"af is {said['af'][:20]!r}", where=where, fix="a frequency from 0 to 1")
    word = {"1": "pathogenic", "0": "benign"}.get(said["label"], group_of(said["label"]))
    positive = {"pathogenic": True, "benign": False}.get(word)
    return replace(
        bare,
        positive=positive,
        pathogenic=positive is True,
        stars=int(stars) if said["stars"] else None,
        af=af if said["af"] else None,
        region=said["region"],
        group=said["group"] or said["gene"],
    )


def _table(lines: Lines, numbers: Sequence[str]) -> Iterator[Allele]:
    number, fields = first_row(lines)
    titles = titles_of(fields)
    columns = find_columns(titles, TITLES)
    if missing := [name for name in TITLES if name not in columns]:
        raise NexVarError(f"no column {missing[0]}", where=f"{lines.name}:{number}",
                          fix="a VCF, or a table with the titles chrom, pos, ref, alt and label")  # fmt: skip
    if "label" not in titles:
        raise NexVarError("no column label", where=f"{lines.name}:{number}", fix="1 and 0, or ClinVar's words")
    columns |= {name: titles.index(name) for name in _FIELDS if name in titles}
    for name in numbers:
        if name.lower() not in titles:
            what = f"no column {name}"
            raise NexVarError(what, where=f"{lines.name}:{number}", fix=f"it has {', '.join(titles[:9])}")
        columns[f"number {name}"] = titles.index(name.lower())
    for line_no, row in table_rows(lines, number, columns):
        where = f"{lines.name}:{line_no}"
        v = checked_variant(row["chrom"], row["pos"], row["ref"], [row["alt"]], where)
        bare = Allele(v.chrom, v.pos0, v.ref, v.alts[0])
        found = tuple(_number(row[f"number {name}"], name, where) for name in numbers)
        yield replace(_described(bare, row, where), numbers=found)


def _number(text: str, name: str, where: str) -> float:
    """NaN where there is none."""
    if text in ("", ".", "NA", "nan"):
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise NexVarError(f"{name} is {text[:20]!r}", where=where, fix="a number, or . for none") from None


# -- on the genome


def on_genome(rows: Iterator[Allele], fasta: Fasta, path: str | Path, left_out: Counter[str]) -> Iterator[Allele]:
    """The alleles with the FASTA's names, whose REF is what it has; NexVarError at the end where there is none."""
    agreeing = mismatches = total = 0
    names: dict[str, str] = {}
    for allele in rows:
        if not set(allele.ref + allele.alt) <= set("ACGT") or allele.ref == allele.alt:
            left_out["alleles are symbolic, ambiguous, or their REF"] += 1
            continue
        total += 1
        if allele.contig not in names:
            match = fasta.resolve(allele.contig)
            names[allele.contig] = match.contig if match else ""
        contig, end = names[allele.contig], allele.pos0 + len(allele.ref)
        low, high = fasta.span(contig, allele.pos0, end) if contig else (0, 0)
        if not low <= allele.pos0 < end <= high:
            left_out["variants outside of the FASTA"] += 1
        elif fasta.fetch(contig, allele.pos0, end) != allele.ref:
            mismatches += 1
        else:
            agreeing += 1
            yield replace(allele, contig=contig)
    compared = agreeing + mismatches
    if total and not agreeing:
        what = f"of {compared:,} REFs none is what {fasta.path.name} has" if compared else (
            f"none of {total:,} variants is on {fasta.path.name}")  # fmt: skip
        raise NexVarError(what, where=path, fix="is it of the same assembly?")
    left_out[f"of {compared:,} REFs agree with {fasta.path.name}; the others are left out"] = agreeing


def _once(alleles: Iterator[Allele], left_out: Counter[str]) -> list[Allele]:
    """Each allele once; where it has both labels, it is of neither class."""
    kept: dict[Key, Allele] = {}
    both: set[Key] = set()
    for allele in alleles:
        key = allele.key
        first = kept.setdefault(key, allele)
        if first is allele:
            continue
        left_out["variants that appear again"] += 1
        if None not in (first.positive, allele.positive) and first.positive != allele.positive:
            both.add(key)
        elif first.positive is None:
            kept[key] = replace(allele, pathogenic=first.pathogenic or allele.pathogenic)
    if both:
        left_out["variants with both labels"] = len(both)
    return [replace(a, positive=None, pathogenic=True) if key in both else a for key, a in kept.items()]
