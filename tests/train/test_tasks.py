"""What can be learned from labels, and how it is measured: kinds, splits, folds, pools, the state that is kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from labelled import labelled_table, random_dna
from nexvar.errors import NexVarError
from nexvar.train import Predictor, pretrain
from nexvar.train.loop import Run
from nexvar.train.predict import predict_file
from nexvar.train.recipe import read
from places import GOLDEN

RECIPE = """
[model]
init = "{init}"
[task]
file = "{file}"
{task}
[optimizer]
adam_lr = {rate}
[schedule]
steps = {steps}
warmup = 1
[run]
out = "{out}"
batch = 16
micro_batch = 16
bf16 = false
eval_every = {every}
save_every = 10
"""


def recipe(folder: Path, file: Path, task: str = "", *, init="sh2_a", steps=40, rate=2e-2, every=20, out="run") -> Path:
    path = folder / f"{out}.toml"
    values = {"init": GOLDEN / init, "file": file, "task": task, "rate": rate, "steps": steps, "every": every}
    path.write_text(RECIPE.format(out=folder / out, **values))
    return path


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "metrics.json").read_text())


def rich_and_long(rng: np.random.Generator, count: int = 160) -> list[dict[str, object]]:
    """Sequences with a label of each of two things that are independent."""
    rows = []
    for i in range(count):
        gc, many = rng.random() < 0.5, rng.random() < 0.5
        text = random_dna(rng, 40, 0.75 if gc else 0.25)
        text = text.replace("T", "A") if many else text.replace("A", "T")
        split = "train" if i < 0.6 * count else "valid" if i < 0.8 * count else "test"
        rows.append({"sequence": text, "rich": int(gc), "a": int(many), "split": split})
    return rows


def test_several_labels_at_once(tmp_path: Path) -> None:
    rows = rich_and_long(np.random.default_rng(0))
    rows[0]["rich"] = ""  # not known
    task = 'kind = "multi-label"\nlabels = ["rich", "a"]\nbalance = true'
    folder = pretrain(recipe(tmp_path, labelled_table(tmp_path / "x.tsv", rows), task))
    measured = metrics(tmp_path / "run")["test"]
    assert measured["auroc_rich"] > 0.9 and measured["auroc_a"] > 0.9 and measured["rows"] == 32
    said = Predictor(folder, "cpu").predict(["GCGGCCGGCCGCGGCGGC", "AATAATAAATATAAAT"])
    assert said[0]["rich"] > 0.5 > said[1]["rich"]


def test_several_numbers_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for i in range(160):
        text = random_dna(rng, 40, rng.random())
        rows.append({"sequence": text, "gc": text.count("G") + text.count("C"), "t": 100 * text.count("T"),
                     "split": "train" if i < 120 else "test"})  # fmt: skip
    rows[3]["t"] = ""
    task = 'kind = "regression"\nlabels = ["gc", "t"]'
    folder = pretrain(recipe(tmp_path, labelled_table(tmp_path / "x.tsv", rows), task, steps=60, rate=1e-2))
    measured = metrics(tmp_path / "run")
    assert measured["test"]["spearman_gc"] > 0.8 and measured["test"]["spearman_t"] > 0.5
    assert set(Predictor(folder, "cpu").predict(["ACGTACGT"])[0]) == {"gc", "t"}


@pytest.mark.parametrize("init", ["sh2_a", "nt_v2_tiny", "caduceus_ph_tiny"])
def test_a_label_for_every_base(tmp_path: Path, init: str) -> None:
    """Letters that are G or C, whatever the tokenizer takes together; lengths differ."""
    rng = np.random.default_rng(2)
    rows = []
    for i in range(60):
        text = random_dna(rng, 30 + i % 3)
        rows.append({"sequence": text, "label": "".join("s" if c in "GC" else "w" for c in text),
                     "split": "train" if i < 48 else "test"})  # fmt: skip
    folder = pretrain(recipe(tmp_path, labelled_table(tmp_path / "x.tsv", rows), 'per = "base"', init=init))
    if init != "nt_v2_tiny":  # whose tokens hold six bases
        assert metrics(tmp_path / "run")["test"]["auroc"] > 0.9
    said = Predictor(folder, "cpu").predict(["ACGTACGTAC", "GG"])
    assert [len(rows) for rows in said] == [10, 2] and set(said[0][0]) == {"label", "s", "w"}
    with (tmp_path / "run/predictions.tsv").open() as file:
        predicted = list(csv.DictReader(file, delimiter="\t"))
    assert len(predicted) == sum(len(str(row["sequence"])) for row in rows[48:])
    (tmp_path / "x.fa").write_text(">b\nACGTA\n>a\nGGCC\n")
    for ending in (".tsv", ".parquet", ".s.bw"):
        predict_file(folder, tmp_path / "x.fa", tmp_path / f"o{ending}", device="cpu")
    assert pq.read_table(tmp_path / "o.parquet").to_pydict()["pos"] == [1, 2, 3, 4, 5, 1, 2, 3, 4]
    import pybigtools

    track = pybigtools.open(str(tmp_path / "o.s.bw"))
    assert list(track.values("a", 0, 4, fillna=0)) == pytest.approx(
        [row["s"] for row in Predictor(folder).predict(["GGCC"])[0]], abs=1e-6
    )
    with pytest.raises(NexVarError, match=r"2 tracks.*name it o\.s\.bw"):
        predict_file(folder, tmp_path / "x.fa", tmp_path / "o.bw", device="cpu")


def test_a_label_for_every_token(tmp_path: Path) -> None:
    """A model of six-mers may have a label a token; one that stops in between says how many there should be."""
    rng = np.random.default_rng(3)
    rows = [{"sequence": random_dna(rng, 24), "label": f"{i},2,3,{i % 7}"} for i in range(20)]
    task = 'per = "base"\nkind = "regression"'
    pretrain(recipe(tmp_path, labelled_table(tmp_path / "x.tsv", rows), task, init="nt_v2_tiny", steps=2))
    rows[4]["label"] = "1,2"
    with pytest.raises(NexVarError, match=r"sequence 5: 2 labels of 24 bases \(4 tokens\)"):
        pretrain(recipe(tmp_path, labelled_table(tmp_path / "y.tsv", rows), task, init="nt_v2_tiny", out="other"))


@pytest.mark.parametrize(("init", "pool"), [("nt_v2_tiny", "cls"), ("dnabert2_tiny", "cls"), ("hyenadna_tiny", "site"),
                                            ("caduceus_ps_tiny", "site"), ("nt_v2_tiny", "max")])  # fmt: skip
def test_pools(tmp_path: Path, init: str, pool: str) -> None:
    """The site decides: "site" reads the base that the column names, and the middle without one."""
    rng = np.random.default_rng(4)
    rows = []
    for i in range(96):
        text, site = random_dna(rng, 24 + i % 2), int(rng.integers(24))
        rows.append({"sequence": text, "label": text[site], "site": site})
    file = labelled_table(tmp_path / "x.tsv", rows)
    folder = pretrain(recipe(tmp_path, file, f'pool = "{pool}"', init=init))
    if pool == "site":
        assert metrics(tmp_path / "run")["valid"]["mcc"] > 0.5
        model = Predictor(folder, "cpu")
        assert model.predict(["ACGTA"]) == model.predict(["ACGTA"], sites=[2]) != model.predict(["ACGTA"], sites=[0])
        for odd in ([], [5], [-1], [True], [1.0], ["2"], "2", 2):
            with pytest.raises(NexVarError, match="^sites"):
                model.predict(["ACGTA"], sites=odd)


def test_the_best_state_is_kept_and_the_test_is_not_asked(tmp_path: Path) -> None:
    """Learning that falls apart after its best moment leaves the model of that moment; a resume knows of it."""
    rows = rich_and_long(np.random.default_rng(5))
    file = labelled_table(tmp_path / "x.tsv", [{**row, "label": row["rich"]} for row in rows])
    path = recipe(tmp_path, file, 'metric = "valid_loss"', steps=30, every=5, rate=0.3)
    pretrain(path)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    seen = {row["step"]: row["valid_loss"] for row in log if "valid_loss" in row}
    best = min(seen, key=lambda step: seen[step])
    run = Run(read(path))
    assert run.resume() and run.best == (pytest.approx(seen[best], rel=1e-4), best)
    scored = Predictor(tmp_path / "run/model", "cpu")
    valid = [row for row in rows if row["split"] == "valid"]
    p = [
        said[str(row["rich"])] for row, said in zip(valid, scored.predict([r["sequence"] for r in valid]), strict=True)
    ]
    assert -np.log(p).mean() == pytest.approx(seen[best], rel=1e-3)
    assert set(metrics(tmp_path / "run")) == {"valid", "test"}


def test_a_killed_task_ends_with_the_same_model(tmp_path: Path) -> None:
    file = labelled_table(
        tmp_path / "x.tsv", [{**row, "label": row["a"]} for row in rich_and_long(np.random.default_rng(6))]
    )
    pretrain(recipe(tmp_path, file, steps=20, every=4, out="straight"))
    path = recipe(tmp_path, file, steps=20, every=4, out="killed")
    first = Run(read(path))
    for _ in range(10):
        first.train_step()
        if first.step % 4 == 0:
            first.choose(first.evaluate())
    first.save()
    pretrain(path)
    for name in ("metrics.json", "predictions.tsv", "model/model.safetensors", "model/head.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


def test_folds_hold_every_row_out_once_and_keep_groups_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    rows = [{"sequence": random_dna(rng, 30, 0.3 + 0.4 * (i % 2)), "label": i % 2, "group": i // 4} for i in range(48)]
    file = labelled_table(tmp_path / "x.tsv", rows)
    folder = pretrain(recipe(tmp_path, file, "folds = 3", steps=10, every=5))
    summary = json.loads((folder / "folds.json").read_text())
    assert [fold["rows"] for fold in summary["folds"]] == [16, 16, 16]
    assert summary["mean"]["mcc"] == pytest.approx(np.mean([fold["mcc"] for fold in summary["folds"]]))
    with (folder / "predictions.tsv").open() as table_:
        seen = [int(row["row"]) for row in csv.DictReader(table_, delimiter="\t")]
    assert sorted(seen) == list(range(1, 49))
    run = Run(read(recipe(tmp_path, file, "folds = 3\nfold = 2", out="one")))
    sides = [{rows[i]["group"] for i in part} for part in (run.source.train, run.source.valid, run.source.test)]
    assert all(not a & b for i, a in enumerate(sides) for b in sides[i + 1 :])


def test_rare_classes_count_as_much_when_asked(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = [
        {"sequence": random_dna(rng, 30), "label": "rare" if i % 10 == 0 else "common", "split": "train"}
        for i in range(100)
    ]
    file = labelled_table(tmp_path / "x.tsv", rows)
    kind = Run(read(recipe(tmp_path, file, "holdout = 0.0\nbalance = true"))).source.kind
    out, targets = torch.zeros(100, 2), torch.tensor([1 if i % 10 == 0 else 0 for i in range(100)])
    assert float(kind.loss(out[targets == 1], targets[targets == 1])) == pytest.approx(
        float(kind.loss(out[targets == 0], targets[targets == 0])))  # fmt: skip
    named = Run(read(recipe(tmp_path, file, "class_weights = {rare = 3.0}"))).source.kind
    assert named.weights_K.tolist() == [1.0, 3.0]


class Deep(nn.Sequential):
    """A head of one's own."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, outputs))


