"""Files as people have them, through a whole run: what comes out, and what is said of them."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import open_variants
from nexvar.genome.windows import allele_windows
from nexvar.inference.options import Options
from nexvar.runs import parts, plan
from nexvar.runs.rows import score_variants
from nexvar.runs.score_run import merge
from nexvar.runs.writers import read_rows
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import HEADER, other_bases, random_bases, write_fasta

GENOME = random_bases(2000, seed=11)
CONTIG = "##contig=<ID=chr1,length=2000>\n"
HEAD = HEADER.replace("#CHROM", CONTIG + "#CHROM")


def line(pos0: int) -> str:
    """A record with one SNV."""
    return f"chr1\t{pos0 + 1}\t.\t{GENOME[pos0]}\t{other_bases(GENOME[pos0])[0]}\t.\t.\t.\n"


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "ref.fa", chr1=GENOME)


def run(source, fasta, *outputs, **options):
    settings = Options(window=64, **options.pop("settings", {}))
    return run_job(source, fasta, list(outputs), model=tiny_loaded(), options=settings, **options)


def lines_of(path: Path) -> list[list[str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [row.split("\t") for row in text.decode().split("\n") if row and not row.startswith("#")]


# -- another genome


def test_a_header_of_another_length_stops_the_run_unless_told_to_go_on(fasta, tmp_path):
    vcf, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    vcf.write_text(HEAD.replace("length=2000", "length=2001") + line(100))
    with pytest.raises(NexVarError, match="in.vcf: another .* 2,001 bases in its header, 2,000 bases in ref.fa"):
        run(vcf, fasta, out)
    assert not list(tmp_path.glob("out*"))
    summary = run(vcf, fasta, out, settings={"max_ref_mismatch": 1.0})
    assert summary.scored == 1
    assert any("2,001 bases in its header" in text for text in summary.lines())
    with pytest.raises(NexVarError, match="in.vcf:4: another .* 2,001 bases"):
        list(score_variants(tiny_loaded(), vcf, fasta, Options(window=64)))
    assert len(list(score_variants(tiny_loaded(), vcf, fasta, Options(window=64, max_ref_mismatch=1.0)))) == 1


def test_no_contig_in_common_stops_the_run(fasta, tmp_path):
    vcf = tmp_path / "in.vcf"
    vcf.write_text(HEADER + "".join(line(100).replace("chr1", name) for name in ("CM000663.2", "a", "b")))
    with pytest.raises(NexVarError, match=r"\(CM000663.2, a, b\) is in ref.fa \(chr1\): chr1 has 2,000 bases, CM"):
        run(vcf, fasta, tmp_path / "out.vcf")
    summary = run(vcf, fasta, tmp_path / "out.vcf", settings={"max_ref_mismatch": 1.0})
    assert summary.skipped == {"UNKNOWN_CONTIG": 3}


def test_an_alias_for_another_mitochondrion_is_said_in_one_line(tmp_path):
    fasta = write_fasta(tmp_path / "hg19.fa", chr1=GENOME, chrM="A" + "ACGT" * 4142 + "AC")
    vcf = tmp_path / "in.vcf"
    vcf.write_text(HEADER + line(100) + "MT\t5\t.\tA\tG\t.\t.\t.\nMT\t6\t.\tC\tG\t.\t.\t.\n")
    summary = run(vcf, fasta, tmp_path / "out.tsv")
    assert (summary.scored, summary.skipped) == (1, {"UNKNOWN_CONTIG": 2})
    assert [text for text in summary.lines() if "16,569" in text] == [
        "contig MT is unknown: chrM has 16,571 bases (hg19's chrM), the rCRS, which MT names, has 16,569: 2 alleles"
    ]
    assert "16,571" in lines_of(tmp_path / "out.tsv")[1][14]


# -- nothing to score


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.tsv", "out.parquet"])
@pytest.mark.parametrize("source", ["in.vcf", "in.tsv"])
def test_a_header_without_records_gives_one_without_records(name, source, fasta, tmp_path):
    (tmp_path / source).write_text(HEAD if source == "in.vcf" else "chrom\tpos\tref\talt\n")
    summary = run(tmp_path / source, fasta, tmp_path / name)
    assert (summary.records, summary.alleles) == (0, 0)
    if name == "out.parquet":
        assert list(read_rows(tmp_path / name)) == []
    else:
        assert lines_of(tmp_path / name) == []
    if name == "out.vcf.gz":
        with pysam.VariantFile(str(tmp_path / name), index_filename=str(tmp_path / f"{name}.tbi")) as file:
            assert list(file) == [] and "NEXVAR_LLR" in file.header.info
    assert not list(tmp_path.glob("*.parts"))


def test_a_header_without_records_gives_no_haplotypes(fasta, tmp_path):
    head = HEAD[:-1] + "\tFORMAT\tkid\n"
    (tmp_path / "in.vcf").write_text(head)
    assert run(tmp_path / "in.vcf", fasta, tmp_path / "out.vcf", haplotypes=True).records == 0
    (tmp_path / "in.vcf").write_text(head + line(100)[:-1] + "\tGT\t0|0\n")
    with pytest.raises(NexVarError, match="kid carries no variant"):  # of those that there are: the wrong name?
        run(tmp_path / "in.vcf", fasta, tmp_path / "out.vcf", haplotypes=True)


# -- lists


def test_an_unsorted_list_is_scored_in_its_order_as_its_sorted_one(fasta, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 8 * 64)
    places = [1500, 30, 700, 31, 30, 1999, 0, 702, 900, 64, 5] * 3
    rows = [f"chr1\t{p + 1}\t{GENOME[p]}\t{','.join(other_bases(GENOME[p]))}\n" for p in places]
    for settings in ({}, {"windowing": "tiled"}):
        (tmp_path / "a.tsv").write_text("".join(rows))
        (tmp_path / "b.tsv").write_text("".join(sorted(rows, key=lambda row: int(row.split("\t")[1]))))
        outputs = [tmp_path / name for name in ("a.out.tsv", "a.vcf.gz", "a.parquet")]
        summary = run(tmp_path / "a.tsv", fasta, *outputs, settings=settings)
        run(tmp_path / "b.tsv", fasta, tmp_path / "b.out.tsv", settings=settings)
        mine, other = lines_of(tmp_path / "a.out.tsv"), lines_of(tmp_path / "b.out.tsv")
        assert [int(row[1]) - 1 for row in mine] == [p for p in places for _ in range(3)]
        column = 9 if settings else 6  # LLR_TILED follows the LLRs
        scores = {tuple(row[:5]): float(row[column]) for row in other}
        assert [float(row[column]) for row in mine] == pytest.approx([scores[tuple(row[:5])] for row in mine], abs=1e-6)
        assert [row[1] for row in lines_of(tmp_path / "a.vcf.gz")] == [str(p + 1) for p in places]
        assert any("a.vcf.gz has no index" in note for note in summary.notes)
        assert not (tmp_path / "a.vcf.gz.tbi").exists()


def test_shards_of_an_unsorted_list_merge_to_the_same_bytes(fasta, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 8 * 64)
    texts = [f"chr1:{p + 1}{GENOME[p]}>{other_bases(GENOME[p])[0]}" for p in [900, 5, 44, 1200, 44, 43] * 6]
    run(texts, fasta, tmp_path / "whole.tsv")
    for i in (1, 2, 3):
        run(texts, fasta, tmp_path / "cut.tsv", shard=(i, 3))
    merge(tmp_path / "cut.tsv")
    assert (tmp_path / "cut.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def test_a_track_of_an_unsorted_list_is_that_of_the_sorted_one(fasta, tmp_path):
    places = [(900, 0), (5, 1), (44, 2), (900, 1), (5, 0), (899, 2)]  # a position's alleles apart from one another
    texts = {p: f"chr1:{p[0] + 1}{GENOME[p[0]]}>{other_bases(GENOME[p[0]])[p[1]]}" for p in places}
    run([texts[p] for p in places], fasta, tmp_path / "a.bw")
    run([texts[p] for p in sorted(places)], fasta, tmp_path / "b.bw")
    assert (tmp_path / "a.bw").read_bytes() == (tmp_path / "b.bw").read_bytes()


# -- a VCF comes out as it went in


def test_windows_line_ends_come_out_again(fasta, tmp_path):
    lines = [*HEAD.splitlines(), *(line(p).rstrip() for p in (100, 200, 300))]
    (tmp_path / "in.vcf").write_bytes("\r\n".join(lines).encode() + b"\n")  # the last line ends in LF alone
    run(tmp_path / "in.vcf", fasta, tmp_path / "out.vcf", tmp_path / "out.vcf.gz")
    out = (tmp_path / "out.vcf").read_bytes()
    assert gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()) == out
    assert [text.endswith(b"\r") for text in out.split(b"\n")[:-1]] == [True] * (out.count(b"\n") - 1) + [False]
    again = list(open_variants(tmp_path / "out.vcf", Fasta(fasta)))
    assert [r.pos0 for r in again] == [100, 200, 300]
    assert all("\r" not in r.info and r.info.endswith("NEXVAR_STATUS=OK") for r in again)


def test_an_empty_format_column_stays_and_the_output_can_be_scored_again(fasta, tmp_path):
    head = HEAD[:-1] + "\tFORMAT\n"
    (tmp_path / "in.vcf").write_text(head + line(100)[:-1] + "\t\n" + line(200)[:-1] + "\tGT\n")
    run(tmp_path / "in.vcf", fasta, tmp_path / "first.vcf")
    assert [row[8:] for row in lines_of(tmp_path / "first.vcf")] == [[""], ["GT"]]
    run(tmp_path / "first.vcf", fasta, tmp_path / "second.vcf")
    assert lines_of(tmp_path / "second.vcf") == lines_of(tmp_path / "first.vcf")


@pytest.mark.parametrize(
    ("info", "kept"),
    [("DP=3;", "DP=3"), (".;", ""), ("DP=3;;DB", "DP=3;DB"), (";DP=3", "DP=3"), (";", ""), (";;;", "")],
)
def test_info_has_no_empty_items(info, kept, fasta, tmp_path):
    row = line(100).rstrip().split("\t")
    (tmp_path / "in.vcf").write_text(HEAD + "\t".join([*row[:7], info]) + "\n")
    run(tmp_path / "in.vcf", fasta, tmp_path / "out.vcf")
    (written,) = lines_of(tmp_path / "out.vcf")
    assert ";NEXVAR_" not in written[7][:8] and ";;" not in written[7]
    assert written[7].partition("NEXVAR_")[0].rstrip(";") == kept


@pytest.mark.parametrize("record", ["chr1\t101\t.\t{}\t<*>\t.\t.\tEND=120\n", "chr1\t101\t.\t{}\t.\t.\t.\t.\n"])
def test_bcftools_annotate_takes_what_is_written_for_gvcfs(record, fasta, tmp_path):
    """ALT . has no values of Number=A keys; bcftools aborts on one."""
    vcf, out = tmp_path / "in.vcf", tmp_path / "out.vcf.gz"
    end = '##INFO=<ID=END,Number=1,Type=Integer,Description="x">\n'
    vcf.write_text(HEAD.replace("#CHROM", f"{end}#CHROM") + line(90) + record.format(GENOME[100]))
    summary = run(vcf, fasta, out)
    assert summary.alleles == 2
    pysam.tabix_compress(str(vcf), f"{vcf}.gz")
    pysam.tabix_index(f"{vcf}.gz", preset="vcf")
    for key in ("NEXVAR_STATUS", "NEXVAR_LLR", "NEXVAR_LLR_REV"):
        arguments = ["-a", str(out), "-c", f"INFO/{key}", f"{vcf}.gz"]
        script = f"from pysam import bcftools; print(bcftools.annotate(*{arguments}))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert f"{key}=" in done.stdout


@pytest.mark.parametrize(
    "record",
    [
        "chr1\t536870000\t.\tA\t.\t.\t.\tEND=536871000\n",
        "chr1\t536870000\t.\tA\t<DEL>\t.\t.\tSVLEN=-5000\n",
        "chr1\t536870000\t.\tA\t<DEL>,<DUP>\t.\t.\tSVLEN=5,5000\n",
        "chr1\t5\t.\t{}\t<DEL>\t.\t.\tEND=9999999999\n",
        "chr1\t2147483647\t.\tA\tC\t.\t.\t.\n",
    ],
)
def test_a_record_that_ends_beyond_a_tbi_gets_a_csi(record, fasta, tmp_path):
    (tmp_path / "in.vcf").write_text(HEADER + line(3) + record.format(GENOME[4]))
    summary = run(tmp_path / "in.vcf", fasta, tmp_path / "out.vcf.gz")
    assert summary.records == 2
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.vcf.gz", "out.vcf.gz.csi"]
    with pysam.TabixFile(str(tmp_path / "out.vcf.gz"), index=str(tmp_path / "out.vcf.gz.csi")) as index:
        assert len(list(index.fetch("chr1", 3, 4))) == 1


def test_telomeres_have_a_status_and_the_others_scores(fasta, tmp_path):
    records = ["chr1\t0\tt\tN\t<DUP>\t.\t.\tEND=50\n", "chr1\t0\t.\tN\t.\t.\t.\t.\n", "chr1\t00\t.\tN\tA,C\t.\t.\t.\n",
               line(100), "chr1\t2001\tt2\tN\tA\t.\t.\t.\n"]  # fmt: skip
    (tmp_path / "in.vcf").write_text(HEAD + "".join(records))
    outputs = [tmp_path / name for name in ("out.vcf.gz", "out.tsv", "out.parquet")]
    summary = run(tmp_path / "in.vcf", fasta, *outputs)
    assert (summary.scored, summary.skipped) == (1, {"OUT_OF_RANGE": 4, "MISSING_ALT": 1})
    assert [row.pos for row in read_rows(outputs[2])] == [0, 0, 0, 0, 101, 2001]


def test_notes_of_the_header_reach_the_summary(fasta, tmp_path):
    (tmp_path / "in.vcf").write_text(HEAD.replace("##contig", "##\n##contig") + line(100))
    assert any(
        "in.vcf:2: header line '##' has no '='" in line
        for line in run(tmp_path / "in.vcf", fasta, tmp_path / "o.vcf").lines()
    )


# -- names of files


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_that_are_no_utf8(fasta, tmp_path):
    vcf, moved = (Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/caf\xe9.vcf", b"/r\xe9f.fa"))
    vcf.write_text(HEAD + line(100))
    fasta.rename(moved)
    for ending in ("vcf", "vcf.gz", "tsv", "parquet"):
        for name in (f"out.{ending}".encode(), b"caf\xe9-out." + ending.encode()):
            out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
            command = f"nexvar score --vcf {vcf} --fasta {moved} -o {out}"
            assert run(vcf, moved, out, command=command).scored == 1
            assert out.exists()
            if ending == "vcf":
                assert "--vcf " in out.read_text() and "caf\\xe9.vcf" in out.read_text()
    whole = Path(os.fsdecode(os.fsencode(tmp_path) + b"/sh\xe9.tsv"))
    run(vcf, moved, whole, shard=(1, 1), command=f"nexvar {vcf}")
    merge(whole)
    assert len(lines_of(whole)) == 1


# -- slices


def test_slices_of_a_chromosome_score_as_the_whole(fasta, tmp_path):
    cut = {f"chr1:{a + 1}-{b}": GENOME[a:b] for a, b in ((200, 600), (500, 900), (1200, 1500))}
    slices = write_fasta(tmp_path / "slices.fa", **cut)
    places = (300, 350, 550, 800, 1350)
    (tmp_path / "in.vcf").write_text(HEAD + "".join(line(p) for p in (*places, 1700)))
    run(tmp_path / "in.vcf", slices, tmp_path / "slices.tsv")
    run(tmp_path / "in.vcf", fasta, tmp_path / "whole.tsv")
    mine, whole = lines_of(tmp_path / "slices.tsv"), lines_of(tmp_path / "whole.tsv")
    assert [row[5] for row in mine] == ["OK"] * 5 + ["OUT_OF_RANGE"]
    assert mine[-1][14] == "chr1 has 201-600, 501-900, 1201-1500"
    assert [row[6:9] for row in mine[:5]] == [row[6:9] for row in whole[:5]]
    sliced, full = Fasta(slices), Fasta(fasta)
    for p in range(500, 600):  # in two of them
        a, b = (allele_windows(f, "chr1", p, GENOME[p], other_bases(GENOME[p])[0], 64) for f in (sliced, full))
        assert (a.ref_seq, a.alt_seq, a.start, a.status) == (b.ref_seq, b.alt_seq, b.start, b.status)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_manifest_gives_back_every_file_name():
    for name in (b"caf\xe9", b"caf\\xe9", b"\\\\xe9\xe9\\", "café".encode(), b"a\\n\xff"):
        text = os.fsdecode(name)
        assert parts._unescaped(parts._escaped(text)) == text
        parts._escaped(text).encode()


@pytest.mark.parametrize("name", ["chr1,2", "chr\u00c4", "a\\b", 'a"b', "[x]", "*x", "a{b}"])
@pytest.mark.parametrize("output", ["out.vcf", "out.vcf.gz"])
def test_a_name_that_vcf_does_not_allow_stops_the_run_before_it_is_written(name, output, tmp_path):
    """Nobody could read that file again; a table holds any name."""
    fasta = write_fasta(tmp_path / "odd.fa", **{name: GENOME, "chr1": GENOME})
    row = line(500).replace("chr1", name, 1).split("\t")
    (tmp_path / "in.tsv").write_text("\t".join((row[0], row[1], row[3], row[4])) + "\n")
    with pytest.raises(NexVarError, match="VCF allows no contig named"):
        run_job(tmp_path / "in.tsv", fasta, tmp_path / output, model=tiny_loaded(), options=Options(window=64))
    assert run_job(tmp_path / "in.tsv", fasta, tmp_path / "out.tsv", model=tiny_loaded(), options=Options(window=64))
    (tmp_path / "fine.tsv").write_text("\t".join(("chr1", row[1], row[3], row[4])) + "\n")
    run_job(tmp_path / "fine.tsv", fasta, tmp_path / output, model=tiny_loaded(), options=Options(window=64))
    assert list(open_variants(tmp_path / output, Fasta(fasta)).contigs) == ["chr1"]
