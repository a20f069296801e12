"""Phased variants of one sample as haplotypes: what stands on one chromosome copy within a window acts together.

    GT 0|1 at 100, 1|1 at 130, 0|1 at 160   ->   copy 0: {130}    copy 1: {100, 130, 160}

Unphased heterozygous calls (0/1) could be on either copy: each stands alone.

``Haplotypes`` offers them as records of a VCF, one per haplotype, so that whatever scores variants scores haplotypes:

    #CHROM POS REF      ALT      ID                        INFO
    chr1   100 A…T      G…C      kid|2|100A>G+160T>C       SAMPLE=kid;COPY=2;ALLELES=100A>G,160T>C
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import VariantSource, as_record
from nexvar.genome.vcf import COLUMNS, Record, Scan
from nexvar.genome.windows import join_edits


@dataclass(frozen=True)
class Haplotype:
    """Alleles that stand together on one copy, and the delins that applies them all.

    members: (index of the record in the file, index of the ALT), ascending. copy: 0 or 1 for a diploid; -1 when an
    unphased call leaves it open. alleles: as text, ``100A>G``; line_no: of the first record.
    """

    members: tuple[tuple[int, int], ...]
    copy: int
    variant: Variant
    alleles: tuple[str, ...] = ()
    line_no: int = 0


@dataclass
class _Group:
    """A haplotype that may still grow."""

    copy: int
    phase: str
    chrom: str
    start: int
    end: int
    line_no: int
    members: list[tuple[int, int]] = field(default_factory=list)
    edits: list[tuple[int, str, str]] = field(default_factory=list)

    def close(self, fasta: Fasta) -> Haplotype:
        alleles = tuple(f"{pos0 + 1}{ref}>{alt}" for pos0, ref, alt in self.edits)
        variant = join_edits(fasta, self.chrom, self.edits)
        return Haplotype(tuple(self.members), self.copy, variant, alleles, self.line_no)


class _Sorted:
    """Haplotypes that may still be preceded by one that is open."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Haplotype]] = []
        self.serial = 0

    def add(self, haplotype: Haplotype) -> None:
        heapq.heappush(self.heap, (haplotype.variant.pos0, self.serial, haplotype))
        self.serial += 1

    def up_to(self, start: int | None) -> Iterator[Haplotype]:
        """Those that begin at ``start`` or before; None: all."""
        while self.heap and (start is None or self.heap[0][0] <= start):
            yield heapq.heappop(self.heap)[2]


def check_sample(reader: VariantSource, sample: str | None) -> str:
    """The name of the sample: the only one if none is given; NexVarError if it is not in the file."""
    if sample is None and len(reader.samples) == 1:
        return reader.samples[0]
    if sample is None or sample not in reader.samples:
        known = ", ".join(reader.samples[:5]) or "none"
        what = f"no sample {sample!r}" if sample is not None else f"{len(reader.samples)} samples, and none is named"
        raise NexVarError(what, where=reader.name, fix=f"--sample, one of the samples: {known}")
    return sample


def read_haplotypes(
    reader: VariantSource, fasta: Fasta, sample: str, reach: int, *, others: bool = False
) -> Iterator[Haplotype]:
    """The haplotypes of ``sample``, each spanning at most ``reach`` bases of the reference, in order of their starts.

    Alleles that cannot be applied (symbolic, *, REF not the genome's, N) are in no haplotype; others: each comes
    alone, as it stands in the file.
    """
    column = reader.samples.index(check_sample(reader, sample))
    open_groups: dict[int, _Group] = {}
    ready = _Sorted()
    chrom = None
    for index, record in enumerate(reader):
        call, phase = _genotype(record, column, reader.name)
        finished = [
            copy
            for copy, group in open_groups.items()
            if group.chrom != record.chrom or record.pos0 + 1 - group.start > reach
        ]
        for copy in finished:
            ready.add(open_groups.pop(copy).close(fasta))
        if record.chrom != chrom:
            yield from ready.up_to(None)
            chrom = record.chrom
        for copy, allele in call:
            if allele < 1:
                continue
            edit = _edit(fasta, record, allele - 1)
            if edit is None:
                if others:
                    ready.add(_as_it_stands(record, index, allele - 1, copy))
                continue
            pos0, end = edit[0], edit[0] + len(edit[1])
            if copy < 0:
                members = [(index, allele - 1)]
                ready.add(_Group(copy, phase, record.chrom, pos0, end, record.line_no, members, [edit]).close(fasta))
                continue
            group = open_groups.get(copy)
            same_set = group is not None and (not phase or group.phase in ("", phase))
            if group is None or not same_set or pos0 < group.end or end - group.start > reach:
                if group is not None:
                    ready.add(group.close(fasta))
                group = open_groups[copy] = _Group(copy, phase, record.chrom, pos0, end, record.line_no)
            group.phase = group.phase or phase
            group.end = end
            group.members.append((index, allele - 1))
            group.edits.append(edit)
        yield from ready.up_to(min([record.pos0, *(group.start for group in open_groups.values())]))
    for group in open_groups.values():
        ready.add(group.close(fasta))
    yield from ready.up_to(None)


