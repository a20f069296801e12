"""Symbolic alleles: where each of them ends, and which of them are events that can be scored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.events import event_ends
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import as_record
from nexvar.genome.vcf import read_vcf
from nexvar.genome.windows import Status, allele_windows, make_windows
from toy_genome import random_bases, write_fasta

GENOME = random_bases(2000, seed=5)


def ends(alts: str, info: str, pos1: int = 500, version: int = 2):
    return event_ends(pos1, alts.split(","), info, "x.vcf:5", by_length=version >= 4)


@pytest.mark.parametrize(
    ("alts", "info", "expected"),
    [
        # one value for each ALT
        ("<DEL>,<DEL>", "SVLEN=5,20;END=520", (505, 520)),
        ("<DEL>,<DUP>", "SVLEN=-5,20", (505, 520)),
        ("<DEL>,<DUP>", "SVLEN=5,-20", (505, 520)),
        ("A,<DEL>", "SVLEN=.,-20", (None, 520)),
        ("<DEL>,A", "SVLEN=20,.", (520, None)),
        # as many as there are symbolic ones
        ("A,<DEL>", "SVLEN=-20", (None, 520)),
        ("A,<DEL>,C,<DUP>", "SVLEN=-20,30", (None, 520, None, 530)),
        # missing values: END is that of the longest
        ("<DEL>,<DEL>", "SVLEN=5,.;END=520", (505, 520)),
        ("<DEL>,<DEL>", "SVLEN=.,20;END=520", (None, 520)),
        ("<DEL>,<DEL>", "SVLEN=5,.", (505, None)),
        ("<DEL>,<DEL>", "SVLEN=.,.;END=520", (520, 520)),
        ("<DEL>,<DUP>", "END=520", (520, 520)),
        # too few, too many: nobody knows whose they are
        ("<DEL>,<DEL>", "SVLEN=5;END=520", (None, None)),
        ("<DEL>,<DEL>", "SVLEN=5", (None, None)),
        ("<DEL>,<DEL>", "SVLEN=20;END=520", (520, 520)),
        ("<DEL>", "SVLEN=5,20", (None,)),
        ("<DEL>", "SVLEN=5,20;END=520", (520,)),
        # one event
        ("<DEL>", "END=520", (520,)),
        ("<DEL>", "SVLEN=-20", (520,)),
        ("<DEL>", "END=.;SVLEN=-20", (520,)),
        ("<DEL>", "END=499;SVLEN=-20", (520,)),
        ("<DEL>", "END=500;SVLEN=20", (520,)),
        ("<DEL>", "SVLEN=0", (None,)),
        ("<DEL>", "SVLEN=.;END=.", (None,)),
        ("<DEL>", "CIEND=5,5;XSVLEN=7;ENDX=9", (None,)),
        ("<DEL>", ".", (None,)),
        ("A,C", "END=520;SVLEN=20", ()),
        ("*,.", "END=520", ()),
    ],
)
def test_each_allele_has_its_own_end(alts, info, expected):
    assert ends(alts, info) == expected


def test_from_vcf_4_4_on_svlen_counts_where_end_contradicts():
    assert ends("<DEL>", "SVLEN=5;END=520", version=3) == (520,)
    assert ends("<DEL>", "SVLEN=5;END=520", version=4) == (505,)
    assert ends("<DEL>", "SVLEN=.;END=520", version=4) == (520,)


BAD = ("END=far", "END=", "END=-5", "END=99999999999", "SVLEN=", "SVLEN=long", "SVLEN=5,x", "SVLEN=5,,6", "SVLEN=1e3")


@pytest.mark.parametrize("info", BAD)
def test_what_is_no_number_is_refused(info):
    with pytest.raises(NexVarError, match="x.vcf:5: (END|SVLEN) is"):
        ends("<DEL>,<DUP>", info)


@given(
    st.lists(st.tuples(st.sampled_from(["<DEL>", "<DUP>", "<INV>", "A"]), st.integers(1, 60)), min_size=1, max_size=4)
)
def test_a_symbolic_allele_gives_the_windows_of_its_spelled_out_one(tmp_path, alleles):
    """Several events at one position, each against the allele written as bases."""
    path = tmp_path / "x.fa"
    if not path.exists():
        write_fasta(path, chr1=GENOME)
    fasta, pos0 = Fasta(path), 700
    alts = ["ACGT".replace(GENOME[pos0], "")[0] if alt == "A" else alt for alt, _ in alleles]
    lengths = ",".join(f"{-n if alt == '<DEL>' else n}" for alt, n in alleles)
    found = ends(",".join(alts), f"SVLEN={lengths}", pos1=pos0 + 1) or ()
    windows = make_windows(fasta, Variant("chr1", pos0, GENOME[pos0], tuple(alts), found), 256)
    for (kind, n), alt, w in zip(alleles, alts, windows, strict=True):
        event = GENOME[pos0 : pos0 + 1 + n]
        inverted = event[0] + event[:0:-1].translate(str.maketrans("ACGT", "TGCA"))
        ref, spelled = {
            "<DEL>": (event, event[0]), "<DUP>": (event[0], event), "<INV>": (event, inverted), "A": (event[0], alt),
        }[kind]  # fmt: skip
        assert w == allele_windows(fasta, "chr1", pos0, ref, spelled, 256)


@pytest.mark.parametrize(
    ("alt", "scored"),
    [
        ("<DEL>", True), ("<DEL:ME>", True), ("<DEL:ME:ALU>", True), ("<del>", True), ("<DUP>", True),
        ("<DUP:TANDEM>", True), ("<INV>", True),
        ("<DUP:INT>", False), ("<DUP:DISPERSED>", False), ("<DUP:INV>", False), ("<DUP:ISP>", False), ("<INS>", False),
        ("<INS:ME:ALU>", False), ("<INV:COMPLEX>", False), ("<CN0>", False), ("<CNV>", False), ("<DEL/INV>", False),
        ("<DELLY>", False), ("<TRA>", False), ("<BND>", False), ("<NON_REF>", False), ("<*>", False),
        ("A<ctg1>", False), ("<ctg1>", False), ("<ctg1>A", False),
    ],
)  # fmt: skip
def test_only_events_whose_place_is_known_are_scored(alt, scored, tmp_path):
    fasta = Fasta(write_fasta(tmp_path / "x.fa", chr1=GENOME))
    w = allele_windows(fasta, "chr1", 99, GENOME[99], alt, 64, end=110)
    assert w.status is (Status.OK if scored else Status.SYMBOLIC)


def test_ends_survive_as_a_record(tmp_path):
    variant = Variant("chr1", 499, "G", ("<DEL>", "A", "<DUP>"), (505, None, 520))
    path = tmp_path / "x.vcf"
    path.write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + as_record(variant, 1).raw)
    assert [r.variant for r in read_vcf(path)] == [variant]
    one = Variant("chr1", 499, "G", ("<DEL>",), (505,))
    assert as_record(one, 1).info == "END=505"
