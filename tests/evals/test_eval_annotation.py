"""``nexvar eval annotation``: what is true of a GFF3, perfect and useless probabilities, segment overlap, bad input."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.evals import annotation
from nexvar.evals.metrics import auprc
from nexvar.genome.bigwig import write_bigwig
from toy_genome import random_bases, write_fasta

# two transcripts of a coding gene on +, one of a lncRNA on -; 1-based
GFF3 = """##gff-version 3
chr1	x	gene	101	400	.	+	.	ID=g1;gene_type=protein_coding
chr1	x	transcript	101	400	.	+	.	ID=t1;Parent=g1;transcript_type=protein_coding
chr1	x	exon	101	150	.	+	.	Parent=t1
chr1	x	exon	201	250	.	+	.	Parent=t1
chr1	x	exon	301	400	.	+	.	Parent=t1
chr1	x	CDS	121	150	.	+	0	Parent=t1
chr1	x	CDS	201	250	.	+	0	Parent=t1
chr1	x	CDS	301	320	.	+	1	Parent=t1
chr1	x	transcript	101	250	.	+	.	ID=t2;Parent=g1;transcript_type=protein_coding
chr1	x	exon	101	160	.	+	.	Parent=t2
chr1	x	exon	201	250	.	+	.	Parent=t2
chr1	x	gene	501	700	.	-	.	ID=g2;gene_type=lncRNA
chr1	x	transcript	501	700	.	-	.	ID=t3;Parent=g2;transcript_type=lncRNA
chr1	x	exon	501	550	.	-	.	Parent=t3
chr1	x	exon	651	700	.	-	.	Parent=t3
"""
TRUE = {  # 0-based half-open, by hand
    "protein_coding_gene": [(100, 400)],
    "lncRNA": [(500, 700)],
    "exon": [(100, 160), (200, 250), (300, 400), (500, 550), (650, 700)],
    "intron": [(150, 200), (250, 300), (550, 650)],
    "splice_donor": [(150, 152), (160, 162), (250, 252), (648, 650)],
    "splice_acceptor": [(198, 200), (298, 300), (550, 552)],
    "5UTR": [(100, 120)],
    "3UTR": [(320, 400)],
}
LENGTH = 800


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.gff3").write_text(GFF3)
    return tmp_path / "a.gff3", write_fasta(tmp_path / "ref.fa", chr1=random_bases(LENGTH))


def track(spans, high=0.9, low=0.1) -> np.ndarray:
    values = np.full(LENGTH, low, dtype=np.float32)
    for start, end in spans:
        values[start:end] = high
    return values


def write(path, columns, chrom="chr1", keep=slice(None)):
    pos = np.arange(LENGTH)[keep]
    table = {"chrom": [chrom] * len(pos), "pos": pos, **{name: v[keep] for name, v in columns.items()}}
    pq.write_table(pa.table(table), path)
    return path


def test_what_is_true_is_found_with_a_score_of_one(files, tmp_path):
    path = write(
        tmp_path / "p.parquet", {**{name: track(spans) for name, spans in TRUE.items()}, "enhancer": track([])}
    )
    *rows, last = annotation.run(path, *files)
    for row in rows:
        inside = sum(end - start for start, end in TRUE[row.element])
        assert (row.bases, row.inside) == (LENGTH, inside)
        if inside < annotation.FEW:
            assert row.note
        else:
            assert (row.mcc, row.auprc, row.overlap) == (1.0, 1.0, 1.0), row
    assert (last.element, last.note) == ("enhancer", "the annotation does not tell it")
    assert len({line.index("MCC") for line in annotation.table(rows)[:1]}) == 1
    annotation.write(rows, tmp_path / "out")
    assert (
        (tmp_path / "out" / "metrics.tsv").read_text().splitlines()[3].startswith("exon\t800\t310\t1.000000\t1.000000")
    )


def test_bigwigs_beside_each_other_are_read_as_one(files, tmp_path):
    values = np.random.default_rng(1).random(LENGTH).astype(np.float32)
    path = write(tmp_path / "p.parquet", {"exon": values, "intron": values}, keep=slice(100, 700))
    for name in ("exon", "intron"):
        records = (("chr1", i, i + 1, float(values[i])) for i in range(100, 700))
        write_bigwig(tmp_path / f"p.{name}.bw", tmp_path / "x", {"chr1": LENGTH}, records)
    assert annotation.run(tmp_path / "p.bw", *files) == annotation.run(path, *files)


def test_only_bases_with_a_probability_count_and_auprc_is_that_of_all_of_them(files, tmp_path):
    values = np.round(np.random.default_rng(2).random(LENGTH), 4).astype(np.float32)
    path = write(tmp_path / "p.parquet", {"exon": values}, keep=slice(120, 500))
    (row,) = annotation.run(path, *files, threshold=0.3)
    labels = track(TRUE["exon"], 1, 0)[120:500]
    assert (row.bases, row.inside) == (380, int(labels.sum()))
    assert row.auprc == pytest.approx(auprc(labels, values[120:500]), abs=1e-9)
    called = values[120:500] >= 0.3
    assert row.mcc == pytest.approx(np.corrcoef(labels, called)[0, 1], abs=1e-9)


def test_segment_overlap_by_hand():
    """One true segment of 10, called as [2, 8) and [9, 12): (6 + 3) / 10 and (1 + 1) / 12, each of weight 10."""
    found = annotation.sov([([(0, 10)], [(2, 8), (9, 12)])])
    assert found == pytest.approx((10 * 9 / 10 + 10 * 2 / 12) / 20)
    assert annotation.sov([([(0, 10), (20, 30)], [(0, 10)])]) == 0.5
    assert annotation.sov([([(0, 10)], [])]) == 0.0
    assert np.isnan(annotation.sov([([], [(0, 5)])]))


spans = st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True).map(
    lambda edges: list(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)


@given(spans, spans)
def test_segment_overlap_is_one_for_the_truth_and_never_more(true, called):
    assert 0 <= annotation.sov([(true, called)]) <= 1
    assert annotation.sov([(true, true)]) == 1


def test_bad_input_is_one_line(files, tmp_path):
    gff3, fasta = files
    path = write(tmp_path / "p.parquet", {"exon": track(TRUE["exon"])})
    bare = tmp_path / "bare.gff3"
    bare.write_text("".join(line for line in GFF3.splitlines(True) if "\texon\t" not in line))
    other = write_fasta(tmp_path / "other.fa", chrX=random_bases(50))
    short = write_fasta(tmp_path / "short.fa", chr1=random_bases(720))
    foreign = write(tmp_path / "f.parquet", {"exon": track([])}, chrom="chr9")
    (tmp_path / "no.parquet").write_text("no")
    cases = [
        ((path, bare, fasta, {}), "no exon in it"),
        ((path, gff3, other, {}), "none of its contigs"),
        ((path, gff3, short, {}), "does not have"),
        ((foreign, gff3, fasta, {}), "chr9:800, which ref.fa does not have"),
        ((path, gff3, fasta, {"threshold": 2}), "--threshold"),
        ((tmp_path / "no.parquet", gff3, fasta, {}), "cannot be read"),
        ((tmp_path / "p.tsv", gff3, fasta, {}), "no format for the ending"),
        ((tmp_path / "q.bw", gff3, fasta, {}), "no q.ELEMENT.bw beside it"),
    ]
    for (probabilities, truth, genome, options), said in cases:
        with pytest.raises(NexVarError, match=said) as error:
            annotation.run(probabilities, truth, genome, **options)
        assert "\n" not in str(error.value)


def write_track(path, values, **lengths):
    rows = ((contig, i, i + 1, v) for contig in lengths for i, v in enumerate(values[: lengths[contig]]))
    write_bigwig(path, path, lengths, rows)


def test_bigwigs_that_do_not_belong_together(files, tmp_path):
    pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")
    gff3, fasta = files
    write_track(tmp_path / "x[1].exon.bw", [0.5] * LENGTH, chr1=LENGTH)
    (row,) = annotation.run(tmp_path / "x[1].bw", gff3, fasta)
    assert (row.element, row.bases) == ("exon", LENGTH)
    write_track(tmp_path / "x[1].rna.bw", [0.5] * 9, chr2=9)
    with pytest.raises(NexVarError, match=r"x\[1\]\.rna\.bw: its contigs are not those of x\[1\]\.exon\.bw"):
        annotation.run(tmp_path / "x[1].bw", gff3, fasta)


@pytest.mark.parametrize("value", [5.0, -1.0, float("nan")])
def test_values_that_are_no_probabilities(files, tmp_path, value):
    gff3, fasta = files
    rows = {"chrom": ["chr1"] * 3, "pos": [7, 8, 9], "exon": pa.array([0.5, 0.5, value], pa.float32())}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    with pytest.raises(NexVarError, match="a value at chr1:10 is no probability"):
        annotation.run(tmp_path / "x.parquet", gff3, fasta)


@pytest.mark.parametrize("name", ["chrom", "pos"])
def test_columns_of_places_that_are_none(files, tmp_path, name):
    gff3, fasta = files
    rows = {"chrom": ["chr1"], "pos": [7], "exon": pa.array([0.5], pa.float32()), name: [0.5]}
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    with pytest.raises(NexVarError, match="its columns are not chrom, pos and elements"):
        annotation.run(tmp_path / "x.parquet", gff3, fasta)
