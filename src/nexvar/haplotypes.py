"""Phased variants of one sample as haplotypes: what stands on one chromosome copy within a window acts together.

    GT 0|1 at 100, 1|1 at 130, 0|1 at 160   ->   copy 0: {130}    copy 1: {100, 130, 160}

Unphased heterozygous calls (0/1) could be on either copy: each stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nexvar.errors import NexVarError
from nexvar.genome import Fasta, Variant
from nexvar.vcf import Record, VcfReader
from nexvar.windows import join_edits


@dataclass(frozen=True)
class Haplotype:
    """Alleles that stand together on one copy, and the delins that applies them all.

    members: (index of the record in the file, index of the ALT), ascending. copy: 0 or 1 for a diploid; -1 when an
    unphased call leaves it open.
    """

    members: tuple[tuple[int, int], ...]
    copy: int
    variant: Variant


@dataclass
class _Group:
    """A haplotype that may still grow."""

    copy: int
    phase: str
    chrom: str
    start: int
    end: int
    members: list[tuple[int, int]] = field(default_factory=list)
    edits: list[tuple[int, str, str]] = field(default_factory=list)

    def close(self, fasta: Fasta) -> Haplotype:
        return Haplotype(tuple(self.members), self.copy, join_edits(fasta, self.chrom, self.edits))


def read_haplotypes(reader: VcfReader, fasta: Fasta, sample: str, reach: int) -> Iterator[Haplotype]:
    """The haplotypes of ``sample``, each spanning at most ``reach`` bases of the reference, in order of their ends.

    Alleles that cannot be applied (symbolic, *, REF not the genome's, N) are in no haplotype.
    """
    if sample not in reader.samples:
        known = ", ".join(reader.samples[:5]) or "none"
        raise NexVarError(f"no sample {sample!r}", where=reader.name, fix=f"samples: {known}")
    column = reader.samples.index(sample)
    open_groups: dict[int, _Group] = {}
    for index, record in enumerate(reader):
        call, phase = _genotype(record, column, reader.name)
        for copy, allele in call:
            edit = _edit(fasta, record, allele - 1) if allele > 0 else None
            if edit is None:
                continue
            pos, end = edit[0], edit[0] + len(edit[1])
            if copy < 0:
                alone = _Group(copy, phase, record.chrom, pos, end, [(index, allele - 1)], [edit])
                yield alone.close(fasta)
                continue
            group = open_groups.get(copy)
            same_set = group is not None and (not phase or group.phase in ("", phase))
            together = same_set and group is not None and group.chrom == record.chrom
            if group is None or not together or pos < group.end or end - group.start > reach:
                if group is not None:
                    yield group.close(fasta)
                group = open_groups[copy] = _Group(copy, phase, record.chrom, pos, end)
            group.phase = group.phase or phase
            group.end = end
            group.members.append((index, allele - 1))
            group.edits.append(edit)
    for group in open_groups.values():
        yield group.close(fasta)


def _genotype(record: Record, column: int, name: str) -> tuple[list[tuple[int, int]], str]:
    """[(copy, allele)] of one call, copy -1 for unphased heterozygous ones, and the phase set."""
    keys, *samples = record.rest.split("\t")
    names, values = keys.split(":"), samples[column].split(":")
    given = dict(zip(names, values, strict=False))
    text = given.get("GT", ".")
    if not re.fullmatch(r"[|/]?(?:\.|[0-9]{1,6})(?:[|/](?:\.|[0-9]{1,6}))*", text):
        raise NexVarError(f"GT is {text[:20]!r}", where=f"{name}:{record.line_no}", fix="write 0|1, 1/1, …")
    alleles = [int(a) if a != "." else 0 for a in re.split(r"[|/]", text.lstrip("|/"))]
    if max(alleles) > len(record.alts):
        raise NexVarError(
            f"GT {text[:20]} names allele {max(alleles)} of {len(record.alts)}",
            where=f"{name}:{record.line_no}",
            fix="was an ALT removed without updating GT?",
        )
    if len(set(alleles)) == 1:  # homozygous: on every copy, phased or not
        return list(enumerate(alleles)), ""
    if "/" in text:
        return [(-1, allele) for allele in sorted(set(alleles))], ""
    phase = given.get("PS", "")
    return list(enumerate(alleles)), "" if phase == "." else phase


def _edit(fasta: Fasta, record: Record, allele: int) -> tuple[int, str, str] | None:
    """(pos, ref, alt) if the allele can be applied to the genome."""
    ref, alt = record.ref.upper(), record.alts[allele].upper()
    found = fasta.resolve(record.chrom)
    if found is None or not set(ref + alt) <= set("ACGT"):
        return None
    low, high = fasta.span(found.contig)
    if not low <= record.pos0 <= record.pos0 + len(ref) <= high:
        return None
    return (record.pos0, ref, alt) if fasta.fetch(found.contig, record.pos0, record.pos0 + len(ref)) == ref else None
