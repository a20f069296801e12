"""``--workers N``: the same bytes as one process, whatever happens to a worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs import plan, workers
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(2000, seed=3)


@pytest.fixture
def given(tmp_path, golden, monkeypatch):
    """score_file's arguments but the output: 360 alleles in parts of about 32."""
    monkeypatch.setattr(plan, "PART_TOKENS", 32 * 128)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the workers', like this process's: bytes are compared
    write_fasta(tmp_path / "ref.fa", chr1=GENOME)
    write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos, info="AC=1") for pos in range(500, 1700, 10)])
    return {
        "variants": tmp_path / "in.vcf", "fasta": tmp_path / "ref.fa", "model": golden / "hyenadna_tiny",
        "options": Options(window=128), "device": "cpu",
    }  # fmt: skip


class Killer(threading.Thread):
    """Kills the workers of these names with -9 as soon as a part is finished; without names every one, always."""

    def __init__(self, folder: Path, names: set[str] | None = None) -> None:
        super().__init__(daemon=True)
        self.folder, self.names, self.over = folder, names, False

    def run(self) -> None:
        while not self.over:
            if list(self.folder.glob("part-*.parquet")):
                for child in multiprocessing.active_children():
                    if child.pid and (self.names is None or child.name in self.names):
                        os.kill(child.pid, signal.SIGKILL)
                if self.names:
                    return
            time.sleep(0.005)


def test_a_worker_that_is_killed_loses_nothing(given, tmp_path):
    whole, out = tmp_path / "whole.vcf", tmp_path / "out.vcf"
    run_job(outputs=whole, **given)
    killer = Killer(tmp_path / "out.vcf.parts", names={"nexvar-0"})
    killer.start()
    summary = run_job(outputs=out, workers=2, **given)
    assert out.read_bytes() == whole.read_bytes()
    assert summary.scored == 360 and summary.tally.computed > 0
    assert any("worker 0 was killed (SIGKILL)" in note and "computed again" in note for note in summary.notes)
    assert not multiprocessing.active_children()


def test_all_workers_killed_at_once_are_replaced(given, tmp_path):
    whole, out = tmp_path / "whole.vcf", tmp_path / "out.vcf"
    run_job(outputs=whole, **given)
    killer = Killer(tmp_path / "out.vcf.parts", names={"nexvar-0", "nexvar-1"})
    killer.start()
    summary = run_job(outputs=out, workers=2, **given)
    assert out.read_bytes() == whole.read_bytes()
    assert sum("was killed (SIGKILL)" in note for note in summary.notes) == 2


def test_workers_that_all_die_stop_the_run_with_one_line_and_it_resumes(given, tmp_path):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    run_job(outputs=whole, **given)
    killer = Killer(tmp_path / "out.parquet.parts")
    killer.start()
    try:
        with pytest.raises(NexVarError, match="was killed.*the same command resumes") as failed:
            run_job(outputs=out, workers=2, **given)
    finally:
        killer.over = True
        killer.join()
    assert "\n" not in str(failed.value)
    kept = len(list((tmp_path / "out.parquet.parts").glob("part-*.parquet")))
    assert kept
    run_job(outputs=out, **given)
    assert out.read_bytes() == whole.read_bytes()


def test_what_workers_cannot_do_is_one_line(given, tmp_path):
    (tmp_path / "none").mkdir()
    for changes, says in [
        ({"workers": 0}, "--workers: 0 workers"),
        ({"workers": 2, "model": tiny_loaded()}, "a loaded model stays in its process"),
        ({"workers": 2, "model": tmp_path / "none"}, "config.json"),
        ({"engine": "spark"}, "--engine: no engine 'spark'"),
        ({"ray_address": "localhost:1"}, "--ray-address: an address without --engine ray"),
    ]:
        with pytest.raises(NexVarError, match=says) as failed:
            run_job(outputs=tmp_path / "out.vcf", **{**given, **changes})
        assert "\n" not in str(failed.value)


def test_each_worker_has_its_gpu_and_its_share_of_the_cores(monkeypatch):
    assert workers.devices_of(3, "cpu") == ["cpu"] * 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert workers.devices_of(3, "auto") == ["cuda:0", "cuda:1", "cuda:2"]
    assert workers.devices_of(2, "cpu") == ["cpu", "cpu"]
    for device, count, says in [("auto", 5, "5 workers for 4 GPUs"), ("cuda:1", 2, "2 workers on cuda:1")]:
        with pytest.raises(NexVarError, match=says):
            workers.devices_of(count, device)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [workers.default_threads(n) for n in (1, 2, 3, 100)] == [8, 4, 2, 1]
