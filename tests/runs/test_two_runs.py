"""Two runs on one output, parts and manifests that somebody touched: one line that says who and what, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs import embed_run, plan
from nexvar.runs.job import EmbedJob, SequenceFiles
from nexvar.runs.lock import locked
from nexvar.runs.score_run import merge
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(600, seed=4)
COMMAND = "nexvar score --vcf in.vcf -o out.vcf"


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_TOKENS", 8 * 64)
    vcf = write_vcf(tmp_path / "in.vcf", [vcf_line(GENOME, pos) for pos in range(100, 120)])
    return vcf, write_fasta(tmp_path / "ref.fa", chr1=GENOME)


def run(files, out, **named):
    return run_job(*files, out, model=tiny_loaded(), options=Options(window=64), command=COMMAND, **named)


def embed(files, out, **named):
    return embed_run.embed_file(EmbedJob(SequenceFiles(files[1]), out, model=tiny_loaded(), **named))


def parts_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(f"{out}.parts").glob("part-*.parquet"))}


# -- who is there


@pytest.mark.parametrize("kind", ["score", "embed"])
def test_the_loser_says_which_run_has_it_and_loses_nothing(kind, files, tmp_path):
    out = tmp_path / ("out.vcf" if kind == "score" else "out.npz")
    job = run if kind == "score" else embed
    job(files, out, shard=(1, 2) if kind == "score" else (1, 1))
    kept = parts_of(out)
    with locked(Path(f"{out}.parts")):
        for attempt in (lambda: job(files, out), lambda: job(files, out, shard=(2, 2)), lambda: merge(out)):
            with pytest.raises(NexVarError, match=f"process {os.getpid()} on {socket.gethostname()}, since 20") as lost:
                attempt()
            assert "kept" in str(lost.value) and "\n" not in str(lost.value)
    assert kept and kept == {name: data for name, data in parts_of(out).items() if name in kept}
    job(files, out)
    assert out.exists() and not Path(f"{out}.parts").exists()


def test_shards_work_side_by_side_but_not_twice_the_same(tmp_path):
    folder = tmp_path / "out.parts"
    with locked(folder, (1, 3)), locked(folder, (2, 3)):
        with (
            pytest.raises(NexVarError, match="another run is at work on it: shard 1/3, process"),
            locked(folder, (1, 3)),
        ):
            pass
        with pytest.raises(NexVarError, match="another run is at work on it: shard 1/3, process"), locked(folder):
            pass
    with locked(folder):
        pass


def test_a_killed_run_is_in_nobodys_way(files, tmp_path):
    out = tmp_path / "out.vcf"
    code = ("import os, sys; from pathlib import Path; from nexvar.runs.lock import locked\n"
            "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()")  # fmt: skip
    holder = subprocess.Popen(
        [sys.executable, "-c", code, f"{out}.parts"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(NexVarError, match=f"process {holder.pid} on"):
        run(files, out)
    holder.kill()
    holder.wait()
    assert run(files, out).scored == 60


def test_a_merge_that_comes_late_says_that_nothing_is_there(files, tmp_path):
    with pytest.raises(NexVarError, match="no unfinished run is here"):
        merge(tmp_path / "out.vcf")
    assert not (tmp_path / "out.vcf.parts").exists()


# -- damaged parts


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES = {
    "one bit": flipped,
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-20]),
    "junk": lambda p: p.write_bytes(b"PAR1 junk PAR1"),
    "empty": lambda p: p.write_bytes(b""),
    "another part": lambda p: shutil.copy(p.with_name("part-000001.parquet"), p),
    "no digest": lambda p: p.with_suffix(".sha256").unlink(),
    "folder": as_folder,
    "link": as_link,
}


@pytest.mark.parametrize("kind", ["score", "embed"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_part_is_named_and_the_next_run_mends_it(kind, how, files, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_run, "PART_SEQUENCES", 1)
    if kind == "embed":
        write_fasta(tmp_path / "ref.fa", a=GENOME[:50], b=GENOME[50:90], c=GENOME[90:200])
    job, names = (run, ("whole.vcf", "out.vcf")) if kind == "score" else (embed, ("whole.parquet", "out.parquet"))
    whole, out = (tmp_path / name for name in names)
    job(files, whole)
    job(files, out, shard=(1, 1))
    part = Path(f"{out}.parts/part-000000.parquet")
    DAMAGES[how](part)
    kept = {name: data for name, data in ((p.name, p.stat().st_mtime_ns) for p in part.parent.glob("part-*1.parquet"))}
    with pytest.raises(NexVarError, match="part-000000.parquet: the part is damaged.*computes it again") as found:
        (merge if kind == "score" else embed_run.merge)(out)
    assert kind == "embed" or COMMAND in str(found.value)
    assert not out.exists()
    job(files, out, shard=(1, 1))
    assert kept == {p.name: p.stat().st_mtime_ns for p in part.parent.glob("part-*1.parquet")}
    (merge if kind == "score" else embed_run.merge)(out)
    assert out.read_bytes() == whole.read_bytes()


# -- manifests


TAMPERED = [
    {"inputs": {}}, {"inputs": {"fasta": 5}}, {"inputs": {"fasta": None, "variants": "x"}}, {"provenance": {}},
    {"provenance": {"model": "x"}}, {"provenance": None}, {"parts": 10**9}, {"parts": -1}, {"parts": True},
    {"parts": "3"}, {"options": []}, {"options": {"readout": 5}}, {"options": {"readout": {"batch_tokens": -5}}},
    {"variants": "0"}, {"inputs": []}, {"parts": 10**5}, {"nexvar": {}},
]  # fmt: skip


@pytest.mark.parametrize("change", TAMPERED, ids=str)
def test_a_manifest_that_somebody_touched_is_one_line(change, files, tmp_path):
    out = tmp_path / "out.vcf"
    run(files, out, shard=(1, 2))
    path = Path(f"{out}.parts/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    for attempt in (lambda: merge(out), lambda: embed_run.merge(out), lambda: run(files, out)):
        with pytest.raises(NexVarError) as found:
            attempt()
            raise NexVarError("what does not matter passes")
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["score", "embed"])
def test_any_change_of_a_manifest_or_a_part_is_one_line_or_nothing(kind, files, tmp_path):
    out = tmp_path / ("out.vcf" if kind == "score" else "out.parquet")
    (run if kind == "score" else embed)(files, out, shard=(1, 1))
    folder, saved, rng = Path(f"{out}.parts"), tmp_path / "saved", random.Random(6)
    folder.rename(saved)
    for _ in range(150):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(saved, folder)
        path = folder / rng.choice(["manifest.json"] * 3 + ["part-000000.parquet", "part-000000.sha256"])
        data = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice(
                [b"", b"9", b"\xff", b'"', b"null", b"{", bytes([rng.randrange(256)])]
            )
        path.write_bytes(data)
        try:
            (merge if kind == "score" else embed_run.merge)(out)
        except NexVarError as error:
            assert "\n" not in str(error)
        out.unlink(missing_ok=True)


def test_a_full_disk_takes_no_lock_away_and_a_place_that_cannot_be_locked_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with (
            locked(tmp_path / "x.parts"),
            pytest.raises(NexVarError, match="another run"),
            locked(tmp_path / "x.parts"),
        ):
            pass
    (tmp_path / "y.parts" / "run.lock").mkdir(parents=True)
    with pytest.raises(NexVarError, match=r"y\.parts: cannot keep parts here"), locked(tmp_path / "y.parts"):
        pass
