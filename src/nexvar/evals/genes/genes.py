"""Genes with a label, on a genome: their places from an annotation, or from the table of labels itself.

    gene   locus_tag   essential   contig   start   end   strand   exons       exons: coding pieces, start-end;start-end
    thrA   b0002       0           NC_…     336     2799  +                     (0-based half-open, as start and end)

A name is that of a gene, a transcript or an ID, with or without the prefix that Ensembl writes (``gene:YAL001C``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.evals.tables import Table, column, read_table, zero_or_one
from nexvar.genome.annotation import Annotation, read_annotation
from nexvar.genome.genetic_codes import GeneticCode
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.genome.transcripts import Feature, Span, Transcript

NAMES = ("gene", "locus_tag", "gene_id", "name")
_SOUGHT = ("locus_tag", "gene_id", "gene", "name")  # in this order: several genes may have one symbol
PLACES = ("contig", "start", "end", "strand")
ACROSS = "across the origin of a ring, which is read as a line"
_EXONS = re.compile(r"[0-9]{1,10}-[0-9]{1,10}(;[0-9]{1,10}-[0-9]{1,10})*")
_CHOSEN = ("MANE_Select", "Ensembl_canonical", "basic")  # which of a gene's transcripts, before the longest


@dataclass(frozen=True)
class Gene:
    """cds: coding pieces with the stop codon, (start, end) 0-based half-open, in the order of the plus strand."""

    name: str
    contig: str
    strand: str
    cds: tuple[Span, ...]

    @property
    def length(self) -> int:
        """Of its coding bases."""
        return sum(end - start for start, end in self.cds)

    def coding_sequence(self, fasta: Fasta) -> str:
        """5' to 3', upper case."""
        bases = "".join(fasta.fetch(self.contig, start, end) for start, end in self.cds)
        return reverse_complement(bases) if self.strand == "-" else bases

    def trouble(self, fasta: Fasta, code: GeneticCode) -> str:
        """What is wrong with it, "" for a clean reading frame's beginning."""
        if self.cds[0][0] >= self.cds[-1][1]:
            return ACROSS
        low, high = fasta.span(self.contig, self.cds[0][0], self.cds[-1][1])
        if not low <= self.cds[0][0] < self.cds[-1][1] <= high:
            return "outside of the FASTA"
        if self.length % 3:
            return "CDS not a multiple of three"
        return "" if self.coding_sequence(fasta)[:3] in code.starts else "start codon missing"


@dataclass(frozen=True)
class LabelledGene:
    """gene: None where it has no place; status then says why, as for genes with something wrong; "" for a good one."""

    name: str
    label: bool
    gene: Gene | None
    status: str


def read_labelled(
    labels: str | Path, fasta: Fasta, annotation: str | Path | None, code: GeneticCode, label: str = "essential"
) -> list[LabelledGene]:
    """The genes of a table with a label, in its order; rows without a label are left out.

    annotation: GFF3, GTF or BED with their places; without one, the table has them. NexVarError: a table without names,
    labels or places, another label than 0 and 1, a gene with both, or without genes of both classes.
    """
    table = read_table(labels)
    keys = [name for name in NAMES if name in table]
    if not keys:
        has = ", ".join(table)
        raise NexVarError(f"no column {', '.join(NAMES)}", where=labels, fix=f"name one of its columns so: {has}")
    if annotation is None and (missing := [name for name in PLACES if name not in table]):
        raise NexVarError(f"no column {missing[0]}, and no annotation", where=labels, fix="give --gff3, --gtf or --bed")
    known = None if annotation is None else transcripts_by_name(read_annotation(annotation, fasta))
    found: list[LabelledGene] = []
    seen: dict[tuple[object, ...], int] = {}  # place -> the first gene there
    for i, text in enumerate(column(table, label, labels)):
        if text is None:
            continue
        if (value := zero_or_one(text)) is None:
            raise NexVarError(f"{label} is {str(text)[:40]!r}", where=f"{labels}: row {i + 1}", fix="write 0 or 1")
        names = {key: str(table[key][i]) for key in keys if table[key][i] is not None}
        name = next(iter(names.values()), f"row {i + 1}")
        gene = _placed(table, i, name, fasta, labels) if known is None else _known(known, names)
        status = "not in the annotation, or in no contig of the FASTA" if gene is None else gene.trouble(fasta, code)
        place = None if gene is None else (gene.contig, gene.strand, gene.cds)
        first = len(found) if place is None else seen.setdefault(place, len(found))
        if first < len(found):
            if found[first].label != value:
                what = f"{name}, {label} {value}, is the same gene as {found[first].name} before, {label} {1 - value}"
                raise NexVarError(what, where=f"{labels}: row {i + 1}", fix="keep one of them")
            status = status or "the same gene as in a row before"
        found.append(LabelledGene(name, bool(value), gene, status))
    for wanted in (True, False):
        if not any(each.label == wanted for each in found):
            what = f"no gene with {label} {int(wanted)}"
            raise NexVarError(what, where=labels, fix="genes of both classes are needed")
    if all(each.gene is None for each in found):
        raise NexVarError("none of its genes is there", where=annotation or labels, fix="is it of the same assembly?")
    return found


