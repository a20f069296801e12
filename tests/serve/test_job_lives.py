"""Servers that end or are killed, and start again on the same folder: every job ends once, with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexvar import __version__
from nexvar.runs import partscorer, plan
from nexvar.serve.errors import Conflict, NotFound
from nexvar.serve.store import FINAL
from nexvar.serve.uploads import Upload
from served import make_server
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(1000, seed=7)
WAIT = 60


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 60 * 64)


def started(folder: Path):
    fasta = folder / "ref.fa"
    if not fasta.exists():
        write_fasta(fasta, chr1=GENOME)
    server = make_server(genomes={"toy": fasta}, data_dir=folder / "data")
    server.jobs.start()
    return server


def upload(server, positions=40):
    vcf = write_vcf(
        server.store.folder.parent / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 100 + positions)]
    )
    sent = Upload(server.store, "cohort.vcf", 10**6)
    sent.write(vcf.read_bytes())
    file = sent.keep()
    sent.close()
    return file.id


def submit(server, file):
    return server.jobs.submit(file, "toy", None, {"window": 64}, ["vcf.gz", "tsv", "parquet"]).id


def ended(server, id_):
    deadline = time.monotonic() + WAIT
    while (job := server.store.job(id_)).state not in FINAL:
        assert time.monotonic() < deadline, job
        time.sleep(0.002)
    return job


def results(server, id_):
    return {name: server.jobs.result(id_, name).read_bytes() for name in ("vcf.gz", "vcf.gz.tbi", "tsv", "parquet")}


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["submit", "restart"]), st.just(0)),
        st.tuples(st.sampled_from(["cancel", "delete", "wait"]), st.integers(0, 3)),
    ),
    max_size=12,
)


@settings(max_examples=12)
@given(steps)
def test_whatever_happens_every_job_ends_once_and_nothing_is_left_over(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("lives")
    server = started(folder)
    file = upload(server, positions=6)
    jobs: list[str] = []
    final: dict[str, str] = {}

    def look():
        for id_ in jobs:
            state = server.store.job(id_).state
            assert final.setdefault(id_, state) == state or final[id_] not in FINAL
            final[id_] = state

    for step, value in steps:
        if step == "submit":
            jobs.append(submit(server, file))
        elif step == "restart":
            server.close()
            server = started(folder)
        elif jobs:
            id_ = jobs[value % len(jobs)]
            if step == "cancel":
                server.jobs.cancel(id_)
            elif step == "wait":
                ended(server, id_)
            else:
                try:
                    server.store.remove_job(id_)
                    jobs.remove(id_)
                except Conflict:
                    assert server.store.job(id_).state not in FINAL or not server.jobs.cancel(id_)
        look()
    for id_ in jobs:
        assert ended(server, id_).state in ("done", "cancelled")
    look()
    server.close()
    server = started(folder)
    done = {id_ for id_ in jobs if server.store.job(id_).state == "done"}
    assert {path.name for path in (folder / "data" / "jobs").iterdir()} == done
    assert {path.name for path in (folder / "data" / "files").iterdir()} == {file}
    assert all(results(server, id_) == results(server, min(done)) for id_ in done)
    for id_ in jobs:
        server.store.remove_job(id_)
        with pytest.raises(NotFound):
            server.store.job(id_)
    server.close()


def test_a_server_that_is_told_to_end_leaves_its_job_to_the_next(tmp_path, monkeypatch):
    server = started(tmp_path)
    file = upload(server)
    whole = submit(server, file)
    ended(server, whole)
    expected, score, computed = results(server, whole), partscorer.PartScorer.score, []

    def slow(scorer, task, report):
        computed.append(task.part.index)
        if len(computed) == 3:
            server.jobs.stop()
        return score(scorer, task, report)

    monkeypatch.setattr(partscorer.PartScorer, "score", slow)
    id_ = submit(server, file)
    server.jobs._runner.join(WAIT)
    assert server.store.job(id_).state == "queued"
    server.close()
    server = started(tmp_path)
    assert ended(server, id_).state == "done" and results(server, id_) == expected
    assert sorted(set(computed)) == list(range(max(computed) + 1)) and computed.count(2) == 2  # one part was lost
    assert server.store.job(id_).started < server.store.job(id_).ended
    server.close()


@pytest.mark.parametrize("change", [
    lambda text: text.replace(f'"nexvar": "{__version__}"', '"nexvar": "0.0.1"'), lambda text: text[: len(text) // 2],
])  # fmt: skip
def test_parts_of_another_version_or_damaged_ones_are_computed_anew(tmp_path, monkeypatch, change):
    server = started(tmp_path)
    file = upload(server)
    whole = submit(server, file)
    ended(server, whole)
    expected, score = results(server, whole), partscorer.PartScorer.score

    def stopping(scorer, task, report):
        if task.part.index == 2:
            server.jobs.stop()
        return score(scorer, task, report)

    with monkeypatch.context() as patch:
        patch.setattr(partscorer.PartScorer, "score", stopping)
        id_ = submit(server, file)
        server.jobs._runner.join(WAIT)
    (manifest,) = server.store.job_folder(id_).glob("*.parts/manifest.json")
    before = manifest.read_text()
    manifest.write_text(change(before))
    assert manifest.read_text() != before
    server.close()
    server = started(tmp_path)
    assert ended(server, id_).state == "done" and results(server, id_) == expected
    server.close()


def test_a_model_that_is_gone_after_a_restart_fails_the_job_by_one_line(tmp_path, monkeypatch):
    server = started(tmp_path)
    server.jobs.stop()
    server.jobs._runner.join(WAIT)
    id_ = submit(server, upload(server))
    server.store._change("UPDATE jobs SET model = 'nexvar_mito'")
    server.close()
    server = started(tmp_path)
    job = ended(server, id_)
    assert job.state == "failed" and "nexvar_mito is not loaded" in job.error
    server.close()


def fork(folder: Path, id_: str) -> int:
    """A server in a process of its own, until the job has ended; a part takes long enough to be killed in."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        score = partscorer.PartScorer.score

        def slow(scorer, task, report):
            time.sleep(0.02)
            return score(scorer, task, report)

        partscorer.PartScorer.score = slow
        server = started(folder)
        code = 0 if ended(server, id_).state == "done" else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_job_whose_server_is_killed_again_and_again_has_the_same_bytes(tmp_path):
    server = started(tmp_path)
    file = upload(server)
    whole = submit(server, file)
    ended(server, whole)
    expected = results(server, whole)
    server.close()
    rng, kills, begun = random.Random(), 0, time.monotonic()
    while kills < 3:
        server = started(tmp_path)
        server.jobs.stop()
        server.jobs._runner.join(WAIT)
        id_ = submit(server, file)
        server.close()
        while True:
            pid = fork(tmp_path, id_)
            time.sleep(rng.expovariate(1 / 0.6))
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            kills += code == -signal.SIGKILL
            if code == 0:
                break
            assert code == -signal.SIGKILL
            assert time.monotonic() - begun < 200
        server = started(tmp_path)
        assert server.store.job(id_).state == "done" and results(server, id_) == expected
        assert {path.name for path in server.store.job_folder(id_).iterdir()} == {
            f"cohort.scored.{name}" for name in expected
        }
        server.close()
