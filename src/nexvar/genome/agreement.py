"""Do the variants and the FASTA speak of the same genome? Asked before anything is computed.

What is compared: the names of the contigs, the lengths that the ##contig lines state, and what an accession means. REF
alleles are compared with the genome elsewhere (runs/plan.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from nexvar.errors import NexVarError
from nexvar.genome.assemblies import ACCESSIONS, assembly_of_length
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import VariantSource
from nexvar.genome.vcf import Record

GO_ON = "--max-ref-mismatch 1 to go on"


def check_agreement(
    name: str, declared: Mapping[str, int | None], used: Sequence[str], fasta: Fasta, *, strict: bool
) -> list[str]:
    """Lines that say how the file ``name`` and the FASTA differ; NexVarError (if strict) where variants are concerned.

    declared: {contig: length} of its header. used: the contigs that its variants are on.
    """
    if strict:
        _check_names(name, used, fasta)
    differing = [text for contig in declared if (text := length_difference(contig, declared[contig], fasta))]
    concerned = [text for contig in used if (text := length_difference(contig, declared.get(contig), fasta))]
    if strict and concerned:
        raise NexVarError(
            "another sequence or assembly: " + _some(concerned, "; "),
            where=name,
            fix=f"give the FASTA the variants were called on, or {GO_ON}",
        )
    return [f"{name}: {_some(differing, '; ')}"] if differing else []


def agreeing(reader: VariantSource, fasta: Fasta) -> Iterator[Record]:
    """The records of ``reader``; NexVarError at the first on a contig of which its header states another length."""
    contigs: set[str] = set()
    for record in reader:
        if record.chrom not in contigs:
            contigs.add(record.chrom)
            if text := length_difference(record.chrom, reader.contigs.get(record.chrom), fasta):
                raise NexVarError(f"another sequence or assembly: {text}", where=f"{reader.name}:{record.line_no}",
                                  fix="give the FASTA the variants were called on")  # fmt: skip
        yield record


def length_difference(contig: str, length: int | None, fasta: Fasta) -> str:
    """How a ##contig line's length differs from the FASTA's; "" where they agree or cannot be compared.

    Contigs that the user's synonym table names, and parts of contigs within that length, are not compared.
    """
    resolved = fasta.resolve(contig)
    if length is None or resolved is None or resolved.rule.startswith("synonym table"):
        return ""
    actual = max(end for _, end in fasta.spans(resolved.contig))
    if actual == length or (fasta.is_slice(resolved.contig) and actual < length):
        return ""
    stated, there = (_with_assembly(contig, size) for size in (length, actual))
    return f"{contig} has {stated} in its header, {there} in {fasta.path.name}"


def _with_assembly(contig: str, length: int) -> str:
    known = ACCESSIONS.get(contig)
    assembly = assembly_of_length(known.chromosome if known else contig, length)
    return f"{length:,} bases" + (f" ({assembly})" if assembly else "")


def _check_names(name: str, used: Sequence[str], fasta: Fasta) -> None:
    unknown = [contig for contig in used if fasta.resolve(contig) is None]
    reasons = [why for contig in unknown if (why := fasta.why_unknown(contig))]
    if used and len(unknown) == len(used):
        what = f"none of the variants' contigs ({_some(used)}) is in {fasta.path.name} ({_some(fasta.contigs)})"
        raise NexVarError(
            ": ".join([what, *reasons[:1]]),
            where=name,
            fix=f"give their FASTA, a table of names with --synonyms, or {GO_ON}",
        )
    for contig in unknown:
        known = ACCESSIONS.get(contig)
        if known is not None and known.chromosome != "MT" and (why := fasta.why_unknown(contig)):
            raise NexVarError(
                f"another assembly: {why}", where=name, fix=f"give the FASTA of {known.assembly}, or {GO_ON}"
            )


def _some(texts: Iterable[str], joint: str = ", ") -> str:
    listed = list(texts)
    return joint.join(text[:200] for text in listed[:3]) + (
        f"{joint}and {len(listed) - 3} more" if len(listed) > 3 else ""
    )
