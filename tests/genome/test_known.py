"""Known variants: alleles from the columns, labels word for word, whole terms put together."""

from __future__ import annotations

import tracemalloc
from importlib.resources import files

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malformed.case import bgzip, gz
from nexvar.errors import NexVarError
from nexvar.genome.annotation import read_annotation
from nexvar.genome.known import KnownVariants, group_of, trimmed
from nexvar.genome.reference import Fasta, reverse_complement
from toy_genome import random_bases, write_fasta

BASES = random_bases(400, seed=6)
HEAD = (
    "##fileformat=VCFv4.1\n"
    '##INFO=<ID=CLNSIG,Number=.,Type=String,Description="Aggregate germline classification">\n'
    '##INFO=<ID=CLNREVSTAT,Number=.,Type=String,Description="review status">\n'
    '##INFO=<ID=CLNHGVS,Number=.,Type=String,Description="Top-level HGVS expression">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
)
STARS = {
    "no_assertion_criteria_provided": 0,
    "no_classification_provided": 0,
    "criteria_provided,_single_submitter": 1,
    "criteria_provided,_conflicting_classifications": 1,
    "criteria_provided,_multiple_submitters,_no_conflicts": 2,
    "reviewed_by_expert_panel": 3,
    "practice_guideline": 4,
}


def line(pos0: int, alt: str, info: str, ref: str | None = None, id: str = "12345") -> str:
    return f"1\t{pos0 + 1}\t{id}\t{ref or BASES[pos0]}\t{alt}\t.\t.\t{info}\n"


@pytest.fixture
def fasta(tmp_path):
    return Fasta(write_fasta(tmp_path / "x.fa", chr1=BASES))


@pytest.fixture
def known(tmp_path, fasta):
    def _known(text: str | bytes, name: str = "clinvar.vcf", **options) -> KnownVariants:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return KnownVariants(tmp_path / name, fasta, **options)

    return _known


def other(base: str) -> str:
    return "CATG"["ACGT".index(base)]


# -- what a label is

TERMS = {
    "Pathogenic": "pathogenic",
    "Likely_pathogenic": "pathogenic",
    "Pathogenic/Likely_pathogenic": "pathogenic",
    "Pathogenic/Likely_pathogenic|drug_response": "pathogenic",
    "Pathogenic,_low_penetrance": "pathogenic",
    "Likely_pathogenic/Likely_risk_allele": "pathogenic",
    "Benign": "benign",
    "Benign/Likely_benign|other": "benign",
    "Uncertain_significance": "uncertain",
    "Uncertain_significance/Uncertain_risk_allele": "uncertain",
    "Conflicting_classifications_of_pathogenicity": "conflicting",
    "Conflicting_interpretations_of_pathogenicity": "conflicting",
    "Conflicting_classifications_of_pathogenicity|risk_factor": "conflicting",
    "Benign/Pathogenic": "conflicting",
    "drug_response": "other",
    "drug_response|Pathogenic": "other",
    "not_provided": "other",
    "Pathogenicity_unknown": "other",
    "": "other",
}


@pytest.mark.parametrize("term", TERMS)
def test_whole_terms_are_grouped(term):
    assert group_of(term) == TERMS[term]


@given(st.text("Conflicting_pathogenic/|", max_size=30))
def test_nothing_that_says_conflicting_is_pathogenic(text):
    assert group_of(f"Conflicting_{text}") != "pathogenic" or "/" in text.split("|")[0]


@pytest.mark.parametrize("review", STARS)
def test_stars(known, review):
    text = HEAD + line(9, other(BASES[9]), f"CLNSIG=Benign;CLNREVSTAT={review};GENEINFO=AB1:12|CD2:34;MC=SO:1|missense")
    (found,) = known(text).within("chr1", 0, 400)
    assert (found.stars, found.review, found.genes) == (STARS[review], review, ("AB1", "CD2"))
    assert (found.label, found.group, found.id, found.contig) == ("Benign", "benign", "12345", "chr1")


