"""Going on from a checkpoint: on a corpus, on labelled sequences, with all weights, LoRA, or a head alone."""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from labelled import random_dna
from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.train import Predictor, labels, pretrain
from nexvar.train.loop import Run
from nexvar.train.recipe import TaskPart, read
from nexvar.weights.load import load
from places import GOLDEN, RECIPES

ARCHITECTURES = {
    "caduceus_ph_tiny": "masked", "caduceus_ps_tiny": "masked", "dnabert2_tiny": "masked", "genos_tiny": "causal",
    "hyenadna_tiny": "causal", "nt_v1_tiny": "masked", "nt_v2_tiny": "masked", "ntv3_pre_tiny": "masked",
    "ntv3_post_tiny": "masked", "sh1_a": "causal", "sh2_a": "causal",
}  # fmt: skip
RUN = """
[optimizer]
adam_lr = {rate}
[schedule]
steps = {steps}
warmup = 1
[run]
out = "{out}"
batch = {batch}
micro_batch = {batch}
bf16 = false
log_every = 5
"""
CORPUS = """
[model]
init = "{init}"
[data]
files = ["{data}"]
length = 64
holdout = 1
[objective]
kind = "{kind}"
"""
TUNE = """
[tune]
weights = "{}"
"""
TASK = """
[model]
init = "{init}"
[task]
file = "{data}"
"""


def recipe(tmp_path: Path, text: str, *, steps: int = 3, rate: float = 1e-3, batch: int = 4, **values: object) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text.format(**values) + RUN.format(out=tmp_path / "run", steps=steps, rate=rate, batch=batch))
    return path


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    rng, path = np.random.default_rng(0), tmp_path / "g.fa"
    path.write_text("".join(f">Genus{i}_a\n{random_dna(rng, 200, 0.5)}\n" for i in range(4)))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """240 sequences; GC-rich ones are labelled so. One occurs twice."""
    rng, path = np.random.default_rng(1), tmp_path / "labelled.tsv"
    rows = [(random_dna(rng, 48, gc), name) for gc, name in ((0.25, "poor"), (0.75, "rich")) for _ in range(120)]
    path.write_text("sequence\tlabel\n" + "".join(f"{s}\t{label}\n" for s, label in [*rows, rows[0]]))
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_goes_on_from_its_checkpoint(tmp_path: Path, fasta: Path, name: str) -> None:
    path = recipe(tmp_path, CORPUS, init=GOLDEN / name, data=fasta, kind=ARCHITECTURES[name])
    run, before = Run(read(path)), load(GOLDEN / name, dtype="float32", device="cpu")
    ids = torch.tensor([before.tokenizer.encode("ACGTTGCA" * 16, special=False).ids])
    with torch.no_grad():
        torch.testing.assert_close(run.model.eval()(ids).logits, before.module(ids).logits)
    run.model.train()
    for _ in range(2):
        assert math.isfinite(run.train_step()[0])
    assert 0 < run.evaluate()["held_out_bits"] < math.inf
    run.save()
    after = NexVar(tmp_path / "run/model", device="cpu")
    with torch.no_grad():
        trained = run.model.eval()(ids).logits
        torch.testing.assert_close(after.model(ids).logits, trained)
        assert not torch.allclose(before.module(ids).logits, trained)
    assert after.card.objective == ARCHITECTURES[name] and after.card.tokenizer == before.card.tokenizer
    assert after.tokenizer.tokenize("ACGTACGTACGT") == before.tokenizer.tokenize("ACGTACGTACGT")


def test_a_trunk_without_its_head_learns_labels_and_no_objective(tmp_path: Path, labelled: Path, fasta: Path) -> None:
    trunk = tmp_path / "trunk"
    shutil.copytree(GOLDEN / "nt_v2_tiny", trunk)
    state = {n: t for n, t in load_file(trunk / "weights.safetensors").items() if not n.startswith("lm_head.")}
    save_file(state, trunk / "weights.safetensors")
    with pytest.warns(UserWarning, match="without a language-model head"):
        folder = pretrain(recipe(tmp_path, TASK, init=trunk, data=labelled))
        assert len(Predictor(folder, "cpu").predict(["ACGTACGTACGT"])) == 1
        with pytest.raises(NexVarError, match="no language-model head.*an objective needs"):
            Run(read(recipe(tmp_path, CORPUS, init=trunk, data=fasta, kind="masked")))


