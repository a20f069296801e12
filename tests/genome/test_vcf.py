"""Reading VCF and BCF: what is accepted, what is refused, and that nothing is changed on the way."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edits import edit
from malformed import VCF_CASES
from malformed.case import bgzip, gz
from malformed.vcf_cases import HEAD, fields
from nexvar.errors import NexVarError
from nexvar.genome import textio
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import open_variants
from nexvar.genome.vcf import read_vcf
from nexvar.genome.windows import make_windows
from rich_vcf import RICH
from toy_genome import write_fasta


def write(folder: Path, data: bytes, name: str = "x.vcf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", VCF_CASES)
def test_malformed_vcf_is_refused_in_one_line(name, tmp_path):
    path = VCF_CASES[name].write(tmp_path, name)
    with pytest.raises(NexVarError) as caught:
        read_vcf(path).scan()
    VCF_CASES[name].check(str(caught.value), path)


def test_there_are_enough_cases():
    assert len(VCF_CASES) >= 80


def test_hostile_files(tmp_path, monkeypatch):
    """A line without an end (a few kilobytes of gzip), a loop of links, names that are none."""
    monkeypatch.setattr(textio, "MAX_LINE", 1 << 22)
    bomb = write(tmp_path, gz(HEAD + b"chr1\t1\t.\tA\t" + b"G" * (1 << 24)), "bomb.vcf.gz")
    with pytest.raises(NexVarError, match=r"bomb.vcf.gz:5: a line longer than"):
        read_vcf(bomb).scan()
    (tmp_path / "a.vcf").symlink_to(tmp_path / "b.vcf")
    (tmp_path / "b.vcf").symlink_to(tmp_path / "a.vcf")
    with pytest.raises(NexVarError, match="cannot be read"):
        read_vcf(tmp_path / "a.vcf")
    with pytest.raises(NexVarError, match="cannot be read"):
        read_vcf(tmp_path / ("x" * 5000))
    with pytest.raises(NexVarError, match="NUL"):
        read_vcf("a\0b")


REAL_HEADER = r"""##fileformat=VCFv4.1
##fileDate=2026-01-01
##ID=<Description="ClinVar Variation ID">
##GATKCommandLine=<ID=HaplotypeCaller,CommandLine="HaplotypeCaller --output \"x\" <a>",Version="4.1">
##INFO=<ID=vep,Number=.,Type=String,Description="Consequence from VEP. Format: Allele|Consequence, ID=x">
##INFO=<ID=PATH,Number=1,Type=String,Description="ends in a backslash \\">
##INFO=<ID=AF,Number=A,Type=Float,Description="x",Source="dbSNP",Version="138">
##FILTER=<ID=q10,Description="x">
##ALT=<ID=CN0,Description="Copy number allele: 0 copies">
##bcftools_viewCommand=view -i 'A="b"' x.vcf; Date=Mon
##contig=<ID=MT,length=16569,assembly=b37>
##contig=<ID=NT_113889.1>
##contig=<ID=chrUn_KI270302v1,length=2274,md5=x,species="Homo sapiens">
#CHROM	POS	ID	REF	ALT	QUAL	FILTER	INFO
""".replace(r"\t", "\t")


def test_real_headers_pass(tmp_path):
    """Lines as GATK, ClinVar, dbSNP, gnomAD and the 1000 Genomes write them."""
    records = (
        "MT\t3243\t9589\tA\tG\t.\t.\tALLELEID=24628;CLNHGVS=NC_012920.1:m.3243A>G;GENEINFO=MT-TL1:4567\n"
        "NT_113889.1\t5\t.\tC\t<CN0>,<INS:ME:ALU>\t100\tPASS\tAC=1;CIEND=-150,150\n"
    )
    reader = read_vcf(write(tmp_path, (REAL_HEADER + records).encode()))
    assert reader.scan().alleles == 3
    assert list(reader.contigs) == ["MT", "NT_113889.1", "chrUn_KI270302v1"]


def test_a_path_that_is_no_file(tmp_path):
    for path, says in ((tmp_path, "directory"), (tmp_path / "none.vcf", "no such file"), ("/dev/null", "regular")):
        with pytest.raises(NexVarError, match=says):
            read_vcf(path)


@pytest.mark.parametrize(
    "pack", [bytes, gz, bgzip, lambda d: bgzip(d, 50), lambda d: d.rstrip(b"\n"), lambda d: d + b"\n"]
)
def test_everything_is_kept_as_it_was(pack, tmp_path):
    reader = read_vcf(write(tmp_path, pack(RICH)))
    text = "\n".join([*reader.header, reader.column_line, *(record.raw for record in reader)])
    assert text.encode() == RICH.rstrip(b"\n")
    assert reader.samples == ["first", "se cond"]
    assert reader.contigs == {"chr1": 1000, "HLA*01:01": 1000, "plasmid": 300, "chrM": 16569}
    assert reader.circular == {"plasmid", "chrM"}
    summary = reader.scan()
    assert (summary.records, summary.alleles) == (9, 1 + 3 + 1 + 1 + 2 + 4 + 1 + 1 + 1)
    assert summary.contigs == {"chr1": 7, "HLA*01:01": 1, "chrM": 1}


def test_fields_of_a_record(tmp_path):
    records = list(read_vcf(write(tmp_path, RICH)))
    first, second = records[0], records[1]
    assert (first.line_no, first.chrom, first.pos0, first.id, first.ref, first.alts) == (
        11, "chr1", 9, "rs1;rs2", "A", ("G",),
    )  # fmt: skip
    assert (first.qual, first.filter, first.info, first.rest) == ("1e-3", "PASS", "NOTE=a,b;DB", "GT\t0|1\t1/1")
    assert (second.ref, second.alt) == ("a", "c,N,*")
    assert (second.variant.ref, second.variant.alts) == ("A", ("C", "N", "*"))
    assert [r.ends for r in records] == [(), (), (), (30,), (26, 31), (), (None,), (), ()]
    assert records[3].variant.ends == (30,)


@pytest.mark.parametrize("data", [RICH, gz(RICH), bgzip(RICH)], ids=["plain", "gzip", "bgzip"])
def test_standard_input_and_pipes(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = (
        "import tempfile; tempfile.tempdir = None\n"
        "from nexvar.genome.vcf import read_vcf\n"
        "reader = read_vcf('-'); print(reader.scan().records, len(list(reader)))"
    )
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"9 9\n"
    assert list(tmp_path.iterdir()) == []  # the spooled copy is gone

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(data))
    thread.start()
    reader = read_vcf(pipe)
    thread.join()
    assert (reader.name, reader.scan().records) == (str(pipe), 9)


def test_errors_on_standard_input_say_so(monkeypatch):
    class Stdin(io.BytesIO):
        buffer = property(lambda self: self)

    monkeypatch.setattr(sys, "stdin", Stdin(HEAD + fields(POS=b"x") + b"\n"))
    with pytest.raises(NexVarError, match=r"^<stdin>:5: POS is 'x': "):
        read_vcf("-").scan()
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    with pytest.raises(NexVarError, match=r"^<stdin>:1: the file is empty"):
        read_vcf("-")


def test_unsorted_is_fine_where_it_does_not_matter(tmp_path):
    path = write(tmp_path, HEAD + fields(POS=b"20") + b"\n" + fields(POS=b"10") + b"\n")
    assert [r.pos0 for r in read_vcf(path, require_sorted=False)] == [19, 9]


def test_without_contig_lines_any_contig_will_do(tmp_path):
    path = write(tmp_path, b"\n".join(x for x in RICH.split(b"\n") if not x.startswith(b"##contig")))
    assert read_vcf(path).scan().records == 9


def test_bcf_gives_the_same_records(tmp_path):
    declared = "".join(
        f'##INFO=<ID={key},Number={number},Type={kind},Description="x">\n'
        for key, number, kind in (
            ("DB", 0, "Flag"),
            ("SVTYPE", 1, "String"),
            ("SVLEN", ".", "Integer"),
            ("END", 1, "Integer"),
        )
    ) + "".join(f'##FILTER=<ID={key},Description="x">\n' for key in ("PASS", "q10", "s50"))
    rich = RICH.replace(b"DB;;", b"DB").replace(b"##contig", declared.encode() + b"##contig", 1)
    rich = b"\n".join(line for line in rich.split(b"\n") if b"<ctg>" not in line and b"END=5" not in line)
    text, binary = write(tmp_path, rich), tmp_path / "x.bcf"
    with pysam.VariantFile(str(text)) as old, pysam.VariantFile(str(binary), "wb", header=old.header) as new:
        for record in old:
            new.write(record)
    a, b = read_vcf(text), read_vcf(binary)
    for name in ("x.tsv", "x.txt", "x.maf.gz"):  # what it holds counts, not its name
        renamed = write(tmp_path, binary.read_bytes(), name)
        assert [each.raw for each in open_variants(renamed, None)] == [each.raw for each in b]
    for x, y in zip(a, b, strict=True):
        assert x.raw.split("\t")[:5] == y.raw.split("\t")[:5]
        assert (x.filter, x.info, x.ends) == (y.filter, y.info.replace(";END=26", ""), y.ends)  # pysam's writer adds it
    assert a.samples == b.samples
    assert a.scan() == b.scan()


def test_a_million_samples_and_long_alleles_are_no_problem(tmp_path):
    samples = b"\t".join(b"s%d" % i for i in range(100_000))
    calls = b"\t0|1" * 100_000
    head = HEAD[:-1] + b"\tFORMAT\t" + samples + b"\n"
    data = head + fields(ALT=b"A" * 1_000_000) + b"\tGT" + calls + b"\n"
    record = next(iter(read_vcf(write(tmp_path, data, "x.vcf"))))
    assert (len(record.alt), len(record.rest)) == (1_000_000, 2 + len(calls))


@pytest.mark.parametrize(
    "line",
    [
        fields(ALT=b"<CNV:TR>,<DEL>", INFO=b"END=."),
        fields(INFO=b"A=b c;D"),
        fields(REF=b"acgtnRYSWKMBDHV", ALT=b"."),
        fields(CHROM=b"<assembly>"),
        fields(POS=b"0000000010"),
        fields(POS=b"0", REF=b"N", ALT=b"<DUP>", INFO=b"END=50"),
        fields(ALT=b"A<ctg1>,<ctg1>A"),
        fields(QUAL=b"-1.5E+3"),
        fields(POS=b"2147483647"),
        fields(FILTER=b"0"),
    ],
)
def test_unusual_but_legal_records(line, tmp_path):
    head = HEAD.replace(b"##contig=<ID=chr1,length=1000>\n", b"")
    assert read_vcf(write(tmp_path, head + line + b"\n")).scan().records == 1


@given(st.integers(0, 2**32).map(random.Random), st.sampled_from([bytes, gz, bgzip]))
def test_random_edits_give_records_or_one_error(tmp_path, rng, pack):
    """2,000 edited files: success, every allele with its status, or NexVarError."""
    path, fasta = tmp_path / "fuzz.vcf", Fasta(write_fasta(tmp_path / "x.fa", chr1="ACGTTGCA" * 100))
    for _ in range(80):
        data = bytearray(RICH if rng.random() < 0.8 else pack(RICH))
        edit(data, rng)
        path.write_bytes(bytes(data) if rng.random() < 0.5 else pack(bytes(data)))
        try:
            reader = read_vcf(path)
            for record in reader:
                assert record.pos0 >= -1
                assert len(make_windows(fasta, record.variant, 64)) == len(record.alts)
        except NexVarError as error:
            assert str(error).startswith(f"{path}:"), error
            assert "\n" not in str(error)


@given(st.integers(0, 2**32).map(random.Random))
def test_random_edits_of_a_bcf(tmp_path, rng):
    source = tmp_path / "ok.bcf"
    if not source.exists():
        text = write(tmp_path, HEAD + b"".join(fields(POS=b"%d" % p, INFO=b"DP=7") + b"\n" for p in (5, 6, 300)))
        with pysam.VariantFile(str(text)) as old, pysam.VariantFile(str(source), "wb", header=old.header) as new:
            for record in old:
                new.write(record)
    with pysam.BGZFile(str(source)) as file:
        good = file.read()
    path = tmp_path / "fuzz.bcf"
    for _ in range(10):
        data = bytearray(good)
        edit(data, rng)
        path.write_bytes(bgzip(bytes(data)))
        try:
            read_vcf(path).scan()
        except NexVarError as error:
            assert str(error).startswith(f"{path}:"), error


# -- headers that bcftools reads on


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"##", "no '='"),
        (b"##notakey", "no '='"),
        (b'##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth"', "'DP' is not <"),
        (b'##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth>', "quote is not closed"),
        (b'##INFO=<Number=1,Type=Integer,Description="D">', "without an ID"),
        (b'##FORMAT=<ID=DP,Number=1,Description="D">', "lacks Number or Type"),
        (b"##INFO=", "without an ID"),
        (b"##INFO=hello", "without an ID"),
        (b"##contig=<length=1000>", "without an ID"),
        (b"##contig=<ID=chr2,length=long>", "length 'long'"),
        (b"##contig=<ID=chr2,length=-5>", "length '-5'"),
        (b"##contig=<ID=chr1>", "declared twice"),
        (b"##contig=<ID=chr1,length=1000>", "declared twice"),
    ],
)
def test_a_broken_header_line_is_a_note(line, says, tmp_path):
    data = HEAD.replace(b"#CHROM", line + b"\n#CHROM") + fields() + b"\n"
    for text in (data, data.replace(b"\n", b"\r\n")):
        reader = read_vcf(write(tmp_path, text))
        assert [r.pos0 for r in reader] == [9]
        assert len(reader.notes) == 1
        assert says in reader.notes[0]
        assert reader.notes[0].startswith(f"{tmp_path / 'x.vcf'}:4: ")
        assert line.decode() in reader.header  # and comes out as it went in
        assert reader.contigs["chr1"] == 1000


@pytest.mark.parametrize("line", [b"", b"## contig=<ID=chr3>", b'##contig=<ID=chr2,note="a,length=x,b">', b"##x=<ID=5"])
def test_an_odd_header_line_is_no_matter(line, tmp_path):
    reader = read_vcf(write(tmp_path, HEAD.replace(b"#CHROM", line + b"\n#CHROM") + fields() + b"\n"))
    assert ([r.line_no for r in reader], reader.notes) == ([6], [])


@pytest.mark.parametrize("version", [b"VCFV4.2", b"VCF4.2", b"VCFv4", b"VCFv4.2 "])
def test_an_odd_version_is_a_note(version, tmp_path):
    reader = read_vcf(write(tmp_path, HEAD.replace(b"VCFv4.2", version) + fields() + b"\n"))
    assert "is read as VCFv4.2" in reader.notes[0]


def test_a_length_may_stand_on_the_second_of_two_lines(tmp_path):
    text = HEAD.replace(b"##contig=", b"##contig=<ID=chr1>\n##contig=") + fields() + b"\n"
    assert read_vcf(write(tmp_path, text)).contigs == {"chr1": 1000}


def test_many_notes_are_a_few(tmp_path):
    reader = read_vcf(write(tmp_path, HEAD.replace(b"#CHROM", b"##x\n" * 50 + b"#CHROM") + fields() + b"\n"))
    assert len(reader.notes) == 6
    assert "45 more" in reader.notes[-1]


def test_a_header_without_records_is_read(tmp_path):
    assert read_vcf(write(tmp_path, HEAD)).scan().records == 0


def test_a_pipe_that_nobody_writes_into_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(textio, "SILENCE", 0.0)
    pipe, told = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)
    monkeypatch.setattr(textio, "note", lambda text: (print(text), told.set()))

    def write() -> None:
        told.wait(30)
        pipe.write_text("chr1\t5\n")

    thread = threading.Thread(target=write)
    thread.start()
    assert list(textio.Lines(pipe)) == [(1, "chr1\t5")]
    thread.join()
    assert "pipe is a pipe: waiting for somebody" in capsys.readouterr().out
