"""GFF3 and GTF (GTF 2.2, GFF 2.5): one line a feature, checked as text -> ``FeatureRow``.

    GFF3    ID=mrna1;Parent=gene1;Name=x        percent-encoded; several lines with one ID are one feature
            (the ID of a part that has a parent is not kept: there are millions, and nobody asks for one)
    GTF     gene_id "g"; transcript_id "t";     genes and transcripts without a line of their own span their parts

Columns are 1-based and inclusive; rows are 0-based half-open. The names of attributes are those of GENCODE, Ensembl,
NCBI and SGD. Sources: GFF3 1.26 (the Sequence Ontology); GTF 2.2 (Brent lab).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from nexvar.errors import NexVarError
from nexvar.genome.columns import remedy
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import MAX_POS

UTRS = {
    "UTR": "UTR",
    "five_prime_UTR": "five_prime_UTR",
    "five_prime_utr": "five_prime_UTR",
    "three_prime_UTR": "three_prime_UTR",
    "three_prime_utr": "three_prime_UTR",
}
PARTS = frozenset({"exon", "CDS", "start_codon", "stop_codon", "intron", "Selenocysteine", *UTRS})
_NAMES = ("gene_name", "Name", "gene", "locus_tag", "gene_id")
_TYPES = ("gene_type", "gene_biotype", "biotype")
_ALIASES = ("Alias", "gene_synonym", "locus_tag", "gene_id")
_DESCRIPTIONS = ("description", "product", "Note")
_GTF_ITEM = re.compile(r'\s*([\w.:-]+) +(?:"([^"]*)"|([^";\s]+))\s*(?:;|$)')
_PLACE = re.compile("[0-9]{1,10}-[0-9]{1,10}")
_GTF_TRANSCRIPT = re.compile(r'transcript_id "([^"]+)"')


class FeatureRow(NamedTuple):
    """One line's feature. strand: +, - or "."; phase: 0, 1, 2, or -1 for none; "" for a text that is not there.

    aliases: separated by tabs. tags: by commas, such as MANE_Select. circular: the line says its sequence is a ring.
    """

    line_no: int
    contig: str
    start: int
    end: int
    strand: str
    kind: str
    phase: int
    id: str
    parent: str
    name: str = ""
    type: str = ""
    description: str = ""
    aliases: str = ""
    tags: str = ""
    circular: bool = False


def looks_like_gff(fields: Sequence[str]) -> bool:
    """Whether these fields are of a line of GFF3 or GTF."""
    return len(fields) == 9 and all(f.isdigit() for f in fields[3:5]) and fields[6] in "+-.?"


def is_gtf(attributes: str) -> bool:
    """Whether column 9 is GTF's ``key "value";`` and not GFF3's ``key=value``."""
    return _GTF_ITEM.match(attributes) is not None


def gff3_rows(lines: Lines) -> Iterator[FeatureRow]:
    """The features of a GFF3 file, one for each parent that a line names."""
    for number, fields, place in _places(lines):
        text, kind = fields[8], place[4]
        where = f"{lines.name}:{number}"
        if kind in PARTS and (parents := _value(text, "Parent")):
            for parent in parents.split(","):
                yield FeatureRow(number, *place, "", parent)
            continue
        values = _gff3_attributes(text, where)
        own, kin = values.get("ID", ""), values.get("Parent", "")
        rest = _told(values, transcript=bool(kin))
        circular = values.get("Is_circular", "").lower() == "true"
        for parent in kin.split(","):
            yield FeatureRow(number, *place, own, parent, *rest, circular)


def gtf_rows(lines: Lines) -> Iterator[FeatureRow]:
    """The features of a GTF file; at the end those that only their parts tell of."""
    seen: set[tuple[str, str]] = set()  # (contig, ID) of genes and transcripts with a line
    implied: dict[tuple[str, str], FeatureRow] = {}
    for number, fields, place in _places(lines):
        text, contig, kind = fields[8], place[0], place[4]
        found = _GTF_TRANSCRIPT.search(text) if kind in PARTS else None
        if found is not None and (contig, found[1]) in seen:
            yield FeatureRow(number, *place, "", found[1])
            continue
        values = _gtf_attributes(text, f"{lines.name}:{number}")
        gene, transcript = values.get("gene_id", ""), values.get("transcript_id", "")
        if kind not in PARTS:
            own, parent = (gene, "") if kind == "gene" or not transcript else (transcript, gene)
            seen.add((contig, own))
            yield FeatureRow(number, *place, own, parent, *_told(values, transcript=bool(parent)))
            continue
        yield FeatureRow(number, *place, "", transcript or gene)
        kin = [("gene", gene, "")] if gene else []
        kin += [("transcript", transcript, gene)] if transcript else []
        for level, own, parent in kin:
            if (contig, own) not in seen:
                row = implied.get((contig, own)) or FeatureRow(
                    number, *place[:4], level, -1, own, parent, *_told(values, transcript=level == "transcript")
                )
                implied[contig, own] = row._replace(start=min(row.start, place[1]), end=max(row.end, place[2]))
    yield from (row for key, row in implied.items() if key not in seen)


def _places(lines: Lines) -> Iterator[tuple[int, list[str], tuple[str, int, int, str, str, int]]]:
    """(line number, fields, (contig, start, end, strand, kind, phase)) of every feature line."""
    for number, line in lines:
        if not line or line[0] == "#":
            if line.startswith("##FASTA"):
                return
            continue
        if line[0] == ">":  # GFF3 allows a FASTA behind the features, with or without its ##FASTA
            return
        fields = line.split("\t")
        if len(fields) != 9:
            raise NexVarError(f"{len(fields)} columns, not 9", where=f"{lines.name}:{number}",
                              fix=remedy(line, 9, "GFF3 and GTF have 9 columns"))  # fmt: skip
        first, last, strand, phase = fields[3], fields[4], fields[6], fields[7]
        start, end = (int(first) - 1, int(last)) if _PLACE.fullmatch(f"{first}-{last}") else (0, 0)
        if not 0 <= start < end <= MAX_POS or strand not in _STRANDS or phase not in _PHASES or not fields[0]:
            raise _bad_place(fields, f"{lines.name}:{number}")
        yield number, fields, (fields[0], start, end, _STRANDS[strand], fields[2], _PHASES[phase])


_STRANDS = {"+": "+", "-": "-", ".": ".", "?": "."}
_PHASES = {"0": 0, "1": 1, "2": 2, ".": -1}


def _bad_place(fields: list[str], where: str) -> NexVarError:
    if not fields[0]:
        return NexVarError("no contig in column 1", where=where, fix="name the sequence")
    if fields[6] not in _STRANDS:
        return NexVarError(f"strand {fields[6][:20]!r}", where=where, fix="write + or -, or . for none")
    if fields[7] not in _PHASES:
        return NexVarError(f"phase {fields[7][:20]!r}", where=where, fix="write 0, 1 or 2, or . for none")
    return NexVarError(f"start {fields[3][:20]!r}, end {fields[4][:20]!r}", where=where,
                       fix="write whole numbers, 1-based, the start first")  # fmt: skip


def _value(attributes: str, key: str) -> str:
    """One value of GFF3's column 9: for the millions of lines of which no more is wanted."""
    key += "="
    at = 0 if attributes.startswith(key) else attributes.find(";" + key) + 1
    if not at and not attributes.startswith(key):
        return ""
    value = attributes[at + len(key) :].partition(";")[0]
    return unquote(value) if "%" in value else value


