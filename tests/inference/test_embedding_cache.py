"""The cache of pooled embeddings: what comes back, what goes, what several processes and a kill do to it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.inference.core.embedding_cache import FILE, ROW_BYTES, EmbeddingCache
from nexvar.inference.options import Options
from nexvar.runs import plan
from nexvar.runs.writers import read_rows
from score_job import run_job
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
            summary = run_job(
                vcf, fasta, out, model=tiny_loaded(),
                options=Options(window=64, readouts=readouts, pool=pool), **options,
            )  # fmt: skip
            return [row.extra for row in read_rows(out)], summary.tally.computed

        plain, tokens = run("plain")
        first, same_tokens = run("first", cache=tmp_path / "cache")
        second, none = run("second", cache=tmp_path / "cache")
        assert first == plain == second
        assert (tokens, none) == (same_tokens, 0) and tokens > 0
    other = replace(tiny_loaded(seed=1), device=torch.device("cpu"))
    summary = run_job(
        vcf, fasta, tmp_path / "other.parquet", model=other,
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


# ------------------------------------------------------------------------------------------ a cache that was touched


def change(folder, sql: str, *values: object) -> None:
    with sqlite3.connect(folder / FILE) as database:
        database.execute(sql, values)
    database.close()


CUT = "UPDATE vectors SET vector = substr(vector, 1, 8)"
CHANGES = {
    "cut": (CUT,),
    "cut, and says so": (CUT + ", shape = '2'",),
    "zeros": ("UPDATE vectors SET vector = zeroblob(length(vector))",),
    "another row's vector": ("UPDATE vectors SET vector = (SELECT vector FROM vectors ORDER BY key LIMIT 1)",),
    "another row": (
        "UPDATE vectors SET (shape, dtype, digest, vector) ="
        " (SELECT shape, dtype, digest, vector FROM vectors ORDER BY key LIMIT 1)",
    ),
    "another shape": ("UPDATE vectors SET shape = '2,4'",),
    "shape of words": ("UPDATE vectors SET shape = 'eight'",),
    "negative shape": ("UPDATE vectors SET shape = '-2,-4'",),
    "huge shape": ("UPDATE vectors SET shape = '0,99999999999999999999'",),
    "shape of another script": ("UPDATE vectors SET shape = ?", "\u0668"),
    "another dtype": ("UPDATE vectors SET dtype = '<f8'",),
    "vector of words": ("UPDATE vectors SET vector = 'none'",),
    "vector a number": ("UPDATE vectors SET vector = 7, digest = 7",),
    "nothing": ("UPDATE vectors SET vector = NULL, shape = NULL, dtype = NULL, digest = NULL",),
    "text that is none": ("UPDATE vectors SET shape = CAST(x'ff00fe' AS TEXT), dtype = CAST(x'c3' AS TEXT)",),
    "a byte more": ("UPDATE vectors SET vector = vector || x'00'",),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_is_not_as_it_was_put_is_a_miss_and_said_once(tmp_path, capfd, name):
    vectors = [torch.arange(8.0), torch.arange(8.0) + 1, torch.ones(2, 4)]
    EmbeddingCache(tmp_path, "m").put(keys("x", "y", "z"), vectors)
    change(tmp_path, *CHANGES[name])
    cache = EmbeddingCache(tmp_path, "m")
    for found, put in zip(cache.get(keys("x", "y", "z")), vectors, strict=True):
        assert found is None or (found.shape == put.shape and torch.equal(found, put))
    told = capfd.readouterr().err
    assert told.count("a damaged row") == 1 and len(told.splitlines()) == 1
    cache.put(keys("x", "y", "z"), vectors)
    assert all(torch.equal(a, b) for a, b in zip(cache.get(keys("x", "y", "z")), vectors, strict=True))
    assert capfd.readouterr().err == ""


def test_what_is_not_finite_is_not_kept(tmp_path):
    cache = EmbeddingCache(tmp_path, "m")
    cache.put(keys("x", "y"), [torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("inf")])])
    assert cache.get(keys("x", "y")) == [None, None] and len(cache) == 0


@pytest.mark.parametrize("value", ["NULL", "'many'", "-1e300", "x'00'"])
def test_a_size_that_lies_neither_stops_nor_empties_it_for_ever(tmp_path, value):
    cache = EmbeddingCache(tmp_path, "m", max_bytes=5_000)
    cache.put(keys("x"), [torch.ones(8)])
    change(tmp_path, f"UPDATE total SET bytes = {value}")
    change(tmp_path, f"UPDATE vectors SET bytes = {value}, used = {value}")
    cache.put(keys("y"), [torch.zeros(8)])
    assert torch.equal(cache.get(keys("y"))[0], torch.zeros(8))


def test_bytes_turned_anywhere_in_the_file_never_give_another_vector(tmp_path):
    vectors = [torch.full((64,), float(i)) for i in range(20)]
    names = keys(*map(str, range(20)))
    EmbeddingCache(tmp_path / "sound", "m").put(names, vectors)
    sound = (tmp_path / "sound" / FILE).read_bytes()
    dice = random.Random(0)
    for trial in range(60):
        folder = tmp_path / str(trial)
        folder.mkdir()
        content = bytearray(sound)
        for _ in range(dice.choice([1, 20])):
            content[dice.randrange(len(content))] = dice.randrange(256)
        (folder / FILE).write_bytes(content[: dice.randrange(len(content))] if trial % 5 == 0 else content)
        try:
            found = EmbeddingCache(folder, "m").get(names)
        except NexVarError:
            continue
        assert all(f is None or torch.equal(f, v) for f, v in zip(found, vectors, strict=True))


def test_an_older_cache_is_left_alone_and_named(tmp_path, capfd):
    with sqlite3.connect(tmp_path / "embeddings.sqlite") as database:
        database.execute("CREATE TABLE vectors (key BLOB, used INTEGER, bytes INTEGER, rows INTEGER, vector BLOB)")
    before = (tmp_path / "embeddings.sqlite").read_bytes()
    cache = EmbeddingCache(tmp_path, "m")
    cache.put(keys("x"), [torch.ones(8)])
    assert capfd.readouterr().err.count("older version") == 1
    EmbeddingCache(tmp_path, "m")
    assert capfd.readouterr().err == "" and (tmp_path / "embeddings.sqlite").read_bytes() == before


def test_a_pipe_in_its_place_is_refused(tmp_path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(NexVarError, match="not a regular file"):
        EmbeddingCache(tmp_path, "m")
