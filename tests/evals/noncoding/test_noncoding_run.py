"""The verb from files to tables: what is written, what a killed run keeps, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from nexvar.cli import main
from nexvar.cli.commands import app
from nexvar.compat import noncoding as compat
from nexvar.errors import NexVarError
from nexvar.evals.noncoding import cells, pictures, report, writing
from nexvar.evals.noncoding import run as running
from nexvar.evals.noncoding.cells import Asked
from nexvar.evals.noncoding.run import Job
from nexvar.files import read_json
from nexvar.weights.choice import ModelChoice
from noncoding_genome import CHR1, labelled_vcf
from places import GOLDEN
from toy_genome import other_bases, write_fasta

MODEL = ModelChoice(GOLDEN / "hyenadna_tiny", device="cpu")


def rows(folder: Path, **wanted: object) -> list[dict[str, object]]:
    table = pq.read_table(folder / "table.parquet").to_pylist()
    return [row for row in table if all(row[key] == value for key, value in wanted.items())]


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 SNVs, 32 of them positive: half around the ends of two exons, half in no gene."""
    places = [*range(4990, 5030, 2), *range(6190, 6230, 2), *range(13_000, 15_000, 50)]
    return labelled_vcf(
        tmp_path_factory.mktemp("variants"),
        *((p, CHR1[p - 1], other_bases(CHR1[p - 1])[0], int(i % 5 < 2)) for i, p in enumerate(places)),
    )


