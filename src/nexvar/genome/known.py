"""Variants with a clinical or experimental label, by place: ClinVar's VCF, or any VCF with LABEL in its INFO.

    known = KnownVariants("clinvar.vcf.gz", fasta)
    known.within("chr17", 43_044_294, 43_125_364)      what lies there, by position
    known.match("chr17", 43_094_463, "A", "G")         what is known of one allele

Alleles are those of the columns REF and ALT, on the plus strand; never those of an HGVS name, which are the
transcript's. Labels are shown word for word; ``group`` puts whole terms together (a "Conflicting…" is not pathogenic).
Records are read through a tabix index; for a file without one, a sorted copy and its index are made.

Sources: ClinVar's README of vcf_GRCh38 and its review-status page (stars).
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pysam

from nexvar.errors import NexVarError
from nexvar.files import check_regular, replacing
from nexvar.genome.reference import Fasta
from nexvar.genome.vcf import COLUMNS, VcfReader, read_vcf

GROUPS = ("pathogenic", "benign", "uncertain", "conflicting", "other")
STARS = {
    "practice_guideline": 4,
    "reviewed_by_expert_panel": 3,
    "criteria_provided,_multiple_submitters,_no_conflicts": 2,
    "criteria_provided,_multiple_submitters": 2,
    "criteria_provided,_conflicting_classifications": 1,
    "criteria_provided,_conflicting_interpretations": 1,
    "criteria_provided,_single_submitter": 1,
}
_TERMS = {
    "pathogenic": "pathogenic",
    "likely_pathogenic": "pathogenic",
    "pathogenic,_low_penetrance": "pathogenic",
    "likely_pathogenic,_low_penetrance": "pathogenic",
    "benign": "benign",
    "likely_benign": "benign",
    "uncertain_significance": "uncertain",
    "conflicting_classifications_of_pathogenicity": "conflicting",
    "conflicting_interpretations_of_pathogenicity": "conflicting",
    "conflicting_data_from_submitters": "conflicting",
}
_MEANING = re.compile(r"\b1:? (?:is |= ?)?([a-z]+)\b.*\b0:? (?:is |= ?)?([a-z]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KnownVariant:
    """One allele. contig: the FASTA's name; pos0: 0-based; ref, alt: as in the file, upper-case, plus strand.

    label: CLNSIG or LABEL, word for word. group: one of ``GROUPS``. stars: 0 to 4, None where the file has no review
    status (``review``, word for word). genes, consequence: from GENEINFO, and MC or CSQ.
    """

    contig: str
    pos0: int
    ref: str
    alt: str
    id: str
    label: str
    group: str
    stars: int | None = None
    review: str = ""
    genes: tuple[str, ...] = ()
    consequence: str = ""


def group_of(significance: str) -> str:
    """The one of ``GROUPS`` that a CLNSIG is in, by its whole terms.

    ``Pathogenic/Likely_pathogenic|drug_response``: what stands before the first bar is the classification; its terms
    are joined by slashes. Terms of which none has a class here (risk alleles, …) do not count beside one that has.
    """
    terms = significance.split("|")[0].lower().replace(" ", "_").split("/")
    groups = {_TERMS[term] for term in terms if term in _TERMS}
    if len(groups) == 1:
        return groups.pop()
    return "conflicting" if groups else "other"


def trimmed(pos0: int, ref: str, alt: str) -> tuple[int, str, str]:
    """An allele without the bases that REF and ALT share, at the end and then at the start; one base of each stays."""
    while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        pos0, ref, alt = pos0 + 1, ref[1:], alt[1:]
    return pos0, ref, alt


def label_meaning(header: Sequence[str], key: str) -> dict[str, str]:
    """{"1": "pathogenic", "0": "benign"} where the INFO line of ``key`` describes it so ("1 pathogenic, 0 benign")."""
    start = f"##INFO=<ID={key},"
    found = (_MEANING.search(line.partition("Description=")[2]) for line in header if line.startswith(start))
    return next(({"1": m[1].lower(), "0": m[2].lower()} for m in found if m), {})


class KnownVariants:
    """The labelled variants of one VCF or BCF, read where they are asked for.

    cache: a folder for the sorted copy of a file without an index; without one it lies in a temporary folder, which
    goes with this object. notes: what a person should know of the file.
    """

    def __init__(self, path: str | Path, fasta: Fasta, *, cache: Path | None = None) -> None:
        self.path, self.fasta = check_regular(path), fasta
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        reader = read_vcf(self.path)
        self._read_header(reader)
        indexed = self.path
        if not any(Path(f"{self.path}{ending}").exists() for ending in (".tbi", ".csi")):
            if cache is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="nexvar-known-", ignore_cleanup_errors=True)
                cache = Path(self._temporary.name)
            indexed = _indexed_copy(reader, self.path, cache)
        self._lock = threading.Lock()
        try:
            self._tabix = pysam.TabixFile(str(indexed), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise NexVarError(f"its index cannot be read ({error})", where=self.path,
                              fix="write it again with `tabix -p vcf`") from None  # fmt: skip
        self._names: dict[str, list[str]] = {}  # the FASTA's contig -> the file's
        for name in self._tabix.contigs:
            if match := fasta.resolve(name):
                self._names.setdefault(match.contig, []).append(name)
        self.notes = list(reader.notes)
        if not self._names and self._tabix.contigs:
            some = ", ".join(self._tabix.contigs[:3])
            raise NexVarError(f"none of its contigs ({some}) is in {fasta.path.name}", where=self.path,
                              fix="is it of the same assembly?")  # fmt: skip

    def _read_header(self, reader: VcfReader) -> None:
        """Which INFO key is the label; what LABEL's numbers mean: its description says "1 pathogenic, 0 benign"."""
        keys = {line[11:].partition(",")[0] for line in reader.header if line.startswith("##INFO=<ID=")}
        if not keys & {"CLNSIG", "LABEL"}:
            raise NexVarError("no INFO key CLNSIG or LABEL in its header", where=f"{self.path}:1",
                              fix="give ClinVar's VCF, or one with LABEL")  # fmt: skip
        self._key = "CLNSIG" if "CLNSIG" in keys else "LABEL"
        self._by_allele = any(line.startswith(f"##INFO=<ID={self._key},Number=A,") for line in reader.header)
        self._meaning = label_meaning(reader.header, self._key)

    def within(self, contig: str, start: int, end: int) -> Iterator[KnownVariant]:
        """The alleles whose REF overlaps [start, end), by position; nothing for a contig that is not there.

        Symbolic alleles are left out: they have no bases to compare.
        """
        match = self.fasta.resolve(contig)
        for name in self._names.get(match.contig, []) if match else []:
            for line in self._lines(name, max(start, 0), end):
                assert match is not None
                yield from self._alleles(match.contig, line)

    def match(self, contig: str, pos0: int, ref: str, alt: str) -> KnownVariant | None:
        """What is known of one allele, however many bases it is written with; None for nothing."""
        wanted = trimmed(pos0, ref.upper(), alt.upper())
        found = self.within(contig, wanted[0], wanted[0] + len(wanted[1]))
        return next((known for known in found if trimmed(known.pos0, known.ref, known.alt) == wanted), None)

    def _lines(self, name: str, start: int, end: int) -> Iterator[str]:
        """The records there, some thousand at a time: a chromosome of ClinVar does not lie in memory."""
        if start >= end:
            return
        try:
            with self._lock:
                found = self._tabix.fetch(name, start, end, multiple_iterators=True)
            while lines := self._some(found):
                yield from lines
        except (OSError, ValueError) as error:
            raise NexVarError(f"{name}:{start + 1}-{end} cannot be read ({error})", where=self.path,
                              fix="is the index of this very file? `tabix -f -p vcf` it") from None  # fmt: skip

    def _some(self, found: Iterator[str]) -> list[str]:
        with self._lock:
            return list(islice(found, 1000))

    def _alleles(self, contig: str, line: str) -> Iterator[KnownVariant]:
        fields = line.split("\t", 8)
        if len(fields) < 8 or not (fields[1].isascii() and fields[1].isdigit()):
            raise NexVarError(f"{line[:60]!r} is no record", where=self.path, fix=f"columns are {' '.join(COLUMNS)}")
        info = dict(item.partition("=")[::2] for item in fields[7].split(";"))
        pos0, ref, alts = int(fields[1]) - 1, fields[3].upper(), fields[4].upper().split(",")
        review, labels = info.get("CLNREVSTAT", ""), [info.get(self._key, "")] * len(alts)
        if self._by_allele:
            labels = labels[0].split(",") + [""] * len(alts)
        for alt, label in zip(alts, labels, strict=False):
            group = self._meaning.get(label) if self._key == "LABEL" else None
            if alt.isalpha() and ref.isalpha():
                yield KnownVariant(
                    contig,
                    pos0,
                    ref,
                    alt,
                    "" if fields[2] == "." else fields[2],
                    label,
                    group if group in GROUPS else group_of(label),
                    STARS.get(review, 0) if review else None,
                    review,
                    tuple(gene.partition(":")[0] for gene in info.get("GENEINFO", "").split("|") if gene),
                    info.get("MC") or info.get("CSQ") or "",
                )

    def close(self) -> None:
        """Close the file; the temporary copy, if there is one, goes."""
        self._tabix.close()
        if self._temporary is not None:
            self._temporary.cleanup()


def _indexed_copy(reader: VcfReader, path: Path, folder: Path) -> Path:
    """A bgzip copy of a VCF, checked record by record, with its tabix index: by the file's contents."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    copy = folder / f"known-{digest.hexdigest()[:32]}.vcf.gz"
    if copy.exists() and Path(f"{copy}.tbi").exists():
        return copy
    with replacing(copy, companions=(".tbi",)) as temporary:
        with pysam.BGZFile(str(temporary), "wb", None) as out:
            for line in chain(
                reader.header, [reader.column_line], (record.raw.removesuffix("\r") for record in reader)
            ):
                out.write(line.encode() + b"\n")
        pysam.tabix_index(str(temporary), preset="vcf", force=True)
    return copy
