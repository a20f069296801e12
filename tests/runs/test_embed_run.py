"""nexvar embed: rows, formats, resuming, shards, the command, bad input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.inference.embed import embed
from nexvar.runs import embed_run, parts
from nexvar.runs.embed_run import embed_file, merge
from nexvar.runs.job import EmbedJob, EmbedOptions, SequenceFiles
from nexvar.weights.load import load
from places import GOLDEN
from tiny import tiny_loaded
from toy_genome import random_bases

LOADED = tiny_loaded()
RECORDS = {f"read{i}": random_bases(20 + 7 * i, seed=i) for i in range(10)}


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "in.fa"
    path.write_text("".join(f">{name} some text\n{text}\n" for name, text in RECORDS.items()))
    return path


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(embed_run, "PART_SEQUENCES", 3)


def run(output, fasta, **options):
    chosen = {name: options.pop(name) for name in ("layer", "pool", "strand", "batch_tokens") if name in options}
    inputs = SequenceFiles(fasta, options.pop("bed", None))
    job = EmbedJob(inputs, output, **{"model": LOADED, **options}, options=EmbedOptions(**chosen))
    return embed_file(job)


def test_rows_are_the_records_in_order_with_their_embeddings(fasta, tmp_path, small_parts):
    summary = run(tmp_path / "out.parquet", fasta, pool="max", strand="both")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["name", "chrom", "start", "end", "gru"]
    assert table["name"].to_pylist() == list(RECORDS)
    assert table["end"].to_pylist() == [len(text) for text in RECORDS.values()]
    expected = embed(LOADED, list(RECORDS.values()), pool="max", strand="both")
    torch.testing.assert_close(torch.tensor(table["gru"].to_pylist()), expected, atol=1e-6, rtol=1e-5)
    assert table.schema.metadata[b"nexvar_model"] == b"tiny"
    assert summary.lines()[0] == "10 sequences embedded: gru"
    assert not (tmp_path / "out.parquet.parts").exists()


def test_regions_of_a_bed_keep_names_places_and_order(tmp_path, fasta):
    bed = tmp_path / "regions.bed"
    bed.write_text("#comment\nread9\t10\t30\tpromoter\nread2\t0\t34\nread9\t10\t30\tagain\t0\t-\n")
    run(tmp_path / "out.npz", fasta, bed=bed)
    table = np.load(tmp_path / "out.npz")
    assert table["name"].tolist() == ["promoter", "read2:0-34", "again"]
    assert table["chrom"].tolist() == ["read9", "read2", "read9"]
    assert table["start"].tolist() == [10, 0, 10]
    expected = embed(LOADED, [RECORDS["read9"][10:30], RECORDS["read2"]])
    np.testing.assert_allclose(table["gru"], expected[[0, 1, 0]].numpy(), atol=1e-6)


def test_a_row_for_each_token_says_where_it_is(tmp_path, fasta):
    loaded = load(GOLDEN / "nt_v2_tiny", device="cpu", dtype="float32")
    bed = tmp_path / "regions.bed"
    bed.write_text("read9\t10\t33\tx\n")
    run(tmp_path / "out.parquet", fasta, bed=bed, model=loaded, pool="none", layer=["embeddings_1", "embeddings_2"])
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    places = list(zip(table["token_start"], table["token_end"], strict=True))
    assert places[:4] == [(10, 16), (16, 22), (22, 28), (28, 29)]
    expected = embed(loaded, [RECORDS["read9"][10:33]], layer="embeddings_2", pool="none")[0]
    np.testing.assert_allclose(table["embeddings_2"], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_anndata(tmp_path, fasta, ending):
    anndata = pytest.importorskip("anndata", reason="pip install 'nexvar[embed]'")
    loaded = load(GOLDEN / "nt_v2_tiny", device="cpu", dtype="float32")
    layers = ["embeddings_1", "embeddings_3"]
    run(tmp_path / f"out{ending}", fasta, model=loaded, layer=layers)
    data = (anndata.read_h5ad if ending == ".h5ad" else anndata.read_zarr)(tmp_path / f"out{ending}")
    assert data.obs["name"].tolist() == list(RECORDS)
    expected = embed(loaded, list(RECORDS.values()), layer=layers)
    np.testing.assert_allclose(data.X, expected["embeddings_1"].numpy(), atol=1e-6)
    np.testing.assert_allclose(data.obsm["embeddings_3"], expected["embeddings_3"].numpy(), atol=1e-6)
    assert data.uns["nexvar"]["pool"] == "mean"


def test_a_stopped_run_resumes_to_the_same_bytes_and_computes_the_rest_only(tmp_path, fasta, small_parts, monkeypatch):
    run(tmp_path / "whole.parquet", fasta)
    calls, compute = [], embed_run.compute_part

    def stops(loaded, genome, regions, how, batch_tokens):
        calls.append(regions[0].name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(loaded, genome, regions, how, batch_tokens)

    monkeypatch.setattr(embed_run, "compute_part", stops)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out.parquet", fasta)
    assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(NexVarError, match="max|pool"):
        run(tmp_path / "out.parquet", fasta, pool="max")
    run(tmp_path / "out.parquet", fasta)
    assert calls == ["read0", "read3", "read6", "read6", "read9"]
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_shards_and_their_merge_give_the_same_bytes(tmp_path, fasta, small_parts):
    run(tmp_path / "whole.parquet", fasta)
    out = tmp_path / "out.parquet"
    assert "merge" in run(out, fasta, shard=(1, 2)).lines()[0]
    with pytest.raises(NexVarError, match="missing"):
        merge(out)
    run(out, fasta, shard=(2, 2))
    assert parts.unfinished_kind(out) == embed_run.KIND
    merge(out, [out, tmp_path / "also.npz"])
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert np.load(tmp_path / "also.npz")["gru"].shape == (10, 16)


def test_iupac_codes_become_n_and_are_counted(tmp_path):
    (tmp_path / "in.fa").write_text(">a\nACGTRYACGT\n")
    summary = run(tmp_path / "out.npz", tmp_path / "in.fa")
    assert "2 IUPAC codes were read as N" in summary.lines()
    expected = embed(LOADED, ["ACGTNNACGT"]).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["gru"], expected, atol=1e-6)


def test_the_command(tmp_path, fasta):
    program = [sys.executable, "-c", "from nexvar.cli import main; main()"]
    command = [*program, "embed", "--fasta", str(fasta), "-o", str(tmp_path / "out.npz")]
    done = subprocess.run([*command, "--layer", "norm", "--pool", "last"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out.npz")["norm"].shape[0] == 10
    assert "mitochondria only" in done.stderr
    wrong = subprocess.run([*command, "--layer", "norn"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "'norn'" in wrong.stderr
    assert "norm" in wrong.stderr


@pytest.mark.parametrize(
    ("bed", "output", "says"),
    [
        ("read1\t5\t3\n", "o.npz", "empty"),
        ("chr9\t5\t8\n", "o.npz", "chr9"),
        ("\n", "o.npz", "no regions"),
        ("read1\t0\t5\n", "o.csv", ".parquet"),
        ("read1\t0\t5\n", "no/o.npz", "mkdir"),
        ("read1\t0\t5\n", "-", "ending"),
    ],
)
def test_bad_input_is_one_line(tmp_path, fasta, bed, output, says):
    (tmp_path / "r.bed").write_text(bed)
    with pytest.raises(NexVarError) as error:
        run(tmp_path / output if output != "-" else output, fasta, bed=tmp_path / "r.bed")
    assert says in str(error.value)


def test_too_long_for_the_context(tmp_path, fasta):
    with pytest.raises(NexVarError, match="read9: 83 bases exceed the context of tiny, 30"):
        run(tmp_path / "o.npz", fasta, model=tiny_loaded(context=30))