def _as_it_stands(record: Record, index: int, allele: int, copy: int) -> Haplotype:
    alt = record.alts[allele]
    variant = Variant(record.chrom, record.pos0, record.ref, (alt,), record.ends[allele : allele + 1])
    return Haplotype(((index, allele),), copy, variant, (f"{record.pos0 + 1}{record.ref}>{alt}",), record.line_no)


class Haplotypes:
    """The haplotypes of one sample of a VCF as a source of records, one each; see the top of this file.

    reach: bases that a haplotype may span. An allele that cannot be applied is a record of its own, and gets its
    status there.
    """

    def __init__(self, reader: VariantSource, fasta: Fasta, sample: str | None, reach: int) -> None:
        self.reader, self.fasta, self.reach = reader, fasta, reach
        self.sample = check_sample(reader, sample)
        self.name, self.circular, self.contigs = reader.name, reader.circular, reader.contigs
        self.newline, self.notes = reader.newline, reader.notes
        self.samples: list[str] = []
        self.column_line = "\t".join(COLUMNS)
        kept = [line for line in reader.header if not line.startswith(("##FORMAT=", "##INFO="))]
        self.header = [
            *kept,
            '##INFO=<ID=SAMPLE,Number=1,Type=String,Description="Whose haplotype it is">',
            '##INFO=<ID=COPY,Number=1,Type=Integer,Description="Which of the copies, from 1; . if not phased">',
            '##INFO=<ID=ALLELES,Number=.,Type=String,Description="The alleles of the input that act together">',
        ]

    def __iter__(self) -> Iterator[Record]:
        sample = quote(self.sample, safe="/|+-. ()#@").replace(" ", "%20")
        for h in read_haplotypes(self.reader, self.fasta, self.sample, self.reach, others=True):
            copy = str(h.copy + 1) if h.copy >= 0 else "."
            record = as_record(h.variant, h.line_no)
            end = "" if record.info == "." else f";{record.info}"
            alleles = [quote(allele, safe="<>*[]:._-+") for allele in h.alleles]  # a symbolic ALT may hold ; or a space
            record.id = f"{sample}|{copy}|{'+'.join(alleles)}"
            record.info = f"SAMPLE={sample};COPY={copy};ALLELES={','.join(alleles)}{end}"
            fields = record.raw.split("\t")
            record.raw = "\t".join([*fields[:2], record.id, *fields[3:7], record.info])
            yield record

    def scan(self) -> Scan:
        """Read and check everything; NexVarError if the sample carries nothing of what there is."""
        summary = Scan()
        for record in self:
            summary.add(record)
        if not summary.records and next(iter(self.reader), None) is not None:
            raise NexVarError(f"{self.sample} carries no variant", where=self.name, fix="another --sample?")
        return summary


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
    """(pos0, ref, alt) if the allele can be applied to the genome."""
    ref, alt = record.ref.upper(), record.alts[allele].upper()
    resolved = fasta.resolve(record.chrom)
    if resolved is None or not set(ref + alt) <= set("ACGT"):
        return None
    low, high = fasta.span(resolved.contig, record.pos0, record.pos0 + len(ref))
    if not low <= record.pos0 <= record.pos0 + len(ref) <= high:
        return None
    return (record.pos0, ref, alt) if fasta.fetch(resolved.contig, record.pos0, record.pos0 + len(ref)) == ref else None
