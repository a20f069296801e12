"""Who is compared with whom: labels, real stars, minor allele frequency, matched random alleles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nexvar.errors import NexVarError
from nexvar.evals.noncoding.alleles import read_alleles
from nexvar.evals.noncoding.sets import Sets, build, read_common
from nexvar.genome.reference import Fasta
from noncoding_genome import CHR1, clinvar, gnomad, labelled_vcf
from toy_genome import other_bases, vcf_line, write_vcf


def members(sets: Sets, name: str, positive: bool) -> set[int]:
    """1-based positions."""
    return {sets.alleles[i].pos0 + 1 for i in sets.rows[name] if sets.positive_N[i] == positive}


# -- ClinVar


def test_significance_consequence_and_real_stars(tmp_path: Path, genome: Fasta) -> None:
    path = clinvar(
        tmp_path,
        (101, "Pathogenic", "intron_variant", "criteria_provided,_single_submitter"),
        (201, "Pathogenic", "intron_variant", "no_assertion_criteria_provided"),  # holds "criteria_provided": no star
        (301, "Likely_pathogenic", "missense_variant", "reviewed_by_expert_panel"),
        (401, "Pathogenic/Likely_pathogenic", "missense_variant,SO:1|intron_variant", "practice_guideline"),
        (501, "Benign", "3_prime_UTR_variant", "criteria_provided,_multiple_submitters,_no_conflicts"),
        (601, "Uncertain_significance", "intron_variant", "reviewed_by_expert_panel"),
        (701, "Conflicting_classifications_of_pathogenicity", "intron_variant", "reviewed_by_expert_panel"),
        (801, "Benign", "splice_region_variant", "criteria_provided,_single_submitter"),
    )
    labelled = read_alleles(path, genome)
    by_stars = {n: build(labelled, min_stars=n, wanted=["N1"]) for n in (0, 1, 2)}
    assert members(by_stars[0], "N1", True) == {101, 201, 401}
    assert members(by_stars[1], "N1", True) == {101, 401} and members(by_stars[1], "N1", False) == {501, 801}
    assert members(by_stars[2], "N1", True) == {401} and members(by_stars[2], "N1", False) == {501}
    assert any("2 variants" not in note and "fewer than 1 stars" in note for note in by_stars[1].notes)


# -- common variants


def test_n2_is_by_minor_allele_frequency_without_pathogenic_ones(tmp_path: Path, genome: Fasta) -> None:
    star = "criteria_provided,_single_submitter"
    path = clinvar(tmp_path, (101, "Pathogenic", "intron_variant", star), (901, "Pathogenic", "missense_variant", star),
                   (501, "Benign", "intron_variant", star))  # fmt: skip
    labelled = read_alleles(path, genome)
    common = read_common(
        gnomad(tmp_path, (101, "0.5"), (901, "0.3"), (1001, "0.97"), (1101, "0.93"), (1201, "0.049"), (1301, "0.06"),
               (1401, ".")),
        genome, labelled, 1000, 0,
    )  # fmt: skip
    sets = build(labelled, common=common)
    assert members(sets, "N2", False) == {1101, 1301} and members(sets, "N2", True) == {101}


def test_n2_leaves_out_coding_bases_and_failed_filters(tmp_path: Path, genome: Fasta) -> None:
    path = clinvar(tmp_path, (101, "Pathogenic", "intron_variant", "practice_guideline"))
    labelled = read_alleles(path, genome)
    found = gnomad(tmp_path, (1001, "0.2"), (1101, "0.2"), (1201, "0.2"), failed=(1201,))
    common = read_common(found, genome, labelled, 1000, 0)
    sets = build(labelled, common=common, is_coding=lambda some: np.array([a.pos0 == 1000 for a in some]))
    assert members(sets, "N2", False) == {1101}


def test_regions_that_count_count_for_common_variants_too(tmp_path: Path, genome: Fasta) -> None:
    labelled = read_alleles(clinvar(tmp_path, (101, "Pathogenic", "intron_variant", "practice_guideline")), genome)
    labelled = replace(labelled, alleles=[replace(a, region="promoter") for a in labelled.alleles])
    common = read_common(gnomad(tmp_path, (1001, "0.2"), (1101, "0.2")), genome, labelled, 10, 0)
    here = [replace(a, region="promoter" if a.pos0 == 1000 else "intergenic") for a in common.alleles]
    sets = build(labelled, common=replace(common, alleles=here), only=["promoter"])
    assert members(sets, "N2", False) == {1001}


def test_common_variants_are_drawn_where_there_are_too_many(tmp_path: Path, genome: Fasta) -> None:
    labelled = read_alleles(clinvar(tmp_path, (101, "Pathogenic", "intron_variant", "practice_guideline")), genome)
    path = gnomad(tmp_path, *((pos, "0.2") for pos in range(1001, 1401, 10)))
    drawn = [read_common(path, genome, labelled, 5, seed).alleles for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len({a.pos0 for a in drawn[0]}) == 5
    sets = build(labelled, common=read_common(path, genome, labelled, 1000, 0), ratio=3, wanted=["N2"])
    assert len(members(sets, "N2", False)) == 3


# -- matched random alleles


def test_n3_has_the_place_and_the_kind_of_each_positive(tmp_path: Path, genome: Fasta) -> None:
    base, two = CHR1[100], CHR1[299:301]
    turned = "".join(other_bases(b)[0] for b in two)
    path = labelled_vcf(
        tmp_path,
        (101, base, other_bases(base)[0], 1),
        (201, CHR1[200], CHR1[200] + "ACG", 1),
        (300, two, turned, 1),
        (401, CHR1[400:403], CHR1[400], 1),
    )
    sets = build(read_alleles(path, genome), seed=1)
    negatives = [sets.alleles[i] for i in sets.rows["N3"] if not sets.positive_N[i]]
    assert [(a.pos0 + 1, len(a.ref), len(a.alt)) for a in negatives] == [(101, 1, 1), (201, 1, 4), (300, 2, 2)]
    assert all(a.ref == CHR1[a.pos0 : a.pos0 + len(a.ref)] for a in negatives)
    assert negatives[1].alt[0] == CHR1[200] and negatives[1].alt != CHR1[200] + "ACG"
    assert 401 not in members(sets, "N3", True), "a deletion has no other allele at its place: it leaves the set"
    again = build(read_alleles(path, genome), seed=1)
    assert [a.alt for a in again.alleles] == [a.alt for a in sets.alleles]


def test_n3_draws_nothing_that_is_known(tmp_path: Path, genome: Fasta) -> None:
    """Of the three other bases one is the positive, one labelled, one in gnomAD at any frequency: no match is left."""
    base = CHR1[100]
    first, second, third = other_bases(base)
    other = (201, CHR1[200], other_bases(CHR1[200])[0], 1)
    path = labelled_vcf(tmp_path, (101, base, first, 1), (101, base, second, 0), other)
    labelled = read_alleles(path, genome)
    assert {a.alt for a in build(labelled).alleles if a.pos0 == 100} == {first, second, third}
    known = read_common(gnomad(tmp_path, (101, "0.0001"), alts={101: third}), genome, labelled, 10, 0)
    sets = build(labelled, common=known)
    assert members(sets, "N3", False) == members(sets, "N3", True) == {201}


def test_n3_draws_no_allele_of_a_record_with_several_or_with_both_labels(tmp_path: Path, genome: Fasta) -> None:
    first, second, third = other_bases(CHR1[100])
    path = labelled_vcf(tmp_path, (101, CHR1[100], first, 1), (101, CHR1[100], f"{second},{third}", 0),
                        (201, CHR1[200], other_bases(CHR1[200])[0], 1))  # fmt: skip
    assert members(build(read_alleles(path, genome)), "N3", True) == {201}
    path = labelled_vcf(tmp_path, (101, CHR1[100], first, 1), *((101, CHR1[100], alt, label) for alt in (second, third)
                        for label in (0, 1)), (201, CHR1[200], other_bases(CHR1[200])[0], 1))  # fmt: skip
    assert members(build(read_alleles(path, genome)), "N3", True) == {201}


def test_n2_leaves_out_places_of_positives_however_they_are_written(tmp_path: Path, genome: Fasta) -> None:
    """In the file's own frequencies as in gnomAD's; and says that it knows nothing of coding bases."""
    first, second, third = other_bases(CHR1[100])
    long = (100, CHR1[99:101], CHR1[99] + first, 1)  # the base of position 101
    labelled = read_alleles(labelled_vcf(tmp_path, long, (101, CHR1[100], second, 0), (301, CHR1[300],
                            other_bases(CHR1[300])[0], 0), info=";AF=0.2"), genome)  # fmt: skip
    assert members(build(labelled), "N2", False) == {301}
    common = read_common(gnomad(tmp_path, (101, "0.2"), (401, "0.2"), alts={101: third}), genome, labelled, 10, 0)
    sets = build(labelled, common=common)
    assert members(sets, "N2", False) == {401} and "N3" not in sets.rows, "all alleles there are known"
    assert any("without an annotation" in note for note in sets.notes)


# -- files


def test_what_is_no_allele_of_bases_is_in_no_set(tmp_path: Path, genome: Fasta) -> None:
    base = CHR1[100]
    odd = [(101, base, alt, 1) for alt in ("R", "N", base, "<DEL>", "*", ".")]
    labelled = read_alleles(labelled_vcf(tmp_path, *odd, (201, CHR1[200], other_bases(CHR1[200])[0], 1)), genome)
    assert [a.pos0 for a in labelled.alleles] == [200]
    assert any("symbolic, ambiguous, or their REF" in note for note in labelled.notes)


def test_a_table_has_the_same_variants_whatever_the_contigs_are_called(tmp_path: Path, genome: Fasta) -> None:
    said = (("1", 101, "Pathogenic\t2\t."), ("chr1", 201, "Benign\t1\t0.2"), ("chr1", 301, "0\t0\t0.9"),
            ("1", 401, "?\t4\t0.001"))  # fmt: skip
    rows = [f"{name}\t{pos}\t{CHR1[pos - 1]}\t{other_bases(CHR1[pos - 1])[0]}\t{cells}\ttRNA\n"
            for name, pos, cells in said]  # fmt: skip
    (tmp_path / "x.tsv").write_text("chrom\tpos\tref\talt\tlabel\tstars\taf\tregion\n" + "".join(rows))
    sets = build(read_alleles(tmp_path / "x.tsv", genome))
    assert members(sets, "labelled", False) == members(sets, "N2", False) == {201}
    assert {a.region for a in sets.alleles} == {"tRNA"} and {a.contig for a in sets.alleles} == {"chr1"}


def test_refs_are_held_against_the_genome(tmp_path: Path, genome: Fasta) -> None:
    lines = [(p, CHR1[p - 1], other_bases(CHR1[p - 1])[0], p % 2) for p in range(101, 121)]
    wrong = (301, other_bases(CHR1[300])[0], CHR1[300], 1)
    labelled = read_alleles(labelled_vcf(tmp_path, *lines, wrong), genome)
    assert len(labelled.alleles) == 20 and any("20 of 21 REFs agree" in note for note in labelled.notes)
    with pytest.raises(NexVarError, match="of 1 REFs none is what genome.fa has: is it of the same assembly"):
        read_alleles(labelled_vcf(tmp_path, wrong), genome)


def test_an_allele_with_both_labels_is_in_no_set(tmp_path: Path, genome: Fasta) -> None:
    """However many bases it is written with."""
    alt = other_bases(CHR1[100])[0]
    both = (101, CHR1[100], alt, 1), (100, CHR1[99:101], CHR1[99] + alt, 0)
    labelled = read_alleles(labelled_vcf(tmp_path, *both, (201, CHR1[200], other_bases(CHR1[200])[0], 1)), genome)
    assert [a.pos0 for a in labelled.alleles if a.positive is not None] == [200]
    assert any("1 variants with both labels" in note for note in labelled.notes)


@pytest.mark.parametrize(
    "text, said",
    [
        ("chrom\tpos\tref\talt\nchr1\t1\tA\tC\n", "no column label"),
        ("chrom\tpos\tref\tlabel\nchr1\t1\tA\t1\n", "no column alt"),
        ("chrom\tpos\tref\talt\tlabel\nchr1\tx\tA\tC\t1\n", "x.tsv:2: position 'x'"),
        ("chrom\tpos\tref\talt\tlabel\tstars\nchr1\t1\tA\tC\t1\t9\n", "x.tsv:2: stars is '9'"),
        ("chrom\tpos\tref\talt\tlabel\taf\nchr1\t1\tA\tC\t1\t9\n", "x.tsv:2: af is '9'"),
        ("chrom\tpos\tref\talt\tlabel\nchr7\t1\tA\tC\t1\n", "none of 1 variants is on genome.fa"),
        (f"chrom\tpos\tref\talt\tlabel\nchr1\t1\t{CHR1[0]}\tN\t?\n", "no variant has a label"),
    ],
)
def test_a_table_that_cannot_be_is_one_line(tmp_path: Path, genome: Fasta, text: str, said: str) -> None:
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(NexVarError, match=said):
        read_alleles(tmp_path / "x.tsv", genome)


def test_one_class_only_and_empty_sets_are_one_line(tmp_path: Path, genome: Fasta) -> None:
    base, alt = CHR1[100], other_bases(CHR1[100])[0]
    negatives = read_alleles(labelled_vcf(tmp_path, (101, base, alt, 0)), genome)
    with pytest.raises(NexVarError, match="no positive is left"):
        build(negatives)
    positives = read_alleles(labelled_vcf(tmp_path, (101, base, alt, 1)), genome)
    with pytest.raises(NexVarError, match="no variant is in set N2"):
        build(positives, wanted=["N2"])
    with pytest.raises(NexVarError, match="no positive is left"):
        build(positives, only=["tRNA"])
    with pytest.raises(NexVarError, match="no INFO key CLNSIG or LABEL"):
        read_alleles(write_vcf(tmp_path / "y.vcf", [vcf_line(CHR1, 100)]), genome)

    with pytest.raises(NexVarError, match="no record has AF"):
        read_common(tmp_path / "labelled.vcf", genome, positives, 10, 0)
