"""A job says how far it is, stops when asked and goes on later; an executor serves one job after another."""

from __future__ import annotations

import ast
import dataclasses
import multiprocessing
import pickle
from pathlib import Path

import pytest

import nexvar
from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs import embed_run, partscorer, plan
from nexvar.runs.embed_run import embed_file
from nexvar.runs.job import EmbedJob, InputFiles, Placement, ScoreJob, SequenceFiles, Stopped, parse_shard
from nexvar.runs.partscorer import PartScorer
from nexvar.runs.score_run import score_file
from nexvar.runs.workers import Workers
from nexvar.weights.choice import ModelChoice
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(2000, seed=7)
ALLELES = 360
BATCH = 600  # tokens: a few alleles


@pytest.fixture
def job(tmp_path, monkeypatch):
    """360 alleles in parts of up to 30, in batches of a few."""
    monkeypatch.setattr(plan, "PART_TOKENS", 30 * 64)
    vcf = write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 100 + ALLELES // 3)])
    files = InputFiles(write_fasta(tmp_path / "ref.fa", chr1=GENOME), vcf)
    return ScoreJob(files, tmp_path / "out.parquet", tiny_loaded(), Options(window=64, batch_tokens=BATCH))


def stop_after(calls: int):
    """A ``stop`` that says True when it is asked for the n-th time, from 0."""
    asked = iter(range(calls))
    return lambda: next(asked, None) is None


def whole(job: ScoreJob) -> bytes:
    """The bytes of the job in one go."""
    other = job.targets[0].with_name(f"whole{job.targets[0].suffix}")
    score_file(dataclasses.replace(job, outputs=other, progress=None, stop=None, executor=None))
    return other.read_bytes()


def test_progress_rises_to_all_alleles(job):
    calls = []
    score_file(dataclasses.replace(job, progress=lambda *numbers: calls.append(numbers)))
    assert calls[0] == (0, ALLELES) and calls[-1] == (ALLELES, ALLELES)
    assert calls == sorted(calls) and len(calls) > 20  # more often than parts end


def test_progress_of_a_shard_and_of_a_resumed_run_counts_what_is_there(job):
    calls = []
    watched = dataclasses.replace(job, progress=lambda *numbers: calls.append(numbers))
    score_file(dataclasses.replace(watched, placement=Placement(shard=(1, 2))))
    assert 0 < calls[-1][1] < ALLELES
    done = calls[-1][0]
    calls.clear()
    score_file(watched)
    assert calls[0] == (done, ALLELES) and calls[-1] == (ALLELES, ALLELES)


@pytest.mark.parametrize("calls", [0, 1, 7, 20])
def test_a_stopped_job_says_so_keeps_its_parts_and_resumes_to_the_same_bytes(job, calls):
    expected, out = whole(job), job.targets[0]
    with pytest.raises(Stopped, match=f"of {ALLELES} were done: finished parts are kept") as stopped:
        score_file(dataclasses.replace(job, stop=stop_after(calls)))
    assert "\n" not in str(stopped.value) and not out.exists()
    kept = len(list(Path(f"{out}.parts").glob("part-*.parquet")))
    assert (kept > 0) == (calls >= 7)
    score_file(job)
    assert out.read_bytes() == expected and not Path(f"{out}.parts").exists()


def test_a_job_stops_while_it_reads_and_while_it_writes(job, tmp_path):
    """3,600 records that take no time to score: they are outside of the regions."""
    lines = (vcf_line(GENOME, pos, "ACGT".replace(GENOME[pos], "")[i]) for pos in range(100, 1300) for i in range(3))
    vcf = write_vcf(tmp_path / "long.vcf", lines)
    (tmp_path / "none.bed").write_text("chr1\t0\t1\n")
    files = dataclasses.replace(job.inputs, variants=vcf, regions=tmp_path / "none.bed")
    job = dataclasses.replace(job, inputs=files)
    expected, out, asked = whole(job), job.targets[0], 0

    def count():
        nonlocal asked
        asked += 1

    score_file(dataclasses.replace(job, stop=count))
    out.unlink()
    for calls, parts in ((0, False), (2, False), (asked - 1, True)):
        with pytest.raises(Stopped, match="stopped, while its files were read or written: finished parts are kept"):
            score_file(dataclasses.replace(job, stop=stop_after(calls)))
        assert not out.exists()
        assert Path(f"{out}.parts").exists() == parts
    score_file(job)
    assert out.read_bytes() == expected


def test_a_stopped_job_on_standard_output_promises_nothing(job, tmp_path):
    with pytest.raises(Stopped) as stopped:
        score_file(dataclasses.replace(job, outputs="-", stop=lambda: True))
    assert "kept" not in str(stopped.value)
    assert not list(tmp_path.glob("*.parts"))


