"""The seven classes: each rule at its border, the first rule that holds, both formats, both strands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nexvar.errors import NexVarError
from nexvar.evals.noncoding.regions import MANE, Rules, read_enhancers
from nexvar.genome.annotation import read_annotation
from nexvar.genome.reference import Fasta

BORDERS = {  # 1-based
    2999: "intergenic",  # the first base of the transcript is 5,001
    3001: "promoter",
    5001: "splice_proximal",
    5021: "splice_proximal",
    5022: "utr_5prime",
    5100: "utr_5prime",
    5150: "promoter",  # coding, and near the start of the transcript
    5221: "promoter",
    6100: "promoter",
    6220: "splice_proximal",
    6221: "promoter",
    7010: "splice_proximal",
    7050: "deep_intronic",  # exonic, and far from an end: as published
    7101: "utr_3prime",
    7281: "splice_proximal",
    7320: "splice_proximal",
    7321: "intergenic",
    12001: "enhancer",
    12100: "enhancer",
    12101: "intergenic",
    12250: "intergenic",  # pELS is no distal enhancer
}


@pytest.mark.parametrize("kind", ["gff3", "gtf"])
@pytest.mark.parametrize("contig", ["chr1", "1"])
def test_each_rule_at_its_border_in_both_formats(toy: Path, genome: Fasta, kind: str, contig: str) -> None:
    rules = Rules(read_annotation(toy / f"genes.{kind}", genome), read_enhancers(toy / "ccre.bed", genome)[0])
    found = rules.classify(genome.resolve(contig).contig, np.array(list(BORDERS)) - 1)
    assert dict(zip(BORDERS, found, strict=True)) == BORDERS


@pytest.mark.parametrize("kind", ["gff3", "gtf"])
def test_the_minus_strand_is_the_mirror_image(toy: Path, genome: Fasta, kind: str) -> None:
    rules = Rules(read_annotation(toy / f"genes.{kind}", genome))
    pos = np.array([p for p in BORDERS if p < 10_000])
    assert rules.classify("chr1", 30_001 - pos - 1).tolist() == rules.classify("chr1", pos - 1).tolist()


def test_introns_far_from_a_start_are_deep(toy: Path, genome: Fasta) -> None:
    """Between the first exon and 2,000 bp behind the start every intronic base is promoter; MANE alone changes none."""
    text = (toy / "genes.gff3").read_text().replace("5001\t7300", "1001\t7300", 2)
    (toy / "long.gff3").write_text(text + "chr1\tX\texon\t1001\t1100\t.\t+\t.\tParent=tA\n")
    for tag in ("", MANE):
        rules = Rules(read_annotation(toy / "long.gff3", genome), tag=tag)
        assert rules.classify("chr1", np.array([2999, 3999, 5499])).tolist() == [
            "promoter", "deep_intronic", "deep_intronic"]  # fmt: skip


def test_only_tagged_transcripts_count(toy: Path, genome: Fasta) -> None:
    more = "chr1\tX\ttranscript\t15001\t15100\t.\t+\t.\tID=t2\nchr1\tX\texon\t15001\t15100\t.\t+\t.\tParent=t2\n"
    (toy / "two.gff3").write_text((toy / "genes.gff3").read_text() + more)
    annotation, at = read_annotation(toy / "two.gff3", genome), np.array([15_000, 5000])
    assert Rules(annotation).classify("chr1", at).tolist() == ["splice_proximal"] * 2
    assert Rules(annotation, tag=MANE).classify("chr1", at).tolist() == ["intergenic", "splice_proximal"]
    assert Rules(annotation).exon_distance("chr1", np.array([15_000, 15_109])).tolist() == [0, 10]


def test_a_file_without_the_tag_is_one_line(toy: Path, genome: Fasta) -> None:
    (toy / "untagged.gff3").write_text((toy / "genes.gff3").read_text().replace(";tag=MANE_Select", ""))
    annotation = read_annotation(toy / "untagged.gff3", genome)
    Rules(annotation).check()
    with pytest.raises(NexVarError, match="no transcript is tagged MANE_Select"):
        Rules(annotation, tag=MANE).check()


def test_a_contig_without_genes_is_intergenic(toy: Path, genome: Fasta) -> None:
    rules = Rules(read_annotation(toy / "genes.gff3", genome))
    assert rules.classify("chr2", np.array([100])).tolist() == ["intergenic"]
    assert rules.exon_distance("chr2", np.array([100])).tolist() == [np.inf]


@pytest.mark.parametrize(
    "text, said",
    [
        ("chr9\t1\t9\ta\tb\tdELS\n", "none of its 1 rows is on a contig"),
        ("chr1\t1\t9\ta\tb\tpELS\n", "no class is dELS or Enhancer: it has pELS"),
        ("chr1\t1\t9\n", "is no cCRE"),
        ("chr1\t1.5\t9\ta\tb\tdELS\n", "x.bed:1: .* is no cCRE: chrom, start, end"),
        ("chr1\t9\t9\ta\tb\tdELS\n", "x.bed:1: start 9, end 9"),
        ("chr1\t1\t99999\ta\tb\tdELS\n", "x.bed:1: it ends at 99,999, chr1 has 30,000 bases"),
    ],
)
def test_a_bed_without_enhancers_is_one_line(tmp_path: Path, genome: Fasta, text: str, said: str) -> None:
    (tmp_path / "x.bed").write_text(text)
    with pytest.raises(NexVarError, match=said):
        read_enhancers(tmp_path / "x.bed", genome)
