"""Tables, MAF, ClinVar, SPDI and lists: each format's own way to write a variant, as VCF has it."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edits import edit
from malformed.case import bgzip, gz
from malformed.other_cases import CLINVAR, MAF
from nexvar.errors import NexVarError
from nexvar.genome.bed import parse_region, read_bed
from nexvar.genome.names import read_synonyms
from nexvar.genome.reference import Fasta, Interval, Variant
from nexvar.genome.strings import parse_variant
from nexvar.genome.variants import open_variants
from nexvar.genome.vcf import VcfReader
from nexvar.genome.windows import Status, make_windows
from toy_genome import HEADER, random_bases, write_fasta

CHR = random_bases(300, seed=2)
HLA = "HLA-A*01:01:01:01"
VCF_HEAD = HEADER.encode()
MITO = Fasta(str(files("nexvar") / "data" / "chrM_rCRS.fa"))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return Fasta(write_fasta(tmp_path_factory.mktemp("formats") / "x.fa", chr1=CHR, **{HLA: CHR}))


def applied(variant: Variant, allele: int = 0) -> str:
    end = variant.pos0 + len(variant.ref)
    assert CHR[variant.pos0 : end] == variant.ref
    return CHR[: variant.pos0] + variant.alts[allele] + CHR[end:]


def read(folder: Path, name: str, data: bytes | str, fasta: Fasta) -> list[Variant]:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    reader = open_variants(folder / name, fasta)
    records = list(reader)
    assert reader.scan().records == len(records)
    return [record.variant for record in records]


edits = st.tuples(st.integers(0, 299), st.integers(0, 20), st.text("ACGT", max_size=9)).filter(lambda e: e[1] or e[2])


# -- SPDI


@given(edits)
def test_spdi_is_0_based_and_names_what_goes_and_comes(tmp_path_factory, change):
    path = tmp_path_factory.getbasetemp() / "spdi.fa"
    if not path.exists():
        write_fasta(path, **{"NC_000001.11": CHR})
    fasta = Fasta(path)
    start, count, inserted = change
    deleted = CHR[start : start + count]
    if deleted == inserted:
        return
    for middle in (deleted, str(len(deleted)), deleted.lower() or "0"):
        variant = parse_variant(f"NC_000001.11:{start}:{middle}:{inserted}", fasta)
        assert applied(variant) == CHR[:start] + inserted + CHR[start + len(deleted) :]
        assert variant.ref and variant.alts[0]


def test_an_accession_with_three_colons_is_spdi_and_a_name_is_not():
    spdi = ("NC_012920.1:3242:A:G", "NC_012920.1:3242:1:G", "J01415.2:3242:A:G")
    names = ("chrM:3243:A:G", "M:3243:A:G", "NC_012920.1:3243A>G", "NC_012920.1-3243-A-G")
    for text in (*spdi, *names, "NC_012920.1:m.3243A>G", "NC_012920:m.3243A>G", "NC_012920.1(MT-TL1):m.3243A>G"):
        variant = parse_variant(text, MITO)
        assert (variant.pos0, variant.ref, variant.alts) == (3242, "A", ("G",)), text
        assert MITO.resolve(variant.chrom).contig == "chrM"
    assert parse_variant("NC_012920.1:8003:A:G", MITO).pos0 == 8003  # the base before it is an A, too


@pytest.mark.parametrize(
    "name", ["NC_000913.3", "NZ_CP012345.1", "U00096.3", "AAAA01000001.1", "NZ_AAAAAA010000001.12"]
)
def test_every_accession_with_its_version_makes_spdi(name, tmp_path):
    write_fasta(tmp_path / "g.fa", **{name: CHR})
    fasta = Fasta(tmp_path / "g.fa")
    for place in ("99", "0,099"):
        assert parse_variant(f"{name}:{place}:{CHR[99]}:", fasta) == Variant(name, 98, CHR[98:100], (CHR[98],))


def test_an_accession_without_its_version_may_be_0_or_1_based_and_is_refused(tmp_path):
    write_fasta(tmp_path / "g.fa", NC_000913=CHR)
    fasta = Fasta(tmp_path / "g.fa")
    with pytest.raises(NexVarError, match="no version: 0-based as in SPDI, or 1-based?"):
        parse_variant(f"NC_000913:99:{CHR[99]}:N", fasta)
    assert parse_variant(f"NC_000913:100{CHR[99]}>N", fasta).pos0 == 99


def test_a_wrong_base_in_an_spdi_substitution_is_a_status():
    (w,) = make_windows(MITO, parse_variant("NC_012920.1:3242:C:G", MITO), 64)
    assert w.status is Status.REF_MISMATCH


# -- names with colons, dashes and stars


def test_the_last_colon_separates(genome, tmp_path):
    base = CHR[99]
    other = "ACGT".replace(base, "")[0]
    for text in (f"{HLA}:100{base}>{other}", f"{HLA}:100:{base}:{other}", f"{HLA}:g.100{base}>{other}",
                 f"{HLA}-100-{base}-{other}", f"{HLA}:100{base}/{other}"):  # fmt: skip
        assert parse_variant(text, genome) == Variant(HLA, 99, base, (other,)), text
    assert parse_region(f"{HLA}:5-10", genome) == Interval(HLA, 4, 10)
    assert parse_region(HLA, genome) == Interval(HLA, 0, 300)
    (tmp_path / "x.bed").write_text(f"{HLA}\t4\t10\n")
    assert (HLA, 9) in read_bed(tmp_path / "x.bed", genome)
    assert read(tmp_path, "x.tsv", f"{HLA}\t100\t{base}\t{other}\n", genome) == [Variant(HLA, 99, base, (other,))]


# -- tables


@pytest.mark.parametrize(
    "titles",
    ["#chr\tpos(1-based)\tref\talt", "chrom\tposition\treference\talternate", "contig\tPOS\tRef_Allele\tAlt_Allele",
     '"chr"\t"pos"\t"ref"\t"alt"', "Chromosome\tPosition\tReference Allele\tAlternate Allele", "CHROM\tPOS\tREF\tALT"],
)  # fmt: skip
def test_titles_have_many_spellings(titles, tmp_path):
    for row in ("M\t3243\tA\tG", '"M"\t"3243"\t"A"\t"G"'):
        assert read(tmp_path, "x.tsv", f"{titles}\n{row}\n", MITO) == [Variant("M", 3242, "A", ("G",))]
    assert read(tmp_path, "x.tsv", f"{titles}\n", MITO) == []  # titles and no rows: an empty table


@given(edits)
def test_an_empty_allele_may_be_a_dash(genome, tmp_path_factory, change):
    start, count, inserted = change
    deleted = CHR[start : start + count]
    count = len(deleted)
    if deleted == inserted or count == len(CHR):
        return
    ref, alt = deleted or "-", inserted or "-"
    rows = [f"chr1\t{start + 1 if count else start}\t{ref}\t{alt}"] if start or count else []
    if count:
        rows += [f"chr1\t{start + 1}\t{start + count}\t{ref}\t{alt}", f"chr1\t{start}\t{start + count}\t{ref}\t{alt}"]
    else:  # ANNOVAR, MAF, VEP
        rows += [f"chr1\t{a}\t{b}\t{ref}\t{alt}" for a, b in
                 ((start, start), (start, start + 1), (start + 1, start)) if a]  # fmt: skip
    folder = tmp_path_factory.getbasetemp()
    for row in rows:
        titles = "chr\tstart\tend\tref\talt" if row.count("\t") == 4 else "chr\tpos\tref\talt"
        (variant,) = read(folder, "dash.tsv", f"{titles}\n{row}\n", genome)
        assert applied(variant) == CHR[:start] + inserted + CHR[start + count :], row


def test_a_dash_where_the_genome_has_nothing_is_a_status(genome, tmp_path):
    found = read(tmp_path, "x.tsv", "chr9\t5\tA\t-\nchr1\t400\tA\t-\nchr1\t5\tNN\t-,A\n", genome)
    assert [make_windows(genome, v, 64)[0].status for v in found] == [
        Status.UNKNOWN_CONTIG, Status.OUT_OF_RANGE, Status.N_AT_SITE,
    ]  # fmt: skip


def test_lists_keep_their_order(genome, tmp_path):
    a, b = CHR[199], CHR[9]
    rows = [f"chr1\t200\t{a}\tN", f"chr1\t10\t{b}\tN", f"{HLA}\t5\t{CHR[4]}\tN", f"chr1\t10\t{b}\tN"]
    assert [v.pos0 for v in read(tmp_path, "x.tsv", "\n".join(rows), genome)] == [199, 9, 4, 9]
    assert [v.pos0 for v in read(tmp_path, "x.hgvs", f"chr1:200{a}>N\nchr1:10{b}>N\n", genome)] == [199, 9]


def test_what_a_text_file_holds_decides_how_it_is_read(tmp_path):
    vcf = VCF_HEAD + b"chrM\t3243\t.\tA\tG\t.\t.\t.\n"
    expected = [Variant("chrM", 3242, "A", ("G",))]
    for name in ("in.vcf.txt", "in.txt", "in.tsv", "in.tsv.gz", "in.vcf"):
        assert read(tmp_path, name, bgzip(vcf) if name.endswith("gz") else vcf, MITO) == expected
        assert isinstance(open_variants(tmp_path / name, MITO), VcfReader)
    assert read(tmp_path, "in.txt", b"# mine\nchrom\tpos\tref\talt\nchrM\t3243\tA\tG\n", MITO) == expected
    assert read(tmp_path, "in.tsv", b"chrM\t3243\t.\tA\tG\t.\t.\t.\n", MITO) == expected  # a VCF without its header
    assert read(tmp_path, "in.tsv", b"chrM\t3243\trs1\tA\tG\n", MITO) == expected
    assert read(tmp_path, "in.spdi", b"NC_012920.1:3242:A:G\n", MITO) == [Variant("NC_012920.1", 3242, "A", ("G",))]


# -- line ends


@pytest.mark.parametrize("pack", [bytes, gz, bgzip])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.tsv", b"chrom\tpos\tref\talt\nchrM\t3243\tA\tG\n"),
        ("x.hgvs", b"# mine\n\nm.3243A>G\n"),
        ("x.maf", MAF + b"X\tGRCh38\tMT\t3243\t3243\t+\tA\tA\tG\n"),
        ("x.txt", CLINVAR + b"1\tGRCh38\tNC_012920.1\tMT\t3243\tA\tG\n"),
        ("x.vcf", VCF_HEAD + b"chrM\t3243\t.\tA\tG\t.\t.\t.\n"),
    ],
)  # fmt: skip
def test_windows_line_ends_are_read_everywhere(name, data, pack, tmp_path):
    (expected,) = read(tmp_path, name, data, MITO)
    assert (expected.pos0, expected.ref, expected.alts) == (3242, "A", ("G",))
    windows = data.replace(b"\n", b"\r\n")
    mixed = windows.replace(b"\r\n", b"\n", 1)
    for variation in (windows, windows[:-1], windows[:-2], mixed):
        packed = pack(variation)
        ending = name + (".gz" if packed.startswith(b"\x1f") else "")
        assert read(tmp_path, ending, packed, MITO) == [expected]


def test_windows_line_ends_of_regions_and_synonyms(tmp_path):
    (tmp_path / "x.bed").write_bytes(b"track x\r\nchrM\t5\t9\r\n\r\nchrM\t15\t19\tname\r\n")
    assert len(read_bed(tmp_path / "x.bed", MITO)) == 8
    (tmp_path / "s.tsv").write_bytes(b"# x\r\na\tchrM\r\n\r\nb\tchrM\r\n")
    assert read_synonyms(tmp_path / "s.tsv") == {"a": "chrM", "b": "chrM"}


def test_a_record_keeps_its_own_line_end(tmp_path):
    head = b"##fileformat=VCFv4.3\r\n##x=y\r\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\r\n"
    (tmp_path / "x.vcf").write_bytes(head + b"chrM\t5\t.\tA\tG\t.\t.\tX=1\r\nchrM\t6\t.\tT\tG\t.\t.\tX=2\n")
    reader = VcfReader(tmp_path / "x.vcf")
    assert (reader.newline, reader.header) == ("\r\n", ["##fileformat=VCFv4.3", "##x=y"])
    assert [(r.info, r.raw[-1]) for r in reader] == [("X=1", "\r"), ("X=2", "2")]


# -- MAF


def maf_row(start: int, end: int, ref: str, *alleles: str, chrom: str = "chr1", build: str = "GRCh38") -> str:
    return "\t".join(("GENE", build, chrom, str(start), str(end), "+", ref, *alleles))


@given(edits)
def test_maf_rows_mean_what_the_format_says(genome, tmp_path_factory, change):
    start, count, inserted = change
    deleted = CHR[start : start + count]
    count = len(deleted)
    if deleted == inserted or count == len(CHR) or (not count and not start):
        return
    place = (start + 1, start + count) if count else (start, start + 1)
    ref = deleted or "-"
    for first in (ref, inserted or "-", "", "NA"):
        row = maf_row(*place, ref, first, inserted or "-")
        (variant,) = read(tmp_path_factory.getbasetemp(), "x.maf", MAF + row.encode(), genome)
        assert applied(variant) == CHR[:start] + inserted + CHR[start + count :]
        assert len(variant.alts) == 1


def test_both_alleles_of_a_maf_count_where_both_differ(genome, tmp_path):
    ref = CHR[9]
    a, b, _ = "ACGT".replace(ref, "")
    rows = "\n".join([maf_row(10, 10, ref, a, b), maf_row(10, 10, ref, a, "-"), maf_row(10, 10, ref, ref, ref)])
    found = read(tmp_path, "data_mutations.txt", MAF + rows.encode(), genome)
    assert found[0] == Variant("chr1", 9, ref, (a, b))
    assert found[1] == Variant("chr1", 8, CHR[8] + ref, (CHR[8] + a, CHR[8]))
    assert found[2].alts == (".",)


@pytest.mark.parametrize(
    "titles",
    ["Hugo_Symbol\tChromosome\tStart_Position\tReference_Allele\tTumor_Seq_Allele2",
     "hugo_symbol\tchromosome\tStart_position\treference_allele\ttumor_seq_allele2",
     "Gene\tChr\tStart\tRef_Allele\tTumor_Allele2"],
)  # fmt: skip
def test_a_maf_is_known_by_its_columns(titles, genome, tmp_path):
    ref = CHR[9]
    alt = "ACGT".replace(ref, "")[0]
    row = f"GENE\t1\t10\t{ref}\t{alt}\n"
    for name in ("x.maf", "x.tsv", "x.txt", "x.maf.gz"):
        data = f"#version 2.4\n{titles}\n{row}".encode()
        assert read(tmp_path, name, gz(data) if name.endswith("gz") else data, genome) == [Variant("1", 9, ref, (alt,))]


def test_a_maf_of_another_build_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(MITO.contigs, "chr21", 46_709_983)  # a length is all that is looked at
    try:
        for build, good in (
            ("GRCh38", True),
            ("hg38", True),
            ("38", True),
            ("GRCh37", False),
            ("hg19", False),
            ("", True),
        ):
            row = maf_row(5, 5, "A", "A", "G", chrom="21", build=build)
            MITO._names._known.clear()
            (tmp_path / "x.maf").write_bytes(MAF + row.encode())
            reader = open_variants(tmp_path / "x.maf", MITO)
            if good:
                assert len(list(reader)) == 1
            else:
                with pytest.raises(NexVarError, match=r"x.maf:3: NCBI_Build is .*46,709,983 bases: GRCh38"):
                    list(reader)
    finally:
        MITO._names._known.clear()


# -- ClinVar


def clinvar_row(assembly: str, accession: str, chrom: str, pos: object, ref: str, alt: str) -> bytes:
    return "\t".join(("1", assembly, accession, chrom, str(pos), ref, alt, "\n")).encode()


def test_clinvar_rows_of_the_fastas_assembly_are_read(tmp_path, monkeypatch):
    monkeypatch.setitem(MITO.contigs, "chr21", 46_709_983)
    MITO._names._known.clear()
    data = CLINVAR.replace(b"\n", b"\tmore\n") + b"".join(
        clinvar_row(*row)
        for row in (
            ("GRCh37", "NC_000021.8", "21", 5, "A", "G"),
            ("GRCh38", "NC_000021.9", "21", 7, "A", "G"),
            ("GRCh37", "NC_012920.1", "MT", 3243, "A", "G"),
            ("GRCh38", "NC_012920.1", "MT", 3243, "A", "G"),
            ("GRCh38", "NC_012920.1", "MT", 8993, "T", "C"),
            ("GRCh38", "na", "21", 9, "C", "T"),
            ("NCBI36", "NC_000021.7", "21", 5, "A", "G"),
            ("na", "na", "na", -1, "na", "na"),
            ("GRCh38", "NC_000021.9", "21", -1, "na", "na"),
            ("GRCh38", "NC_000017.11", "17", 5, "A", "G"),
        )
    )
    (tmp_path / "variant_summary.txt.gz").write_bytes(gz(data))
    reader = open_variants(tmp_path / "variant_summary.txt.gz", MITO)
    for _ in range(2):
        assert [(r.chrom, r.pos0 + 1) for r in reader] == [("21", 7), ("MT", 3243), ("MT", 8993), ("21", 9)]
        assert [note.split(": ")[1] for note in reader.notes] == [
            "5 rows of other assemblies or contigs left out", "1 rows without VCF alleles (na) left out",
        ]  # fmt: skip
    MITO._names._known.clear()


def test_a_slice_does_not_tell_the_assembly(tmp_path):
    fasta = Fasta(write_fasta(tmp_path / "x.fa", **{"chr17:1001-1300": CHR}))
    base = CHR[9]
    rows = [
        clinvar_row(a, n, "17", 1010, base, "N") for a, n in (("GRCh37", "NC_000017.10"), ("GRCh38", "NC_000017.11"))
    ]
    for row in rows:
        assert len(read(tmp_path, "x.tsv", CLINVAR + row, fasta)) == 1
    with pytest.raises(NexVarError, match="rows of NC_000017.10 and NC_000017.11, and the FASTA has only a part"):
        read(tmp_path, "x.tsv", CLINVAR + rows[0] + rows[1], fasta)


# -- fuzz


@given(st.integers(0, 2**32).map(random.Random))
def test_random_edits_of_every_format_give_variants_or_one_error(tmp_path_factory, rng):
    """2,000 edited files."""
    samples: dict[str, bytes] = {
        "x.tsv": b"chr\tstart\tend\tref\talt\nchrM\t3242\t3243\tA\tG\nchrM\t8993\t8993\tT\t-\n",
        "x.maf": MAF + b"X\tGRCh38\tMT\t3243\t3243\t+\tA\tA\tG\nX\t37\tMT\t5\t6\t+\t-\t-\tTT\n",
        "x.txt": CLINVAR + b"1\tGRCh38\tNC_012920.1\tMT\t3243\tA\tG\n1\tGRCh37\tNC_000017.10\t17\t5\tna\tna\n",
        "x.hgvs": b"NC_012920.1:3242:A:G\r\nNC_012920.1:3242:1:\r\nm.100_105delinsACG\nchrM:g.5_6insTT\n",
    }
    packs: tuple[Callable[[bytes], bytes], ...] = (bytes, bytes, gz)
    folder = tmp_path_factory.getbasetemp()
    for name, data in samples.items():
        for _ in range(20):
            changed = bytearray(data)
            edit(changed, rng)
            path = folder / name
            path.write_bytes(rng.choice(packs)(bytes(changed)))
            try:
                for record in open_variants(path, MITO):
                    make_windows(MITO, record.variant, 64)
            except NexVarError as error:
                assert "\n" not in str(error)
                assert str(error).startswith(f"{path}"), error


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\u202eb", "a\x9bb"])
def test_a_contig_in_a_table_has_no_control_characters(name, genome, tmp_path):
    with pytest.raises(NexVarError, match="without blanks and control characters"):
        read(tmp_path, "x.tsv", f"{name}\t100\tA\tC\n", genome)


@pytest.mark.parametrize("separator, said", [(",", "not commas"), (" ", "not blanks")])
def test_other_separators_than_tabs_are_told(separator, said, genome, tmp_path):
    row = separator.join(("chr1", "100", "A", "C"))
    with pytest.raises(NexVarError, match=f"separate columns by tabs, {said}"):
        read(tmp_path, "x.tsv", f"{row}\n", genome)
    (tmp_path / "x.bed").write_text(f"{row}\n")
    with pytest.raises(NexVarError, match=f"separate columns by tabs, {said}"):
        read_bed(tmp_path / "x.bed", genome)


def test_an_end_that_is_not_the_reference_alleles_is_told(genome, tmp_path):
    """Start_Position and the bases say where a mutation is; that the end contradicts them a person should know."""
    titles = "Chromosome\tStart_Position\tEnd_Position\tReference_Allele\tTumor_Seq_Allele2\n"
    rows = "".join(f"chr1\t100\t{end}\t{CHR[99:102]}\t-\n" for end in (102, 105, 102, 100, "", "NA"))
    (tmp_path / "x.maf").write_text(titles + rows)
    reader = open_variants(tmp_path / "x.maf", genome)
    assert len({(r.pos0, r.ref, r.alt) for r in reader}) == 1
    (note,) = reader.notes
    assert "x.maf:3: End_Position is not the last base" in note and "1 more such rows" in note
