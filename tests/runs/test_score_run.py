"""A run that is interrupted or cut into shards: nothing lost, nothing doubled, the same bytes (see test_faults.py)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.ops import arithmetic
from nexvar.runs import plan
from nexvar.runs.job import one_source
from nexvar.runs.rows import score_variants
from nexvar.runs.score_run import merge
from nexvar.runs.writers import read_rows
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(4000, seed=7)
OPTIONS = Options(window=64)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 30 * 64)


@pytest.fixture
def files(tmp_path):
    vcf = write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 400)])
    return vcf, write_fasta(tmp_path / "ref.fa", chr1=GENOME)


def run(files, out, loaded=None, **options):
    given = {"model": loaded or tiny_loaded(), "options": OPTIONS, **options}
    return run_job(*files, out, **given)


class StopAfter:
    """A model that is interrupted in its n-th forward."""

    def __init__(self, n: int) -> None:
        self.loaded, self.left = tiny_loaded(), n
        forward = self.loaded.module.forward

        def counting(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return forward(*args, **kwargs)

        self.loaded.module.forward = counting


@pytest.mark.parametrize("stop", [0, 1, 5, 9])
def test_an_interrupted_run_resumes_to_the_same_bytes(files, tmp_path, stop):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    run(files, whole)
    with pytest.raises(KeyboardInterrupt):
        run(files, out, StopAfter(stop).loaded)
    assert not out.exists()
    kept = len(list(Path(f"{out}.parts").glob("part-*.parquet")))
    loaded = tiny_loaded()
    run(files, out, loaded)
    assert out.read_bytes() == whole.read_bytes()
    assert not Path(f"{out}.parts").exists()
    if kept:
        fresh = tiny_loaded()
        run(files, tmp_path / "again.parquet", fresh)
        assert loaded.module.tokens < fresh.module.tokens


@pytest.mark.parametrize("shards", [1, 3, 4])
def test_shards_in_any_order_merge_to_the_same_bytes(files, tmp_path, shards):
    whole, out = tmp_path / "whole.vcf.gz", tmp_path / "out.vcf.gz"
    run(files, whole)
    for i in random.Random(0).sample(range(1, shards + 1), shards):
        run(files, out, shard=(i, shards))
    summary = merge(out)
    assert summary.alleles == summary.scored == 900
    assert out.read_bytes() == whole.read_bytes()
    assert Path(f"{out}.tbi").exists()


def test_saturation_is_every_snv_of_a_region(files, tmp_path):
    out = tmp_path / "out.parquet"
    summary = run_job(None, files[1], out, model=tiny_loaded(), options=OPTIONS, saturate="1:1,001-1,020")
    assert summary.scored == 60
    rows = list(read_rows(out))
    assert [row.pos for row in rows[::3]] == list(range(1001, 1021))
    assert all(row.ref == GENOME[row.pos - 1] != row.alt for row in rows)
    (same,) = list(score_variants(tiny_loaded(), [f"chr1:{rows[7].pos}{rows[7].ref}>{rows[7].alt}"], files[1], OPTIONS))
    assert same.llr == pytest.approx(rows[7].llr, abs=1e-6)


@pytest.mark.parametrize("region", ["chr1:0-5", "chr1:20-10", "chr7:1-5", "nonsense", "chr1:1-99999"])
def test_bad_regions_are_one_line(files, tmp_path, region):
    with pytest.raises(NexVarError):
        run_job(None, files[1], tmp_path / "o.tsv", model=tiny_loaded(), options=OPTIONS, saturate=region)


def test_merge_says_what_is_missing(files, tmp_path):
    out = tmp_path / "out.tsv"
    lines = run(files, out, shard=(2, 3)).lines()
    assert len(lines) == 1 and lines[0].startswith("shard 2/3 is done; "), "no count of what the merge counts"
    with pytest.raises(NexVarError, match="part-000000.parquet"):
        merge(out)
    with pytest.raises(NexVarError, match="no unfinished run"):
        merge(tmp_path / "other.tsv")


def change_vcf(vcf, fasta):
    vcf.write_text(vcf.read_text().replace("\t.\t.\t.\n", "\t.\t.\tDP=1\n", 1))


def change_fasta(vcf, fasta):
    fasta.write_text(f">chr1\n{GENOME[:3000]}{GENOME[3000:][::-1]}\n")


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (change_vcf, {}, "variants"),
        (change_fasta, {}, "genome"),
        (None, {"options": Options(window=66)}, "options"),
        (None, {"loaded": tiny_loaded(seed=1)}, "model"),
    ],
)
def test_a_changed_input_refuses_to_resume(files, tmp_path, change, options, says):
    out = tmp_path / "out.vcf"
    run(files, out, shard=(1, 2))
    if change:
        change(*files)
    with pytest.raises(NexVarError, match=f"changed: {says}"):
        run(files, out, **options)


def test_another_arithmetic_is_said_and_refuses_to_resume(files, tmp_path, golden, monkeypatch):
    """A bfloat16 model on a CPU without bfloat16 units computes in float32: the header says it, a resume needs it."""
    given = {"model": golden / "hyenadna_tiny", "device": "cpu", "options": OPTIONS}
    said = {}
    for products in arithmetic.ARITHMETICS:
        monkeypatch.setenv(arithmetic.VARIABLE, products)
        arithmetic.cpu_products.cache_clear()
        for dtype in ("bfloat16", "float32"):
            out = tmp_path / f"{products}-{dtype}.vcf"
            run_job(*files, out, **given, dtype=dtype)
            said[products, dtype] = "(products in float32)" in out.read_text()
    assert {key for key, value in said.items() if value} == {("float32", "bfloat16")}
    out = tmp_path / "resumed.vcf"
    run_job(*files, out, **given, dtype="bfloat16", shard=(1, 2))
    monkeypatch.setenv(arithmetic.VARIABLE, "bfloat16")
    arithmetic.cpu_products.cache_clear()
    with pytest.raises(NexVarError, match=r"changed: dtype \(bfloat16 \(products in float32\) then, bfloat16 now\)"):
        run_job(*files, out, **given, dtype="bfloat16", shard=(2, 2))
    arithmetic.cpu_products.cache_clear()


def test_a_damaged_manifest_is_one_line(files, tmp_path):
    out = tmp_path / "out.vcf"
    run(files, out, shard=(1, 2))
    Path(f"{out}.parts/manifest.json").write_text("{")
    with pytest.raises(NexVarError, match="manifest is damaged"):
        run(files, out)


def test_standard_output_keeps_no_parts(files, tmp_path, capfdbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = run(files, "-")
    assert summary.scored == 900
    assert capfdbinary.readouterr().out.count(b"NEXVAR_LLR=") == 300
    assert not list(tmp_path.glob("*.parts"))


def test_variants_on_the_command_line_score_as_from_a_file(files, tmp_path):
    vcf, fasta = files
    run(files, tmp_path / "file.tsv")
    typed = [f"chr1:{pos}{GENOME[pos - 1]}>{alt}" for pos in (101, 102) for alt in "ACGT".replace(GENOME[pos - 1], "")]
    run((typed, fasta), tmp_path / "typed.tsv")
    scores = [[line.split("\t")[:15] for line in (tmp_path / name).read_text().splitlines() if line[0] != "#"]
              for name in ("file.tsv", "typed.tsv")]  # fmt: skip
    assert scores[1] == scores[0][: len(typed)]


@pytest.mark.parametrize(("vcf", "variants", "says"), [(None, None, "no variants"), (Path("x"), ["a"], "twice")])
def test_variants_come_from_one_place(vcf, variants, says):
    with pytest.raises(NexVarError, match=says):
        one_source(vcf, variants)
