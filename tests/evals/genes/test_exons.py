"""Exons from embeddings on either side: what is read, what is held out, controls, Evo 2's table of positions."""

from __future__ import annotations

import csv
import random
import re

import numpy as np
import pytest

from nexvar.cli.commands import UsageError, app
from nexvar.errors import NexVarError
from nexvar.evals.genes import positions
from nexvar.evals.genes.exons import probe_exons
from nexvar.genome.annotation import read_annotation
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.weights.load import load
from places import GOLDEN
from toy_genome import random_bases, write_fasta


@pytest.fixture(scope="module")
def model():
    return load(GOLDEN / "hyenadna_tiny", device="cpu")


@pytest.fixture
def rich(tmp_path):
    """(FASTA, GFF3) of twelve genes of two exons each; exons are rich in G and C."""
    rng = random.Random(0)
    at, bases, lines = 300, random_bases(300, 1).replace("G", "A").replace("C", "T"), ["##gff-version 3\n"]
    for i in range(12):
        strand = "+-"[i % 2]
        lines.append(f"c\t.\tmRNA\t{at + 1}\t{at + 200}\t.\t{strand}\t.\tID=t{i}\n")
        for a, b in ((0, 60), (140, 200)):
            lines.append(f"c\t.\texon\t{at + a + 1}\t{at + b}\t.\t{strand}\t.\tParent=t{i}\n")
        for length, letters in ((60, "GCGCA"), (80, "ATATC"), (60, "GCGCT"), (100, "ATATG")):
            bases += "".join(rng.choices(letters, k=length))
        at += 300
    bases += "AT" * 150
    (tmp_path / "g.gff3").write_text("".join(lines))
    return write_fasta(tmp_path / "g.fa", c=bases), tmp_path / "g.gff3"


def test_a_position_is_read_from_both_sides(rich):
    fasta = Fasta(rich[0])
    annotation = read_annotation(rich[1], fasta)
    bases, exons = fasta.fetch("c", 0, fasta.contigs["c"]), annotation.spans("c", "exon")
    drawn = positions.of_annotation(annotation, 24, 200, 3)
    assert len(drawn.labels) == 200 and drawn.labels.sum() == 100
    for forward, reverse, label, group in zip(drawn.forward, drawn.reverse, drawn.labels, drawn.groups, strict=True):
        assert len(forward) == len(reverse) == 24 and forward[-1] == reverse_complement(reverse[-1])
        pos = bases.index(forward + reverse_complement(reverse)[1:]) + 23
        assert label == any(start <= pos < end for start, end in exons)
        start, end = map(int, group.split(":")[1].split("-"))
        assert start - 51 <= pos < end + 51 or pos < 300 or pos > len(bases) - 400
    assert len(set(drawn.groups)) == 12
    again = positions.of_annotation(annotation, 24, 200, 3)
    assert again.forward == drawn.forward and again.around() == drawn.around()


def test_rich_exons_are_found_and_the_controls_stand_beside(model, rich):
    layers = [model.module.last_hidden]
    report = probe_exons(
        model, fasta=rich[0], annotation=rich[1], window=24, count=100, folds=3, draws=20, layers=layers,
        random_weights=True,
    )  # fmt: skip
    found = {line.features: line.value.value for line in report.lines}
    name = model.card.name
    assert list(found) == [name, f"{name}, random weights", "k-mers, 1 to 5", "GC", "last 16 bases"]
    assert found["GC"] > 0.9 and found["last 16 bases"] > 0.9 and found[model.card.name] > 0.8
    assert all(line.metric == "auroc" for line in report.lines)
    assert "of 12 clusters of genes none is divided" in report.design


def test_shuffled_labels_are_chance(model, rich, monkeypatch):
    drawn = positions.of_annotation(read_annotation(rich[1], Fasta(rich[0])), 24, 100)
    labels = np.random.default_rng(0).permutation(drawn.labels)
    shuffled = positions.Positions(drawn.forward, drawn.reverse, labels, drawn.groups)
    monkeypatch.setattr("nexvar.evals.genes.exons.of_annotation", lambda *_: shuffled)
    report = probe_exons(model, fasta=rich[0], annotation=rich[1], window=24, folds=3, draws=20,
                         layers=[model.module.last_hidden])  # fmt: skip
    assert all(0.3 < line.value.value < 0.7 for line in report.lines)


