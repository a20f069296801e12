"""Jobs: the command line's bytes, watched, cancelled, resumed; interactive work goes first."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shlex
import sys
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import cli
from nexvar.inference.options import Options
from nexvar.runs import partscorer, plan, score_run
from nexvar.serve import uploads
from nexvar.serve.routes import jobs as routes
from served import client_of, make_server
from tiny import tiny_loaded
from toy_genome import HEADER, random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(1000, seed=7)
POSITIONS = 40
WAIT = 60  # seconds: what does not happen by then never does
OPTIONS = {"window": 64}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 60 * 64)
    monkeypatch.setattr(routes, "POLL", 0.01)


@pytest.fixture
def files(tmp_path):
    """A VCF and its FASTA."""
    vcf = write_vcf(tmp_path / "cohort.vcf", [vcf_line(GENOME, pos) for pos in range(100, 100 + POSITIONS)])
    return vcf, write_fasta(tmp_path / "ref.fa", chr1=GENOME)


@pytest.fixture
def server(files, tmp_path):
    return make_server(genomes={"toy": files[1]}, data_dir=tmp_path / "data")


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client


def upload(client, content, name="cohort.vcf"):
    answer = client.post("/api/v1/files", content=content, headers={"X-Filename": name})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def submit(client, file, **changes):
    body = {"file": file, "genome": "toy", "options": OPTIONS, **changes}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json()['id']}"
    return answer.headers["Location"]


def wait(client, place, *states):
    deadline = time.monotonic() + WAIT
    while (job := client.get(place).json())["state"] not in (states or ("done", "failed", "cancelled")):
        assert time.monotonic() < deadline, job
        time.sleep(0.005)
    return job


def run(client, files, **changes):
    place = submit(client, upload(client, files[0].read_bytes()), **changes)
    job = wait(client, place)
    assert job["state"] == "done", job
    return place, job


def command_of(vcf_gz: bytes) -> str:
    lines = gzip.decompress(vcf_gz).decode().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("##nexvar_command="))


# -- results


@pytest.mark.parametrize("options", [
    {}, {"strand": "forward"}, {"readouts": ["llr_sum", "site"], "span": 3}, {"batch_tokens": 100, "left": 10},
    {"windowing": "tiled", "readouts": ["site"]},
])  # fmt: skip
def test_results_are_the_bytes_of_the_command_in_their_header(client, files, tmp_path, monkeypatch, options):
    outputs = ["tsv", "vcf.gz", "parquet"]
    place, job = run(client, files, options={**OPTIONS, **options}, outputs=outputs)
    assert (job["done"], job["total"]) == (3 * POSITIONS, 3 * POSITIONS)
    assert "120 alleles in 40 records = 120 scored" in job["summary"][0]
    results = {name: client.get(f"{place}/result/{name}").content for name in (*outputs, "vcf.gz.tbi")}
    monkeypatch.setattr(partscorer, "loaded_model", lambda choice: tiny_loaded())
    monkeypatch.setattr(sys, "argv", shlex.split(command_of(results["vcf.gz"])))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    for name, content in results.items():
        assert content == (tmp_path / f"cohort.scored.{name}").read_bytes(), name


values = {
    "window": st.integers(2, 9000), "left": st.integers(0, 99), "strand": st.just("forward"),
    "readouts": st.lists(st.sampled_from(["llr", "site", "cosine"]), min_size=1, unique=True), "layer": st.just("gru"),
    "pool": st.just("max"), "begin": st.booleans(), "span": st.integers(0, 99), "batch_tokens": st.integers(1, 10**6),
    "max_ref_mismatch": st.floats(0, 1),
}  # fmt: skip


@given(st.fixed_dictionaries({}, optional=values))
def test_the_recorded_command_has_the_jobs_options(options):
    server, found = make_server(), []
    job = routes.Job("id", "score", "f", "-odd name.vcf", "chrM", "tiny", options, ["tsv"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_run, "score_file", lambda job: found.append(job))
        patch.setattr(sys, "argv", shlex.split(server.jobs.command(job)))
        with pytest.raises(SystemExit):  # there is no summary
            cli.main()
    server.close()
    assert found[0].options == Options(**options)


def test_results_come_as_attachments_and_in_ranges(client, files):
    place, _ = run(client, files, outputs=["tsv"])
    whole = client.get(f"{place}/result/tsv")
    assert whole.headers["Content-Disposition"] == 'attachment; filename="cohort.scored.tsv"'
    assert whole.headers["Content-Type"] == "application/octet-stream"
    part = client.get(f"{place}/result/tsv", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    for wrong, status in (("bytes=999999999-", 416), ("bytes=a-b", 400), ("items=0-1", 400), ("bytes=5-1", 400)):
        answer = client.get(f"{place}/result/tsv", headers={"Range": wrong})
        assert answer.status_code == status and set(answer.json()) == {"detail", "error", "where", "fix"}
        assert answer.json()["error"] and (status == 400 or answer.headers["Content-Range"].startswith("bytes */"))
    for name in ("vcf.gz", "vcf.gz.tbi", "exe", "%2e%2e"):
        assert client.get(f"{place}/result/{name}").status_code == 404


# -- watching


def events_of(text: str) -> list[dict]:
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block]
    return [{**event, "data": json.loads(event["data"])} for event in events if "event" in event]


def test_events_tell_the_progress_and_the_end(client, files):
    place = submit(client, upload(client, files[0].read_bytes()))
    answer = client.get(f"{place}/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [event["event"] for event in events][-1] == "done" and {e["event"] for e in events[:-1]} <= {"progress"}
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    done = [event["data"]["done"] for event in events]
    assert done == sorted(done) and done[-1] == 3 * POSITIONS
    again = events_of(client.get(f"{place}/events", headers={"Last-Event-ID": str(ids[0])}).text)
    assert [event["event"] for event in again] == ["done"] and int(again[0]["id"]) > ids[0]
    known = client.get(f"{place}/events", headers={"Last-Event-ID": str(ids[-1])})
    assert known.status_code == 204 and not known.content
    assert client.get(f"{place}/events", headers={"Last-Event-ID": "-1e9"}).status_code == 200


class Held:
    """Parts that begin and go on until they are let go."""

    def __init__(self, monkeypatch):
        self.began, self.go = threading.Event(), threading.Event()
        score = partscorer.PartScorer.score

        def held(scorer, task, report):
            self.began.set()
            deadline = time.monotonic() + WAIT
            while not self.go.wait(0.002) and time.monotonic() < deadline:
                report(0)
            return score(scorer, task, report)

        monkeypatch.setattr(partscorer.PartScorer, "score", held)


def test_a_silent_stream_says_that_it_lives_and_ends_with_the_server(client, server, files, monkeypatch):
    monkeypatch.setattr(routes, "KEEP_ALIVE", 0.02)
    held = Held(monkeypatch)
    place = submit(client, upload(client, files[0].read_bytes()))
    assert held.began.wait(WAIT)
    threading.Timer(0.3, lambda: setattr(server, "draining", True)).start()
    text = client.get(f"{place}/events").text
    assert ": keep-alive\n\n" in text and "event: done" not in text
    held.go.set()


# -- cancelling


def test_a_running_job_is_cancelled_at_once_and_the_next_one_runs(client, server, files, monkeypatch):
    held = Held(monkeypatch)
    file = upload(client, files[0].read_bytes())
    first, second, third = (submit(client, file) for _ in range(3))
    assert held.began.wait(WAIT)
    assert client.get(f"{first}/result/vcf.gz").status_code == 409
    assert client.delete(f"/api/v1/files/{file}").status_code == 409
    for place in (first, third):
        answer = client.delete(place)
        assert answer.status_code == 200 and answer.json()["state"] == "cancelled"
        assert events_of(client.get(f"{place}/events").text)[-1]["event"] == "cancelled"
    held.go.set()
    assert wait(client, second)["state"] == "done"
    assert [job["state"] for job in client.get("/api/v1/jobs").json()["jobs"]] == ["cancelled", "done", "cancelled"]
    assert [path.name for path in (server.store.folder / "jobs").iterdir()] == [second.rpartition("/")[2]]
    for place in (first, second, third):
        assert client.delete(place).status_code == 204
        assert client.delete(place).status_code == client.get(place).status_code == 404
    assert not list((server.store.folder / "jobs").iterdir())
    assert client.delete(f"/api/v1/files/{file}").status_code == 204


# -- fairness


def test_interactive_work_waits_for_one_layer_and_changes_no_byte(files, tmp_path):
    loaded, quiet = tiny_loaded(), make_server(genomes={"toy": files[1]})
    options = {**OPTIONS, "batch_tokens": 200}
    with client_of(quiet) as client:
        place, _ = run(client, files, options=options)
        expected = client.get(f"{place}/result/vcf.gz").content
    server = make_server([loaded], genomes={"toy": files[1]})
    forwards, began, clicks = 0, [], []
    ids = torch.tensor([[65, 67, 71]])
    alone = loaded.module(ids).logits
    forward = loaded.module.forward

    def click(_):
        began.append(forwards)
        return forward(ids).logits if len(clicks) % 2 else loaded.module(ids).logits

    def counted(*args, **kwargs):
        nonlocal forwards
        if args[0].shape[1] > 3:  # the job's
            forwards += 1
            clicks.append((forwards, server.thread.submit(click)))
        return forward(*args, **kwargs)

    loaded.module.forward = counted
    with client_of(server) as client:
        place, _ = run(client, files, options=options)
        assert client.get(f"{place}/result/vcf.gz").content == expected
    assert len(clicks) > 10 and [asked for asked, _ in clicks] == began
    assert all(torch.equal(task.future.result(), alone) for _, task in clicks)


# -- what can go wrong


@pytest.mark.parametrize(("change", "status", "said"), [
    ({"file": "nothing"}, 404, "file: no file 'nothing'"),
    ({"genome": "hg99"}, 404, "genome: no genome 'hg99'"),
    ({"model": "gpt"}, 404, "model: no model 'gpt'"),
    ({"model": "nexvar_mito"}, 409, "nexvar_mito is not loaded"),
    ({"options": {"window": 10**6}}, 400, "window: window of 1,000,000 bases"),
    ({"options": {"strand": "up"}}, 422, "options.strand"),
    ({"options": {"readouts": ["masked_llr"]}}, 400, "masked"),
    ({"options": {"workers": 2}}, 422, "options.workers"),
    ({"options": {"window": "64"}}, 422, "options.window"),
    ({"outputs": []}, 422, "outputs"),
    ({"outputs": ["vcf"]}, 422, "outputs.0"),
    ({"kind": "fold"}, 422, "kind"),
    ({"path": "/etc/passwd"}, 422, "path"),
])  # fmt: skip
def test_a_wrong_job_is_refused_at_once(client, server, files, change, status, said):
    body = {"file": upload(client, files[0].read_bytes()), "genome": "toy", "options": OPTIONS, **change}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == status and said in answer.json()["error"], answer.text
    assert not server.store.jobs()


@pytest.mark.parametrize(("content", "name", "said"), [
    (b"##fileformat=VCFv4.2\nnot a header\n", "a.vcf", "a.vcf:2: "),
    (f"{HEADER}chr1\t1\t.\tA\tQ\t.\t.\t.\n".encode(), "a.vcf", "a.vcf:3: "),
    (b"chr1:1A>\n", "list.txt", "list.txt:1: "),
    (gzip.compress(b"##fileformat=VCFv4.2\n##" + bytes(200_000), mtime=0), "b.vcf.gz",
     "b.vcf.gz: it decompresses to more than"),
])  # fmt: skip
def test_a_hostile_file_fails_its_job_by_one_line_without_a_path(client, server, monkeypatch, content, name, said):
    monkeypatch.setattr(uploads, "MAX_RATIO", 100)
    job = wait(client, submit(client, upload(client, content, name)))
    assert job["state"] == "failed" and job["error"].startswith(said), job
    assert "\n" not in job["error"] and str(server.store.folder) not in job["error"]
    assert not list((server.store.folder / "jobs").iterdir())


def test_names_from_a_file_come_back_as_data(client, files):
    evil = "<img/src=x/onerror=alert(1)>"
    lines = [vcf_line(GENOME, pos).replace("\t.\t", f"\t{evil}\t", 1) for pos in range(100, 103)]
    content = write_vcf(files[0].with_name("evil.vcf"), lines).read_bytes()
    place = submit(client, upload(client, content, "<script>.vcf"), outputs=["tsv"])
    job = wait(client, place)
    assert job["state"] == "done" and job["name"] == "script_.vcf"
    result = client.get(f"{place}/result/tsv")
    assert evil in result.text and result.headers["Content-Disposition"].startswith("attachment")
    assert result.headers["X-Content-Type-Options"] == "nosniff"


def test_a_fasta_is_no_list_of_variants(client, files):
    body = {"file": upload(client, files[1].read_bytes(), "ref.fa"), "genome": "toy"}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 400 and "ref.fa is a FASTA" in answer.json()["error"]


def test_a_full_disk_fails_the_job_by_one_line_and_the_server_lives(client, server, files, monkeypatch):
    file = upload(client, files[0].read_bytes())
    room = 9000

    def fsync(number):
        nonlocal room
        room -= os.fstat(number).st_size
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        job = wait(client, submit(client, file))
    assert 0 < job["done"] < job["total"] == 3 * POSITIONS
    assert (
        job["state"] == "failed"
        and "No space left on device" in job["error"]
        and str(server.store.folder) not in job["error"]
    )
    assert not list((server.store.folder / "jobs").iterdir())
    assert wait(client, submit(client, file))["state"] == "done"


def test_parts_that_pass_the_servers_limit_end_the_job(client, server, files):
    file = upload(client, files[0].read_bytes())
    server.store.max_bytes = server.store.file(file).bytes + 8000
    job = wait(client, submit(client, file))
    assert job["state"] == "failed" and "is full" in job["error"]
    assert server.store.room() == 8000


def test_a_fault_is_one_line_and_the_next_job_runs(client, files, monkeypatch):
    file = upload(client, files[0].read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(partscorer.PartScorer, "score", lambda *_: 1 / 0)
        job = wait(client, submit(client, file))
    assert job["state"] == "failed" and job["error"].startswith("an error inside the server")
    assert wait(client, submit(client, file))["state"] == "done"


def test_only_so_many_jobs_wait(client, files, monkeypatch):
    held = Held(monkeypatch)
    monkeypatch.setattr("nexvar.serve.jobs.MAX_WAITING", 2)
    file = upload(client, files[0].read_bytes())
    first = submit(client, file)
    wait(client, first, "running")
    waiting = [submit(client, file) for _ in range(2)]
    answer = client.post("/api/v1/jobs", json={"file": file, "genome": "toy"})
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    for place in (*waiting, first):
        client.delete(place)
    held.go.set()


def test_metrics_count_jobs_by_state(client, files):
    run(client, files)
    text = client.get("/metrics").text
    assert 'nexvar_jobs{state="done"} 1' in text and 'nexvar_jobs{state="queued"} 0' in text
    assert f"nexvar_alleles_total {3 * POSITIONS}" in text