def _placed(table: Table, i: int, name: str, fasta: Fasta, where: object) -> Gene | None:
    """The gene of a row by the row's own place; None where the FASTA lacks its contig."""
    contig, start, end, strand = (table[name][i] for name in PLACES)
    pieces = (table["exons"][i] if "exons" in table else None) or f"{start}-{end}"
    row = f"{where}: row {i + 1}"
    if not _EXONS.fullmatch(str(pieces)) or strand not in ("+", "-"):
        what = f"place {start}-{end}, strand {strand}, exons {str(pieces)[:40]}"
        raise NexVarError(what, where=row, fix="0-based whole numbers, start-end;start-end; strand + or -")
    cds = sorted((int(a), int(b)) for a, _, b in (piece.partition("-") for piece in str(pieces).split(";")))
    if any(a >= b for a, b in cds) or any(one[1] > two[0] for one, two in zip(cds, cds[1:], strict=False)):
        raise NexVarError(f"pieces {str(pieces)[:60]}", where=row, fix="none empty, none overlapping")
    resolved = fasta.resolve(str(contig))
    return None if resolved is None else Gene(name, resolved.contig, str(strand), tuple(cds))


def _known(known: dict[str, Transcript], names: dict[str, str]) -> Gene | None:
    return next((gene_of(known[names[key]]) for key in _SOUGHT if names.get(key) in known), None)


def transcripts_by_name(annotation: Annotation) -> dict[str, Transcript]:
    """Every name and ID -> its coding transcript: of several the chosen (MANE), else that with the most coding bases.

    Aliases (locus tags, synonyms) too, where they are no gene's name and of one gene alone.
    NexVarError where nothing in the annotation is coding. Regions of a BED file of fewer than 12 columns are coding.
    """
    best: dict[str, tuple[tuple[int, int], Transcript]] = {}
    named: dict[str, set[str]] = {}  # alias -> IDs and names of what has it
    for transcript in _coding(annotation):
        feature = transcript.feature
        chosen = next((len(_CHOSEN) - i for i, tag in enumerate(_CHOSEN) if tag in feature.tags), 0)
        rank = (chosen, gene_of(transcript).length)
        kin = annotation.find(feature.parent) if feature.parent else []
        for name in _names([feature, *kin]):
            if name not in best or rank > best[name][0]:
                best[name] = rank, transcript
        for each in [feature, *kin]:
            for alias in each.aliases.split("\t") if each.aliases else ():
                named.setdefault(alias, set()).add(each.id or each.name)
    if not best:
        raise NexVarError("no CDS in the file", where=annotation.name, fix="give an annotation with coding sequences")
    found = {name: transcript for name, (_, transcript) in best.items()}
    return {alias: found[next(iter(of))] for alias, of in named.items() if len(of) == 1} | found


def gene_of(transcript: Transcript) -> Gene:
    """Its coding pieces as a gene."""
    feature = transcript.feature
    return Gene(feature.name or feature.id, feature.contig, feature.strand, transcript.cds)


def _coding(annotation: Annotation) -> Iterator[Transcript]:
    for contig in annotation.contigs:
        low, high = annotation.fasta.spans(contig)[0][0], annotation.fasta.spans(contig)[-1][1]
        for transcript in annotation.transcripts(contig, low, high):
            if transcript.cds and transcript.feature.strand in ("+", "-"):
                yield transcript
        for feature in annotation.features(contig, low, high):
            if feature.kind == "region" and feature.strand in ("+", "-"):
                whole = ((feature.start, feature.end),)
                yield Transcript(feature, whole, whole, (), ())


def _names(features: list[Feature]) -> set[str]:
    texts = {text for f in features for text in (f.name, f.id) if text}
    return texts | {re.sub("^(gene|transcript|CDS):", "", text) for text in texts}


def reasons(rows: list[dict[str, Any]]) -> list[str]:
    """For people: how many rows have which status, with the first names. rows: with ``gene`` and ``status``."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row["status"]:
            kinds.setdefault(row["status"], []).append(row["gene"])
    return [f"{len(names):,} left out: {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for kind, names in kinds.items()]  # fmt: skip
