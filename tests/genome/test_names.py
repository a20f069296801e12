"""What the variants call a contig and what the FASTA calls it: aliases, accessions, assemblies, lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.agreement import check_agreement
from nexvar.genome.assemblies import (
    ACCESSIONS,
    CHROMOSOMES,
    LENGTHS,
    MITO_NAMES,
    accession_of,
    assembly_named,
    assembly_of_length,
    guess_assembly,
)
from nexvar.genome.names import ContigNames
from nexvar.genome.reference import Fasta
from toy_genome import write_fasta

RCRS, HG19 = 16_569, 16_571
LEN37, LEN38, CHM13 = (dict(zip(CHROMOSOMES, lengths, strict=True)) for lengths in LENGTHS.values())


def names(contigs: dict[str, int], slices=None, synonyms=None) -> ContigNames:
    return ContigNames(contigs, slices or {}, synonyms or {})


# -- the mitochondrion


@pytest.mark.parametrize("has", [*MITO_NAMES, "NC_012920.1", "J01415.2"])
@pytest.mark.parametrize("asked", [*MITO_NAMES, "NC_012920.1", "NC_012920", "J01415.2"])
def test_a_name_of_the_rcrs_means_a_contig_of_its_length_only(has, asked):
    assert names({has: RCRS}).resolve(asked)[0] == has
    for length in (HG19, 16_568, 16_299, 997):
        other = names({has: length})
        if asked == has:
            assert other.resolve(asked) == (has, "exact")
        else:
            assert other.resolve(asked) is None
            assert f"{has} has {length:,} bases" in other.why_unknown(asked)
            assert "16,569" in other.why_unknown(asked)


@pytest.mark.parametrize("order", [("chrM", "chrMT"), ("chrMT", "chrM")])
def test_of_two_mitochondria_the_one_of_the_right_length_is_taken(order):
    sizes = {"chrM": HG19, "chrMT": RCRS}
    both = names({name: sizes[name] for name in order})
    for asked in ("MT", "M", "NC_012920.1", "chrMT"):
        assert both.resolve(asked).contig == "chrMT"
    assert both.resolve("chrM") == ("chrM", "exact")
    assert both.resolve("NC_001807.4").contig == "chrM"


def test_hg19s_mitochondrion_has_an_accession_of_its_own():
    assert names({"chrM": HG19}).resolve("NC_001807.4") == ("chrM", "mitochondrion alias")
    assert names({"chrM": RCRS}).resolve("NC_001807") is None
    assert names({"NC_001807.4": HG19}).resolve("MT") is None


def test_rules_of_the_mitochondrion_have_their_names():
    assert names({"chrM": RCRS}).resolve("MT").rule == "mitochondrion alias"
    assert names({"M": RCRS}).resolve("chrM").rule == "chr prefix removed"
    assert names({"chrM": RCRS}).resolve("M").rule == "chr prefix added"


def test_a_slice_of_the_mitochondrion_answers_unless_it_goes_beyond_the_end():
    inside = names({"chrM:3001-4000": 1000}, {"chrM": [("chrM:3001-4000", 3000, 4000)]})
    assert inside.resolve("MT") == ("chrM", "mitochondrion alias, region chrM:3001-4000")
    beyond = names({"chrM:1-16571": HG19}, {"chrM": [("chrM:1-16571", 0, HG19)]})
    assert beyond.resolve("MT") is None
    assert "16,571" in beyond.why_unknown("MT")


# -- accessions


@pytest.mark.parametrize("accession", [a for a, fact in ACCESSIONS.items() if fact.chromosome != "MT"])
def test_an_accession_means_the_chromosome_of_its_assembly(accession):
    chromosome, assembly, length, database = ACCESSIONS[accession]
    for has in (f"chr{chromosome}", chromosome):
        assert names({has: length}).resolve(accession) == (has, f"{database} accession ({assembly})")
        for other in (LEN37, LEN38, CHM13):
            if other[chromosome] != length:
                wrong = names({has: other[chromosome]})
                assert wrong.resolve(accession) is None
                why = wrong.why_unknown(accession)
                assert f"{other[chromosome]:,}" in why and f"{length:,}" in why and assembly in why
        assert names({accession: 10}).resolve(has).contig == accession  # the other way round: its name says what it is


def test_every_chromosome_has_its_accessions():
    assert len(ACCESSIONS) == 24 * 6 + 5
    assert accession_of("1", "GRCh37") == "NC_000001.10"
    assert accession_of("Y", "GRCh38") == "NC_000024.10"
    assert accession_of("22", "T2T-CHM13v2.0") == "NC_060946.1"
    assert ACCESSIONS["CP068256.2"][:2] == ("22", "T2T-CHM13v2.0")
    assert ACCESSIONS["CM000685.1"][:2] == ("X", "GRCh37")


@pytest.mark.parametrize(
    ("has", "asked"),
    [
        (["NC_000001.10", "NC_000001.11"], "chr1"),  # which of them?
        (["NC_000001.11"], "NC_000001.10"),
        (["chr17"], "NC_000017.9"),
        (["chr17"], "NC_000099.1"),
        (["chr17"], "NC_000017"),
        (["chr17"], "CHR17"),
        (["chr17"], "chr1 "),
        (["chr1"], "<chr1>"),
    ],
)
def test_a_name_that_means_no_certain_contig_is_unknown(has, asked):
    assert names(dict.fromkeys(has, 83_257_441)).resolve(asked) is None


def test_accessions_of_one_sequence_are_one_another():
    assert names({"NC_000001.11": 10}).resolve("chr1") == ("NC_000001.11", "RefSeq accession (GRCh38)")
    assert names({"NC_000001.11": LEN38["1"]}).resolve("CM000663.2").contig == "NC_000001.11"
    assert names({"CM000663.1": LEN37["1"]}).resolve("NC_000001.10").contig == "CM000663.1"


def test_a_slice_answers_to_accessions_that_are_long_enough():
    region = {"chr21": [("chr21:47000001-47000100", 47_000_000, 47_000_100)]}
    cut = names({"chr21:47000001-47000100": 100}, region)
    assert cut.resolve("NC_000021.8").contig == "chr21"
    assert cut.resolve("NC_000021.9") is None  # GRCh38's chr21 ends before
    assert "47,000,100" in cut.why_unknown("NC_000021.9")


# -- the user's table


def test_the_users_synonyms_win():
    assert names({"chrM": HG19}, synonyms={"MT": "chrM"}).resolve("MT") == ("chrM", "synonym table")
    assert names({"chrM": HG19, "chrMT": RCRS}, synonyms={"chrM": "chrMT"}).resolve("chrM").contig == "chrMT"
    assert names({"chr21": LEN38["21"]}, synonyms={"NC_000021.8": "chr21"}).resolve("NC_000021.8").contig == "chr21"
    assert names({"a": 5}, synonyms={"a": "b"}).resolve("a") == ("a", "exact")  # b is not there


# -- assemblies


@given(st.sampled_from(CHROMOSOMES), st.sampled_from(list(LENGTHS)), st.sampled_from(["", "chr"]))
def test_a_length_tells_the_assembly(chromosome, assembly, prefix):
    length = LENGTHS[assembly][CHROMOSOMES.index(chromosome)]
    assert assembly_of_length(prefix + chromosome, length) == assembly
    assert assembly_of_length(prefix + chromosome, length + 1) is None
    assert guess_assembly({prefix + chromosome: length, "chrM": RCRS, "x": 5}) == assembly


def test_names_of_assemblies():
    assert guess_assembly({"MT": RCRS}) == "rCRS"
    assert guess_assembly({"chr1": 2000}) is None
    assert [assembly_named(t) for t in ("hg19", "37", "GRCh38.p14", "hs1", "mm10", "")] == [
        "GRCh37", "GRCh37", "GRCh38", "T2T-CHM13v2.0", None, None,
    ]  # fmt: skip


# -- does the file speak of this genome?


@pytest.fixture
def fasta(tmp_path):
    slices = {"chr5:101-110": "ACGTACGTAC", "chr5:201-210": "ACGTACGTAC"}
    return Fasta(write_fasta(tmp_path / "x.fa", chr1="A" * 50, chrM="C" * RCRS, **slices), synonyms={"one": "chr1"})


@pytest.mark.parametrize(
    "declared",
    [{}, {"chr1": 50}, {"1": 50}, {"chr1": None}, {"MT": RCRS}, {"chr9": 7}, {"one": 7}, {"chr5": 181_538_259}],
)
def test_lengths_that_agree_or_cannot_be_compared_are_no_difference(fasta, declared):
    assert check_agreement("x.vcf", declared, ["chr1", "chrM", "chr5"], fasta, strict=True) == []


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"chrM": HG19}, ["16,571", "hg19's chrM", "16,569", "rCRS"]),
        ({"chr1": 249_250_621}, ["249,250,621 bases (GRCh37)", "50 bases"]),
        ({"1": 51}, ["51 bases", "50 bases"]),
        ({"chr5": 205}, ["205", "210"]),  # a piece of it lies behind its end
    ],
)
def test_another_length_is_refused_with_both_numbers_where_variants_are(fasta, declared, says):
    (contig,) = declared
    with pytest.raises(NexVarError) as caught:
        check_agreement("x.vcf", declared, [contig, "chrM"], fasta, strict=True)
    assert all(part in str(caught.value) for part in ["x.vcf", "--max-ref-mismatch 1", *says])
    for used, strict in (([contig], False), (["MT"], True)):
        (note,) = check_agreement("x.vcf", declared, used if contig != "chrM" else ["1"], fasta, strict=strict)
        assert all(part in note for part in says)


def test_no_known_contig_is_refused_with_names_of_both_sides(fasta):
    with pytest.raises(NexVarError) as caught:
        check_agreement("x.vcf", {}, [f"ctg{i}" for i in range(9)], fasta, strict=True)
    assert "ctg0, ctg1, ctg2, and 6 more" in str(caught.value)
    assert "x.fa (chr1, chrM, chr5:101-110" in str(caught.value)
    assert check_agreement("x.vcf", {}, ["ctg"], fasta, strict=False) == []
    assert check_agreement("x.vcf", {}, ["ctg", "chr1"], fasta, strict=True) == []
    assert check_agreement("x.vcf", {}, [], fasta, strict=True) == []


def test_an_accession_of_another_assembly_is_refused_even_beside_good_ones(fasta):
    with pytest.raises(NexVarError, match="NC_000001.10 .GRCh37. has 249,250,621"):
        check_agreement("x.vcf", {}, ["chrM", "NC_000001.10"], fasta, strict=True)
    assert check_agreement("x.vcf", {}, ["chr1", "NC_001807.4"], fasta, strict=True) == []  # told by its status
