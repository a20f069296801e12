"""Premature stops: the published sequences, sums and means, formats of genes, resuming, controls."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.genes import essentiality as module
from nexvar.evals.genes import measures, table_run
from nexvar.evals.genes.codons import find_coding
from nexvar.evals.genes.essentiality import PAPER_STOPS, Choice, Protocol, essentiality, sequences
from nexvar.evals.genes.genes import Gene, read_labelled
from nexvar.genome.genetic_codes import genetic_code
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.inference.score import score_sequences
from nexvar.weights.load import load
from places import GOLDEN
from tiny import tiny_loaded
from toy_genes import INTRON, ToyGenes
from toy_genome import random_bases, write_fasta


@pytest.fixture
def toy(tmp_path):
    return ToyGenes(tmp_path)


def rows_of(path):
    return list(csv.DictReader(path.open(), delimiter="\t"))


def gene_of(g) -> Gene:
    return Gene(g.name, "chr1", g.strand, tuple(g.pieces))


def published(cds: str, stops: str = PAPER_STOPS, every: int = 12) -> str:
    return "".join(stops + cds[i : i + every] for i in range(0, len(cds), every))


def test_the_published_sequences(toy):
    fasta = Fasta(toy.fasta)
    for g in toy.genes:
        wild, mutant = sequences(fasta, gene_of(g), Protocol(context=50))
        inside = g.cds if len(g.pieces) == 1 else g.cds[:17] + INTRON + g.cds[17:]
        assert wild[50:-50] == inside and len(wild) == len(inside) + 100
        assert mutant[:50] == wild[:50] and mutant[-50:] == wild[-50:]
        assert mutant[50:-50].replace(INTRON, "", 1) == published(g.cds)
        assert wild in (toy.bases if g.strand == "+" else reverse_complement(toy.bases))


def test_ablations(toy):
    g = next(g for g in toy.genes if len(g.pieces) == 1)
    _, mutant = sequences(Fasta(toy.fasta), gene_of(g), Protocol("TAA", 6, 3, 10))
    assert mutant[10:-10] == published(g.cds, "TAATAATAA", 6)


def test_a_short_gene_and_the_end_of_a_contig(tmp_path):
    fasta = Fasta(write_fasta(tmp_path / "x.fa", chr1="CCATGTAAGG"))
    assert sequences(fasta, Gene("g", "chr1", "+", ((2, 8),)), Protocol()) == (
        "CCATGTAAGG", f"CC{PAPER_STOPS}ATGTAAGG"
    )  # fmt: skip


def test_scores_are_those_of_the_sequences(toy, tmp_path):
    loaded, fasta = tiny_loaded(), Fasta(toy.fasta)
    essentiality(loaded, toy.fasta, toy.table(), tmp_path / "out.tsv", protocol=Protocol(context=60))
    for row, g in zip(rows_of(tmp_path / "out.tsv"), toy.genes, strict=True):
        texts = sequences(fasta, gene_of(g), Protocol(context=60))
        for method in ("sum", "mean"):
            wild, mutant = score_sequences(loaded, texts, reduce_method=method)
            assert float(row[f"wild_{method}"]) == pytest.approx(wild, rel=1e-4)
            assert float(row[f"delta_{method}"]) == pytest.approx(mutant - wild, rel=1e-2, abs=2e-5)
        assert (row["gene"], int(row["cds"]), row["status"]) == (g.name, len(g.cds), "")


def test_every_format_of_genes_gives_the_same(toy, tmp_path):
    loaded, seen = tiny_loaded(), set()
    for i, annotation in enumerate((None, toy.gff3(), toy.bed())):
        labels = toy.table(f"labels{i}.tsv", places=annotation is None)
        essentiality(loaded, toy.fasta, labels, tmp_path / "out.tsv", annotation=annotation)
        seen.add((tmp_path / "out.tsv").read_text())
    assert len(seen) == 1


def test_a_run_that_was_stopped_goes_on(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(table_run, "PART", 2)
    whole, loaded = tmp_path / "whole.tsv", tiny_loaded()
    essentiality(loaded, toy.fasta, toy.table(), whole)
    all_tokens, loaded = loaded.module.tokens, tiny_loaded()

    def stop_behind_four(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "out.tsv"
    with pytest.raises(KeyboardInterrupt):
        essentiality(loaded, toy.fasta, toy.table(), out, progress=stop_behind_four)
    assert not out.exists() and 0 < loaded.module.tokens < all_tokens
    with pytest.raises(NexVarError, match="the same command goes on"):
        run("merge", out)
    with pytest.raises(NexVarError, match="changed: .*context"):
        essentiality(loaded, toy.fasta, toy.table(), out, protocol=Protocol(context=9))
    essentiality(loaded, toy.fasta, toy.table(), out)
    assert loaded.module.tokens == all_tokens and out.read_bytes() == whole.read_bytes()
    assert not out.with_name("out.tsv.parts").exists()


def test_what_has_no_score_says_why(toy, tmp_path):
    text = toy.table().read_text()
    bad = [
        ("chr9\t1\t10\t+\tfar\t\t0\t1-10", "not in the annotation, or in no contig of the FASTA"),
        ("chr1\t150\t160\t+\thalf\t\t1\t150-160", "CDS not a multiple of three"),
        ("chr1\t151\t160\t+\tnostart\t\t1\t151-160", "start codon missing"),
        ("chr1\t90000\t90009\t+\tbeyond\t\t1\t90000-90009", "outside of the FASTA"),
    ]
    labels = tmp_path / "bad.tsv"
    labels.write_text(text + "".join(f"{line}\n" for line, _ in bad))
    lines = essentiality(
        tiny_loaded(context=300), toy.fasta, labels, tmp_path / "out.tsv", protocol=Protocol(context=90)
    )
    rows = rows_of(tmp_path / "out.tsv")
    assert len(rows) == 10
    told = {row["gene"]: row["status"] for row in rows}
    for line, reason in bad:
        assert told[line.split("\t")[4]] == reason
        assert any(reason in said for said in lines)
    assert any(status == "longer than the context of tiny, 300" for status in told.values())
    assert all((row["delta_sum"] == "") == bool(row["status"]) for row in rows)
    assert "at least 10 are needed" in lines[-1]


def test_the_lot_is_drawn_of_each_class_and_of_short_genes(tmp_path):
    toy = ToyGenes(tmp_path, 24)
    essentiality(tiny_loaded(), toy.fasta, toy.table(), tmp_path / "out.tsv", choice=Choice(48, 3, 1))
    rows = rows_of(tmp_path / "out.tsv")
    assert sorted(row["essential"] for row in rows) == ["0"] * 3 + ["1"] * 3
    assert all(int(row["cds"]) <= 48 for row in rows)


def test_the_summary_ranks_by_minus_delta():
    rng = np.random.default_rng(0)
    rows = [{"gene": f"g{i}", "status": "", "essential": i % 2, "cds": 300 + i, "wild_mean": rng.normal(),
             "wild_sum": rng.normal(), "delta_sum": rng.normal() - i % 2, "delta_mean": -5.0 * (i % 2)}
            for i in range(60)]  # fmt: skip
    lines = module.summary(rows)
    assert lines[0] == "60 genes, 60 scored: 30 essential, 30 others"
    mean = next(line for line in lines if "mutant - wild type, mean" in line)
    assert "1.000 [1.000-1.000]" in mean and mean.split()[-3:] == ["1.000", "1.000", "1.000"]
    labels = np.array([row["essential"] for row in rows], dtype=bool)
    by_sum = measures.separation(labels, -np.array([row["delta_sum"] for row in rows]))
    assert f"{by_sum.auroc}" in next(line for line in lines if "mutant - wild type, sum" in line)
    assert 0.6 < by_sum.auroc.value < 1


def run(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


def test_the_command(toy, tmp_path, capsys):
    run("essentiality", "--fasta", toy.fasta, "--labels", toy.table(), "--gff3", toy.gff3(), "--context", 40,
        "--stops", "TAA", "--model", GOLDEN / "hyenadna_tiny", "-o", tmp_path / "x.tsv")  # fmt: skip
    assert len(rows_of(tmp_path / "x.tsv")) == 6
    assert "6 genes, 6 scored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words", "what"),
    [
        (lambda t: t.replace("\tessential\t", "\tmatters\t"), (), "no column or INFO key 'essential'"),
        (lambda t: t.replace("\t0\t", "\t1\t"), (), "no gene with essential 0"),
        (lambda t: t.replace("\t1\t", "\tyes\t"), (), "essential is 'yes'"),
        (lambda t: t.replace("gene\tlocus_tag", "a\tb"), (), "no column gene"),
        (lambda t: t.replace("strand", "side"), (), "no column strand, and no annotation"),
        (lambda t: t.replace("chr1", "chrX"), (), "none of its genes is there"),
        (lambda t: t.replace("\t+\t", "\tplus\t"), (), "strand plus"),
        (lambda t: t, ("--stops", "TAX"), "stops 'TAX'"),
        (lambda t: t, ("--code", 8), "no genetic code 8"),
        (lambda t: t, ("--every", 0), "every is 0"),
        (lambda t: t, ("-o", "x.csv"), "no format"),
    ],
)
def test_bad_input_is_one_line(toy, tmp_path, change, words, what):
    labels = toy.table()
    labels.write_text(change(labels.read_text()))
    with pytest.raises(NexVarError, match=what):
        run("essentiality", "--fasta", toy.fasta, "--labels", labels, "--model", GOLDEN / "hyenadna_tiny", "-o",
            tmp_path / "x.tsv", *words)  # fmt: skip
    assert not (tmp_path / "x.tsv").exists()


def test_an_annotation_without_coding_bases_and_a_masked_model(toy, tmp_path):
    gff = tmp_path / "none.gff3"
    gff.write_text("##gff-version 3\nchr1\t.\tgene\t1\t90\t.\t+\t.\tID=a\n")
    with pytest.raises(NexVarError, match="no CDS in the file"):
        essentiality(tiny_loaded(), toy.fasta, toy.table(), tmp_path / "x.tsv", annotation=gff)
    with pytest.raises(NexVarError, match="masked model"):
        essentiality(load(GOLDEN / "nt_v2_tiny", device="cpu"), toy.fasta, toy.table(), tmp_path / "x.tsv")


def test_labels_of_parquet_and_locus_tags_of_ncbi(toy, tmp_path):
    text = toy.gff3().read_text()
    for i, g in enumerate(toy.genes):
        text = text.replace(f"ID=gene:{g.name};Name={g.name}", f"ID=gene-x{i};Name={g.name};locus_tag=b{i}")
        text = text.replace(f"Parent=gene:{g.name}", f"Parent=gene-x{i}")
    gff = tmp_path / "ncbi.gff3"
    gff.write_text(text)
    fasta, code = Fasta(toy.fasta), genetic_code(11)
    expected = [(bool(g.essential), tuple(g.pieces)) for g in toy.genes]
    labels = [g.essential for g in toy.genes]
    tags = [f"b{i}" for i in range(len(labels))]
    for values in ([float(v) for v in labels], [bool(v) for v in labels], labels):
        # symbols that two genes share do not matter where there is a locus tag
        table = pa.table({"gene": ["g0", "g0", *tags[2:], "none"], "locus_tag": [*tags, "none"],
                          "essential": [*values, None]}, )  # fmt: skip
        pq.write_table(table, tmp_path / "x.parquet")
        found = read_labelled(tmp_path / "x.parquet", fasta, gff, code)
        assert [(each.label, each.gene and each.gene.cds) for each in found] == expected


def test_a_gene_that_is_there_twice(toy, tmp_path):
    fasta, code = Fasta(toy.fasta), genetic_code(11)
    lines = toy.table().read_text().splitlines()
    twice = tmp_path / "twice.tsv"
    twice.write_text("\n".join([*lines, lines[1]]) + "\n")
    found = read_labelled(twice, fasta, None, code)
    assert [each.status for each in found] == [""] * 6 + ["the same gene as in a row before"]
    twice.write_text("\n".join([*lines, lines[1].replace("\tg0\t", "\tother\t").replace("\t0\t", "\t1\t")]) + "\n")
    with pytest.raises(NexVarError, match="other, essential 1, is the same gene as g0 before, essential 0"):
        read_labelled(twice, fasta, None, code)


def test_a_gene_across_the_origin_says_so(tmp_path):
    fasta = Fasta(write_fasta(tmp_path / "ring.fa", chrM=random_bases(90, 3)))
    gff = tmp_path / "ring.gff3"
    gff.write_text("chrM\t.\tregion\t1\t90\t.\t+\t.\tID=r;Is_circular=true\nchrM\t.\tCDS\t82\t99\t.\t+\t0\tID=c;Name=over\n"
                   "chrM\t.\tCDS\t12\t29\t.\t+\t0\tID=d;Name=in\n")  # fmt: skip
    labels = tmp_path / "ring.tsv"
    labels.write_text("gene\tessential\nover\t1\nin\t0\n")
    found = read_labelled(labels, fasta, gff, genetic_code(2))
    assert found[0].status == "across the origin of a ring, which is read as a line"
    with pytest.raises(NexVarError, match="over lies across the origin of a ring"):
        find_coding(fasta, gff, "over", genetic_code(2))