def test_a_head_of_ones_own(tmp_path: Path) -> None:
    file = labelled_table(
        tmp_path / "x.tsv", [{**row, "label": row["rich"]} for row in rich_and_long(np.random.default_rng(9))]
    )
    folder = pretrain(recipe(tmp_path, file, '[tune]\nweights = "head"'), head=Deep)
    assert metrics(tmp_path / "run")["test"]["auroc"] > 0.9
    assert Predictor(folder, "cpu", head=Deep).predict(["ACGT"])
    with pytest.raises(NexVarError, match="head is of another model.*head=…"):
        Predictor(folder, "cpu")


def test_what_is_said_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = labelled_table(
        tmp_path / "x.tsv", [{**row, "label": row["rich"]} for row in rich_and_long(np.random.default_rng(9))]
    )
    path = recipe(tmp_path, file, steps=4, every=2)
    pretrain(path)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nexvar: ")]
    assert "starts: 4 steps" in said[0] and "96 train, 32 held out, 32 test" in said[0]
    assert "step 2 of 4: accuracy" in said[1] and "kept" in said[1]
    assert said[-1] == f"nexvar: the model: {tmp_path / 'run/model'}" and said[-2].startswith("nexvar: test: rows 32")
    pretrain(path)
    assert "is finished: 4 steps are done" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ('kind = "multi-label"\nlabels = ["rich", "colour"]', "no colour: columns sequence, rich, colour"),
        ('labels = ["rich", "a"]', '2 columns of classes.*multi-label'),
        ('labels = ["rich"]\nfolds = 1', "fold 0 of 1"),
        ('labels = ["rich"]\nfolds = 5', "folds beside rows of split valid"),
        ('labels = ["rich"]\nfold = 2', "fold 2 of none"),
        ('labels = ["rich"]\nmetric = "aurocc"', "no metric 'aurocc'.*valid_loss, accuracy"),
        ('labels = ["rich"]\nclass_weights = {blue = 2.0}', "a weight for 'blue': one of 0, 1"),
        ('labels = ["rich"]\nclass_weights = {1 = -2.0}', "the weight of '1' is -2.0: a finite number, 0 or more"),
        ('labels = ["rich"]\nclass_weights = {1 = nan}', "the weight of '1' is nan"),
        ('labels = ["rich"]\nclass_weights = {1 = "2"}', r"\[task\] class_weights holds '2': each must be"),
        ('labels = [1]', r"\[task\] labels holds 1: each must be of type str"),
        ('labels = ["rich"]\npool = "cls"', r"no \[CLS\] token"),
        ('labels = ["rich"]\nper = "exon"', "no per 'exon': one of sequence, base"),
        ('labels = ["rich"]\nper = "base"', "1 labels of 40 bases"),
        ('kind = "regression"\nlabels = ["rich"]\nbalance = true', "a regression has no classes"),
        ('kind = "multi-label"\nlabels = ["split"]', "label 'train'.*0 or 1"),
    ],
)  # fmt: skip
def test_a_bad_task_table_is_one_line(tmp_path: Path, task: str, says: str) -> None:
    file = labelled_table(tmp_path / "x.tsv", rich_and_long(np.random.default_rng(0), 20))
    with pytest.raises(NexVarError, match=says) as error:
        Run(read(recipe(tmp_path, file, task)))
    assert "\n" not in str(error.value)


def test_more_folds_than_a_class_has_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"sequence": random_dna(rng, 12), "label": "rare" if i < 2 else "common"} for i in range(20)]
    with pytest.raises(NexVarError, match="class 'rare' has 2 groups for 3 folds"):
        pretrain(recipe(tmp_path, labelled_table(tmp_path / "x.tsv", rows), "folds = 3"))
