"""Gene completion: prompts, scorers by hand, chance, the published headline from its per-gene values, the command."""

from __future__ import annotations

import csv
import math
import os
import random
import shutil

import pytest

from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.genes import completion, recovery
from nexvar.evals.genes.completion import complete, headline, read_panel, score
from nexvar.evals.genes.recovery import Spliced, aligned, chance, placewise
from nexvar.genome.genetic_codes import genetic_code
from tiny import tiny_loaded
from toy_genes import coding
from toy_genome import random_bases

CODE = genetic_code(1)
PUBLISHED = {"Prokaryota": 64.85, "Eukaryota": 50.35, "all": 55.18}
PROTEIN = CODE.translate(coding(60, 3))  # with its "*"


@pytest.fixture
def panel(tmp_path):
    """A prokaryote's gene of 60 codons behind 1,200 bases."""
    cds = coding(60, 3)
    path = tmp_path / "panel.csv"
    head = "gene,organism,accession,domain,cds_start,reference_protein,genomic_sequence\n"
    row = ("toyA", "Toy", "x", "Prokaryota", "1200", CODE.translate(cds), random_bases(1200, 5) + cds.lower())
    path.write_text(head + ",".join(row) + "\n")
    return path


def test_the_prompt_is_the_published_one(panel):
    (gene,) = read_panel(panel)
    assert gene.known == 18 and gene.n_tokens == 3 * (60 - 18) + 150  # the reference counts its "*"
    assert gene.prompt == gene.window[200 : 1200 + 54] and gene.window.isupper()
    eukaryote = completion.PanelGene("e", "Toy", "Eukaryota", "A" * 1001, "M*", None)
    assert (len(eukaryote.prompt), eukaryote.n_tokens, eukaryote.known) == (300, 751, 100)


def test_the_true_gene_recovers_all(panel):
    (gene,) = read_panel(panel)
    text = gene.window[200:]
    published, ours, length = score(gene, text, None)
    assert (published.percent, published.covered, length) == (100.0, 100.0, 59) and ours == published
    stopped = text[: 1000 + 90] + "TAA" + text[1000 + 90 :]  # behind 30 residues, 12 of them not the prompt's
    stump, _, length = score(gene, stopped, None)
    assert stump.percent == 100.0 and length == 30 and stump.covered == pytest.approx(100 * 12 / 41)
    assert stump.of_all == pytest.approx(100 * 12 / 41) and published.of_all == 100.0


def test_gaps_have_no_column():
    reference = PROTEIN
    body = reference.rstrip("*")
    missing = body[:30] + body[35:]
    found = aligned(missing, reference, 18)
    assert found.covered == pytest.approx(100 * (59 - 5 - 18) / 41) and found.percent > 90
    nothing = aligned("", reference, 18)
    assert math.isnan(nothing.percent) and nothing.covered == 0 and nothing.of_all == 0
    assert math.isnan(aligned(body[:10], body[:10], 18).percent)


def test_letters_that_the_matrix_lacks_are_any_residue():
    selenoprotein = PROTEIN[:30] + "U" + PROTEIN[31:]
    assert aligned(PROTEIN.rstrip("*"), selenoprotein, 0).percent == pytest.approx(100 * 58 / 59)


def test_a_long_window_and_lower_case_are_read(panel):
    panel.write_text(panel.read_text().replace(PROTEIN, PROTEIN.lower()).rstrip() + "ACGT" * 40_000 + "\n")
    (gene,) = read_panel(panel)
    assert gene.reference == PROTEIN and len(gene.window) > 160_000


def test_placewise_is_ungapped():
    assert placewise("MKVLA", "MKALAW", 1) == recovery.Recovery(75.0, 80.0)
    assert math.isnan(placewise("MK", "MKV", 5).percent)


def test_chance_is_far_below_the_truth():
    drawn, shuffled = chance(aligned, PROTEIN, 18)
    assert 2 < drawn < 45 and 2 < shuffled < 45
    assert chance(aligned, PROTEIN, 18) == (drawn, shuffled)


def test_the_published_headline_follows_from_the_published_values():
    """Per-gene means of evo2_1b_base (ArcInstitute/evo2 @ 53f19599, results/): 64.85, 50.35 and 55.18 are published."""
    means = {
        "ftsZ": 67.7833, "secY": 32.436, "dnaK": 83.6653, "gyrA": 75.5083, "PGK1": 69.8894, "ADH2": 73.5172,
        "CYC1": 32.3133, "HSP70": 37.5508, "RPS15": 39.2353, "ACT7": 57.5, "ActB": 50.5025, "GAPDH": 42.3174,
    }  # fmt: skip
    panels = {name: "Prokaryota" if i < 4 else "Eukaryota" for i, name in enumerate(means)}
    found = headline(means, panels)
    assert {name: round(value, 2) for name, value in found.items()} == PUBLISHED


