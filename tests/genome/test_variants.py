"""Variants from tables, strings, HGVS and regions; BED; phased haplotypes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edits import edit
from malformed import BED_CASES, TSV_CASES, VARIANT_STRINGS
from malformed.case import gz
from nexvar.errors import NexVarError
from nexvar.genome.bed import Regions, parse_region, read_bed
from nexvar.genome.haplotypes import Haplotypes, read_haplotypes
from nexvar.genome.reference import Fasta, Interval, Variant, reverse_complement
from nexvar.genome.strings import parse_variant
from nexvar.genome.variants import open_variants, saturate
from nexvar.genome.vcf import VcfReader, read_vcf
from nexvar.genome.windows import Status, allele_windows
from toy_genome import random_bases, write_fasta

CHR = random_bases(300, seed=2)


@pytest.fixture(scope="module")
def mito():
    """The rCRS, as shipped."""
    from importlib.resources import files

    return Fasta(str(files("nexvar") / "data" / "chrM_rCRS.fa"))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("variants") / "x.fa"
    contigs = {"chr1": CHR, "chr2": f"{CHR[:100]}N{CHR[101:]}", "HLA:01-02": CHR, "chr17:41197001-41197300": CHR}
    return Fasta(write_fasta(path, **contigs))


def applied(variant: Variant, sequence: str = CHR) -> str:
    assert sequence[variant.pos0 : variant.pos0 + len(variant.ref)] == variant.ref
    return sequence[: variant.pos0] + variant.alts[0] + sequence[variant.pos0 + len(variant.ref) :]


@pytest.mark.parametrize(
    "text",
    ["chrM:3243A>G", "MT:3243:A:G", "chrM-3243-A-G", "m.3243A>G", "NC_012920.1:m.3243A>G", "chrM:g.3243A>G",
     "chrM:3,243A>G", "chrM:3243a>g", "chrM:3243A/G", "M:3243:A>G"],
)  # fmt: skip
def test_ways_to_write_one_variant(mito, text):
    variant = parse_variant(text, mito)
    assert (variant.pos0, variant.ref, variant.alts) == (3242, "A", ("G",))
    w = allele_windows(mito, variant.chrom, variant.pos0, variant.ref, variant.alts[0], 64)
    assert (w.contig, w.status) == ("chrM", Status.OK)


def test_the_example_of_the_manual_on_a_slice_of_a_chromosome(genome):
    variant = parse_variant(f"chr17:41197022{CHR[21]}>{'A' if CHR[21] != 'A' else 'C'}", genome)
    w = allele_windows(genome, variant.chrom, variant.pos0, variant.ref, variant.alts[0], 32)
    assert (w.status, w.start) == (Status.OK, 41197021 - 16)
    assert w.ref_seq == CHR[5:37]


def test_contigs_with_colons(genome):
    base, other = CHR[9], "A" if CHR[9] != "A" else "C"
    assert parse_variant(f"HLA:01-02:10{base}>{other}", genome).chrom == "HLA:01-02"
    assert parse_region("HLA:01-02:5-10", genome) == Interval("HLA:01-02", 4, 10)
    assert parse_region("HLA:01-02", genome) == Interval("HLA:01-02", 0, 300)


@given(st.integers(1, 300), st.integers(0, 20), st.text("ACGT", min_size=1, max_size=9))
def test_hgvs_means_what_it_says(genome, start, more, bases):
    """Every kind of genomic HGVS, applied, is the sequence its definition gives."""
    end = min(start + more, 300)
    a, b = start - 1, end  # 0-based half-open
    place = f"{start}_{end}" if end > start else f"{start}"
    event = CHR[a:b]
    expected = {
        "del": CHR[:a] + CHR[b:],
        f"del{event}": CHR[:a] + CHR[b:],
        "dup": CHR[:a] + event + event + CHR[b:],
        f"dup{event}": CHR[:a] + event + event + CHR[b:],
        "inv": CHR[:a] + reverse_complement(event) + CHR[b:],
        f"delins{bases}": CHR[:a] + bases + CHR[b:],
        f"del{event}ins{bases}": CHR[:a] + bases + CHR[b:],
    }
    for change, sequence in expected.items():
        variant = parse_variant(f"chr1:g.{place}{change}", genome)
        assert applied(variant) == sequence
        assert variant.ref
        assert variant.alts[0]
    if start < 300:
        variant = parse_variant(f"chr1:g.{start}_{start + 1}ins{bases}", genome)
        assert applied(variant) == CHR[:start] + bases + CHR[start:]


@pytest.mark.parametrize("text", VARIANT_STRINGS, ids=range(len(VARIANT_STRINGS)))
def test_malformed_variant_strings_are_refused(mito, text):
    with pytest.raises(NexVarError) as caught:
        parse_variant(text, mito)
    message = str(caught.value)
    assert VARIANT_STRINGS[text] in message
    assert "\n" not in message
    assert len(message) < 400


def test_a_list_of_variants_reads_like_a_vcf(mito, tmp_path):
    texts = ["m.100del", "chrM:3243A>G", Variant("chrM", 8992, "T", ("C", "G"))]
    reader = open_variants(texts, mito)
    assert reader.scan().alleles == 4
    body = "\n".join([*reader.header, reader.column_line, *(r.raw for r in reader)]) + "\n"
    (tmp_path / "x.vcf").write_text(body.replace("MT\t", "chrM\t"))
    again = read_vcf(tmp_path / "x.vcf")
    assert [r.variant.alts for r in again] == [r.variant.alts for r in reader]
    assert [r.pos0 for r in open_variants(["chrM:3243A>G", "chrM:3T>A"], mito)] == [3242, 2]
    with pytest.raises(NexVarError, match="no variants"):
        open_variants([], mito).scan()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.tsv", b"chrom\tpos\tref\talt\nchrM\t3243\tA\tG\nchrM\t8993\tT\tC,G\n"),
        ("x.tsv", b"#CHROM\tPOS\tID\tREF\tALT\nchrM\t3243\trs1\tA\tG\nchrM\t8993\t.\tT\tC,G\n"),
        ("x.tsv", b"gene\tref\talt\tchromosome\tpos\n1\tA\tG\tchrM\t3243\n\n2\tt\tc,g\tchrM\t8993\n"),
        ("x.tsv", b"chrM\t3243\tA\tG\textra\nchrM\t8,993\tT\tC,G"),
        ("x.tsv.gz", gz(b"## comment\nchrM\t3243\tA\tG\nchrM\t8993\tT\tC,G\n")),
    ],
)
def test_tables(name, data, mito, tmp_path):
    (tmp_path / name).write_bytes(data)
    reader = open_variants(tmp_path / name, mito)
    assert [(r.chrom, r.pos0, r.ref, r.alts) for r in reader] == [
        ("chrM", 3242, "A", ("G",)), ("chrM", 8992, "T", ("C", "G")),
    ]  # fmt: skip
    assert reader.scan().alleles == 3


def test_files_of_hgvs_and_of_vcf(mito, tmp_path):
    (tmp_path / "x.txt").write_text("# mine\nm.3243A>G\n\nNC_012920.1:m.8993T>G\n")
    assert len(list(open_variants(["chrM:5A>G", "MT:6T>C", "chrM:7C>A"], mito))) == 3
    assert [r.pos0 for r in open_variants(tmp_path / "x.txt", mito)] == [3242, 8992]
    vcf = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchrM\t5\t.\tA\tC\t.\t.\t.\n"
    (tmp_path / "x.vcf").write_text(vcf)
    assert isinstance(open_variants(tmp_path / "x.vcf", mito), VcfReader)


@pytest.mark.parametrize("name", TSV_CASES)
def test_malformed_tables_are_refused(name, mito, tmp_path):
    path = TSV_CASES[name].write(tmp_path, name)
    with pytest.raises(NexVarError) as caught:
        open_variants(path, mito).scan()
    TSV_CASES[name].check(str(caught.value), path)


def test_regions_of_a_bed(genome, tmp_path):
    path = tmp_path / "x.bed"
    path.write_text(
        "track x\n#c\nchr1\t10\t20\tname\n1\t15\t30\nchr1\t30\t31\nchr17\t41197000\t41197005\nchr2\t0\t300\n"
    )
    regions = read_bed(path, genome)
    inside = [pos for pos in range(300) if ("chr1", pos) in regions]
    assert inside == list(range(10, 31))
    assert len(regions) == 21 + 5 + 300
    assert ("chr17", 41197004) in regions
    assert ("chr17", 41197005) not in regions
    assert ("chrX", 5) not in regions


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1))
def test_regions_are_a_union(spans):
    regions = Regions(Interval("c", start, start + n) for start, n in spans)
    covered = {p for start, n in spans for p in range(start, start + n)}
    assert {p for p in range(70) if ("c", p) in regions} == covered
    assert len(regions) == len(covered)


@pytest.mark.parametrize("name", BED_CASES)
def test_malformed_bed_is_refused(name, mito, tmp_path):
    path = BED_CASES[name].write(tmp_path, name)
    with pytest.raises(NexVarError) as caught:
        read_bed(path, mito)
    BED_CASES[name].check(str(caught.value), path)


def test_region_strings(genome):
    assert parse_region("chr1:11-20", genome) == Interval("chr1", 10, 20)
    assert parse_region("1:1-300", genome) == Interval("chr1", 0, 300)
    assert parse_region("chr17:41,197,011-41,197,020", genome) == Interval("chr17", 41197010, 41197020)
    assert parse_region("chr17", genome) == Interval("chr17", 41197000, 41197300)
    for text in ("", "chr9:1-5", "chr1:", "chr1:5", "chr1:20-11", "chr1:0-5", "chr1:1-301", "chr1:1-" + "9" * 5000,
                 "chr17:1-100", "chr1:a-b", "chr1 1 5"):  # fmt: skip
        with pytest.raises(NexVarError, match="region"):
            parse_region(text, genome)


def test_saturation_is_every_snv(genome):
    region = parse_region("chr2:91-110", genome)
    reader = saturate(genome, region)
    records = list(reader)
    assert [r.pos0 for r in records] == list(range(90, 110))
    assert reader.scan().alleles == 19 * 3 + 4
    for record in records:
        assert set(record.alts) | {record.ref} >= set("ACGT")
        statuses = {allele_windows(genome, "chr2", record.pos0, record.ref, a, 16).status for a in record.alts}
        assert statuses == ({Status.N_AT_SITE} if record.pos0 == 100 else {Status.OK})
    with pytest.raises(NexVarError, match="at most"):
        saturate(genome, Interval("chr1", 0, 10**9))


# -- haplotypes --

HAPLOTYPES = """##fileformat=VCFv4.2
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tkid\tmum
chr1\t11\t.\t{0}\t{a}\t.\t.\t.\tGT\t0|1\t./.
chr1\t21\t.\t{1}\t{b}A\t.\t.\t.\tGT\t1|1\t0/0
chr1\t31\t.\t{2}\t{c},*\t.\t.\t.\tGT:PS\t1|2:31\t0/1
chr1\t41\t.\t{3}\t{d}\t.\t.\t.\tGT\t0/1\t1/1
chr1\t51\t.\t{4}\t<DEL>\t.\t.\tEND=60\tGT\t1|0\t0
chr1\t151\t.\t{5}\t{e}\t.\t.\t.\tGT:PS\t1|0:31\t1
chr2\t11\t.\t{0}\t{a}\t.\t.\t.\tGT\t1\t.
"""


def other(base: str) -> str:
    return "A" if base != "A" else "C"


def haplotype_file(tmp_path, text: str = HAPLOTYPES):
    at = [CHR[p] for p in (10, 20, 30, 40, 50, 150)]
    a, b, c, d, _, e = (other(base) for base in at)
    path = tmp_path / "phased.vcf"
    path.write_text(text.format(*at, a=a, b=b, c=c, d=d, e=e))
    return read_vcf(path), (a, b, c, d, e)


def test_phased_variants_act_together(genome, tmp_path):
    reader, (a, b, c, d, e) = haplotype_file(tmp_path)
    found = {h.members: h for h in read_haplotypes(reader, genome, "kid", reach=100)}
    assert {m: h.copy for m, h in found.items()} == {
        ((3, 0),): -1,  # unphased
        ((0, 0), (1, 0)): 1,
        ((1, 0), (2, 0)): 0,
        ((5, 0),): 0,  # too far from the others
        ((6, 0),): 0,  # another contig
    }
    assert applied(found[((0, 0), (1, 0))].variant) == CHR[:10] + a + CHR[11:20] + b + "A" + CHR[21:]
    assert applied(found[((1, 0), (2, 0))].variant) == CHR[:20] + b + "A" + CHR[21:30] + c + CHR[31:]
    wide = [h.members for h in read_haplotypes(reader, genome, "kid", reach=200)]
    assert ((1, 0), (2, 0), (5, 0)) in wide
    mum = [h.members for h in read_haplotypes(reader, genome, "mum", reach=200)]
    assert mum == [((2, 0),), ((3, 0), (5, 0)), ((3, 0),)]
    order = [h.variant.pos0 for h in read_haplotypes(reader, genome, "kid", reach=200, others=True)]
    assert order == sorted(order[:-1]) + [10]  # the last is on another contig


def test_overlapping_or_foreign_alleles_stay_apart(genome, tmp_path):
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts"]
    lines.append(f"chr1\t11\t.\t{CHR[10:15]}\t{CHR[10]}\t.\t.\t.\tGT\t1|0")
    lines.append(f"chr1\t13\t.\t{CHR[12]}\t{other(CHR[12])}\t.\t.\t.\tGT\t1|0")
    lines.append(f"chr1\t20\t.\t{other(CHR[19])}\t{CHR[19]}\t.\t.\t.\tGT\t1|0")  # REF is not the genome's
    lines.append(f"chr1\t30\t.\t{CHR[29]}\t{other(CHR[29])}\t.\t.\t.\tGT:PS\t1|0:5")
    lines.append(f"chr1\t40\t.\t{CHR[39]}\t{other(CHR[39])}\t.\t.\t.\tGT:PS\t1|0:6")
    (tmp_path / "x.vcf").write_text("\n".join(lines) + "\n")
    found = [h.members for h in read_haplotypes(read_vcf(tmp_path / "x.vcf"), genome, "s", reach=100)]
    assert found == [((0, 0),), ((1, 0), (3, 0)), ((4, 0),)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("GT\t0|1", "GT\tx|1", ":3: GT is 'x|1'"), ("GT\t1|1", "GT\t1|7", ":4: GT 1|7 names allele 7 of 1"),
     ("GT\t0|1", "GT\t0|99999999", ":3: GT is"), ("GT\t0|1", "GT\t|", ":3: GT is")],
)  # fmt: skip
def test_malformed_genotypes_are_refused(old, new, says, genome, tmp_path):
    reader, _ = haplotype_file(tmp_path, HAPLOTYPES.replace(old, new))
    with pytest.raises(NexVarError) as caught:
        list(read_haplotypes(reader, genome, "kid", reach=100))
    assert says in str(caught.value)


def test_a_sample_that_is_not_there(genome, tmp_path):
    reader, _ = haplotype_file(tmp_path)
    with pytest.raises(NexVarError, match="samples: kid, mum"):
        list(read_haplotypes(reader, genome, "dad", reach=100))


# -- fuzz --


@given(st.integers(0, 2**32).map(random.Random))
def test_random_edits_of_phased_files(genome, tmp_path, rng):
    _, _ = haplotype_file(tmp_path)
    data = (tmp_path / "phased.vcf").read_bytes()
    for _ in range(20):
        changed = bytearray(data)
        edit(changed, rng)
        (tmp_path / "x.vcf").write_bytes(changed)
        try:
            source = Haplotypes(read_vcf(tmp_path / "x.vcf"), genome, "kid", 50)
            records = list(source)
        except NexVarError as error:
            assert "\n" not in str(error)
            continue
        assert [r.chrom for r in records] == sorted((r.chrom for r in records), key=[r.chrom for r in records].index)
        for record in records:  # and each is a record that a VCF may hold
            assert record.raw.count("\t") == 7 and not set(" ;") & set(record.id)


@given(st.integers(0, 2**32).map(random.Random))
def test_random_edits_of_tables_beds_and_strings(mito, tmp_path, rng):
    table = b"chrom\tpos\tref\talt\nchrM\t3243\tA\tG\nchrM\t8993\tT\tC,G\n"
    bed = b"chrM\t5\t10\tx\nMT\t100\t2000\n"
    texts = ["chrM:3243A>G", "NC_012920.1:m.100_105delinsACG", "chrM:g.5_6insTT", "chrM:g.5_9inv", "m.77dup"]
    for _ in range(10):
        for name, data, read in (
            ("x.tsv", table, lambda path: open_variants(path, mito).scan()),
            ("x.bed", bed, lambda path: read_bed(path, mito)),
        ):
            changed = bytearray(data)
            edit(changed, rng)
            (tmp_path / name).write_bytes(changed)
            try:
                read(tmp_path / name)
            except NexVarError as error:
                assert "\n" not in str(error)
        text = bytearray(rng.choice(texts).encode())
        edit(text, rng)
        try:
            variant = parse_variant(text.decode("latin-1"), mito)
            allele_windows(mito, variant.chrom, variant.pos0, variant.ref, variant.alts[0], 64)
        except NexVarError as error:
            assert "\n" not in str(error)
