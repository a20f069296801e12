"""`--dry-run` tells what a run would do, and the run then does it; the error without a model is short and useful."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs.dry_run import DryRun, dry_run
from nexvar.runs.score_run import score_file
from nexvar.weights import speed
from places import TESTS
from score_job import make_job, run_job
from toy_genome import random_bases, snv, vcf_line, write_fasta, write_vcf

RCRS = TESTS.parent / "src/nexvar/data/chrM_rCRS.fa"
GENOME = random_bases(3000)


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch):
    """No test depends on how fast the machine is."""
    monkeypatch.setattr(speed, "measure", lambda device, dtype: speed.Speed(products=1e11, elements=1e9))


def everything(folder: Path, contig: str = "chrM") -> tuple[Path, Path]:
    """A VCF with an allele of every kind on a small genome, and the genome."""
    lines = [vcf_line(GENOME, at, chrom=contig) for at in (50, 700, 701, 1500)]
    lines += [vcf_line(GENOME, 1600, GENOME[1600] + "ACGT", chrom=contig), vcf_line(GENOME, 1700, "*", chrom=contig)]
    lines += [vcf_line(GENOME, 1800, "<INS>", chrom=contig), vcf_line(GENOME, 1900, ".", chrom=contig)]
    lines += [f"{contig}\t2001\t.\t{'A' if GENOME[2000] != 'A' else 'C'}\tG\t.\t.\t.\n"]
    return write_vcf(folder / "in.vcf", lines), write_fasta(folder / "ref.fa", **{contig: GENOME})


@pytest.mark.parametrize("readout", [("site",), ("llr",), ("llr", "site"), ("cosine",), ("llr", "cosine")])
@pytest.mark.parametrize("strand", ["both", "forward"])
def test_a_dry_run_counts_what_the_run_then_does(tmp_path, readout, strand):
    vcf, fasta = everything(tmp_path)
    options = Options(window=256, readouts=readout, strand=strand)
    job = make_job(vcf, fasta, tmp_path / "out.tsv", options=options)
    told, summary = dry_run(job), score_file(job)
    assert (told.records, told.alleles, told.scored) == (summary.records, summary.alleles, summary.scored)
    assert told.skipped == summary.skipped
    [model] = told.models
    assert model.how.startswith("counted exactly")
    assert model.tokens <= summary.tally.computed <= 1.1 * model.tokens  # the run pads


def test_tiles_and_haplotypes_are_counted_as_they_are_scored(tmp_path):
    vcf, fasta = everything(tmp_path)
    job = make_job(vcf, fasta, tmp_path / "out.tsv", options=Options(window=512, windowing="tiled", readouts=("site",)))
    told, summary = dry_run(job), score_file(job)
    assert told.models[0].tokens <= summary.tally.computed <= 1.5 * told.models[0].tokens
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
    lines = [vcf_line(GENOME, at, chrom="chrM").rstrip("\n") + "\tGT\t0|1\n" for at in (900, 910)]
    write_vcf(tmp_path / "phased.vcf", lines, header)
    job = make_job(tmp_path / "phased.vcf", fasta, (), haplotypes=True, options=Options(window=256))
    assert (dry_run(job).records, dry_run(job).scored) == (1, 1)


def test_masked_models_are_counted_without_their_weights(tmp_path):
    vcf, fasta = everything(tmp_path, "chr1")
    told = dry_run(make_job(vcf, fasta, (), model="nt_v2_50m", options=Options(window=600)))
    [model] = told.models
    assert model.readouts == ("masked_llr",)
    assert 2 * 5 * 100 <= model.tokens <= 2 * 2 * told.scored * 103
    assert model.seconds > 0 and model.bytes > 1e8


def test_no_file_is_written_and_none_need_be_named(tmp_path):
    vcf, fasta = everything(tmp_path)
    before = sorted(tmp_path.iterdir())
    for outputs in ((), tmp_path / "out.vcf.gz"):
        assert dry_run(make_job(vcf, fasta, outputs)).alleles == 17
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(NexVarError, match="no output"):
        run_job(vcf, fasta, ())
    with pytest.raises(NexVarError, match="no format"):
        dry_run(make_job(vcf, fasta, tmp_path / "out.xyz"))


def test_names_and_assemblies_are_told(tmp_path):
    bases = "".join(RCRS.read_text().splitlines()[1:])
    header = "##fileformat=VCFv4.2\n##contig=<ID=MT,length=16569>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    lines = [vcf_line(bases, 3242, chrom="MT"), "nowhere\t5\t.\tA\tC\t.\t.\t.\n"]
    vcf = write_vcf(tmp_path / "in.vcf", lines, header)
    text = "\n".join(dry_run(make_job(vcf, RCRS, (), model="nexvar_mito")).lines())
    assert "contig MT read as chrM (mitochondrion alias): 3 alleles" in text
    assert "contig nowhere is unknown: 1 alleles" in text
    assert text.count("rCRS") == 2
    assert "1 UNKNOWN_CONTIG" in text


def test_without_a_model_at_most_ten_that_fit_are_told_quickest_first(tmp_path):
    vcf, fasta = everything(tmp_path, "chr1")
    told = dry_run(make_job(vcf, fasta, ()))
    assert 1 <= len(told.models) <= 10
    assert [m.seconds for m in told.models] == sorted(m.seconds for m in told.models)
    assert all(m.fits and m.seconds > 0 for m in told.models)
    assert "nexvar models --fits" in "\n".join(told.lines())


def test_only_models_that_have_the_readout_are_told(tmp_path):
    vcf, fasta = everything(tmp_path, "chr1")
    told = dry_run(make_job(vcf, fasta, (), options=Options(readouts=("masked_llr",), window=512)))
    assert told.models and all(m.readouts == ("masked_llr",) for m in told.models)
    assert not {"genos_1.2b", "hyenadna_large_1m"} & {m.name for m in told.models}


def test_the_error_without_a_model_names_three_at_most(tmp_path):
    vcf, fasta = everything(tmp_path, "chr1")
    with pytest.raises(NexVarError) as error:
        run_job(vcf, fasta, tmp_path / "out.tsv")
    text = str(error.value)
    assert len(text) < 500 and text.count("AUROC") <= 3
    assert "nexvar_40b (" in text and "--dry-run" in text and "nexvar models --fits" in text


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"model": "no_such_model"}, "no model called"),
        ({"model": "/no/such/folder"}, "no such folder"),
        ({"options": Options(readouts=("masked_llr",))}, "masked_llr"),
        ({"options": Options(window=10**6)}, "window of 1,000,000"),
        ({"device": "nowhere"}, "no device"),
        ({"dtype": "int8"}, "no dtype"),
    ],
)
def test_what_would_stop_the_run_stops_the_dry_run(tmp_path, fields, what):
    vcf, fasta = everything(tmp_path)
    with pytest.raises(NexVarError, match=what):
        dry_run(make_job(vcf, fasta, (), **fields))


def test_long_inputs_are_counted_from_some_of_their_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("nexvar.runs.dry_run.COUNTED", 10_000)
    fasta = write_fasta(tmp_path / "ref.fa", chrM=GENOME)
    variants = [snv(GENOME, at, "chrM") for at in range(300, 2700)]
    exact = make_job(variants, fasta, (), options=Options(window=64, readouts=("llr",), strand="forward"))
    sampled = dry_run(exact).models[0]
    monkeypatch.setattr("nexvar.runs.dry_run.COUNTED", 1 << 40)
    counted = dry_run(exact).models[0]
    assert sampled.how.startswith("estimated from") and counted.how.startswith("counted exactly")
    assert sampled.tokens == pytest.approx(counted.tokens, rel=0.05)


def test_an_empty_dry_run_says_so():
    text = "\n".join(DryRun().lines())
    assert "0 alleles in 0 records" in text