def rows_of(path):
    return list(csv.DictReader(path.open(), delimiter="\t"))


def test_samples_do_not_depend_on_what_runs_with_them(panel, tmp_path):
    lines = complete(tiny_loaded(), [panel], tmp_path / "a.tsv", samples=3, seed=4)
    complete(tiny_loaded(), [panel], tmp_path / "b.tsv", samples=1, seed=5)
    many, one = rows_of(tmp_path / "a.tsv"), rows_of(tmp_path / "b.tsv")
    assert len(many) == 3 and many[1]["residues"] == one[0]["residues"] and many[1]["recovery"] == one[0]["recovery"]
    assert all(int(row["residues"]) >= 18 for row in many)  # the prompt's are always there
    assert lines[0].split()[:2] == ["gene", "n"] and lines[1].startswith("toyA")
    assert any(line.startswith("recovery, mean of the gene means, all") for line in lines)


def test_what_exceeds_the_context_says_so(panel, tmp_path):
    lines = complete(tiny_loaded(context=1200), [panel], tmp_path / "a.tsv", samples=2)
    (row,) = rows_of(tmp_path / "a.tsv")
    assert row["status"] == "prompt and completion exceed the context, 1,200" and row["recovery"] == ""
    assert any("1 left out" in line for line in lines)


@pytest.mark.skipif(not (shutil.which("exonerate") or "CI" in os.environ), reason="exonerate is not installed")
def test_exonerate_splices():
    rng = random.Random(1)
    cds = coding(160, 7)
    first, second = cds[:180], cds[180:]
    intron = "GTAAGT" + "".join(rng.choices("ACGT", k=120)) + "TTTTTTTTCTTTTTCAG"
    window = random_bases(400, 2) + first + intron + second + random_bases(200, 3)
    found = recovery.splice(window, CODE.translate(cds))
    protein = CODE.translate(cds).rstrip("*")
    assert placewise(found.protein, protein, 0).percent > 97
    assert [len(range(*exon)) for exon in found.exons] == pytest.approx([180, 300], abs=6)
    assert found.residues_before(400) == 0 and found.residues_before(400 + 90) == pytest.approx(30, abs=1)
    gene = completion.PanelGene("e", "Toy", "Eukaryota", window, CODE.translate(cds), None)
    published, ours, _ = score(gene, window, found)
    assert ours.percent == 100.0 and math.isnan(published.percent) == (gene.known >= len(found.protein))


def test_residues_before_counts_whole_codons():
    spliced = Spliced("M" * 30, ((10, 40), (100, 160)))
    assert [spliced.residues_before(p) for p in (5, 10, 25, 70, 100, 106, 999)] == [0, 0, 5, 10, 10, 12, 30]


def run(*words: object) -> None:
    app([str(word) for word in words], standalone_mode=False)


@pytest.mark.parametrize(
    ("change", "words", "what"),
    [
        (lambda t: t.replace("Prokaryota", "Archaea"), (), "domain 'Archaea'"),
        (lambda t: t.replace(",1200,", ",,"), (), "cds_start ''"),
        (lambda t: t.replace(",1200,", ",9999,"), (), "no window of A, C, G, T and N with its CDS"),
        (lambda t: t.replace("reference_protein", "protein"), (), "no reference_protein"),
        (lambda t: t.split("\n")[0] + "\n", (), "no gene"),
        (lambda t: t.replace(",1200,", ",²,"), (), "cds_start '²'"),
        (lambda t: t.replace(PROTEIN, "MK1"), (), "no protein of letters alone"),
        (lambda t: t + t.split("\n")[1] + "\n", (), "gene 'toyA' is there twice"),
        (lambda t: t, ("--temperature", -1), "temperature is -1"),  # nothing is left that a mended command would meet
        (lambda t: t, ("--only", "toyB"), "no gene 'toyB'"),
        (lambda t: t, ("--samples", 0), "samples is 0"),
        (lambda t: t, ("-o", "x.csv"), "no format"),
    ],
)
def test_bad_input_is_one_line(panel, tmp_path, change, words, what):
    panel.write_text(change(panel.read_text()))
    with pytest.raises(NexVarError, match=what):
        run("completion", "--genes", panel, "-o", tmp_path / "x.tsv", *words)
    assert not list(tmp_path.glob("x.tsv*"))


def test_eukaryotes_without_exonerate_are_one_line(panel, tmp_path, monkeypatch):
    text = panel.read_text().replace("Prokaryota,1200", "Eukaryota,")
    panel.write_text(text)
    monkeypatch.setattr(recovery.shutil, "which", lambda name: None)
    with pytest.raises(NexVarError, match="exonerate is not installed"):
        run("completion", "--genes", panel, "-o", tmp_path / "x.tsv")
