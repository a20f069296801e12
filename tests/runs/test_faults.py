"""Runs that are killed, interrupted or out of disk: after a resume the same bytes, no allele lost or doubled.

The runs are forks of this process, which has torch in memory already: a life costs milliseconds, so many can end.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tqdm import tqdm

from nexvar import cli
from nexvar import files as files_module
from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs import parts, partscorer, plan
from nexvar.runs.writers import read_rows
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
GENOME = random_bases(1000, seed=7)
POSITIONS = 40


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 60 * 64)


@pytest.fixture
def files(tmp_path):
    vcf = write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 100 + POSITIONS)])
    return vcf, write_fasta(tmp_path / "ref.fa", chr1=GENOME)


def run(files, out):
    return run_job(*files, out, model=tiny_loaded(), options=Options(window=64))


def slow_down(seconds: float) -> None:
    """Every batch of the model takes longer: in a fork."""
    compute = partscorer.score_alleles

    def slow(*args, **kwargs):
        for item in compute(*args, **kwargs):
            time.sleep(seconds)
            yield item

    partscorer.score_alleles = slow


def fork(job: Callable[[], object]) -> int:
    """The process id of a child that does ``job`` and exits: 0 for done, 1 for an exception."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    tqdm.set_lock(threading.RLock())  # its own is shared with this process, and would stay locked by a kill
    try:
        job()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """How the child ended: its exit code, or minus the signal."""
    deadline = time.monotonic() + 100
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(ended[1])


def test_killed_at_thirty_random_moments(files, tmp_path):
    whole = tmp_path / "whole.parquet"
    run(files, whole)
    begun = time.monotonic()
    rng, kills, round_ = random.Random(), 0, 0
    middle = 0.12
    while kills < 30:
        out = tmp_path / f"out{round_}.parquet"
        while True:

            def job(out=out):
                slow_down(0.004)
                run(files, out)

            pid = fork(job)
            time.sleep(rng.expovariate(1 / middle))
            os.kill(pid, signal.SIGKILL)
            code = wait(pid)
            kills += code == -signal.SIGKILL
            if code == 0:
                break
            assert code == -signal.SIGKILL
            assert time.monotonic() - begun < 120
        assert out.read_bytes() == whole.read_bytes()
        keys = [(row.record, row.allele) for row in read_rows(out)]
        assert keys == [(i, j) for i in range(POSITIONS) for j in range(3)]
        leftovers = {path.name for path in tmp_path.iterdir() if path.name.startswith(out.name)}
        assert leftovers == {out.name}
        round_ += 1


def die_at(step: int) -> None:
    """Kill this process at its ``step``-th change of the file system, half of the times just after it."""
    left = step

    def dying(change):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0 and step % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = change(*args, **kwargs)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    os.fsync, os.rmdir = dying(os.fsync), dying(os.rmdir)
    for name in ("replace", "rename", "mkdir", "unlink"):
        setattr(Path, name, dying(getattr(Path, name)))


def test_killed_at_every_step_on_the_disk(files, tmp_path):
    whole = tmp_path / "whole.vcf.gz"
    run(files, whole)
    for step in range(1, 200):
        out = tmp_path / f"out{step}.vcf.gz"

        def job(out=out, step=step):
            die_at(step)
            run(files, out)

        code = wait(fork(job))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        summary = run(files, out)
        assert out.read_bytes() == whole.read_bytes()
        assert summary.scored == 3 * POSITIONS
        assert Path(f"{out}.tbi").read_bytes() == Path(f"{whole}.tbi").read_bytes()
    assert code == 0 and step > 15
    assert not list(tmp_path.glob("*.parts")) and not list(tmp_path.glob(".*"))  # the resumed runs tidied up


