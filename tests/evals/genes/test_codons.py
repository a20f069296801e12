"""Codons: every change of each, on both strands and across introns, by residue and amino acid; table and map."""

from __future__ import annotations

import csv

import pytest

from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.genes.codons import Change, by_residue, changes, find_coding, spliced
from nexvar.genome.genetic_codes import AMINO_ACIDS, CODONS, genetic_code
from nexvar.genome.reference import Fasta, reverse_complement
from places import GOLDEN
from toy_genes import INTRON, ToyGenes
from toy_genome import write_fasta

CODE = genetic_code(1)


@pytest.fixture
def toy(tmp_path):
    return ToyGenes(tmp_path)


def applied(bases: str, variant: str) -> str:
    """The contig with a variant written as chr1:12AC>GT."""
    place, _, alt = variant.rpartition(":")[2].partition(">")
    pos = int("".join(c for c in place if c.isdigit())) - 1
    ref = "".join(c for c in place if c.isalpha())
    assert bases[pos : pos + len(ref)] == ref and len(alt) == len(ref)
    return bases[:pos] + alt + bases[pos + len(ref) :]


def coding_bases(bases: str, gene) -> str:
    text = "".join(bases[a:b] for a, b in gene.pieces)
    return reverse_complement(text) if gene.strand == "-" else text


def test_a_change_changes_its_codon_and_nothing_else(toy):
    for gene in toy.genes[:4]:  # both strands, with and without an intron
        coding, _ = find_coding(Fasta(toy.fasta), toy.gff3(), gene.name, CODE)
        assert (coding.cds, coding.notes) == (gene.cds, ())
        made = list(changes(coding))
        assert len(made) == 63 * len(gene.cds) // 3
        for change in made[:: 17 if len(gene.pieces) == 1 else 5]:
            new = applied(toy.bases, change.variant)
            at = 3 * (change.residue - 1)
            assert coding_bases(new, gene) == gene.cds[:at] + change.codon + gene.cds[at + 3 :]
            assert len(new) == len(toy.bases) and new.count(INTRON) == toy.bases.count(INTRON)


def test_a_codon_that_an_intron_divides(toy):
    gene = toy.genes[0]  # its intron lies behind base 17, in codon 6
    coding, _ = find_coding(Fasta(toy.fasta), toy.gff3(), gene.name, CODE)
    of_six = [c for c in changes(coding, (6, 6))]
    assert len(of_six) == 63
    lengths = {c.variant.partition(">")[2] for c in of_six if c.wild[2] == c.codon[2]}
    assert all(len(alt) <= 2 for alt in lengths)  # the first two bases lie on one side
    assert any(INTRON in c.variant for c in of_six)


def test_the_spliced_transcript(toy, tmp_path):
    for gene in toy.genes[:4]:
        coding, transcript = find_coding(Fasta(toy.fasta), toy.gff3(), gene.name, CODE)
        read = spliced(coding, transcript, tmp_path)
        text = read.fasta.fetch("transcript", 0, read.fasta.contigs["transcript"])
        assert text == gene.cds  # these transcripts have no untranslated bases
        for change in list(changes(read))[::40]:
            at = 3 * (change.residue - 1)
            assert applied(text, change.variant) == text[:at] + change.codon + text[at + 3 :]


def test_the_best_change_of_each_amino_acid():
    wild = "TGG"  # W
    scores = {codon: -float(i) for i, codon in enumerate(CODONS)}
    rows = by_residue([(Change(4, wild, c, "x"), scores[c]) for c in CODONS if c != wild], CODE)
    assert [row["alternative"] for row in rows] == list(AMINO_ACIDS)
    by_name = {row["alternative"]: row for row in rows}
    for amino_acid, row in by_name.items():
        choices = [c for c in CODE.codons_of(amino_acid) if c != wild]
        assert row["codons"] == len(choices) and row["residue"] == 4
        assert row["score"] == max((scores[c] for c in choices), default=None)
        near = [c for c in choices if sum(a != b for a, b in zip(c, wild, strict=True)) == 1]
        assert row["snv_score"] == max((scores[c] for c in near), default=None)
    assert by_name["*"]["kind"] == "stop_gained" and by_name["W"]["kind"] == "synonymous"
    assert by_name["W"]["score"] is None and sum(row["kind"] == "missense" for row in rows) == 19