@pytest.fixture
def table(tmp_path, rich):
    drawn = positions.of_annotation(read_annotation(rich[1], Fasta(rich[0])), 40, 60, 9)
    names = "organism assembly gene_name sequence_record strand position label forward_seq reverse_seq"
    rows = [names.split()]
    for i, (f, r, label) in enumerate(zip(drawn.forward, drawn.reverse, drawn.labels, strict=True)):
        rows.append([f"species{i % 4}", "x", "g", "c", "+", f"{i}.0", f"{label}.0", f.lower(), r[:9] + r[9:].lower()])
    path = tmp_path / "positions.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def test_the_table_of_positions(model, rich, table):
    read = positions.of_table(table, 24)
    assert all(len(text) == 24 and text.isupper() for text in read.forward + read.reverse)
    layers = [model.module.last_hidden]
    alone = probe_exons(model, table=table, window=24, draws=20, layers=layers)
    assert "60 positions, each of 4 species held out in turn" in alone.design
    test = probe_exons(
        model, fasta=rich[0], annotation=rich[1], table=table, window=24, count=120, draws=20, layers=layers
    )
    assert "120 positions of the annotation; 60 of the table: the test" in test.design
    assert len(test.lines[0].fitted.rows) == 60 and test.lines[2].value.value > 0.8


def run(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


def test_the_command(rich, table, tmp_path, capsys):
    run("probe", "exons", "--fasta", rich[0], "--gff3", rich[1], "--window", 24, "--count", 60, "--draws", 10,
        "--model", GOLDEN / "hyenadna_tiny", "-o", tmp_path / "x.md", "--predictions", tmp_path / "p.tsv")  # fmt: skip
    assert "last 16 bases" in (tmp_path / "x.md").read_text()
    rows = list(csv.DictReader((tmp_path / "p.tsv").open(), delimiter="\t"))
    assert len(rows) == 60 and {row["true_0"] for row in rows} == {"0", "1"}
    assert "exons: auroc" in capsys.readouterr().out


def test_probe_of_a_table_still_wants_its_task():
    with pytest.raises(UsageError) as told:
        run("probe", "--seed", 1)
    assert "--task" in told.value.format_message()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "nothing to learn from"),
        (("--gff3", "g.gff3"), "nothing to learn from"),
        (("--fasta", "g.fa", "--gff3", "none.gff3"), "no exon and no CDS"),
        (("--fasta", "g.fa", "--gff3", "g.gff3", "--window", 3000), "no position in exons with 3,000 bases"),
        (("--fasta", "g.fa", "--gff3", "g.gff3", "--window", 8), "window is 8"),
        (("--fasta", "g.fa", "--gff3", "g.gff3", "--window", 24, "--folds", 50), "12 groups do not fill 50 folds"),
        (("--positions", "positions.tsv", "--window", 64), "40 bases"),
        (("--positions", "odd.tsv", "--window", 24), "label '2.0'"),
        (("--positions", "turned.tsv", "--window", 24), "does not end at the same position"),
        (("--positions", "one.tsv", "--window", 24), "1 species to hold out"),
    ],
)
def test_bad_input_is_one_line(rich, table, tmp_path, monkeypatch, words, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.gff3").write_text("##gff-version 3\nc\t.\tgene\t1\t90\t.\t+\t.\tID=a\n")
    text = table.read_text()
    (tmp_path / "odd.tsv").write_text(text.replace("\t1.0\t", "\t2.0\t"))
    (tmp_path / "one.tsv").write_text(re.sub("species[0-9]", "species0", text))
    lines = text.splitlines()
    fields = lines[1].split("\t")
    fields[-1] = fields[-1][:-1] + ("a" if fields[-1][-1] != "a" else "c")
    (tmp_path / "turned.tsv").write_text("\n".join([lines[0], "\t".join(fields), *lines[2:]]))
    with pytest.raises(NexVarError, match=what):
        run("probe", "exons", "--model", GOLDEN / "hyenadna_tiny", "--draws", 10, *words)
