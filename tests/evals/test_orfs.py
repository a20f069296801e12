"""Reading frames: all six, open and complete, and the mitochondrial proteins among them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nexvar
from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.orfs import reading_frames, write_frames
from nexvar.genome.annotation import read_annotation
from nexvar.genome.genetic_codes import genetic_code
from nexvar.genome.reference import Fasta, reverse_complement
from toy_genome import random_bases, write_fasta

DATA = Path(nexvar.__file__).parent / "data"
DNA = st.integers(0, 10**6).map(lambda seed: random_bases(200, seed))


@settings(deadline=None, max_examples=25)
@given(DNA, st.sampled_from(["open", "complete"]), st.sampled_from([1, 2, 11]))
def test_a_frame_says_where_it_is(dna, kind, code):
    for frame in reading_frames(dna, code, 3, kind):
        piece = dna[frame.start : frame.end]
        piece = piece if frame.strand == "+" else reverse_complement(piece)
        protein = genetic_code(code).translate(piece)
        assert "*" not in protein and len(protein) >= 3
        assert frame.protein == ("M" + protein[1:] if kind == "complete" else protein)
        before = frame.start if frame.strand == "+" else len(dna) - frame.end
        assert before % 3 == frame.frame


@settings(deadline=None, max_examples=25)
@given(DNA)
def test_the_other_strand_has_the_same_frames_mirrored(dna):
    def seen(frames, length=None):
        turn = {"+": "-", "-": "+"}
        return sorted((f.start, f.end, f.strand, f.protein) if length is None
                      else (length - f.end, length - f.start, turn[f.strand], f.protein) for f in frames)  # fmt: skip

    assert seen(reading_frames(dna, 1, 1)) == seen(reading_frames(reverse_complement(dna), 1, 1), len(dna))


def test_open_and_complete():
    dna = "CC" + "AAA" * 3 + "ATG" + "GCC" * 5 + "TAA" + "C"
    (whole,) = reading_frames(dna, 1, 6, "complete")
    assert (whole.start, whole.end, whole.frame, whole.protein) == (11, 29, 2, "MAAAAA")
    first = next(f for f in reading_frames(dna, 1, 6) if f.strand == "+" and f.frame == 2)
    assert (first.start, first.protein, first.complete) == (2, "KKKMAAAAA", False)
    assert not [f for f in reading_frames(dna[:-4], 1, 6, "complete") if f.strand == "+"]  # no stop behind it


def test_alternative_starts_are_m():
    (frame,) = [f for f in reading_frames("GTG" + "GCC" * 5 + "TAA", 11, 6, "complete") if f.strand == "+"]
    assert frame.protein == "MAAAAA" and not reading_frames("GTG" + "GCC" * 5 + "TAA", 1, 6, "complete")


def test_every_mitochondrial_protein_lies_in_an_open_frame():
    fasta = Fasta(DATA / "chrM_rCRS.fa")
    dna = fasta.fetch("chrM", 0, 16569)
    frames = reading_frames(dna, 2)
    coding = [t for t in read_annotation(DATA / "chrM.gff3", fasta).transcripts("chrM", 0, 16569) if t.cds]
    assert len(coding) == 13
    for t in coding:
        low, high = t.cds[0]
        protein = genetic_code(2).translate(t.coding_sequence(fasta)).split("*")[0]
        assert any(f.strand == t.feature.strand and low < f.end and f.start < high and protein in f.protein
                   for f in frames), t.feature.name  # fmt: skip


def run(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


def test_the_command(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", one="CCATG" + "GCC" * 5 + "TAAC", two="acgt")
    for name in ("x.bed", "x.tsv", "x.faa"):
        run("orfs", fasta, "--least", 6, "--kind", "complete", "-o", tmp_path / name)
    assert (tmp_path / "x.bed").read_text() == "one\t2\t20\t6_codons\t6\t+\n"
    (row,) = csv.DictReader((tmp_path / "x.tsv").open(), delimiter="\t")
    assert row["protein"] == "MAAAAA" and row["frame"] == "2"
    assert (tmp_path / "x.faa").read_text() == ">one:3-20(+)\nMAAAAA\n"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--code", 7), "no genetic code 7"),
        (("--kind", "half"), "no kind 'half'"),
        (("--least", 0), "least is 0"),
        (("-o", "x.gff"), "no format"),
    ],
)
def test_bad_input_is_one_line(tmp_path, words, what):
    fasta = write_fasta(tmp_path / "x.fa", one="ACGT")
    with pytest.raises(NexVarError, match=what):
        run("orfs", fasta, "-o", tmp_path / "x.bed", *words)
    assert not (tmp_path / "x.bed").exists()


def test_a_region_of_a_chromosome_gives_places_on_it(tmp_path):
    text = "CC" + "ATG" + "GCT" * 5 + "TAA" + "CCC"
    slices = {f"chr7:{start + 1}-{start + len(text)}": text for start in (1000, 5000)}
    fasta, bed = write_fasta(tmp_path / "slices.fa", other=text, **slices), tmp_path / "x.bed"
    write_frames(fasta, bed, least=5, kind="complete")
    assert [line.split("\t")[:3] for line in bed.read_text().splitlines()] == [
        [name, str(at + 2), str(at + 20)] for name, at in (("other", 0), ("chr7", 1000), ("chr7", 5000))]  # fmt: skip