def run(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


def saturate(toy, *words: object) -> None:
    run("saturate", "--fasta", toy.fasta, "--gff3", toy.gff3(), "--model", GOLDEN / "hyenadna_tiny", "--window", 64,
        "--strand", "forward", *words)  # fmt: skip


def test_the_command_writes_a_table_and_a_map(toy, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "x.tsv"
    saturate(toy, "--cds", "g1", "--residues", "2-3", "-o", out, "-o", tmp_path / "x.png")
    rows = list(csv.DictReader(out.open(), delimiter="\t"))
    assert len(rows) == 42 and {row["residue"] for row in rows} == {"2", "3"}
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.glob("x.*")) == ["x.png", "x.tsv"]
    # a row's best score is that of the same variant by `nexvar score`
    coding, _ = find_coding(Fasta(toy.fasta), toy.gff3(), "g1", CODE)
    row = next(row for row in rows if row["residue"] == "2" and row["bases"] == "3")
    variant = next(c.variant for c in changes(coding, (2, 2)) if c.codon == row["best_codon"])
    run("score", variant, "--fasta", toy.fasta, "--model", GOLDEN / "hyenadna_tiny", "--window", 64, "--strand",
        "forward", "-o", tmp_path / "y.tsv")  # fmt: skip
    (scored,) = csv.DictReader(
        (line for line in (tmp_path / "y.tsv").open() if not line.startswith("##")), delimiter="\t"
    )
    assert float(scored["LLR"]) == pytest.approx(float(row["score"]), abs=1e-4)
    said = capsys.readouterr().err
    assert "126 alleles in 126 records = 126 scored" in said and "missense: mean of the best codon change" in said


def test_a_cds_with_a_rest_and_without_a_start_is_told_of(toy, tmp_path, capsys):
    text = toy.gff3().read_text()
    g = toy.genes[1]
    low, high = g.pieces[0]
    cut = text.replace(f"\t{low + 1}\t{high}\t", f"\t{low + 3}\t{high - 2}\t")
    (tmp_path / "cut.gff3").write_text(cut)
    run("saturate", "--fasta", toy.fasta, "--gff3", tmp_path / "cut.gff3", "--model", GOLDEN / "hyenadna_tiny",
        "--window", 32, "--cds", "g1", "--residues", "1", "-o", tmp_path / "x.tsv", "--strand", "forward")  # fmt: skip
    said = capsys.readouterr().err
    assert "CDS not a multiple of three: the last 2 bases are left out" in said and "start codon missing" in said
    assert len((tmp_path / "x.tsv").read_text().splitlines()) == 22


def test_stops_and_unknown_bases_inside_are_told_of(toy, tmp_path):
    g = toy.genes[4]  # on the plus strand, in one piece
    at = g.pieces[0][0]
    bases = toy.bases[: at + 6] + "TGA" + toy.bases[at + 9 : at + 15].lower() + "N" + toy.bases[at + 16 :]
    fasta = Fasta(write_fasta(tmp_path / "odd.fa", chr1=bases))
    coding, _ = find_coding(fasta, toy.gff3(), g.name, CODE)
    assert any("no rows for codons with other letters than A, C, G, T: 1" in note for note in coding.notes)
    assert any("stop codons inside by code 1: 1, the first is residue 3" in note for note in coding.notes)
    assert {change.residue for change in changes(coding, (5, 7))} == {5, 7}
    assert not any("stop" in note for note in find_coding(fasta, toy.gff3(), g.name, genetic_code(4))[0].notes)


def test_a_ribosome_that_slips_back_reads_a_base_twice(tmp_path):
    bases = "CCCC" + "ATGAAACCC" + "TTTGGATAA" + "GGGG"  # slips back at the end of CCC: its last C begins CTT TGG ATA A
    for strand in "+-":
        text = bases if strand == "+" else reverse_complement(bases)
        fasta = Fasta(write_fasta(tmp_path / f"{ord(strand)}.fa", c=text))
        pieces = [(5, 13), (13, 21)] if strand == "+" else [(6, 14), (14, 22)]  # of 26 bases, from 1
        gff = tmp_path / "slip.gff3"
        gff.write_text("".join(f"c\t.\tCDS\t{a}\t{b}\t.\t{strand}\t0\tID=x;Name=slip\n" for a, b in pieces))
        coding, _ = find_coding(fasta, gff, "slip", CODE)
        assert coding.cds == "ATGAAACCC" + "CTTTGGATA"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "a region or a coding sequence"),
        (("--cds", "g1", "--region", "chr1:1-9"), "a region or a coding sequence"),
        (("--region", "chr1:1-9"), "are of --cds"),
        (("--region", "chr1:1-9", "--code", 2), "are of --cds"),
        (("--cds", "nobody"), "no coding transcript 'nobody'"),
        (("--cds", "g1", "--residues", "0-4"), "residues '0-4'"),
        (("--cds", "g1", "--residues", "90-99"), "no codon in 90-99"),
        (("--cds", "g1", "--code", 20), "no genetic code 20"),
        (("--cds", "g1", "-o", "x.vcf"), "no format for the ending"),
        (("--cds", "g1", "--dry-run"), "no dry run of a coding sequence"),
    ],
)
def test_bad_input_is_one_line(toy, tmp_path, words, what):
    with pytest.raises(NexVarError, match=what):
        saturate(toy, "-o", tmp_path / "x.tsv", *words)
    assert not list(tmp_path.glob("x.tsv*"))