@pytest.fixture(scope="session")
def job(toy: Path, variants: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    out = tmp_path_factory.mktemp("noncoding-run") / "out"
    return Job(variants, toy / "genome.fa", out, [MODEL], annotation=toy / "genes.gff3", windows=(32,), draws=50)


@pytest.fixture(scope="session")
def found(job: Job) -> running.Found:
    found = running.run(job)
    writing.write(found, job.output, job.draws, job.asked.seed)
    return found


def test_every_cell_is_in_the_table_overall_and_by_region(job: Job, found: running.Found) -> None:
    methods = {row["method"] for row in rows(job.output, model="hyenadna_tiny", region="all")}
    assert methods == {"zero-shot", "probe ref", "probe alt", "probe alt - ref"}
    assert {row["set"] for row in rows(job.output)} == {"labelled", "N3"}
    (whole,) = rows(job.output, method="zero-shot", region="all", set="labelled")
    assert (whole["positives"], whole["negatives"], whole["missing"]) == (32, 48, 0)
    assert whole["auroc_low"] <= whole["auroc"] <= whole["auroc_high"] and whole["detail"] == "llr"
    (few,) = rows(job.output, method="zero-shot", region="utr_5prime", set="labelled")
    assert few["auroc"] is None and few["note"].startswith("too few: class 1 has")
    (near,) = rows(job.output, model="nearness to an exon's end", region="splice_proximal", set="labelled")
    assert near["positives"] >= 10 and near["auroc"] is not None


def test_json_scores_and_comparisons_are_written(job: Job, found: running.Found) -> None:
    folder = job.output / "32bp"
    facts = read_json(folder / "linprobe_hyenadna_tiny_N3_alt_minus_ref.json")
    assert facts["method"] == "linear_probe" and facts["seq_type"] == "alt - ref" and facts["negative_set"] == "N3"
    zero = read_json(folder / "zeroshot_hyenadna_tiny_labelled.json")
    assert zero["n_variants"] == 80 and {"auroc", "auprc", "mcc", "f1", "optimal_threshold"} <= set(zero["overall"])
    assert "note" in zero["per_region"]["utr_5prime"] and "auroc" not in zero["per_region"]["utr_5prime"]
    scores = pq.read_table(folder / "scores.parquet")
    assert "hyenadna_tiny zero-shot" in scores.column_names and len(scores) == len(found.data.sets.alleles)
    compared = pq.read_table(job.output / "comparisons.parquet").to_pylist()
    assert {row["test"] for row in compared if row["test"]} == {"DeLong"}
    p, q = (np.array([row[name] for row in compared]) for name in ("p_value", "q_value"))
    assert ((q >= p) | np.isnan(p)).all()
    for ending in ("md", "html"):
        text = (job.output / f"table.{ending}").read_text()
        assert "hyenadna_tiny, zero-shot (llr)" in text and "all transcripts" in text and "too few" in text
        assert "a probe of the reference is at chance" in text, "N3 shares its reference windows with the positives"
        assert "labelled, 32 bp: models less the best baseline, " in text


def test_the_five_pictures_are_drawn(job: Job, found: running.Found, tmp_path: Path) -> None:
    said = pictures.draw(report.measure(found, 10, 0), found, tmp_path)
    drawn = {path.stem for path in (tmp_path / "32bp").glob("*.png")}
    assert not said and drawn == {"fig2_auroc_heatmap", "fig3_region_bars", "fig4_zeroshot_vs_finetune",
                                  "fig5_pareto_front", "fig_s1_roc_curves"}  # fmt: skip


def test_what_is_there_is_not_computed_again(job: Job, found: running.Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelChoice, "load", lambda self: pytest.fail("the model is loaded"))
    again = running.run(job)
    assert [c.name for c in again.cells] == [c.name for c in found.cells] and not again.failures
    for one, other in zip(again.cells, found.cells, strict=True):
        np.testing.assert_array_equal(one.score_N, other.score_N)


def test_a_damaged_cell_is_computed_again(job: Job, found: running.Found) -> None:
    cell = job.output / "32bp/cells/zero-shot~all~hyenadna_tiny.parquet"
    whole = cell.read_bytes()
    cell.write_bytes(whole[: len(whole) // 2])
    running.run(job)
    np.testing.assert_allclose(pq.read_table(cell)["score"], pq.read_table(pa.BufferReader(whole))["score"])


def test_another_benchmark_does_not_go_into_the_folder(job: Job, found: running.Found) -> None:
    with pytest.raises(NexVarError, match="of another benchmark: seed was 42, not 7"):
        running.run(replace(job, asked=Asked(seed=7)))
    with pytest.raises(NexVarError, match="another --output"):
        running.run(replace(job, sets=("labelled",)))
    with pytest.raises(NexVarError, match="readout was None, not llr_sum: another --output"):
        running.run(replace(job, asked=Asked(readout="llr_sum")))


def test_another_sequence_under_the_same_name_is_told(job: Job, found: running.Found, tmp_path: Path) -> None:
    """Every REF agrees, and the windows around them differ."""
    lines = job.fasta.read_text().split("\n")
    lines[1] = lines[1][:5010] + other_bases(lines[1][5010])[0] + lines[1][5011:]  # no variant is at this odd place
    other = write_fasta(tmp_path / "genome.fa", chr1=lines[1], chr2=lines[3])
    with pytest.raises(NexVarError, match="windows was"):
        running.run(replace(job, fasta=other))


def test_a_cell_that_cannot_be_is_a_line_and_the_others_stay(job: Job, tmp_path: Path) -> None:
    said: list[str] = []
    wide = replace(job, output=tmp_path / "out", windows=(32, 4096), asked=Asked(("zero-shot",)), sets=("labelled",))
    found = running.run(wide, said.append)
    assert [f.width for f in found.failures] == [4096] and "context" in found.failures[0].why
    writing.write(found, wide.output, 20, 0)
    (failed,) = rows(wide.output, model="hyenadna_tiny", width=4096)
    assert failed["auroc"] is None and "context" in failed["note"]
    assert rows(wide.output, model="hyenadna_tiny", width=32, region="all")[0]["auroc"] is not None
    assert any("zero-shot, 4096 bp" in line for line in said)


def test_what_runs_out_of_memory_has_no_number(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> np.ndarray:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(cells.lora, "out_of_fold", exhausted)
    some = replace(job, output=tmp_path / "out", asked=Asked(("lora",)), sets=("labelled",))
    found = running.run(some)
    writing.write(found, some.output, 20, 0)
    (row,) = rows(some.output, method="LoRA")
    assert row["auroc"] is None and row["note"] == "out of memory"


def test_a_variant_without_a_score_is_counted_and_does_not_count_as_zero(job: Job, found: running.Found) -> None:
    (cell,) = (cell for cell in found.cells if cell.method == "zero-shot")
    rows = found.data.sets.rows["labelled"]
    perfect = np.where(found.data.sets.positive_N, -1.0, -2.0)  # 0 would be the highest score
    perfect[rows[:9]] = np.nan
    (row,) = (r for r in report.measure(replace(found, cells=[replace(cell, score_N=perfect)]), 20, 0)
              if r.region == report.ALL and r.set == "labelled")  # fmt: skip
    assert row.missing == 9 and row.estimates["auroc"].value == 1.0 and row.positives + row.negatives == len(rows) - 9


def test_the_command(toy: Path, variants: Path, tmp_path: Path) -> None:
    command = ["benchmark", "noncoding", "--vcf", str(variants), "--fasta", str(toy / "genome.fa"), "--annotation",
               str(toy / "genes.gtf"), "--ccre", str(toy / "ccre.bed"), "--window", "32", "--draws", "20",
               "--set", "labelled", "-o", str(tmp_path / "out")]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "nearness to an exon's end" in result.output and "80 of 80 REFs agree" in result.output


def test_a_model_that_is_not_there_is_one_line_and_the_tables_are_written(
    toy: Path, variants: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["--vcf", str(variants), "--fasta", str(toy / "genome.fa"), "-o", str(tmp_path / "out")]
    command = ["benchmark", "noncoding", *files, "--window", "32", "--draws", "20", "--model", "no_such_model"]
    monkeypatch.setattr("sys.argv", ["nexvar", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "no score of no_such_model" in said and "Traceback" not in said
    assert said.count("zero-shot, 32 bp: ") == 1, "one reason is said once"
    assert rows(tmp_path / "out", model="GC") and rows(tmp_path / "out", model="no_such_model")[0]["auroc"] is None


@pytest.mark.parametrize(
    "change, said",
    [
        ({"windows": (1,)}, "--window"),
        ({"sets": ("N9",)}, "--set"),
        ({"min_stars": 5}, "--min-stars"),
        ({"models": [MODEL, MODEL]}, "two models are called hyenadna_tiny"),
        ({"annotation": None, "ccre": Path("x.bed")}, "--ccre"),
        ({"annotation": None, "mane": True}, "--mane"),
        ({"scores": ("CADD",)}, "no INFO key CADD"),
        ({"scores": ("LABEL", "LABEL:lower")}, "--score: two scores are called LABEL"),
        ({"windows": (60_000,)}, "no variant has a window"),
    ],
)
def test_what_cannot_be_asked_is_one_line(job: Job, tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(NexVarError, match=said):
        running.run(replace(job, **{"output": tmp_path / "out", **change}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ("magic",)}, "--method"),
        ({"epochs": 0}, "--epochs"),
        ({"rate": -1.0}, "--rate"),
        ({"seed": -1}, "--seed"),
        ({"readout": "x"}, "--readout"),
        ({"strand": "x"}, "--strand"),
    ],
)
def test_how_models_cannot_be_asked_is_one_line(change: dict, said: str) -> None:
    with pytest.raises(NexVarError, match=said):
        Asked(**change)


WRAPPER = """
import numpy as np
from nexvar.compat.noncoding import GenomicModelBase, register_model

class Letters(GenomicModelBase):
    def load(self):
        return self

    def get_embedding(self, sequence):
        return np.array([sequence.count(base) for base in "ACGT"], dtype=float)

    def score_variant(self, ref_seq, alt_seq):
        if alt_seq[16] == "C":
            raise ValueError("no C")
        return float(ord(alt_seq[16]))

    @property
    def num_parameters(self):
        return 4

register_model("letters", Letters)
"""


def test_a_wrapper_of_the_users_own_is_a_model_like_others(toy: Path, variants: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRAPPER)
    files = ["--vcf", str(variants), "--fasta", str(toy / "genome.fa"), "-o", str(tmp_path / "out"), "--register",
             str(tmp_path / "mine.py")]  # fmt: skip
    methods = ["--method", "zero-shot", "--method", "probe", "--method", "lora"]
    options = ["--model", "letters", *methods, "--set", "labelled", "--window", "32", "--draws", "20"]
    result = CliRunner().invoke(app, ["benchmark", "noncoding", *files, *options])
    compat.unregister_model("letters")
    assert result.exit_code == 0, result.output
    (tmp_path / "mine.py").write_text(WRAPPER + "# other code: other scores?\n")
    again = CliRunner().invoke(app, ["benchmark", "noncoding", *files, *options])
    compat.unregister_model("letters")
    assert isinstance(again.exception, NexVarError) and "code was" in again.exception.what
    (row,) = rows(tmp_path / "out", model="letters", method="zero-shot")
    assert row["missing"] > 0 and row["auroc"] is not None and row["parameters"] == 4
    assert rows(tmp_path / "out", model="letters", method="probe alt")[0]["auroc"] is not None
    assert "weights are its own" in rows(tmp_path / "out", model="letters", method="LoRA")[0]["note"]


def test_an_annotation_of_another_assembly_is_one_line(job: Job, tmp_path: Path) -> None:
    (tmp_path / "x.gff3").write_text("chr7\tX\texon\t1\t9\t.\t+\t.\tID=e\n")
    with pytest.raises(NexVarError, match="none of its contigs .chr7. is in genome.fa"):
        running.run(replace(job, output=tmp_path / "out", annotation=tmp_path / "x.gff3"))
