"""``nexvar eval variants``: joining, directions, groups too small, and the files it writes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexvar import cli
from nexvar.errors import NexVarError
from nexvar.evals import metrics, variants

BRCA1 = "brca1_findlay.hg19.tsv.gz"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """(scores.parquet on "chr1", labels.vcf on "1", labels, llr): 100 SNVs, the last group has 4 positives."""
    folder = tmp_path_factory.mktemp("eval")
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 4 == 0
    llr = rng.normal(size=100) - 1.5 * labels
    region = np.where(np.arange(100) < 84, "coding", "tRNA")
    order = rng.permutation(100)
    pq.write_table(
        pa.table({
            "CHROM": ["chr1"] * 100, "POS": (1000 + order), "REF": ["A"] * 100, "ALT": ["G"] * 100,
            "LLR": [None if i == 7 else llr[i] for i in order], "gene": [f"g{i % 30}" for i in order],
        }),
        folder / "scores.parquet",
    )  # fmt: skip
    lines = ["##fileformat=VCFv4.3", '##INFO=<ID=LABEL,Number=A,Type=Integer,Description="x">',
             "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]  # fmt: skip
    for i in range(100):
        info = f"LABEL=.,{int(labels[i])};REGION={region[i]};GENE=g{i % 30}"
        lines.append(f"1\t{1000 + i}\t.\tA\tC,G\t.\t.\t{info}")
    (folder / "labels.vcf").write_text("\n".join(lines) + "\n")
    return folder / "scores.parquet", folder / "labels.vcf", labels, llr


def test_scores_meet_labels_whatever_the_order_the_chr_prefix_and_the_allele_number(labelled) -> None:
    scores, labels_vcf, labels, llr = labelled
    report = variants.run(scores, labels_vcf, by="REGION")
    kept = np.arange(100) != 7  # it has no score
    assert report.rows[0].estimates["auroc"].value == pytest.approx(metrics.auroc(labels[kept], -llr[kept]))
    assert [(row.group, row.positives, row.negatives) for row in report.rows] == [
        ("all", 25, 74), ("coding", 21, 62), ("tRNA", 4, 12),
    ]  # fmt: skip
    assert "1 labelled variants have no score and are left out" in report.notes


def test_a_small_class_is_called_too_few_in_the_table_and_the_file(labelled, tmp_path: Path) -> None:
    report = variants.run(labelled[0], labelled[1], by="REGION")
    (line,) = [line for line in variants.table(report.rows) if line.startswith("tRNA")]
    assert "too few: class 1 has 4 members" in line
    tsv, png = variants.write(report, tmp_path / "out", title="A test")
    rows = {row["group"]: row for row in csv.DictReader(tsv.open(), delimiter="\t")}
    assert rows["tRNA"]["auroc"] == "" and rows["tRNA"]["note"].startswith("too few")
    low, value, high = (float(rows["all"][name]) for name in ("auroc_low", "auroc", "auroc_high"))
    assert low < value < high
    assert png.read_bytes().startswith(b"\x89PNG")


def test_clusters_and_direction_are_the_callers_choice(labelled) -> None:
    plain = variants.run(labelled[0], labelled[1], draws=200)
    clustered = variants.run(labelled[0], labelled[1], cluster="GENE", draws=200)
    turned = variants.run(labelled[0], labelled[1], higher=True, draws=200)
    value = plain.rows[0].estimates["auroc"].value
    assert clustered.rows[0].estimates["auroc"].value == value
    assert clustered.rows[0].estimates["auroc"] != plain.rows[0].estimates["auroc"]
    assert turned.rows[0].estimates["auroc"].value == pytest.approx(1 - value)
    assert any("right direction?" in note for note in turned.notes)


def test_the_recorded_evo2_scores_through_the_same_door(data: Path) -> None:
    report = variants.run(
        data / BRCA1, score="evo2_1b_delta", label="func_class", positive="LOF", by="region",
        against="phyloP", against_higher=True, draws=200,
    )  # fmt: skip
    values = {row.group: round(row.estimates["auroc"].value, 3) for row in report.rows}
    assert values == {"all": 0.729, "coding": 0.672, "noncoding": 0.874}
    lines = variants.compare(report, draws=200)
    assert "phyloP (0.781)" in lines[0] and lines[1].startswith("  DeLong: -0.052")


def test_continuous_labels_give_a_correlation(data: Path) -> None:
    report = variants.run(data / BRCA1, score="evo2_1b_delta", label="function_score", draws=50)
    assert list(report.rows[0].estimates) == ["spearman"]
    assert report.rows[0].estimates["spearman"].value == pytest.approx(0.300, abs=0.001)


def test_the_command_line_compares_two_models_on_clusters(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "variants", "--scores", str(data / BRCA1), "--score", "evo2_1b_delta", "--label", "func_class",
             "--positive", "LOF", "--against", "phyloP", "--against-higher", "--cluster", "pos", "--draws", "50",
             "-o", str(tmp_path)]  # fmt: skip
    cli.app(words, standalone_mode=False)
    printed = capsys.readouterr().out
    assert "3,893 variants, 3,893 labelled, 3,893 used" in printed and "0.729 [" in printed
    assert "AUROC of evo2_1b_delta minus that of phyloP (0.781):" in printed
    assert "paired bootstrap: -0.052" in printed and "DeLong" not in printed  # it takes variants for independent
    assert str(tmp_path / "metrics.png") in printed


def test_what_cannot_be_joined_is_said_in_one_line(labelled, tmp_path: Path) -> None:
    scores, labels_vcf = labelled[:2]
    twice = tmp_path / "twice.tsv"
    twice.write_text("#CHROM\tPOS\tREF\tALT\tNEXVAR_LLR\n1\t1000\tA\tG\t0.5\n1\t1000\tA\tG\t0.7\n")
    ragged = tmp_path / "ragged.tsv"
    ragged.write_text("#CHROM\tPOS\tREF\tALT\tNEXVAR_LLR\n1\t1000\tA\tG\n")
    elsewhere = tmp_path / "elsewhere.tsv"
    elsewhere.write_text("#CHROM\tPOS\tREF\tALT\tNEXVAR_LLR\n9\t1\tA\tG\t0.5\n")
    fake = tmp_path / "fake.parquet"
    fake.write_text("not parquet")
    for path, options, words in [
        (scores, {"score": "L2"}, "no column or INFO key 'L2'"),
        (scores, {"label": "REGION"}, "REGION is not a number"),
        (scores, {"label": "REGION", "positive": "rRNA"}, "no REGION is 'rRNA'.*coding, tRNA"),
        (twice, {}, "1:1000A>G has two values"),
        (ragged, {}, r"ragged.tsv:2: 4 columns"),
        (elsewhere, {}, "one assembly"),
        (fake, {}, "not readable as Parquet"),
        (tmp_path / "none.tsv", {}, "no such file"),
        (scores, {"draws": 0}, "--draws: draws is 0"),
        (scores, {"draws": 10**12}, "--draws"),
        (scores, {"cluster": "NOPE"}, "no column or INFO key 'NOPE'"),
        (scores, {"against": "nofile.tsv:LLR"}, "nofile.tsv: no such file"),
    ]:
        with pytest.raises(NexVarError, match=words):
            variants.run(path, labels_vcf, **options)


def test_a_report_that_cannot_be_written_is_one_line(labelled, tmp_path: Path) -> None:
    report = variants.run(labelled[0], labelled[1], draws=5)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NexVarError, match="cannot be written"):
        variants.write(report, tmp_path / "file")


def test_a_picture_of_a_thousand_groups_has_the_largest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = np.array([f"gene{i % 1000 if i > 3000 else i % 50}" for i in range(5000)], dtype=object)
    labels = rng.random(5000) < 0.4
    scores = rng.normal(size=5000) + labels
    names = ["CHROM\tPOS\tREF\tALT\tLLR\tLABEL\tGENE"]
    rows = [f"1\t{i + 1}\tA\tC\t{-scores[i]:.4f}\t{int(labels[i])}\t{groups[i]}" for i in range(5000)]
    (tmp_path / "scores.tsv").write_text("\n".join([*names, *rows]) + "\n")
    report = variants.run(tmp_path / "scores.tsv", by="GENE", draws=2)
    assert len(report.rows) == 1001
    tsv, png = variants.write(report, tmp_path / "out")
    assert len(tsv.read_text().splitlines()) == 1002
    width, height = (int.from_bytes(png.read_bytes()[at : at + 4], "big") for at in (16, 20))
    assert width < 3000 and height < 4000
