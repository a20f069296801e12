"""The cache of pooled embeddings: what comes back, what goes, what several processes and a kill do to it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.inference.core.embedding_cache import FILE, ROW_BYTES, EmbeddingCache
from nexvar.inference.score import Options
from nexvar.runs import jobs, plan
from nexvar.runs.table import read_rows
from tiny import tiny_loaded
from toy_genome import other_bases, random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(600, seed=5)


def keys(*names: str) -> list[tuple[str, ...]]:
    return [("mean", name) for name in names]


def test_what_was_put_comes_back_for_this_model_only(tmp_path):
    cache = EmbeddingCache(tmp_path / "deep" / "cache", "model a")
    vectors = [torch.randn(8), torch.randn(3, 8), torch.randn(1, 8)]
    cache.put(keys("x", "y", "z"), vectors)
    again = EmbeddingCache(tmp_path / "deep" / "cache", "model a").get(keys("z", "nothing", "y", "x"))
    assert again[1] is None
    for found, put in zip((again[0], again[2], again[3]), reversed(vectors), strict=True):
        assert found is not None and found.shape == put.shape and torch.equal(found, put)
    assert EmbeddingCache(tmp_path / "deep" / "cache", "model b").get(keys("x")) == [None]
    assert cache.get([("mea", "nx")]) == [None]


def test_it_stays_bounded_and_drops_what_was_not_used(tmp_path):
    size = 4 * 100 + ROW_BYTES
    cache = EmbeddingCache(tmp_path, "m", max_bytes=10 * size)
    for i in range(10):
        cache.put(keys(f"{i}"), [torch.full((100,), float(i))])
    cache.get(keys("0", "1"))
    cache.put(keys("10"), [torch.zeros(100)])
    kept = [i for i in range(11) if cache.get(keys(f"{i}"))[0] is not None]
    assert kept == [0, 1, 4, 5, 6, 7, 8, 9, 10]
    for i in range(3000):
        cache.put(keys(f"more{i}"), [torch.zeros(100)])
    assert len(cache) <= 10
    assert (tmp_path / FILE).stat().st_size < 100_000


def test_putting_twice_counts_once(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", max_bytes=2000)
    for _ in range(100):
        cache.put(keys("a", "b"), [torch.zeros(100), torch.ones(100)])
    assert len(cache) == 2


def test_processes_share_it(tmp_path):
    script = (
        "import sys, torch; from nexvar.inference.core.embedding_cache import EmbeddingCache\n"
        "c = EmbeddingCache(sys.argv[1], 'm')\n"
        "for i in range(40): c.put([('k', sys.argv[2] + str(i))], [torch.full((4,), float(i))])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(120) for process in running] == [0, 0]
    cache = EmbeddingCache(tmp_path, "m")
    assert len(cache) == 80
    assert cache.get([("k", "b7")])[0].tolist() == [7.0] * 4


def test_scores_with_it_are_the_same_and_the_second_run_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 30 * 64)
    fasta = write_fasta(tmp_path / "ref.fa", chr1=GENOME)
    lines = [vcf_line(GENOME, p, other_bases(GENOME[p])[0]) for p in range(100, 200)]
    vcf = write_vcf(tmp_path / "in.vcf", lines)
    for pool, readouts in (("mean", ("cosine", "l2")), ("site", ("l1",))):

        def run(name, pool=pool, readouts=readouts, **options):
            out = tmp_path / f"{pool}.{name}.parquet"
            summary = jobs.score_file(
                vcf, fasta, out, progress=False, model=tiny_loaded(),
                options=Options(window=64, readouts=readouts, pool=pool), **options,
            )  # fmt: skip
            return [row.extra for row in read_rows(out)], summary.tally.computed

        plain, tokens = run("plain")
        first, same_tokens = run("first", cache=tmp_path / "cache")
        second, none = run("second", cache=tmp_path / "cache")
        assert first == plain == second
        assert (tokens, none) == (same_tokens, 0) and tokens > 0
    other = replace(tiny_loaded(seed=1), device=torch.device("cpu"))
    summary = jobs.score_file(
        vcf, fasta, tmp_path / "other.parquet", progress=False, model=other,
        options=Options(window=64, readouts=("cosine",)), cache=tmp_path / "cache",
    )  # fmt: skip
    assert summary.tally.computed > 0


def test_what_goes_wrong_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / FILE).write_text("this is not a database, " * 50)
    (tmp_path / "other").mkdir()
    sqlite3.connect(tmp_path / "other" / FILE).execute("CREATE TABLE vectors (a)").connection.commit()
    for folder, size, says in [
        (tmp_path / "file", 100, "cannot be made"),
        (tmp_path, 100, "not a database.*delete it"),
        (tmp_path / "other", 100, "the embedding cache fails"),
        (tmp_path / "new", 0, "--cache-gb"),
    ]:
        with pytest.raises(NexVarError, match=says) as failed:
            EmbeddingCache(folder, "m", max_bytes=size)
        assert "\n" not in str(failed.value)