def test_an_executor_keeps_its_model_for_jobs_with_other_options_and_genomes(job, tmp_path, monkeypatch):
    loads, load = [], partscorer.loaded_model
    monkeypatch.setattr(partscorer, "loaded_model", lambda model: loads.append(model) or load(model))
    executor = PartScorer()
    job = dataclasses.replace(job, executor=executor)
    other = InputFiles(write_fasta(tmp_path / "other.fa", chr1=GENOME[::-1]), saturate="chr1:501-520")
    changes = [{}, {"options": Options(window=32)}, {"inputs": other}, {"outputs": tmp_path / "out.vcf"}]
    for change in changes:
        each = dataclasses.replace(job, **change)
        expected = whole(each)
        with pytest.raises(Stopped):  # in the middle of a job: the next one is not disturbed
            score_file(dataclasses.replace(each, stop=stop_after(3)))
        score_file(each)
        assert each.targets[0].read_bytes() == expected
    assert len(loads) == 1 + len(changes)  # once for all; and once each for the whole in one go


def test_workers_serve_one_job_after_another_even_after_a_stop(job, golden, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = dataclasses.replace(job, model=ModelChoice(golden / "hyenadna_tiny", device="cpu"))
    expected = whole(job)
    with Workers(2) as executor:
        shared = dataclasses.replace(job, executor=executor)
        score_file(shared)
        pids = {child.pid for child in multiprocessing.active_children()}
        assert job.targets[0].read_bytes() == expected
        score_file(dataclasses.replace(shared, options=Options(window=32)))
        assert {child.pid for child in multiprocessing.active_children()} == pids  # the same, with their models
        with pytest.raises(Stopped):
            score_file(dataclasses.replace(shared, stop=stop_after(3)))
        score_file(shared)
        assert job.targets[0].read_bytes() == expected
    assert not multiprocessing.active_children()


def test_an_embedding_job_has_the_same_callbacks(tmp_path, monkeypatch):
    monkeypatch.setattr(embed_run, "PART_SEQUENCES", 3)
    fasta = write_fasta(tmp_path / "in.fa", **{f"s{i}": random_bases(30, seed=i) for i in range(10)})
    calls = []
    job = EmbedJob(SequenceFiles(fasta), tmp_path / "out.npz", tiny_loaded(), progress=lambda *n: calls.append(n))
    with pytest.raises(Stopped, match="6 of 10 were done"):
        embed_file(dataclasses.replace(job, stop=stop_after(2)))
    assert calls == [(0, 10), (3, 10), (6, 10)]
    embed_file(job)
    assert calls[3:] == [(6, 10), (9, 10), (10, 10)]
    assert (tmp_path / "out.npz").exists() and not (tmp_path / "out.npz.parts").exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: InputFiles("a.fa"), "give variants or a region"),
        (lambda: InputFiles("a.fa", "a.vcf", saturate="chr1:1-2"), "give variants or a region"),
        (lambda: InputFiles("a.fa", "a.vcf", sample="x"), "--sample: a sample without --haplotype"),
        (lambda: Placement(workers=0), "--workers: 0 workers"),
        (lambda: Placement(engine="spark"), "--engine: no engine 'spark'"),
        (lambda: Placement(ray_address="h:1"), "--ray-address: an address without"),
        (lambda: Placement(cache_gb=float("nan")), "--cache-gb: a cache of nan GB"),
        (lambda: Placement(shard=(0, 2)), "--shard: shard '0/2'"),
        (lambda: parse_shard("3/2"), "--shard: shard '3/2'"),
        (lambda: parse_shard("1/" + "9" * 5000), "--shard: shard '1/999"),
        (lambda: ScoreJob(InputFiles("a.fa", "-"), "o.vcf", placement=Placement(shard=(1, 2))), "cannot be cut"),
        (lambda: score_file(ScoreJob(InputFiles("a.fa", "a.vcf"), [])), "-o: no output"),
        (lambda: EmbedJob(SequenceFiles("a.fa"), []), "-o: no output"),
        (lambda: EmbedJob(SequenceFiles("a.fa"), "o.npz", shard=(2, 1)), "--shard: shard '2/1'"),
    ],
)
def test_what_is_wrong_with_values_is_one_line_before_any_file_is_read(make, says):
    with pytest.raises(NexVarError) as error:
        make()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_job_without_callbacks_can_be_sent_to_another_process():
    job = ScoreJob(InputFiles("a.fa", "a.vcf"), ["o.vcf"], ModelChoice("x"), Options(window=8), Placement(workers=2))
    assert pickle.loads(pickle.dumps(job)) == job


def test_no_function_of_the_runs_takes_more_than_eight_parameters():
    """What travels together is an object; the verbs of the command line have their options as parameters."""
    for path in (Path(nexvar.__file__).parent / "runs").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                assert len([a for a in arguments if a.arg != "self"]) <= 8, f"{path.name}: {node.name}"
