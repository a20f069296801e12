"""Cells in worker processes and on Ray: the same rows as here; a run that is killed keeps its finished cells."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labelled import labelled_table
from nexvar.errors import NexVarError
from nexvar.evals.suites import run, tables
from nexvar.evals.suites.cells import read_rows
from own_task import LAYER, job, rows, task_file
from places import GOLDEN


@pytest.fixture
def task(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    labelled_table(tmp_path / "mine.tsv", rows(45))
    return task_file(tmp_path)


def test_workers_and_a_cluster_give_the_same_rows(task: Path, tmp_path: Path) -> None:
    here = job(tmp_path, task)
    run.run(here)
    wanted = read_rows(tmp_path / "out" / "results.parquet")
    ways = [{"workers": 2}]
    if importlib.util.find_spec("ray") is not None:
        ways.append({"engine": "ray", "workers": 1})
    for i, way in enumerate(ways):
        there = run.Job(here.tasks, tmp_path, here.models, tmp_path / f"there-{i}", options=here.options, **way)
        assert run.run(there) == run.Summary(2, 0, [])
        found = read_rows(there.output / "results.parquet")
        for one, other in zip(wanted, found, strict=True):
            assert (one.model, one.metric, one.rows) == (other.model, other.metric, other.rows)
            assert other.value == pytest.approx(one.value, abs=1e-4)


def test_an_address_where_nobody_answers_is_one_line(task: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(NexVarError, match="no Ray cluster at 127.0.0.1:1"):
        run.run(job(tmp_path, task, engine="ray", ray_address="127.0.0.1:1"))


def test_a_killed_run_goes_on_with_the_cells_that_are_missing(task: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "nexvar", "benchmark", str(task), "--data", str(tmp_path / "data"), "--draws", "20"]
    words += ["-o", str(tmp_path / "out"), "--models", str(GOLDEN / "hyenadna_tiny"), "--layer", *LAYER]
    (tmp_path / "data").mkdir()
    (tmp_path / "mine.tsv").rename(tmp_path / "data" / "mine.tsv")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        cells = tmp_path / "out" / "cells"
        while not (list(cells.glob("*.parquet")) if cells.exists() else []) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = {path.name: path.read_bytes() for path in cells.glob("*.parquet")}
    assert kept
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0 and f"{2 - len(kept)} cells computed, {len(kept)} kept" in ended.stderr, ended.stderr
    assert all((cells / name).read_bytes() == content for name, content in kept.items())
    assert (tmp_path / "out" / "results.md").exists()
