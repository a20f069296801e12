"""Jobs in Python, merges and recipes hold apart what they read and write, as the command line does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.paths import Read, Write, check_apart
from nexvar.runs.embed_run import embed_file
from nexvar.runs.job import EmbedJob, SequenceFiles
from nexvar.runs.score_run import merge
from nexvar.runs.sequence_files import fill_file
from nexvar.train import pretrain
from nexvar.train.predict import predict_file
from nexvar.weights.choice import ModelChoice
from score_job import run_job
from tiny import tiny_loaded
from tiny_run import genomes, recipe_file
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(600, seed=3)


@pytest.fixture
def files(tmp_path):
    vcf = write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 110)])
    return vcf, write_fasta(tmp_path / "ref.fa", chr1=GENOME)


def run(files, out, **named):
    return run_job(*files, out, model=tiny_loaded(), options=Options(window=64), **named)


def test_a_merge_does_not_replace_what_was_scored(files, tmp_path):
    run(files, tmp_path / "out.vcf", shard=(1, 1))
    before = files[0].read_bytes()
    os.link(files[0], tmp_path / "hard.vcf")
    for target in (files[0], tmp_path / "hard.vcf", tmp_path / "." / "in.vcf"):
        with pytest.raises(NexVarError, match="the output is an input"):
            merge(tmp_path / "out.vcf", [target])
    with pytest.raises(NexVarError, match="lies in"):
        merge(tmp_path / "out.vcf", [tmp_path / "out.vcf.parts" / "out.vcf"])
    assert files[0].read_bytes() == before
    assert merge(tmp_path / "out.vcf").scored == 30


@pytest.mark.parametrize("name", ["synonyms", "regions"])
def test_a_table_beside_the_variants_is_an_input(name, files, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("chr1\t0\t500\n" if name == "regions" else "chr1\tchr1\n")
    before = table.read_bytes()
    with pytest.raises(NexVarError, match="the output is an input"):
        run(files, [tmp_path / "out.vcf", table], **{name: table})
    assert table.read_bytes() == before and not (tmp_path / "out.vcf.parts").exists()


def test_an_index_that_is_an_input_is_not_replaced(files, tmp_path):
    files[0].rename(tmp_path / "out.vcf.gz.tbi")
    with pytest.raises(NexVarError, match="would replace"):
        run((tmp_path / "out.vcf.gz.tbi", files[1]), tmp_path / "out.vcf.gz")


def test_other_jobs_hold_them_apart_too(files, tmp_path):
    fasta = files[1]
    for job in (
        lambda: embed_file(EmbedJob(SequenceFiles(fasta), [tmp_path / "a.npz", tmp_path / "." / "a.npz"])),
        lambda: embed_file(EmbedJob(SequenceFiles(fasta), fasta)),
        lambda: embed_file(EmbedJob(SequenceFiles(fasta), tmp_path / "m" / "a.npz", model=ModelChoice(tmp_path / "m"))),
        lambda: fill_file(tiny_loaded(), fasta, fasta),
        lambda: predict_file(tmp_path / "m", fasta, fasta),
        lambda: predict_file(tmp_path / "m", fasta, tmp_path / "m" / "x.tsv"),
        lambda: predict_file(tmp_path / "m", fasta, tmp_path / "none" / "x.tsv"),
    ):
        (tmp_path / "m").mkdir(exist_ok=True)
        with pytest.raises(NexVarError, match="is an input|lies in|twice|does not exist"):
            job()
    assert GENOME[:50] in fasta.read_text().replace("\n", "")


def test_a_recipe_does_not_write_where_its_data_lies(tmp_path):
    (tmp_path / "run").mkdir()
    fasta = write_fasta(tmp_path / "run" / "all.fa", **dict(genomes()))
    with pytest.raises(NexVarError, match="would replace"):
        pretrain(recipe_file(tmp_path, fasta))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["all.fa"]


def test_what_is_apart_passes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a.fa").write_text("x")
    reads = [Read(tmp_path / "a"), Read(tmp_path / "a.fa"), Read("nexvar_mito"), Read("-")]
    check_apart(reads, [Write(tmp_path / "a.fa.vcf", parts=True), Write(tmp_path / "ab.tsv"), Write("-"), Write("-")])
    check_apart([], [Write(Path(tmp_path, "new", "folder"), tree=True), Write(tmp_path, names=("metrics.tsv",))])


def test_a_home_that_is_nobodys_is_one_line(monkeypatch):
    from nexvar.weights import hub
    from nexvar.weights.load import load

    monkeypatch.setenv("NEXVAR_CACHE", "~nosuchuser/cache")
    for attempt in (hub.cache_dir, lambda: load("~nosuchuser/model"), lambda: load(Path("~nosuchuser/model"))):
        with pytest.raises(NexVarError, match="no such user|nosuchuser"):
            attempt()


def test_spreadsheets_see_text_where_they_are_told_to(files, tmp_path):
    lines = files[0].read_text().splitlines()
    table = [line.split("\t") for line in lines if line[0] != "#"]
    for row, name in zip(table, ("=cmd()", "+1", "-1", "@x", "rs1"), strict=False):
        row[2] = name
    files[0].write_text("\n".join([*(x for x in lines if x[0] == "#"), *("\t".join(row) for row in table), ""]))
    plain, safe = tmp_path / "plain.tsv", tmp_path / "safe.tsv"
    run(files, plain)
    run(files, safe, spreadsheet_safe=True)
    ids = [[line.split("\t")[2] for line in path.read_text().splitlines()[1::3]][:5] for path in (plain, safe)]
    assert ids == [["=cmd()", "+1", "-1", "@x", "rs1"], ["'=cmd()", "'+1", "'-1", "'@x", "rs1"]]
    scores = [[line.split("\t")[6:9] for line in path.read_text().splitlines()] for path in (plain, safe)]
    assert scores[0] == scores[1] and any(cell.startswith("-") for row in scores[0] for cell in row)
