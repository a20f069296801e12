"""Facts about the human assemblies: how long each chromosome is, and which accession names which of them.

Lengths and accessions are those of NCBI's assembly reports: GRCh37 (GCF_000001405.13), GRCh38 (GCF_000001405.26),
T2T-CHM13v2.0 (GCF_009914755.1). A name such as chr17 is the same in all three; its length is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

CHROMOSOMES = (*map(str, range(1, 23)), "X", "Y")
# fmt: off
LENGTHS: dict[str, tuple[int, ...]] = {  # of 1-22, X, Y
    "GRCh37": (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022,
        141213431, 135534747, 135006516, 133851895, 115169878, 107349540, 102531392, 90354753,
        81195210, 78077248, 59128983, 63025520, 48129895, 51304566, 155270560, 59373566,
    ),
    "GRCh38": (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636,
        138394717, 133797422, 135086622, 133275309, 114364328, 107043718, 101991189, 90338345,
        83257441, 80373285, 58617616, 64444167, 46709983, 50818468, 156040895, 57227415,
    ),
    "T2T-CHM13v2.0": (
        248387328, 242696752, 201105948, 193574945, 182045439, 172126628, 160567428, 146259331,
        150617247, 134758134, 135127769, 133324548, 113566686, 101161492, 99753195, 96330374,
        84276897, 80542538, 61707364, 66210255, 45090682, 51324926, 154259566, 62460029,
    ),
}
_REFSEQ_37 = (10, 11, 11, 11, 9, 11, 13, 10, 11, 10, 9, 11, 10, 8, 9, 9, 10, 9, 9, 10, 8, 10, 10, 9)  # GRCh38: + 1
# fmt: on

MITO_NAMES = ("chrM", "MT", "M", "chrMT")
RCRS, RCRS_LENGTH = "rCRS", 16_569  # the mitochondrion of GRCh38 (chrM) and of GRCh37 (MT)
HG19_MITO, HG19_MITO_LENGTH = "hg19's chrM", 16_571  # NOTE UCSC's hg19 has another sequence under that name


class Accession(NamedTuple):
    """What an accession names: the chromosome ("17", "MT") of an assembly, and its length."""

    chromosome: str
    assembly: str
    length: int
    database: str = "RefSeq"


def _accessions() -> dict[str, Accession]:
    table: dict[str, Accession] = {}
    for i, chromosome in enumerate(CHROMOSOMES):
        grch37, grch38, chm13 = (Accession(chromosome, name, lengths[i]) for name, lengths in LENGTHS.items())
        table[f"NC_{i + 1:06}.{_REFSEQ_37[i]}"] = grch37
        table[f"NC_{i + 1:06}.{_REFSEQ_37[i] + 1}"] = grch38
        table[f"NC_{60925 + i:06}.1"] = chm13
        table[f"CM{663 + i:06}.1"] = grch37._replace(database="GenBank")
        table[f"CM{663 + i:06}.2"] = grch38._replace(database="GenBank")
        table["CP086569.2" if chromosome == "Y" else f"CP{68277 - i:06}.2"] = chm13._replace(database="GenBank")
    for name in ("NC_012920.1", "NC_012920", "J01415.2"):
        table[name] = Accession("MT", RCRS, RCRS_LENGTH)
    for name in ("NC_001807.4", "NC_001807"):
        table[name] = Accession("MT", HG19_MITO, HG19_MITO_LENGTH)
    return table


ACCESSIONS = _accessions()
MITO_ACCESSIONS = tuple(name for name, what in ACCESSIONS.items() if what.chromosome == "MT")


_SPELLINGS = {
    "GRCh37": ("grch37", "37", "hg19", "b37", "hs37d5", "grch37-lite"),
    "GRCh38": ("grch38", "38", "hg38"),
    "T2T-CHM13v2.0": ("t2t-chm13v2.0", "chm13", "hs1", "t2t"),
}


def assembly_named(text: str) -> str | None:
    """The assembly that people mean by "hg19", "37", "GRCh38.p13", …; None for one that is not known here."""
    name = text.strip().lower().split(".p")[0]
    return next((assembly for assembly, spellings in _SPELLINGS.items() if name in spellings), None)


def accession_of(chromosome: str, assembly: str) -> str:
    """The RefSeq accession of a chromosome ("17", "X") of an assembly."""
    return next(name for name, fact in ACCESSIONS.items() if fact[:2] == (chromosome, assembly))


def assembly_of_length(chromosome: str, length: int) -> str | None:
    """The assembly whose ``chromosome`` ("17", "chr17", "MT") has this length; None for none that is known here."""
    if chromosome in MITO_NAMES:
        return {RCRS_LENGTH: RCRS, HG19_MITO_LENGTH: HG19_MITO}.get(length)
    short = chromosome.removeprefix("chr")
    if short not in CHROMOSOMES:
        return None
    index = CHROMOSOMES.index(short)
    return next((name for name, lengths in LENGTHS.items() if lengths[index] == length), None)


def guess_assembly(contigs: Mapping[str, int]) -> str | None:
    """The assembly that most of these contigs {name: length} are of: one of ``LENGTHS``, or "rCRS" for that alone."""
    votes: Counter[str] = Counter()
    for name, length in contigs.items():
        known = ACCESSIONS.get(name)
        assembly = assembly_of_length(known.chromosome if known else name, length)
        if assembly is not None:
            votes[assembly] += 1
    nuclear = [(name, count) for name, count in votes.most_common() if name in LENGTHS]
    return nuclear[0][0] if nuclear else next(iter(votes), None)