def test_numbers_mean_what_the_header_says(known):
    head = HEAD.replace("CLNSIG", "LABEL").replace("Aggregate germline classification", "1 {}, 0 {}")
    text = line(9, other(BASES[9]), "LABEL=1") + line(10, other(BASES[10]), "LABEL=0")
    for words, groups in (
        (("pathogenic (twice)", "benign"), ["pathogenic", "benign"]),
        (("LOF", "FUNC"), ["other"] * 2),
    ):
        found = list(known(head.format(*words) + text).within("chr1", 0, 400))
        assert [v.label for v in found] == ["1", "0"]
        assert [v.group for v in found] == groups


def test_labels_by_allele(known):
    head = HEAD.replace("ID=CLNSIG,Number=.", "ID=LABEL,Number=A").replace(
        "Aggregate", "1 pathogenic, 0 benign; aggregate"
    )
    alts = ",".join("ACGT".replace(BASES[9], ""))
    found = list(known(head + line(9, alts, "LABEL=1,0,.")).within("chr1", 0, 400))
    assert [v.label for v in found] == ["1", "0", "."]
    assert [v.group for v in found] == ["pathogenic", "benign", "other"]


# -- what an allele is


def test_alleles_of_a_minus_strand_gene_are_those_of_the_plus_strand(known, fasta, tmp_path):
    """The HGVS name of a variant in a minus-strand gene has the complement's bases: they are not the allele."""
    gene = "chr1\tx\tgene\t101\t200\t.\t-\t.\tID=g;Name=MINUS\n"
    (tmp_path / "x.gff3").write_text("##gff-version 3\n" + gene)
    pos0 = 100 + BASES[100:200].index("A")
    text = HEAD + line(pos0, "C", "CLNSIG=Pathogenic;CLNHGVS=NM_1.1(MINUS):c.5T>G;GENEINFO=MINUS:1")
    (feature,) = read_annotation(tmp_path / "x.gff3", fasta).search("minus")
    (found,) = known(text).within(feature.contig, feature.start, feature.end)
    assert feature.strand == "-"
    assert (found.pos0, found.ref, found.alt) == (pos0, "A", "C") and fasta.fetch("chr1", pos0, pos0 + 1) == found.ref
    variants = known(text)
    assert variants.match("chr1", pos0, "A", "C") == found
    assert variants.match("chr1", pos0, reverse_complement("A"), reverse_complement("C")) is None