def _gff3_attributes(text: str, where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in text.split(";"):
        key, equals, value = item.strip().partition("=")
        if equals:
            values[key] = value
        elif key and key != ".":
            raise _no_attributes(key, where)
    return {key: unquote(value) if "%" in value and key != "Alias" else value for key, value in values.items()}


def _gtf_attributes(text: str, where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _GTF_ITEM.match(text, at)
        if match is None:
            raise NexVarError(
                f"attributes {text[at : at + 40]!r}", where=where, fix='GTF writes gene_id "x"; and so on'
            )
        key, value = match[1], match[2] if match[2] is not None else match[3]
        values[key] = f"{values[key]},{value}" if key == "tag" and key in values else values.get(key, value)
        at = match.end()
    if "gene_id" not in values:
        raise NexVarError("no gene_id", where=where, fix='every line of a GTF has gene_id "x";')
    return values


def _no_attributes(text: str, where: str) -> NexVarError:
    return NexVarError(f"attributes {text[:40]!r}", where=where, fix='GFF3 writes ID=x;Parent=y; GTF: gene_id "x";')


def _told(values: dict[str, str], *, transcript: bool) -> tuple[str, str, str, str, str]:
    """(name, type, description, aliases, tags) of a gene or transcript."""
    names = (("transcript_name", "Name", "transcript_id") if transcript else ()) + _NAMES
    types = (("transcript_type", "transcript_biotype") if transcript else ()) + _TYPES
    name, type_, description = (next((values[k] for k in keys if values.get(k)), "") for keys in
                                (names, types, _DESCRIPTIONS))  # fmt: skip
    others = () if transcript else (unquote(v) for k in _ALIASES for v in values.get(k, "").split(","))
    aliases = dict.fromkeys(other for other in others if other and other != name)
    return name, type_, description.partition(" [Source:")[0], "\t".join(aliases), values.get("tag", "")
