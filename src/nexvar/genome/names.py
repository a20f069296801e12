"""Names of contigs: what the variants call it -> what the FASTA calls it, and by which rule.

    synonym table of the user  >  as it is written  >  chr added or removed, accessions, names of the mitochondrion

A rule that names one certain sequence (an accession, a name of the mitochondrion) holds only for a contig of that
sequence's length: hg19's chrM is not the rCRS, and chr21 of GRCh38 is not NC_000021.8. A region record (a slice, see
reference.py) has no length to compare, but must not end beyond the sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nexvar.errors import NexVarError
from nexvar.genome.assemblies import ACCESSIONS, CHROMOSOMES, MITO_NAMES, RCRS, RCRS_LENGTH, assembly_of_length
from nexvar.genome.textio import Lines


class ContigMatch(NamedTuple):
    """A contig of the FASTA and the rule that found it ("exact" when none was needed)."""

    contig: str
    rule: str


class _Candidate(NamedTuple):
    name: str
    rule: str
    length: int | None = None  # that the contig must have
    meant: str = ""  # whose length that is


class ContigNames:
    """The names of one FASTA. contigs: {name: length}; slices: {chromosome: [(record, start, end), …]}, 0-based."""

    def __init__(
        self,
        contigs: Mapping[str, int],
        slices: Mapping[str, list[tuple[str, int, int]]],
        synonyms: Mapping[str, str],
    ) -> None:
        self.contigs, self.slices, self.synonyms = contigs, slices, dict(synonyms)
        self._reverse: dict[str, list[str]] = {}
        for name, target in synonyms.items():
            self._reverse.setdefault(target, []).append(name)
        self._known: dict[str, tuple[ContigMatch | None, str]] = {}

    def resolve(self, name: str) -> ContigMatch | None:
        """The FASTA's contig for ``name`` and the rule that found it; None for an unknown contig."""
        return self._look_up(name)[0]

    def why_unknown(self, name: str) -> str:
        """What speaks against the contig that ``name`` might have meant; "" where there is none."""
        return self._look_up(name)[1]

    def _look_up(self, name: str) -> tuple[ContigMatch | None, str]:
        if name not in self._known:
            if len(self._known) > 100_000:  # a hostile file must not fill the memory
                self._known.clear()
            self._known[name] = self._search(name)
        return self._known[name]

    def _search(self, name: str) -> tuple[ContigMatch | None, str]:
        reasons: list[str] = []
        for candidate in self._candidates(name):
            match, reason = self._try(candidate)
            if match is not None:
                return match, ""
            if reason:
                reasons.append(reason)
        return None, reasons[0] if reasons else ""

    def _try(self, candidate: _Candidate) -> tuple[ContigMatch | None, str]:
        name, rule, length, meant = candidate
        if name in self.contigs:
            has = self.contigs[name]
            if length in (None, has):
                return ContigMatch(name, rule), ""
            other = assembly_of_length(name, has)
            of = f" ({other})" if other else ""
            return None, f"{name} has {has:,} bases{of}, {meant} has {length:,}"
        if name in self.slices:
            records = self.slices[name]
            if length is not None and (end := max(end for _, _, end in records)) > length:
                return None, f"{name} goes to {end:,}, {meant} has {length:,} bases"
            region = f"region {records[0][0]}" if len(records) == 1 else f"{len(records)} regions"
            return ContigMatch(name, region if rule == "exact" else f"{rule}, {region}"), ""
        return None, ""

    def _candidates(self, name: str) -> Iterator[_Candidate]:
        """What to try for ``name``, in order of trust."""
        if name in self.synonyms:
            yield _Candidate(self.synonyms[name], "synonym table")
        yield _Candidate(name, "exact")
        for other in self._reverse.get(name, ()):
            yield _Candidate(other, "synonym table")
        yield from self._by_rule(name)
        if name in self.synonyms:
            for found in self._by_rule(self.synonyms[name]):
                yield found._replace(rule=f"synonym table, {found.rule}")

    def _by_rule(self, name: str) -> Iterator[_Candidate]:
        known = ACCESSIONS.get(name)
        if name in MITO_NAMES or (known and known.chromosome == "MT"):
            what, length = (known.assembly, known.length) if known else (RCRS, RCRS_LENGTH)
            meant = f"{name} ({what})" if known else f"the {what}, which {name} names,"
            same = [other for other, fact in ACCESSIONS.items() if fact.assembly == what]
            for other in (*MITO_NAMES, *same):
                if other != name:
                    prefix = {f"chr{name}": "chr prefix added", name.removeprefix("chr"): "chr prefix removed"}
                    yield _Candidate(other, prefix.get(other, "mitochondrion alias"), length, meant)
        elif known:
            rule, meant = f"{known.database} accession ({known.assembly})", f"{name} ({known.assembly})"
            same = [other for other, fact in ACCESSIONS.items() if fact[:2] == known[:2] and other != name]
            for other in (f"chr{known.chromosome}", known.chromosome, *same):
                yield _Candidate(other, rule, known.length, meant)
        elif name.startswith("chr") and len(name) > 3:
            yield _Candidate(name[3:], "chr prefix removed")
            yield from self._accessions_of(name[3:])
        else:
            yield _Candidate(f"chr{name}", "chr prefix added")
            yield from self._accessions_of(name)

    def _accessions_of(self, chromosome: str) -> Iterator[_Candidate]:
        """The FASTA's own accession of a chromosome, whatever the assembly; none where it has several."""
        if chromosome in CHROMOSOMES:
            there = [n for n in (*self.contigs, *self.slices)
                     if n in ACCESSIONS and ACCESSIONS[n].chromosome == chromosome]  # fmt: skip
            if len(there) == 1:
                known = ACCESSIONS[there[0]]
                yield _Candidate(there[0], f"{known.database} accession ({known.assembly})")


def read_synonyms(path: str | Path | None) -> dict[str, str]:
    """{first column: second column} of a tab-separated table; lines that start with # are comments."""
    if path is None:
        return {}
    table: dict[str, str] = {}
    lines = Lines(path)
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 2 or not all(f.strip() for f in fields):
            raise NexVarError(
                f"{len(fields)} columns",
                where=f"{lines.name}:{number}",
                fix="write two names, separated by one tab",
            )
        name, target = (f.strip() for f in fields)
        if table.get(name, target) != target:
            raise NexVarError(
                f"{name!r} has two targets, {table[name]!r} and {target!r}",
                where=f"{lines.name}:{number}",
                fix="keep one",
            )
        table[name] = target
    if not table:
        raise NexVarError(
            "no synonyms in the table", where=f"{lines.name}:1", fix="write two names, separated by one tab"
        )
    return table
