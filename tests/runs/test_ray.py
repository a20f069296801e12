"""``--engine ray``: two nodes, an actor killed in the middle, the same bytes as one process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs import plan, ray_executor
from score_job import run_job
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(3000, seed=3)


@pytest.fixture
def given(tmp_path, golden):
    write_fasta(tmp_path / "ref.fa", chr1=GENOME)
    write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 2900, 8)])
    return {
        "variants": str(tmp_path / "in.vcf"), "fasta": str(tmp_path / "ref.fa"),
        "model": str(golden / "hyenadna_tiny"), "device": "cpu",
    }  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'nexvar[ray]'")
def test_an_actor_killed_on_a_cluster_of_two_nodes_loses_nothing(given, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 32 * 128)
    whole, out = tmp_path / "whole.vcf", tmp_path / "out.vcf"
    run_job(outputs=whole, options=Options(window=128), **given)
    script = Path(__file__).with_name("ray_two_nodes.py")
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, script, json.dumps({**given, "outputs": str(out)})],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == {"scored": 1050, "killed": 1, "left": True}
    assert out.read_bytes() == whole.read_bytes()


def test_without_ray_one_line_says_how_to_get_it(given, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NexVarError, match=r"Ray is not installed: pip install 'nexvar\[ray\]'"):
        run_job(outputs=tmp_path / "out.vcf", options=Options(window=128), engine="ray", **given)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "host:x", "host:99999"])
def test_an_address_where_nobody_answers_is_one_line(address):
    with pytest.raises(NexVarError, match="--ray-address: .*(no Ray cluster|is no address)") as failed:
        ray_executor._check_address(address)
    assert "\n" not in str(failed.value)
