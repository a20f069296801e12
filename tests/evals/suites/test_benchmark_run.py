"""Benchmarks: what becomes of a user's files, models x tasks that resume, and tables with published numbers beside."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from labelled import labelled_table, random_dna
from nexvar import files
from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.evals.suites import cells, read, run, tables
from nexvar.evals.suites.cell import Options
from nexvar.evals.suites.task import catalogue, find
from nexvar.genome.reference import reverse_complement
from own_task import LAYER, job, rows, task_file
from places import GOLDEN


@pytest.fixture(autouse=True)
def without_pictures(request, monkeypatch) -> None:
    """They take longer than all else; one test draws them."""
    if request.function is not test_the_tables_hold_every_cell_with_published_numbers:
        monkeypatch.setattr(tables, "find_spec", lambda name: None)


# -- doors


def test_four_doors_lead_to_the_same_rows(tmp_path: Path) -> None:
    task = catalogue()["genomic_benchmarks/human_enhancers_cohn"]
    genome = random_dna(np.random.default_rng(1), 2000)
    wanted = []
    for split in ("train", "test"):
        for k, name in enumerate(("negative", "positive")):
            places = [(100 * i + 20 * k + 7 * (split == "test"), "+-"[i % 2]) for i in range(4)]
            said = [
                genome[at : at + 60] if strand == "+" else reverse_complement(genome[at : at + 60])
                for at, strand in places
            ]
            wanted += [(text, (name,), split) for text in said]
            for way, writer in (("text", _as_text), ("places", _as_places)):
                folder = tmp_path / way / task.name / split
                folder.mkdir(parents=True, exist_ok=True)
                writer(folder, name, said, places)
    (tmp_path / "places" / "genome.fa").write_text(f">1\n{genome}\n")
    url = "http://example.org/genome.fa.gz"
    classes = "".join(f"  {name}:\n    type: fa.gz\n    url: {url}\n" for name in ("negative", "positive"))
    (tmp_path / "places" / task.name / "metadata.yaml").write_text(f"classes:\n{classes}version: 0\n")
    for split in ("train", "test"):
        folder = tmp_path / "csv" / task.name
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{text},{label}" for text, (label,), where in wanted if where == split]
        (folder / f"{split}.csv").write_text("\n".join(["seq,label", *lines]))
    for way in ("text", "places", "csv"):
        table = read.load(task, tmp_path / way)
        assert sorted(zip(table.texts, table.labels, table.split, strict=True)) == sorted(wanted), way
    cut = tmp_path / "places" / task.name / "train" / "negative.csv.gz"
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(NexVarError, match="negative.csv.gz"):
        read.load(task, tmp_path / "places")
    nt = catalogue()["nt_original/H3"]
    (tmp_path / "H3").mkdir()
    for split in ("train", "test"):
        lines = [f">x|{label}\n{text[:30]}\n{text[30:]}" for text, (label,), where in wanted if where == split]
        (tmp_path / "H3" / f"{split}.fna").write_text("\n".join(lines))
    table = read.load(nt, tmp_path)
    assert sorted(zip(table.texts, table.labels, table.split, strict=True)) == sorted(wanted)


def _as_text(folder: Path, name: str, said: list[str], places: list[tuple[int, str]]) -> None:
    (folder / name).mkdir()
    for i, text in enumerate(said):
        (folder / name / f"{i}.txt").write_text(text)


def _as_places(folder: Path, name: str, said: list[str], places: list[tuple[int, str]]) -> None:
    lines = [f"{i},chr1,{at},{at + 60},{strand}" for i, (at, strand) in enumerate(places)]
    with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
        file.write("\n".join(["id,region,start,end,strand", *lines]))


def test_files_that_are_not_there_say_where_they_are_to_be_had(tmp_path: Path) -> None:
    for task in catalogue().values():
        with pytest.raises(NexVarError, match=r"^" + str(tmp_path)) as error:
            read.load(task, tmp_path)
        assert task.source in str(error.value) or len(str(error.value)) > 300


def test_rows_that_choose_strata_and_a_draw(tmp_path: Path) -> None:
    table = rows(90)
    for i, row in enumerate(table):
        row |= {"chromosome": str(i % 5), "far": [-10, 40, 400][i % 3 - 1]}
    labelled_table(tmp_path / "mine.tsv", table)
    path = task_file(tmp_path, valid="{ chromosome = ['3'] }", strata="{ column = 'far', edges = [30, 100] }")
    found = read.load(find(str(path))[0], tmp_path)
    assert {split: len(found.of(split)) for split in read.SPLITS} == {"train": 24, "valid": 6, "test": 60}
    assert set(found.strata) == {"", "far 0 to 30", "far 30 to 100"}
    drawn = read.load(find(str(path))[0], tmp_path, most=10)
    assert [len(drawn.of(split)) for split in read.SPLITS] == [10, 6, 10] and set(drawn.texts) < set(found.texts)
    assert read.load(find(str(path))[0], tmp_path, most=10, seed=1).texts != drawn.texts


# -- bad input


def one_line(folder: Path, path: Path, says: str) -> None:
    with pytest.raises(NexVarError, match=says) as error:
        read.load(find(str(path))[0], folder)
    assert "\n" not in str(error.value)


def test_a_table_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    def write(table: list[dict[str, object]], **changes: str) -> Path:
        labelled_table(tmp_path / "mine.tsv", table)
        return task_file(tmp_path, **changes)

    good = rows()
    one_line(
        tmp_path, write([{k: v for k, v in row.items() if k != "label"} for row in good]), "tsv:2: no column 'label'"
    )
    one_line(tmp_path, write([{**row, "label": 1} for row in good]), "only one class, '1'")
    one_line(
        tmp_path, write([{**row, "label": i} for i, row in enumerate(good)]), "label '1' of the test rows is in no"
    )
    one_line(tmp_path, write(good, outputs="3"), "2 classes, not 3: 0, 1: are these the files")
    words = [{**row, "label": ["no", "yes"][row["label"]] if row["split"] == "test" else row["label"]} for row in good]
    one_line(tmp_path, write(words), r"tsv:3: label 'yes' of the test rows is in no training row: they have 0, 1")
    one_line(
        tmp_path, write(words, kind="'regression'", outputs="1", metric="'pearson'"), "tsv:3: label 'yes' is no number"
    )
    one_line(tmp_path, write([*good[:3], {**good[3], "sequence": "ACGX"}]), "tsv:5: 'X' is no base")
    one_line(tmp_path, write([*good[:3], {**good[3], "sequence": ""}]), "tsv:5: no sequence")
    one_line(tmp_path, write([{**row, "split": "test"} for row in good]), "no training rows")
    one_line(tmp_path, write([*good[:3], {**good[3], "split": "exam"}]), "split is 'exam'")
    train = [{**row, "split": "train"} for row in good]
    turned = [{**row, "sequence": reverse_complement(row["sequence"]), "split": "test"} for row in train[:30]]
    one_line(tmp_path, write([*train, *turned]), "30 of 30 test sequences stand in the training rows")
    for role in ("split", "group", "alternative"):
        one_line(tmp_path, write(good, columns=f"{{ {role} = 'other' }}"), "no column 'other'")
    one_line(tmp_path, write(good, strata="{ column = 'other' }"), "no column 'other'")
    one_line(tmp_path, write(good, valid="{ other = ['1'] }"), "no column 'other'")
    numbers = {"kind": "'regression'", "outputs": "1", "metric": "'pearson'"}
    for split, label, says in (("train", "", "has no value"), ("test", "7", "has one value, '7'")):
        same = [{**row, "label": label if row["split"] == split else i} for i, row in enumerate(good)]
        one_line(tmp_path, write(same, **numbers), f"label of the {split} rows {says}: two values or more")
    path = write(good, strata="{ column = 'label', edges = [1] }")
    labelled_table(tmp_path / "mine.tsv", [{**row, "label": "ab"[row["label"]]} for row in good])
    one_line(tmp_path, path, "label is 'b': a number")


def test_a_split_without_rows_and_a_row_with_more_cells_are_one_line(tmp_path: Path) -> None:
    path = task_file(tmp_path, columns="{}", doors="[{ format = 'table', train = 'mine.tsv', test = 'test.tsv' }]")
    labelled_table(tmp_path / "mine.tsv", rows())
    (tmp_path / "test.tsv").write_text("sequence\tlabel\n")
    one_line(tmp_path, path, r"test\.tsv: no rows: it is test of ")
    (tmp_path / "test.tsv").write_text("sequence\tlabel\nACGT\t1\t2\n")
    one_line(tmp_path, path, r"test\.tsv:2: 3 cells, but 2 titles")


def test_a_test_of_one_class_is_told(tmp_path: Path) -> None:
    one = [{**row, "label": 1 if row["split"] == "test" else row["label"]} for row in rows()]
    labelled_table(tmp_path / "mine.tsv", one)
    summary = run.run(job(tmp_path, task_file(tmp_path), models=()))
    assert "no auroc: a class is missing among the 40 rows" in str(summary.failed[0])


def test_two_tasks_of_one_name_are_one_line_and_the_same_twice_is_one(tmp_path: Path) -> None:
    labelled_table(tmp_path / "mine.tsv", rows())
    (tmp_path / "other" / tmp_path.name).mkdir(parents=True)
    path, other = task_file(tmp_path), task_file(tmp_path / "other" / tmp_path.name, metric="'mcc'")
    assert run.run(job(tmp_path, path, path, models=())).computed == 1
    with pytest.raises(NexVarError, match=f"two tasks are called {tmp_path.name}/mine"):
        run.run(job(tmp_path, path, other, models=()))


def test_a_table_without_a_split_is_measured_in_folds(tmp_path: Path) -> None:
    labelled_table(tmp_path / "mine.tsv", [{k: v for k, v in row.items() if k != "split"} for row in rows(40)])
    summary = run.run(job(tmp_path, task_file(tmp_path, columns="{}"), models=()))
    found = tables.read_rows(tmp_path / "out" / "results.parquet")
    assert summary.computed == 1 and {(row.n, row.n_train) for row in found} == {(40, 40)}


def test_folds_larger_than_a_class_are_one_line(tmp_path: Path) -> None:
    few = [{**row, "split": "train", "label": int(i < 3)} for i, row in enumerate(rows())]
    labelled_table(tmp_path / "mine.tsv", few)
    summary = run.run(job(tmp_path, task_file(tmp_path)))
    assert {str(error) for error in summary.failed} == {str(summary.failed[0])} and summary.computed == 0
    assert "class '1' has 3 groups for 5 folds" in str(summary.failed[0])


# -- runs


def test_a_run_resumes_and_refuses_another_task(tmp_path: Path, monkeypatch) -> None:
    labelled_table(tmp_path / "mine.tsv", rows())
    one, other = task_file(tmp_path), task_file(tmp_path, "other", metric="'mcc'")
    asked: list[str] = []
    compute = cells._probed
    monkeypatch.setattr(cells, "_probed", lambda *a: asked.append(a[0].task.name) or compute(*a))

    first = run.run(job(tmp_path, one))
    assert (first.computed, first.kept, first.failed) == (2, 0, [])
    again = run.run(job(tmp_path, one, other))
    assert (again.computed, again.kept) == (2, 2) and asked == ["mine", "mine", "other", "other"]
    before = {p.name: p.read_bytes() for p in (tmp_path / "out" / "cells").iterdir()}

    for change, says in (
        ({"options": Options(LAYER, draws=30)}, "draws was 20, not 30"),
        ({"options": Options(LAYER, draws=20, seed=1)}, "seed was 0, not 1"),
    ):
        refused = run.run(job(tmp_path, one, **change))
        assert (refused.computed, refused.kept) == (0, 0) and says in str(refused.failed[0])
    task_file(tmp_path, kind="'classification'", metric="'f1'")
    assert "task was" in str(run.run(job(tmp_path, one)).failed[0])
    task_file(tmp_path)
    labelled_table(tmp_path / "mine.tsv", rows(seed=3))
    assert "files was" in str(run.run(job(tmp_path, one)).failed[0])
    assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "cells").iterdir()} == before


def test_a_disk_that_fills_keeps_what_was_computed(tmp_path: Path, monkeypatch) -> None:
    labelled_table(tmp_path / "mine.tsv", rows())
    task = task_file(tmp_path)
    real, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NexVarError, match=r"cells/.*cannot be written \(No space left on device\)"):
        run.run(job(tmp_path, task))
    monkeypatch.undo()
    assert len(list((tmp_path / "out" / "cells").glob("*.parquet"))) == 1
    after = run.run(job(tmp_path, task))
    assert (after.computed, after.kept) == (1, 1)
    assert files.remove_leftovers(tmp_path) is None


def test_the_tables_hold_every_cell_with_published_numbers(tmp_path: Path) -> None:
    labelled_table(tmp_path / "mine.tsv", rows(90, place="a<b|c"))
    task = task_file(
        tmp_path,
        strata="{ column = 'place' }",
        published="[{ source = 'x', model = 'Other', metric = 'auroc', value = 0.75 },"
        "{ source = 'y', model = 'Another', metric = 'mcc', value = 0.5 }]",
        sources="{ x = { cite = 'a paper' }, y = { cite = 'a paper', differs = 'ten folds' } }",
    )
    run.run(job(tmp_path, task, options=Options(LAYER, random_weights=True, draws=20)))
    out = tmp_path / "out"
    long = pq.read_table(out / "results.parquet").to_pylist()
    key = {(row["model"], row["method"]) for row in long}
    assert key >= {("hyenadna_tiny", "probe"), ("hyenadna_tiny", "random weights"), ("k-mers, 1 to 5", "baselines")}
    gc = next(
        row for row in long if row["model"] == "GC and length" and row["metric"] == "auroc" and row["rows"] == "all"
    )
    assert gc["low"] <= gc["value"] <= gc["high"] and gc["value"] > 0.9 and gc["n"] == 60 and gc["n_train"] == 30
    assert {row["rows"] for row in long} == {"all", "place a<b|c"}
    md, html = (out / "results.md").read_text(), (out / "results.html").read_text()
    assert "| Other (a paper) | published | 0.75 |" in md and "0.5≠" in md and "≠ not comparable: ten folds." in md
    assert "place a\\<b\\|c" in md and "place a&lt;b|c" in html and "<script" not in html and "a<b" not in html
    for name in ("heat-auroc.png", "forest-auroc.png"):
        assert (out / name).stat().st_size > 5000 and name in html


def test_pairs_are_read_by_their_difference(tmp_path: Path) -> None:
    """A change of a base is measured by a model that learned from single sequences: as its two answers differ."""
    rng = np.random.default_rng(5)
    single = [random_dna(rng, 40) for _ in range(120)]
    labelled_table(tmp_path / "train.tsv", [{"sequence": s, "label": s.count("G") + s.count("C")} for s in single])
    pairs = []
    for text in single[:40]:
        other = random_dna(rng, 40)
        pairs.append(
            {"ref": text[::-1], "alt": other, "delta": sum(map(other.count, "GC")) - sum(map(text.count, "GC"))}
        )
    labelled_table(tmp_path / "test.tsv", pairs)
    task = task_file(
        tmp_path, kind="'regression'", outputs="1", metric="'pearson'", pair="'difference'",
        doors="[{ format = 'table', train = 'train.tsv', test = 'test.tsv' }]",
        columns="{ test = { sequence = 'ref', alternative = 'alt', label = 'delta' } }",
    )  # fmt: skip
    summary = run.run(job(tmp_path, task))
    found = {
        row.model: row for row in tables.read_rows(tmp_path / "out" / "results.parquet") if row.metric == "pearson"
    }
    assert summary.failed == [] and found["GC and length"].value > 0.99 and found["k-mers, 1 to 5"].value > 0.95
    assert "a task of pairs" in str(run.run(job(tmp_path, task, method="finetune")).failed[0])


def test_a_model_can_be_fine_tuned(tmp_path: Path) -> None:
    labelled_table(tmp_path / "mine.tsv", rows(gap=0.8))
    settings = "{ weights = 'all', lr = 0.01, batch = 4, epochs = 4.0, warmup = 2 }"
    task = task_file(tmp_path, finetune=settings)
    summary = run.run(job(tmp_path, task, method="finetune"))
    assert summary.failed == [] and summary.computed == 2
    row = next(
        r for r in cells.read_rows(tmp_path / "out" / "cells" / f"{tmp_path.name}.mine.finetune.hyenadna_tiny.parquet")
    )
    assert row.method == "finetune" and row.metric == "auroc" and row.value > 0.9 and row.n == 40
    folder = tmp_path / "out" / "runs" / f"{tmp_path.name}.mine.finetune.hyenadna_tiny"
    assert json.loads((folder / "metrics.json").read_text())["test"]["auroc"] == pytest.approx(row.value)
    task_file(tmp_path, finetune=settings.replace("0.01", "0.02"))
    assert "finetune was" in str(run.run(job(tmp_path, task, method="finetune")).failed[0])


# -- the command line


def test_the_command_runs_a_users_task(tmp_path: Path, capfd) -> None:
    (tmp_path / "data").mkdir()
    labelled_table(tmp_path / "data" / "mine.tsv", rows())
    task = task_file(tmp_path)
    words = ["benchmark", str(task), "--data", str(tmp_path / "data"), "-o", str(tmp_path / "out"), "--draws", "10"]
    words += ["--models", str(GOLDEN / "hyenadna_tiny"), "--layer", *LAYER, "--device", "cpu"]
    app(words, standalone_mode=False)
    assert "2 cells computed, 0 kept" in capfd.readouterr().err
    app(words, standalone_mode=False)
    assert "0 cells computed, 2 kept" in capfd.readouterr().err
    with pytest.raises(NexVarError, match="two models are called 'hyenadna_tiny'"):
        app([*words, "--models", str(GOLDEN / "hyenadna_tiny")], standalone_mode=False)
    with pytest.raises(NexVarError, match="no model called 'nobody'"):
        app([*words, "--models", "nobody"], standalone_mode=False)
    for change, says in (
        (["--method", "guess"], "no method 'guess'"),
        (["--engine", "dask"], "no engine 'dask'"),
        (["--draws", "1"], "--draws"),
    ):
        with pytest.raises(NexVarError, match=says):
            app([*words, *change], standalone_mode=False)
    with pytest.raises(NexVarError, match="a task of tracks"):
        app(["benchmark", "long_range/cage_prediction", *words[2:]], standalone_mode=False)
