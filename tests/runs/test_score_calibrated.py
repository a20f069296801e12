"""nexvar score --calibration: two more columns, in every format, from nothing but the score."""

from __future__ import annotations

import pytest

from nexvar.errors import NexVarError
from nexvar.evals.calibration import calibrate
from nexvar.evals.tables import read_table
from nexvar.inference.calibration import Calibration
from nexvar.inference.options import Options
from nexvar.runs.score_run import merge
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(700, seed=12)
OPTIONS = Options(window=64)
LABEL = '##INFO=<ID=LABEL,Number=1,Type=Integer,Description="1 odd, 0 even">\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    lines = [vcf_line(GENOME, p, "CATG"["ACGT".index(GENOME[p])], info=f"LABEL={p % 2}") for p in range(100, 240)]
    vcf = write_vcf(folder / "in.vcf", lines)
    vcf.write_text(vcf.read_text().replace("#CHROM", LABEL + "#CHROM"))
    fasta = write_fasta(folder / "ref.fa", chr1=GENOME)
    run_job(vcf, fasta, folder / "scored.vcf", model=tiny_loaded(), options=OPTIONS)
    (folder / "half.bed").write_text("chr1\t100\t180\n")
    made, _ = calibrate(folder / "scored.vcf", fasta, regions=folder / "half.bed", draws=100)
    made.write(folder / "c.json")
    return folder


def test_every_format_has_the_same_new_columns(files, tmp_path):
    made = Calibration.read(files / "c.json")
    outputs = [tmp_path / f"out{ending}" for ending in (".vcf", ".tsv", ".parquet", ".vcf.gz")]
    run_job(
        files / "in.vcf", files / "ref.fa", outputs, model=tiny_loaded(), options=OPTIONS, calibration=files / "c.json"
    )
    for output in outputs:
        prefix = "NEXVAR_" if ".vcf" in output.name else ""
        table = read_table(output)
        rows = zip(table["pos"], table[f"{prefix}LLR"], table[f"{prefix}PROBABILITY"], strict=True)
        for pos, score, probability in rows:
            if 100 <= int(pos) - 1 < 180:
                assert float(probability) == pytest.approx(made.probability(float(score)), rel=1e-4)
            else:
                assert probability is None
        assert set(table[f"{prefix}EVIDENCE"]) == {None}  # too few labels for any
    header = outputs[0].read_text()
    assert "class 1 is odd, prior 0.0441" in header and "NEXVAR_PROBABILITY,Number=A,Type=Float" in header


def test_without_it_nothing_changes(files, tmp_path):
    run_job(files / "in.vcf", files / "ref.fa", tmp_path / "a.vcf", model=tiny_loaded(), options=OPTIONS)
    assert (tmp_path / "a.vcf").read_text() == (files / "scored.vcf").read_text()


def test_shards_are_merged_with_it(files, tmp_path):
    whole, out = tmp_path / "whole.vcf", tmp_path / "out.vcf"
    given = {"model": tiny_loaded(), "options": OPTIONS}
    run_job(files / "in.vcf", files / "ref.fa", whole, calibration=files / "c.json", **given)
    for shard in ((1, 2), (2, 2)):
        run_job(files / "in.vcf", files / "ref.fa", out, shard=shard, **given)
    merge(out, calibration=files / "c.json")
    assert out.read_text() == whole.read_text()


@pytest.mark.parametrize("options", [Options(window=32), Options(window=64, strand="forward")])
def test_other_scores_are_refused_before_anything_is_computed(files, tmp_path, options):
    loaded = tiny_loaded()
    with pytest.raises(NexVarError, match="c.json: it is for"):
        run_job(
            files / "in.vcf",
            files / "ref.fa",
            tmp_path / "x.vcf",
            model=loaded,
            options=options,
            calibration=files / "c.json",
        )
    assert loaded.module.tokens == 0 and not (tmp_path / "x.vcf").exists()


def test_a_file_that_is_none_is_refused_first(files, tmp_path):
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(NexVarError, match="not a calibration"):
        run_job(files / "in.vcf", files / "ref.fa", tmp_path / "x.vcf", calibration=tmp_path / "c.json")


def test_it_cannot_be_the_output(files):
    with pytest.raises(NexVarError):
        run_job(files / "in.vcf", files / "ref.fa", files / "c.json", calibration=files / "c.json")
