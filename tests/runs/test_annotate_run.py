"""nexvar annotate: files against the verb in Python, formats, resuming, shards, slices, bad input."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.runs import annotate_run
from nexvar.runs.annotate_run import annotate_file, merge
from nexvar.runs.job import AnnotateJob, AnnotateOptions, SequenceFiles, Stopped
from places import GOLDEN
from tiny import tiny_loaded
from toy_genome import random_bases, write_fasta

pybigtools = pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")
GENOME = {
    "chr2": random_bases(260, seed=1),
    "chr10": random_bases(50, seed=2) + "N" * 7 + random_bases(60, seed=4),
    "tiny": "ACGT",
}
OPTIONS = {"window": 96, "overlap": 24}


@pytest.fixture(scope="module")
def model() -> NexVar:
    return NexVar(GOLDEN / "segment_nt_tiny", device="cpu", dtype="float32")


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "in.fa", **GENOME)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(annotate_run, "PART_BASES", 60)


def run(model, output, fasta, bed=None, shard=None, stop=None, **options):
    options = AnnotateOptions(**{**OPTIONS, **options})
    job = AnnotateJob(SequenceFiles(fasta, bed), output, model.loaded, shard, stop=stop, options=options)
    return annotate_file(job)


def test_a_row_for_each_base_that_has_a_value(model, fasta, tmp_path, small_parts):
    summary = run(model, tmp_path / "out.parquet", fasta)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["chrom", "pos", *model.model.elements]
    assert not (tmp_path / "out.parquet.parts").exists()
    for contig in ("chr2", "chr10"):
        (expected,) = model.annotate([GENOME[contig]], **OPTIONS)
        rows = table.filter([name == contig for name in table["chrom"].to_pylist()])
        known = ~np.isnan(expected.probs_LE).any(1)
        assert rows["pos"].to_pylist() == np.flatnonzero(known).tolist()
        given = np.stack([rows[name].to_numpy() for name in model.model.elements], 1)
        np.testing.assert_allclose(given, expected.probs_LE[known], atol=1e-5)
    assert "tiny" not in table["chrom"].to_pylist()
    assert summary.lines()[1] == (
        "11 bases have no value: Ns, too few bases between two of them, or a contig's ends, of which the model tells "
        "nothing"
    )


def test_a_bigwig_for_each_element_and_segments(model, fasta, tmp_path, small_parts):
    outputs = [tmp_path / "out.bw", tmp_path / "out.bed", tmp_path / "out.gff3", tmp_path / "only.exon.bw"]
    outputs.append(tmp_path / "to" / "{element}.bw")
    (tmp_path / "to").mkdir()
    run(model, outputs, fasta, threshold=0.6, gap=2, min_length=3)
    names = {path.name for path in tmp_path.glob("*.bw")}
    assert names == {f"out.{name}.bw" for name in model.model.elements} | {"only.exon.bw"}
    (expected,) = model.annotate([GENOME["chr2"]], **OPTIONS)
    for name in ("exon", "CTCF-bound"):
        values = pybigtools.open(str(tmp_path / f"out.{name}.bw")).values("chr2", 0, 260, fillna=None)
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
    assert {path.stem for path in (tmp_path / "to").iterdir()} == set(model.model.elements)
    assert (tmp_path / "only.exon.bw").read_bytes() == (tmp_path / "out.exon.bw").read_bytes()
    segments = expected.segments(0.6, gap=2, min_length=3)
    bed = [line.split("\t") for line in outputs[1].read_text().splitlines()]
    rows = {(int(r[1]), int(r[2]), r[3], int(r[4])) for r in bed if r[0] == "chr2"}
    assert rows == {(s.start, s.end, s.element, round(1000 * s.mean)) for s in segments}
    assert [(r[0], int(r[1])) for r in bed] == sorted(
        ((r[0], int(r[1])) for r in bed), key=lambda p: (p[0] != "chr2", p[1])
    )
    gff3 = [line.split("\t") for line in outputs[2].read_text().splitlines() if not line.startswith("#")]
    assert len(gff3) == len(bed)
    assert outputs[2].read_text().startswith("##gff-version 3\n")
    for r, b in zip(gff3, bed, strict=True):
        assert (r[0], int(r[3]) - 1, int(r[4])) == (b[0], int(b[1]), int(b[2]))
        assert f"element={b[3]};" in r[8]
        assert r[2] == annotate_run.SEQUENCE_ONTOLOGY[b[3]]


def test_shards_and_a_stopped_run_give_the_same_file(model, fasta, tmp_path, small_parts):
    run(model, tmp_path / "whole.bed", fasta)
    for i in (1, 2):
        run(model, tmp_path / "out.bed", fasta, shard=(i, 2))
    merge(tmp_path / "out.bed")
    assert (tmp_path / "out.bed").read_bytes() == (tmp_path / "whole.bed").read_bytes()
    asked = iter([False] * 3 + [True] * 9)
    with pytest.raises(Stopped):
        run(model, tmp_path / "again.bed", fasta, stop=lambda: next(asked))
    with pytest.raises(NexVarError, match="threshold"):
        run(model, tmp_path / "again.bed", fasta, threshold=0.9)
    run(model, tmp_path / "again.bed", fasta)
    assert (tmp_path / "again.bed").read_bytes() == (tmp_path / "whole.bed").read_bytes()


def test_a_base_has_one_value_whatever_is_asked_for(model, fasta, tmp_path):
    run(model, tmp_path / "all.parquet", fasta)
    run(model, tmp_path / "region.parquet", fasta, region="chr2:101-150")
    (tmp_path / "in.bed").write_text("chr2\t100\t130\nchr2\t120\t150\n")
    run(model, tmp_path / "bed.parquet", fasta, bed=tmp_path / "in.bed")
    whole = pq.read_table(tmp_path / "all.parquet").to_pandas()
    expected = whole[(whole.chrom == "chr2") & (whole.pos >= 100) & (whole.pos < 150)].reset_index(drop=True)
    for name in ("region", "bed"):
        given = pq.read_table(tmp_path / f"{name}.parquet").to_pandas()
        assert given[["chrom", "pos"]].equals(expected[["chrom", "pos"]])
        np.testing.assert_allclose(given[model.model.elements[0]], expected[model.model.elements[0]], atol=1e-5)


def test_a_slice_has_the_chromosomes_coordinates(model, tmp_path):
    fasta = write_fasta(tmp_path / "in.fa", **{"chr5:1001-1120": random_bases(120)})
    run(model, tmp_path / "out.parquet", fasta)
    table = pq.read_table(tmp_path / "out.parquet")
    assert set(table["chrom"].to_pylist()) == {"chr5"}
    assert table["pos"].to_pylist() == list(range(1000, 1120))


def test_a_circular_contig_wraps_around(model, tmp_path):
    bases = random_bases(240, seed=8)
    run(model, tmp_path / "a.parquet", write_fasta(tmp_path / "a.fa", ring=bases), circular=("ring",))
    rows = pq.read_table(tmp_path / "a.parquet")["exon"].to_numpy()
    (line,) = model.annotate([bases[-24:] + bases[:72]], window=96)
    np.testing.assert_allclose(rows[:48], line["exon"][24:72], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output": "out.txt"}, "use .bw, .bed, .gff3, .parquet"),
        ({"threshold": 1.5}, "--threshold"),
        ({"window": 100}, "a multiple of 24"),
        ({"strand": "left"}, "no strand 'left'"),
        ({"species": "human"}, "takes no species"),
        ({"region": "chr3:1-50"}, "chr3"),
        ({"region": "tiny"}, "no 24 bases in a row without N"),
        ({"min_length": 0}, "--min-length"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(model, fasta, tmp_path, options, said):
    output = tmp_path / options.pop("output", "out.bed")
    before = set(tmp_path.iterdir())
    with pytest.raises(NexVarError, match=said) as error:
        run(model, output, fasta, **options)
    assert "\n" not in str(error.value)
    assert {p for p in tmp_path.iterdir() if p.suffix != ".fai"} == before


def test_a_model_without_elements_is_one_line(fasta, tmp_path):
    job = AnnotateJob(SequenceFiles(fasta), tmp_path / "out.bed", tiny_loaded())
    with pytest.raises(NexVarError, match="no element head"):
        annotate_file(job)
