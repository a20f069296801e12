"""HGVS on the genome: ``NC_000017.11:g.43094692A>G``, ``m.3243A>G``; substitutions, del, dup, ins, delins, inv."""

from __future__ import annotations

import re

from nexvar.errors import NexVarError
from nexvar.genome.alleles import anchored
from nexvar.genome.bed import parse_position
from nexvar.genome.reference import Fasta, Variant, reverse_complement

MAX_EVENT = 5_000_000
PATTERN = re.compile(
    r"(?:(?P<chrom>\S+):)?(?P<kind>[a-z])\.(?P<start>[0-9]+)(?:_(?P<end>[0-9]+))?"
    r"(?P<change>[ACGTN]>[ACGTN]|delins[ACGTN]+|del[ACGTN]*ins[ACGTN]+|del[ACGTN]*|dup[ACGTN]*|ins[ACGTN]+|inv|=)"
)
_GENE = re.compile(r"([A-Z]{2}_[0-9]+\.[0-9]+)\([^()]*\)")  # NC_012920.1(MT-TL1), as ClinVar writes it


def parse(match: re.Match[str], fasta: Fasta, where: str) -> Variant:
    """The variant of a match of ``PATTERN``; what is deleted, doubled or inverted is read from the FASTA."""
    kind, change = match["kind"], match["change"]
    if kind not in "gm":
        raise NexVarError(
            f"{kind}. is on a transcript or protein, not the genome", where=where, fix="give g. (or m.) coordinates"
        )
    chrom = match["chrom"] or ("MT" if kind == "m" else "")
    if gene := _GENE.fullmatch(chrom):
        chrom = gene[1]
    # NOTE m. without a name is the rCRS, even where the FASTA calls another sequence MT
    contig = resolved(fasta, chrom if match["chrom"] else "NC_012920.1" if kind == "m" else "", where)
    named = fasta.resolve(chrom)
    if named is None or named.contig != contig:
        chrom = contig
    start = parse_position(match["start"], where)
    end = parse_position(match["end"] or match["start"], where) + 1
    low, high = fasta.span(contig, start, end)
    if not low <= start < end <= high:
        raise NexVarError("the range is backwards or outside of the contig", where=where,
                          fix=f"{contig} has {fasta.extent(contig)}")  # fmt: skip
    if end - start > MAX_EVENT:
        raise NexVarError(f"an event of {end - start:,} bases", where=where, fix="give events below 5,000,000 bases")
    genome = fasta.fetch(contig, start, end)
    if ">" in change:
        if end - start != 1:
            raise NexVarError("a substitution of more than one base", where=where, fix="write it as delins")
        return Variant(chrom, start, change[0], (change[2],))
    if change.startswith("ins"):
        if end - start != 2:
            raise NexVarError("an insertion needs its two neighbours", where=where, fix="write g.100_101insACG")
        return Variant(chrom, start, genome[0], (genome[0] + change[3:],))
    if change == "=":
        raise NexVarError("'=' changes nothing", where=where, fix="leave it out")
    stated = re.fullmatch(r"(?:del|dup)([ACGTN]*)(?:ins[ACGTN]+)?", change)
    if stated and stated[1] and stated[1] != genome:
        raise NexVarError(f"it names {stated[1][:20]} but the genome has {genome[:20]}", where=where,
                          fix="is this the right assembly?")  # fmt: skip
    return anchored(fasta, chrom, start, genome, [_inserted(change, genome)])


def resolved(fasta: Fasta, chrom: str, where: str) -> str:
    """The FASTA's contig; NexVarError that says why there is none."""
    match = fasta.resolve(chrom) if chrom else None
    if match is None:
        why = fasta.why_unknown(chrom) if chrom else ""
        what = f"no contig {chrom!r} in {fasta.path}" + (f": {why}" if why else "")
        raise NexVarError(what, where=where, fix="name a contig of the FASTA, or give a synonym table")
    return match.contig


def _inserted(change: str, genome: str) -> str:
    if change == "inv":
        return reverse_complement(genome)
    if change.startswith("dup"):
        return genome + genome
    return change.rpartition("ins")[2] if "ins" in change else ""