def test_a_masked_model_is_not_trained_to_say_what_it_sees(tmp_path: Path, fasta: Path) -> None:
    with pytest.raises(NexVarError, match='reads both ways.*kind = "masked"'):
        Run(read(recipe(tmp_path, CORPUS, init=GOLDEN / "nt_v2_tiny", data=fasta, kind="causal")))


@pytest.mark.parametrize("name", ["sh2_a", "genos_tiny", "ntv3_pre_tiny"])
@pytest.mark.parametrize("how", ["all", "lora", "ia3", "head"])
def test_a_label_is_learned_and_the_folder_predicts(tmp_path: Path, labelled: Path, name: str, how: str) -> None:
    text = TASK + {"all": "", "head": TUNE.format("head"), "lora": TUNE.format("lora") + "rank = 4\n",
                   "ia3": TUNE.format("ia3")}[how]  # fmt: skip
    path = recipe(tmp_path, text, init=GOLDEN / name, data=labelled, steps=40, rate=2e-2, batch=16)
    path.write_text(path.read_text().replace("log_every", "eval_every = 40\nlog_every"))
    run = Run(read(path))
    texts, held = labels.read_rows(run.recipe.task, lambda text, _: text, 0).texts, run.source.valid
    assert not {texts[i] for i in held} & {texts[i] for i in run.source.train}  # equal sequences stay together
    folder = pretrain(path)
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert next(r for r in rows if "auroc" in r)["auroc"] > 0.95
    rng = np.random.default_rng(7)
    said = Predictor(folder, "cpu").predict([random_dna(rng, 40, 0.2), random_dna(rng, 44, 0.8)])
    assert [row["label"] for row in said] == ["poor", "rich"]
    assert said[0]["poor"] + said[0]["rich"] == pytest.approx(1)
    before, after = load(GOLDEN / name, dtype="float32").module, NexVar(folder, device="cpu").model
    changed = {n for n, p in after.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert bool(changed) == (how != "head")
    if how == "lora":
        assert all(n.endswith("weight") and after.get_parameter(n).ndim == 2 for n in changed)


def test_a_number_is_learned(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(2), tmp_path / "values.tsv"
    rows = [(s, 10 + 3 * (s.count("G") + s.count("C"))) for s in (random_dna(rng, 48, gc) for gc in rng.random(200))]
    split = ["train"] * 150 + ["valid"] * 50
    path.write_text(
        "sequence\tlabel\tsplit\n" + "".join(f"{s}\t{v}\t{w}\n" for (s, v), w in zip(rows, split, strict=True))
    )
    text = TASK + 'kind = "regression"\n'
    run_file = recipe(tmp_path, text, init=GOLDEN / "sh2_a", data=path, steps=60, rate=1e-2, batch=16)
    run = Run(read(run_file))
    assert run.source.counts == {"train": 150, "held_out": 50, "test": 0}
    for _ in range(60):
        run.train_step()
    assert run.evaluate()["spearman"] > 0.9
    run.write_model()
    said = [row["value"] for row in Predictor(tmp_path / "run/model", "cpu").predict([s for s, _ in rows[150:]])]
    assert np.abs(np.array(said) - [v for _, v in rows[150:]]).mean() < 15


def test_a_resumed_task_is_the_same_run(tmp_path: Path, labelled: Path) -> None:
    """dnabert2 has dropout: its draws must not depend on what was computed before."""
    path = recipe(tmp_path, TASK, init=GOLDEN / "dnabert2_tiny", data=labelled, steps=6)
    straight = Run(read(path))
    losses = [straight.train_step()[0] for _ in range(4)]
    first = Run(read(path))
    for _ in range(2):
        first.train_step()
    first.save()
    second = Run(read(path))
    assert second.resume() and second.step == 2
    torch.rand(5)
    assert [second.train_step()[0] for _ in range(2)] == losses[2:]


def test_a_folder_goes_on_with_its_own_labels_and_checkpoint_alone(tmp_path: Path, labelled: Path) -> None:
    """Classes of the same number under other names, and another checkpoint of the same shape, fit the old state."""
    path = recipe(tmp_path, TASK, init=GOLDEN / "sh2_a", data=labelled)
    pretrain(path)
    text = labelled.read_text()
    labelled.write_text(text.replace("poor", "low").replace("rich", "high"))
    with pytest.raises(NexVarError, match="contents of task.file changed"):
        pretrain(path)
    labelled.write_text(text)
    other = tmp_path / "other"
    shutil.copytree(GOLDEN / "sh2_a", other)
    weights = load_file(other / "weights.safetensors")
    first = next(n for n, t in weights.items() if t.is_floating_point() and t.ndim == 2)
    save_file(weights | {first: weights[first] * 2}, other / "weights.safetensors")
    with pytest.raises(NexVarError, match="contents of model.init changed"):
        pretrain(recipe(tmp_path, TASK, init=other, data=labelled))


def test_metrics_are_scikit_learns(tmp_path: Path, labelled: Path) -> None:
    from sklearn import metrics

    run = Run(read(recipe(tmp_path, TASK, init=GOLDEN / "sh2_a", data=labelled)))
    rng = np.random.default_rng(0)
    out, target = torch.tensor(rng.normal(size=(50, 2)).round(1)), torch.tensor(rng.integers(2, size=50))
    mine, said = run.source.kind.metrics(out.numpy(), target.numpy()), out.argmax(1)
    assert mine["accuracy"] == pytest.approx(metrics.accuracy_score(target, said))
    assert mine["f1"] == pytest.approx(metrics.f1_score(target, said, average="macro"))
    assert mine["mcc"] == pytest.approx(metrics.matthews_corrcoef(target, said))
    assert mine["auroc"] == pytest.approx(metrics.roc_auc_score(target, out[:, 1] - out[:, 0]))


def test_predict_writes_a_table(tmp_path: Path, labelled: Path) -> None:
    run = Run(read(recipe(tmp_path, TASK, init=GOLDEN / "sh2_a", data=labelled)))
    run.write_model()
    (tmp_path / "x.fa").write_text(">a\nACGTAACC\n>b\nGGGTAC\n")
    command = [sys.executable, "-m", "nexvar.cli", "predict", str(tmp_path / "run/model"), str(tmp_path / "x.fa"), "-o",
               str(tmp_path / "x.tsv")]  # fmt: skip
    command[1:3] = ["-c", "from nexvar.cli import main; main()"]
    subprocess.run(command, check=True, capture_output=True)
    with (tmp_path / "x.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [r["name"] for r in rows] == ["a", "b"] and set(rows[0]) == {"name", "label", "poor", "rich"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('init = "{init}"', 'architecture = "genos"\ninit = "{init}"', "not both"),
        ('init = "{init}"', "", "needs architecture"),
        ('init = "{init}"', 'init = "{init}"\ntokenizer = "byte"', "tokenizer comes with init"),
        ('init = "{init}"', 'init = "/no/such/folder"', "no such folder"),
        ("[task]", TUNE.format("lora") + "rank = 4000\n[task]", "no projection is wider than 4000"),
        (
            "[task]",
            TUNE.format("lora") + 'targets = ["quarry"]\n[task]',
            "no layer 'quarry' in striped_hyena2",
        ),
        ("[task]", TUNE.format("ia3") + "rank = 4\n[task]", "rank is of LoRA"),
        ("[task]", TUNE.format("prefix") + "[task]", "weights is 'prefix'"),
        ("[task]", TUNE.format("lora") + "dropout = 1.5\n[task]", "dropout is 1.5"),
        ("[task]", '[data]\nfiles = ["x"]\nlength = 3\n[task]', "brings its own data"),
        ("[task]", "[parallel]\ncontext = 2\n[task]", "context 2"),
        ("[task]", '[task]\nkind = "ranking"', "no kind 'ranking'"),
        ("[task]", '[task]\nkind = "regression"', "label 'poor' is no number"),
        ("[task]", "[task]\nholdout = 1.5", "holdout is 1.5"),
        ("[task]", '[task]\npool = "middle"', "no pool 'middle'"),
        ("[task]", "[task]\npools = 3", "did you mean pool"),
    ],
)
def test_a_bad_task_is_one_line(tmp_path: Path, labelled: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(NexVarError, match=says) as error:
        Run(read(recipe(tmp_path, TASK.replace(old, new), init=GOLDEN / "sh2_a", data=labelled)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.tsv", "seq\tlabel\nACGT\t1\n", "x.tsv:2: no sequence: columns sequence, label; it has seq, label"),
        ("x.tsv", "sequence\tlabel\nACGT\ta\nMKVL\tb\n", "x.tsv:3.*protein"),
        ("x.tsv", "sequence\tlabel\nACGT\ta\nACGA\ta\n", "only one class"),
        ("x.tsv", "sequence\tlabel\tsplit\nACGT\ta\ttest\n", "no row to train on"),
        ("x.tsv", "sequence\tlabel\tsplit\nAC\ta\ttrain\nCC\tb\ttrain\nAA\tc\tdev\n", "label 'c' is in no row"),
        ("x.tsv", "sequence\tlabel\tsplit\nACGT\ta\ttrial\n", "x.tsv:2: split is 'trial': one of train, valid"),
        ("x.tsv", "sequence\tlabel\tsplit\nACGT\ta\t\nACGA\tb\ttrain\n", "split is given for some rows only"),
        ("x.tsv", "sequence\tlabel\nACGT\ta\n\nACGA\t\n", "x.tsv:4: an empty label: a class"),
        ("x.tsv", 'sequence\tlabel\nACGT\t"a\nACGA\tb\n', "x.tsv: cannot be read: unexpected end of data"),
        (
            "x.tsv",
            "sequence\tlabel\tsplit\tgroup\nAC\ta\ttrain\tg\nCC\tb\ttest\tg\n",
            "group g is in test and in train",
        ),
        ("x.tsv", "sequence\tlabel\tsite\nACGT\ta\t4\n", "x.tsv:2: site is '4': a base, from 0 to 3"),
        ("x.txt", "", "unknown format"),
        ("x.parquet", "no", "cannot be read"),
    ],
)
def test_bad_labels_are_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(NexVarError, match=says) as error:
        Run(read(recipe(tmp_path, TASK, init=GOLDEN / "sh2_a", data=tmp_path / name)))
    assert "\n" not in str(error.value)


def test_labels_are_read_however_programs_write_them(tmp_path: Path) -> None:
    """Excel's mark at the beginning; cells beyond the csv module's own limit; Parquet's nulls, NaN and lists."""
    long = "ACGT" * 40_000
    table, rows = tmp_path / "x.tsv", tmp_path / "x.parquet"
    table.write_text(f"\ufeffsequence\tlabel\tsplit\n{long}\ta\t\nACGA\tb\t\n", encoding="utf-8")
    read_back = labels.read_rows(TaskPart(file=str(table)), lambda text, where: text, 1)
    assert read_back.texts == [long, "ACGA"] and read_back.labels == [("a",), ("b",)]

    values = {"y": [1.0, None, 0.5], "z": [2.0, float("nan"), 3.0], "each": [[1, 0], [None, 2], [3, 4]]}
    pq.write_table(pa.table({"sequence": ["AC", "CC", "GC"], "split": [None] * 3, **values}), rows)
    part = TaskPart(file=str(rows), kind="regression", labels=list(values))
    read_back = labels.read_rows(part, lambda text, where: text, 1)
    assert read_back.labels == [("1", "2", "1,0"), ("", "", ",2"), ("0.5", "3", "3,4")]


@pytest.mark.parametrize("name", ["finetune-corpus", "finetune-task"])
def test_the_recipes_work_when_made_small(tmp_path: Path, fasta: Path, labelled: Path, name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text()
    for old, new in (
        ("data/birds.fa.gz", fasta), ("data/labelled.tsv", labelled), ("runs/", f"{tmp_path}/runs/"),
        ("length = 1024", "length = 64"), ("batch = 16", "batch = 4"), ("batch = 32", "batch = 8"),
        ("holdout = 10", "holdout = 1"), ("steps = 500", "steps = 30"), ("floor", "# floor"),
    ):  # fmt: skip
        text = text.replace(old, str(new))
    (tmp_path / "recipe.toml").write_text(text)
    run = Run(read(tmp_path / "recipe.toml"))
    assert all(math.isfinite(run.train_step()[0]) for _ in range(2))
    run.write_model()
    assert NexVar(Path(run.recipe.run.out) / "model").card.species == "mitochondria"


@pytest.mark.parametrize("limit", [100, 3_000])
def test_a_full_disk_is_one_line_wherever_it_strikes(tmp_path: Path, fasta: Path, limit: int) -> None:
    """No file may grow beyond ``limit`` bytes, as on a full disk: the store, the log, the state cannot be written."""
    path = recipe(tmp_path, CORPUS, init=GOLDEN / "sh2_a", data=fasta, kind="causal")

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = subprocess.run(
        [sys.executable, "-m", "nexvar.train", str(path)], preexec_fn=full, capture_output=True, text=True
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert result.stderr.count("cannot be written") == 1