@settings(max_examples=50, deadline=None)
@given(
    st.integers(40, 300),
    st.integers(1, 6),
    st.text("ACGT", min_size=1, max_size=6),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_an_allele_is_the_same_however_many_bases_it_is_written_with(pos0, size, alt, before, behind):
    ref = BASES[pos0 : pos0 + size]
    longer = BASES[pos0 - before : pos0], BASES[pos0 + size : pos0 + size + behind]
    written = pos0 - before, longer[0] + ref + longer[1], longer[0] + alt + longer[1]
    if ref != alt:
        start, one, two = trimmed(*written)
        assert (start, one, two) == trimmed(start, one, two)
        assert BASES[:start] + two + BASES[start + len(one) :] == BASES[:pos0] + alt + BASES[pos0 + size :]
        assert len(one) <= len(ref) or len(two) <= len(alt)


def test_match_by_trimmed_alleles_and_synonyms(known):
    ref, alt = BASES[50:54], BASES[50:52]
    variants = known(HEAD + line(49, BASES[49] + alt, "CLNSIG=Benign", ref=BASES[49] + ref))
    for contig, extra in (("1", 0), ("chr1", 2)):
        written = BASES[50 - extra : 50]
        found = variants.match(contig, 50 - extra, written + ref, written + alt)
        assert found is not None and found.label == "Benign"
    assert variants.match("chr1", 50, ref, ref) is None
    assert variants.match("chr7", 50, ref, alt) is None


# -- files


@pytest.mark.parametrize("pack", [str.encode, lambda t: gz(t.encode()), lambda t: bgzip(t.encode())])
def test_with_and_without_an_index(known, tmp_path, pack):
    text = HEAD + "".join(line(p, other(BASES[p]), "CLNSIG=Benign", id=str(p)) for p in range(0, 400, 3))
    variants = known(pack(text), "a.vcf.gz")
    assert [v.id for v in variants.within("chr1", 30, 40)] == ["30", "33", "36", "39"]
    assert list(variants.within("chr1", 40, 30)) == list(variants.within("chr2", 0, 9)) == []
    assert [v.id for v in variants.within("chr1", -5, 1)] == ["0"]
    variants.close()
    assert not list(tmp_path.glob("known-*"))


def test_a_tabix_index_is_used_where_there_is_one(known, tmp_path, fasta):
    text = HEAD + "".join(line(p, other(BASES[p]), "CLNSIG=Benign", id=str(p)) for p in range(0, 400, 3))
    (tmp_path / "b.vcf.gz").write_bytes(bgzip(text.encode()))
    pysam.tabix_index(str(tmp_path / "b.vcf.gz"), preset="vcf")
    variants = KnownVariants(tmp_path / "b.vcf.gz", fasta, cache=tmp_path)
    assert [v.id for v in variants.within("chr1", 30, 40)] == ["30", "33", "36", "39"]
    assert not list(tmp_path.glob("known-*"))


def test_a_copy_is_made_once(known, tmp_path):
    text = HEAD + line(9, other(BASES[9]), "CLNSIG=Benign")
    made = []
    for _ in range(2):
        known(text, cache=tmp_path)
        made.append([(path.name, path.stat().st_mtime_ns) for path in sorted(tmp_path.glob("known-*"))])
    assert made[0] == made[1] and len(made[0]) == 2


def test_a_big_file_does_not_lie_in_memory(tmp_path):
    bases = random_bases(5000, seed=7) * 4
    fasta = Fasta(write_fasta(tmp_path / "x.fa", chr1=bases))
    info = "CLNSIG=Benign;CLNDN=" + "a_disease_with_a_long_name_" * 20
    rows = (f"1\t{p + 1}\t{p}\t{b}\t{other(b)}\t.\t.\t{info}\n" for p, b in enumerate(bases))
    (tmp_path / "a.vcf").write_text(HEAD + "".join(rows))
    size = (tmp_path / "a.vcf").stat().st_size
    tracemalloc.start()
    try:
        variants = KnownVariants(tmp_path / "a.vcf", fasta)
        assert sum(1 for _ in variants.within("chr1", 0, len(bases))) == len(bases)
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


BAD = {
    "not_labelled": (HEAD.replace("CLNSIG", "CLASS"), "no INFO key CLNSIG or LABEL"),
    "not_sorted": (HEAD + line(9, "A", "CLNSIG=x", ref="C") + line(5, "A", "CLNSIG=x", ref="C"), ":7: not sorted"),
    "other_contigs": (HEAD + "7\t10\t.\tC\tA\t.\t.\t.\n", "none of its contigs (7) is in x.fa"),
    "no_vcf": ("chr1\t5\tA\tC\n", ":1: "),
    "cut": (gz((HEAD + line(9, "A", ".", ref="C") * 99).encode())[:-20], "ends too early"),
    "allele": (HEAD + line(9, "A", "CLNSIG=x", ref="J"), ":6: 'J' in REF"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(known, tmp_path, name):
    text, says = BAD[name]
    with pytest.raises(NexVarError) as caught:
        known(text)
    assert says in str(caught.value) and str(tmp_path / "clinvar.vcf") in str(caught.value)


def test_an_index_of_another_file_is_told(known, tmp_path):
    (tmp_path / "clinvar.vcf.gz.tbi").write_bytes(gz(b"TBI\1 not an index"))
    with pytest.raises(NexVarError, match=r"clinvar\.vcf\.gz: .*tabix"):
        known(bgzip((HEAD + line(9, "A", ".", ref="C")).encode()), "clinvar.vcf.gz")


def test_the_packaged_mitochondrial_variants():
    fasta = Fasta(str(files("nexvar") / "data" / "chrM_rCRS.fa"))
    variants = KnownVariants(str(files("nexvar") / "data" / "mtdna_labelled.vcf"), fasta)
    found = list(variants.within("MT", 0, 16569))
    groups = [v.group for v in found]
    assert (groups.count("pathogenic"), groups.count("benign"), len(groups)) == (71, 725, 796)
    assert all(fasta.fetch("chrM", v.pos0, v.pos0 + 1) == v.ref for v in found)
    assert list(variants.within("chrM", 3229, 3304)) == [v for v in found if 3229 <= v.pos0 < 3304]