@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGKILL, -9, ""),
])  # fmt: skip
def test_the_command_says_that_it_resumes(files, tmp_path, monkeypatch, number, code, word):
    whole, out, log = tmp_path / "whole.vcf", tmp_path / "out.vcf", tmp_path / "log"
    monkeypatch.setattr(partscorer, "loaded_model", lambda choice: tiny_loaded())

    def command(path):
        line = f"nexvar score --vcf {files[0]} --fasta {files[1]} -o {path} --model tiny --window 64"
        monkeypatch.setattr(sys, "argv", line.split())
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    def slow_command():
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        write = parts.write_part

        def write_and_wait(*args):
            write(*args)
            time.sleep(60)  # until the signal

        parts.write_part = write_and_wait
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
        sys.argv = f"nexvar score --vcf {files[0]} --fasta {files[1]} -o {out} --model tiny --window 64".split()
        try:
            cli.main()
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code or 0)

    pid = fork(slow_command)
    deadline = time.monotonic() + 60
    while not list(Path(f"{out}.parts").glob("part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(pid, number)
    assert wait(pid) == code
    said = [line for line in log.read_text().splitlines() if "nexvar:" in line]
    assert [word in line and "the same command resumes" in line for line in said] == ([True] if word else [])
    assert not out.exists()
    assert not command(out) and not command(whole)
    assert out.read_text().replace(str(out), str(whole)) == whole.read_text()


class FullDisk:
    """A disk that takes so many more bytes of parts."""

    def __init__(self, monkeypatch, room: int) -> None:
        self.room = room
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, number: int) -> None:
        self.room -= os.fstat(number).st_size
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [0, 10_000, 18_000])
def test_out_of_disk_is_one_line_and_resumes(files, tmp_path, room):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    run(files, whole)
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, room)
        with pytest.raises(NexVarError, match="No space left on device.*make room") as failed:
            run(files, out)
    assert "\n" not in str(failed.value)
    assert not list(Path(f"{out}.parts").glob(".*"))
    run(files, out)
    assert out.read_bytes() == whole.read_bytes()


def test_a_full_disk_of_its_own(files, tmp_path):
    """A real, small file system, in the parts and in the merge."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False

    if not mount("size=16k"):
        pytest.skip("mounting a file system takes rights that this process lacks")
    try:
        whole, out = tmp_path / "whole.vcf", disk / "out.vcf"
        run(files, whole)
        failures = set()
        for kilobytes in range(16, 1000, 4):
            assert mount(f"remount,size={kilobytes}k")
            try:
                run(files, out)
                break
            except NexVarError as error:
                assert "No space left on device" in str(error) and "\n" not in str(error)
                failures.add("part" if ".parts" in str(error.where) else "merge")
        assert failures == {"part", "merge"}
        assert out.read_bytes() == whole.read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_a_killed_merge_left_is_cleaned_up(files, tmp_path):
    out = tmp_path / "out.parquet"
    gone = fork(lambda: None)
    wait(gone)
    name = files_module.temporary_name(out).name
    stale, other = (tmp_path / name.replace(f"-{os.getpid()}-", f"-{pid}-") for pid in (gone, os.getppid()))
    stale.write_text("half")
    other.write_text("another process is at work on this one")
    run(files, out)
    assert not stale.exists() and other.exists()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("parts", 10**9, "1000000000 parts"),
        ("parts", -1, "-1 parts"),
        ("parts", True, "True parts"),
        ("parts", 10**60, "61 digits"),
        ("options", float("inf"), "Infinity"),
    ],
)
def test_a_manifest_of_absurd_numbers_is_one_line_at_once(files, tmp_path, name, value, says):
    out = tmp_path / "out.parquet"
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    manifest = {"inputs": {}, "provenance": {}, "options": {}, "variants": "", "parts": 1, name: value}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(NexVarError, match=f"the manifest is damaged.*{says}"):
        run(files, out)


def test_a_pipe_in_place_of_the_manifest_is_refused(files, tmp_path):
    (tmp_path / "out.parquet.parts").mkdir()
    os.mkfifo(tmp_path / "out.parquet.parts" / "manifest.json")
    with pytest.raises(NexVarError, match="the manifest is damaged: is not a regular file"):
        run(files, tmp_path / "out.parquet")
