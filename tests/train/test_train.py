"""The trainer, as a user sees it: data in, batches, losses, checkpoints, resumes, refusals."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from nexvar import NexVar, models
from nexvar.errors import NexVarError
from nexvar.tokenizers import ByteTokenizer, KmerTokenizer
from nexvar.train import data, optim, state
from nexvar.train.logs import TensorBoard, masked_crc32c
from nexvar.train.loop import Run, _work, pretrain
from nexvar.train.loss_weights import LossWeights
from nexvar.train.markov import Markov
from nexvar.train.objective import Objective, weighted_nll
from nexvar.train.recipe import ObjectivePart, OptimizerPart, RunPart, SchedulePart, Stage, read
from nexvar.train.weights import checkpoint_blocks
from nexvar.weights import load
from places import RECIPES

FROM_SCRATCH = sorted(p for p in RECIPES.glob("*.toml") if not p.stem.startswith("finetune"))

RECIPE = """
[model]
architecture = "striped_hyena2"
[model.config]
hidden_size = 32
pattern = "SDH*"
num_attention_heads = 2
inner_mlp_size = 48
vocab_size = 128
[data]
files = ["{fasta}"]
length = 48
circular = true
holdout = 2
[optimizer]
kind = "muon"
adam_lr = 3e-3
[schedule]
steps = 12
warmup = 2
decay = 4
[run]
out = "{out}"
batch = 4
micro_batch = 2
threads = 1
bf16 = false
log_every = 1
save_every = 2
eval_every = 6
"""


def genomes(count: int = 8, length: int = 160) -> list[tuple[str, str]]:
    rng = np.random.default_rng(0)
    ancestor = rng.integers(4, size=length)
    rows = []
    for i in range(count):
        letters = np.where(rng.random(length) < 0.1, rng.integers(4, size=length), ancestor)
        rows.append((f"Genus{i // 2}_species{i}", "".join("ACGT"[b] for b in letters)))
    return rows


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "genomes.fa"
    path.write_text("".join(f">{n} len=1 lineage=Chordata; {n.split('_')[0]}\n{s}\n" for n, s in genomes()))
    return path


def recipe_file(tmp_path: Path, fasta: Path, out: str = "run", **changes: str) -> Path:
    """The tiny recipe with lines replaced: ``recipe_file(…, **{"steps = 12": "steps = 3"})``."""
    text = RECIPE.format(fasta=fasta, out=tmp_path / out)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path / f"{out}.toml"
    path.write_text(text)
    return path


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {r["step"]: r["loss"] for r in rows if "loss" in r}


# -- data


def test_fasta_gz_jsonl_and_parquet_give_the_same_store(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [("a", "ACGTnnacgt"), ("b", "GGGTTA")]
    with gzip.open(tmp_path / "x.fa.gz", "wt") as f:
        f.write(">a first one\nACGTnn\nacgt\n>b\nGGGTTA\n")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"record": n, "text": s}) + "\n" for n, s in rows))
    pq.write_table(pa.table({"record": [n for n, _ in rows], "text": [s for _, s in rows]}), tmp_path / "x.parquet")
    for name in ("x.fa.gz", "x.jsonl", "x.parquet"):
        store = data.build_store([tmp_path / name], tmp_path / "store")
        assert [(r.name, store.sequence(r).tobytes().decode()) for r in store.records] == rows
        again = data.build_store([tmp_path / name], tmp_path / "store")
        assert isinstance(again.bases, np.memmap) and np.array_equal(again.bases, store.bases)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("protein.fa", ">p\nMKVLAAGIPLLEFQW\n", "protein"),
        ("empty.fa", "", "no sequence"),
        ("hollow.fa", ">a\n>b\nACGT\n", "hollow.fa:2: record 'a' is empty"),
        ("bare.fa", "ACGT\n", "bare.fa:1"),
        ("x.jsonl", '{"name": "a"}\n', "x.jsonl:1"),
        ("broken.jsonl", '{"text": "AC', "cannot be read"),
        ("x.txt", "ACGT", "unknown format"),
        ("cut.fa.gz", gzip.compress(b">a\n" + b"ACGT" * 500, mtime=0)[:-12], "cannot be read"),
    ],
)
def test_bad_data_is_one_line(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NexVarError) as error:
        data.build_store([path], tmp_path / "store")
    assert says in str(error.value) and "\n" not in str(error.value) and name in str(error.value)
    with pytest.raises(NexVarError, match="no such file"):
        data.build_store([tmp_path / "absent.fa"], tmp_path / "store")


def test_holdout_takes_whole_genera_and_exclude_drops_clades(tmp_path: Path, fasta: Path) -> None:
    store = data.build_store([fasta], tmp_path / "store")
    parts = data.split(store.records, by="genus", count=3, seed=5, exclude=["Genus1"])
    held, train = {r.genus for r in parts.held_out}, {r.genus for r in parts.train}
    assert len(parts.held_out) == 4 and not held & train
    assert {r.genus for r in parts.excluded} == {"Genus1"} and "Genus1" not in held | train
    shuffled = data.split(store.records[::-1], by="genus", count=3, seed=5, exclude=["Genus1"])
    assert {r.name for r in shuffled.held_out} == {r.name for r in parts.held_out}
    named = data.split(store.records, by="record", count=0, seed=0, names=["Genus2_species4"])
    assert [r.name for r in named.held_out] == ["Genus2_species4"]
    with pytest.raises(NexVarError, match="leaves none"):
        data.split(store.records, by="genus", count=99, seed=0)


def sampler(tmp_path: Path, text: str, **options: object) -> data.Sampler:
    path = tmp_path / "s.fa"
    path.write_text(text)
    store = data.build_store([path], tmp_path / "store")
    return data.Sampler(store, store.records, **options)  # type: ignore[arg-type]


def test_windows_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    s = sampler(tmp_path, ">a\nACGTTGCAAC\n", length=25, seed=3, circular=True)
    many, one = s.windows(10, 5)[0], s.windows(13, 1)[0]
    assert np.array_equal(many[3], one[0])
    other = sampler(tmp_path, ">a\nACGTTGCAAC\n", length=25, seed=4, circular=True)
    assert not np.array_equal(other.windows(10, 5)[0], many)


def test_circular_windows_wrap_and_both_strands_come(tmp_path: Path) -> None:
    genome = "ACCGTTAG"
    s = sampler(tmp_path, f">a\n{genome}\n", length=12, seed=0, circular=True)
    forward = {(genome * 3)[i : i + 12] for i in range(8)}
    reverse = {"CTAACGGT"[i:] + "CTAACGGT" * 2 for i in range(8)}
    seen = Counter(row.tobytes().decode() for row in s.windows(0, 200)[0])
    strands = Counter("forward" if w in forward else "reverse" for w in seen.elements())
    assert set(seen) == forward | {w[:12] for w in reverse}
    assert 70 < strands["forward"] < 130


def test_short_records_are_packed_with_a_separator_and_no_base_is_lost(tmp_path: Path) -> None:
    s = sampler(tmp_path, ">a\nAAAA\n>b\nCCCCCC\n", length=40, seed=0, reverse_complement=0.0)
    text, weight = s.window(0)
    pieces = text.tobytes().split(b"\0")
    assert set(pieces[:-1]) == {b"AAAA", b"CCCCCC"} and pieces[-1] in b"AAAA\0CCCCCC"
    assert np.array_equal(weight == 0, text == 0)


def test_soft_masked_bases_weigh_less_and_n_nothing(tmp_path: Path) -> None:
    s = sampler(tmp_path, ">a\nACgtNn\n", length=6, seed=0, reverse_complement=0.0, soft_mask_weight=0.1)
    text, weight = s.window(0)
    assert text.tobytes() == b"ACGTNN"
    np.testing.assert_allclose(weight, [1, 1, 0.1, 0.1, 0, 0])


def weights_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "weights.bed"
    path.write_text(text)
    return path


def test_regions_of_a_bed_file_weigh_what_it_says_on_either_strand(tmp_path: Path) -> None:
    text = ">a\nACGTACGTAN\n>b\nGGGGGGGGGG\n"
    records = sampler(tmp_path, text, length=10, seed=0).records
    bed = "# regions\na\t2\t6\tx\t3\na\t4\t10\ty\t0.5\nother\t0\t9\tz\t7\n"
    weights = LossWeights.read(weights_file(tmp_path, bed), {r.name: r.length for r in records})
    expected = np.array([1, 1, 3, 3, 0.5, 0.5, 0.5, 0.5, 0.5, 0])  # the later region holds, N never counts
    seen = set()
    for circular in (False, True):
        for strand in (0.0, 1.0):
            s = sampler(
                tmp_path, text, length=10, seed=3, circular=circular, reverse_complement=strand, loss_weights=weights
            )
            for i in range(20):
                letters, weight = s.window(i)
                if b"G" * 10 in letters.tobytes() or b"C" * 10 in letters.tobytes():
                    assert (weight == 1).all()
                    continue
                shift = -letters.tobytes().find(b"N") - 1 if strand == 0 else -letters.tobytes().find(b"N")
                want = np.roll(expected if strand == 0 else expected[::-1], -shift)
                np.testing.assert_array_equal(weight, want)
                seen.add((circular, strand))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "line, says",
    [
        ("a\t2\t6", "weights.bed:2: 'a\\t2\\t6'"),
        ("a\t2\tsix\tx\t3", "weights.bed:2: 'a\\t2\\tsix"),
        ("a\t6\t2\tx\t3", "weights.bed:2: 6 to 2 of 10 bases"),
        ("a\t0\t11\tx\t3", "weights.bed:2: 0 to 11 of 10 bases"),
        ("a\t0\t5\tx\t-1", "weights.bed:2: weight -1"),
        ("a\t0\t5\tx\tnan", "weights.bed:2: weight nan"),
        ("chr1\t0\t5\tx\t1", "weights.bed: no region of any record"),
    ],
)
def test_a_line_that_is_no_weighted_region_is_one_line(tmp_path: Path, line: str, says: str) -> None:
    records = sampler(tmp_path, ">a\nACGTACGTAN\n", length=10, seed=0).records
    with pytest.raises(NexVarError) as caught:
        LossWeights.read(weights_file(tmp_path, "# regions\n" + line + "\n"), {r.name: r.length for r in records})
    assert says in str(caught.value)


def test_a_recipe_with_loss_weights_trains_by_them(tmp_path: Path, fasta: Path) -> None:
    def first_losses(out: str, regions: str) -> list[float]:
        bed = tmp_path / f"{out}.bed"
        bed.write_text("".join(f"{name}\t{regions}\n" for name, _ in genomes()))
        changes = {"circular = true": f'circular = true\nloss_weights = "{bed}"', "steps = 12": "steps = 6"}
        return list(losses(pretrain(recipe_file(tmp_path, fasta, out, **changes)).parent).values())

    plain = losses(pretrain(recipe_file(tmp_path, fasta, "plain", **{"steps = 12": "steps = 6"})).parent)
    assert first_losses("twice", "0\t160\tall\t2") == pytest.approx(list(plain.values()), rel=1e-5)
    assert first_losses("half", "0\t80\tleft\t0") != pytest.approx(list(plain.values()), rel=1e-3)


def test_clade_weights_set_the_share_of_windows(tmp_path: Path) -> None:
    text = ">Pan_a lineage=Mammalia; Primates\nAAAA\n>Mus_a lineage=Mammalia\nCCCC\n>Danio_a lineage=Pisces\nGGGG\n"
    s = sampler(tmp_path, text, length=4, seed=1, reverse_complement=0.0, weights={"Primates": 4.0, "Mammalia": 2.0})
    seen = Counter(chr(row[0]) for row in s.windows(0, 1400)[0])
    for letter, expected in (("A", 800), ("C", 400), ("G", 200)):
        assert abs(seen[letter] - expected) < 60


# -- objectives


def test_causal_targets_are_the_next_tokens() -> None:
    o = Objective(ObjectivePart(), ByteTokenizer(), 128, 0)
    text = np.frombuffer(b"ACGNT", dtype=np.uint8)[None]
    b = o.batch(text, data.IS_BASE[text].astype(np.float32), 0)
    assert b.ids.tolist() == [list(b"ACGNT")] and b.targets[0, :-1].tolist() == list(b"CGNT")
    assert b.weight.tolist() == [[1, 1, 0, 1, 0]] and b.bases == 3
    with pytest.raises(NexVarError, match="vocabulary is 64"):
        Objective(ObjectivePart(), ByteTokenizer(), 64, 0)
    with pytest.raises(NexVarError, match="no mask token"):
        Objective(ObjectivePart(kind="masked"), ByteTokenizer(), 128, 0)


def test_kmers_read_other_letters_and_the_ends_of_records_as_n() -> None:
    tokenizer = KmerTokenizer(k=3)
    o = Objective(ObjectivePart(kind="masked"), tokenizer, tokenizer.vocab_size, 0)
    text = np.frombuffer(b"ACGYTTGCA\0GAT", dtype=np.uint8)[None]
    asked = o.batch(text, data.IS_BASE[text].astype(np.float32), 0).targets
    assert asked.tolist() == [tokenizer.encode("ACGNTTGCANGAT").ids]


def test_masking_hides_the_asked_share_of_whole_kmers_the_same_way_every_time() -> None:
    tokenizer = KmerTokenizer(k=6)
    o = Objective(ObjectivePart(kind="masked", mask_rate=0.15), tokenizer, tokenizer.vocab_size, 0)
    rng = np.random.default_rng(0)
    text = np.frombuffer(b"ACGT", dtype=np.uint8)[rng.integers(4, size=(16, 600))]
    weight = np.ones(text.shape, dtype=np.float32)
    b, again = o.batch(text, weight, 7), o.batch(text, weight, 7)
    assert torch.equal(b.ids, again.ids) and not torch.equal(b.ids, o.batch(text, weight, 99).ids)
    asked = b.weight > 0
    assert 0.12 < float(asked.sum()) / (16 * 100) < 0.18
    assert b.bases == 6 * float(b.weight.sum())  # every hidden token is six bases
    assert torch.equal(b.ids[~asked], b.targets[~asked])
    masked = (b.ids[asked] == tokenizer.mask_id).float().mean()
    same = (b.ids[asked] == b.targets[asked]).float().mean()
    assert 0.7 < masked < 0.9 and 0.04 < same < 0.17


def test_masked_spans_are_whole() -> None:
    from nexvar.tokenizers import CharacterTokenizer

    tokenizer = CharacterTokenizer()
    o = Objective(ObjectivePart(kind="masked", mask_rate=0.3, mask_span=5), tokenizer, tokenizer.vocab_size, 0)
    text = np.full((4, 200), ord("A"), dtype=np.uint8)
    hidden = o.batch(text, np.ones(text.shape, dtype=np.float32), 0).weight.numpy() > 0
    for row in hidden:
        edges = np.flatnonzero(np.diff(row.astype(int)))
        assert len(set(edges % 5)) <= 1  # spans begin and end on one grid of five


def test_weighted_loss_is_the_definition() -> None:
    logits, targets, weight = torch.randn(2, 5, 7), torch.randint(7, (2, 5)), torch.rand(2, 5)
    expected = sum(
        -float(weight[b, t]) * math.log(float(logits[b, t].softmax(0)[targets[b, t]]))
        for b in range(2)
        for t in range(5)
    )
    assert float(weighted_nll(logits, targets, weight)) == pytest.approx(expected, rel=1e-5)


# -- optimizer and schedule


def test_orthogonalized_updates_have_singular_values_near_one() -> None:
    for shape in ((40, 64), (96, 32)):
        values = torch.linalg.svdvals(optim.orthogonalize(torch.randn(shape)))
        assert float(values.min()) > 0.4 and float(values.max()) < 1.4


def test_muon_takes_a_convolution_for_a_matrix_of_its_outputs() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(40, 32, 5)
    twins = {"blocks.0.conv.weight": kernel.clone(), "blocks.0.flat.weight": kernel.flatten(1).clone()}
    o = optim.Optimizer(OptimizerPart(kind="muon"), twins)
    for i in range(3):
        g = torch.randn(40, 32, 5)
        for p in twins.values():
            p.grad = g.view_as(p)
        o.step(i + 1, 1.0)
    conv, flat = twins.values()
    assert torch.equal(conv.flatten(1), flat) and not torch.equal(conv, kernel)
    assert not any(name.startswith("v.") for name in o.state)


def test_log_poles_stay_negative_whatever_the_gradient() -> None:
    p = torch.full((4, 2, 1), -1e-4)
    o = optim.Optimizer(OptimizerPart(adam_lr=0.1), {"blocks.0.filter.log_poles": p})
    for i in range(50):
        p.grad = -torch.ones_like(p)
        o.step(i + 1, 1.0)
    assert bool((p < 0).all()) and bool((p > -1e-4).all())


def test_adamw_is_torchs() -> None:
    torch.manual_seed(0)
    a = torch.randn(8, 8)
    b = torch.nn.Parameter(a.clone())
    mine = optim.Optimizer(OptimizerPart(adam_lr=0.01, weight_decay=0.1), {"x.weight": a})
    theirs = torch.optim.AdamW([b], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for i in range(5):
        a.grad = torch.randn(8, 8)
        b.grad = a.grad.clone()
        mine.step(i + 1, 1.0)
        theirs.step()
    torch.testing.assert_close(a, b.detach())


def test_schedules() -> None:
    wsd = optim.Schedule("wsd", steps=10, warmup=2, decay=4)
    assert [wsd.factor(i) for i in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [wsd.decay_now(3, 2).factor(i) for i in (2, 3, 4)] == [1, 1, 0.5] and wsd.decay_now(3, 2).steps == 5
    cosine = optim.Schedule("cosine", steps=12, warmup=2, floor=0.1, cosine_steps=10)
    assert cosine.factor(2) == pytest.approx(1) and cosine.factor(6) == pytest.approx(0.55)
    assert cosine.factor(10) == cosine.factor(11) == pytest.approx(0.1)
    with pytest.raises(NexVarError, match="impossible"):
        optim.Schedule("wsd", steps=10, warmup=8, decay=4)


# -- runs


def test_a_run_learns_and_its_folder_is_a_model(tmp_path: Path, fasta: Path) -> None:
    folder = pretrain(recipe_file(tmp_path, fasta, **{"steps = 12": "steps = 30"}))
    curve = losses(tmp_path / "run")
    assert curve[30] < curve[1] - 1.0
    model = NexVar(folder)
    assert model.card.context == 48 and math.isfinite(model.score_sequences(["ACGTACGT"])[0])
    assert (tmp_path / "run/loss.png").stat().st_size > 1000


def run_in_process(recipe: Path, kill_after: int | None = None, processes: int = 1) -> None:
    """Train in a process of its own; with ``kill_after``, SIGKILL it once that step is logged."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [sys.executable, *launcher, "-m", "nexvar.train", str(recipe)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    log = recipe.with_suffix("") / "log.jsonl"
    while kill_after is not None and process.poll() is None:
        if log.is_file() and f'"step": {kill_after},' in log.read_text():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), error


def test_kill_9_and_resume_gives_the_same_bits(tmp_path: Path, fasta: Path) -> None:
    changes = {"steps = 12": "steps = 40", "save_every = 2": "save_every = 3"}
    straight, killed = (recipe_file(tmp_path, fasta, out, **changes) for out in ("straight", "killed"))
    pretrain(straight)
    run_in_process(killed, kill_after=8)
    assert max(losses(tmp_path / "killed")) < 40
    pretrain(killed)
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    a, b = (load.checkpoint.read([tmp_path / out / "model/model.safetensors"]) for out in ("killed", "straight"))
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("how", ["data-parallel", "sharded"])
def test_two_processes_follow_the_single_one(tmp_path: Path, fasta: Path, how: str) -> None:
    changes = {"holdout = 2": "holdout = 3", "bf16 = false": "bf16 = false\nema = 0.5\ncheckpoint_activations = true"}
    if how == "sharded":
        changes |= {"threads = 1": "threads = 1\nshard = true", 'kind = "muon"': 'kind = "adamw"'}
    single, double = (recipe_file(tmp_path, fasta, out, **changes) for out in ("single", "double"))
    pretrain(single)
    run_in_process(double, processes=2)
    one, two = losses(tmp_path / "single"), losses(tmp_path / "double")
    assert one.keys() == two.keys() and max(abs(one[s] - two[s]) for s in one) < 1e-4
    for file in ("state.safetensors", "model/model.safetensors"):
        a, b = (load.checkpoint.read([tmp_path / out / file]) for out in ("single", "double"))
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4, msg=name)
    # whoever wrote the state, the other way of running goes on from it
    (tmp_path / "double/state.safetensors").replace(tmp_path / "single/state.safetensors")
    assert Run(read(single)).resume()


def test_accumulation_and_activation_checkpointing_change_nothing(tmp_path: Path, fasta: Path) -> None:
    plain = Run(read(recipe_file(tmp_path, fasta, **{"micro_batch = 2": "micro_batch = 4"})))
    other = Run(read(recipe_file(tmp_path, fasta, "b", **{"micro_batch = 2": "micro_batch = 1"})))
    checkpoint_blocks(other.model)
    for run in (plain, other):
        run.train_step()
    for name, p in plain.weights.local.items():
        torch.testing.assert_close(p.grad, other.weights.local[name].grad, rtol=1e-4, atol=1e-6)


def test_stages_change_length_and_keep_count_of_windows(tmp_path: Path, fasta: Path) -> None:
    path = recipe_file(tmp_path, fasta)
    path.write_text(path.read_text() + "\n[[stages]]\nstart = 5\nlength = 96\nbatch = 2\nmicro_batch = 2\n")
    recipe = read(path)
    assert recipe.stage(4) == (recipe.stages[0], 16) and recipe.stage(7) == (recipe.stages[1], 24)
    assert recipe.tokens(12) == 5 * 4 * 48 + 7 * 2 * 96
    pretrain(path)
    assert NexVar(tmp_path / "run/model").card.context == 96


def test_a_decay_file_ends_the_stable_phase(tmp_path: Path, fasta: Path) -> None:
    path = recipe_file(tmp_path, fasta, **{"steps = 12": "steps = 500"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/decay").write_text("6")
    pretrain(path)
    assert max(losses(tmp_path / "run")) == 6


def test_ema_is_what_the_folder_holds(tmp_path: Path, fasta: Path) -> None:
    run = Run(read(recipe_file(tmp_path, fasta, **{"bf16 = false": "bf16 = false\nema = 0.5"})))
    start = {n: p.detach().clone() for n, p in run.weights.local.items()}
    run.train_step()
    run.save()
    name = "blocks.0.mlp.l1.weight"
    saved = load.checkpoint.read([tmp_path / "run/model/model.safetensors"])[name]
    torch.testing.assert_close(saved, (start[name] + run.weights.local[name].detach()) / 2)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_state(tmp_path: Path, fasta: Path) -> None:
    run = Run(read(recipe_file(tmp_path, fasta)))
    run.train_step()
    run.save()
    before = (tmp_path / "run/state.safetensors").read_bytes()
    with torch.no_grad():
        run.weights.local["norm.scale"].fill_(float("nan"))
    with pytest.raises(NexVarError, match=r"step 1, windows 4 to 7.*the loss is nan.*state.safetensors"):
        run.train_step()
    assert (tmp_path / "run/state.safetensors").read_bytes() == before


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    state.write({"x": torch.ones(2)}, {"step": 1}, path)

    def full(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(NexVarError, match="No space left.*is the disk full"):
        state.write({"x": torch.zeros(2)}, {"step": 2}, path)
    facts, stored = state.read({"x": torch.Size([2])}, path)
    assert facts == {"step": 1} and stored["x"].tolist() == [1, 1]
    assert not list(tmp_path.glob("*.partial"))


def test_resuming_another_run_is_refused(tmp_path: Path, fasta: Path) -> None:
    pretrain(recipe_file(tmp_path, fasta))
    other = recipe_file(tmp_path, fasta, **{"inner_mlp_size = 48": "inner_mlp_size = 64"})
    with pytest.raises(NexVarError, match="holds another run"):
        pretrain(other)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("adam_lr = 3e-3", "adam_rl = 3e-3", r"unknown key \[optimizer\] adam_rl: did you mean adam_lr"),
        ("[data]", "[dta]", "unknown key dta: did you mean data"),
        ("length = 48", 'length = "48"', "length is '48'"),
        ("length = 48\n", "", "no length"),
        ("batch = 4\n", "batch = 3\n", "multiple of micro_batch"),
        ("decay = 4", "decay = 40", "impossible"),
        ("vocab_size = 128", "vocab_size = 64", "vocabulary is 64"),
        ("hidden_size = 32", "hiden_size = 32", "hiden_size"),
        ('kind = "muon"', 'kind = "sgd"', "unknown optimizer 'sgd'"),
        ("[model]", "[model", "cannot be read"),
        ("holdout = 2", "holdout = 200", "leaves none"),
        ("adam_lr = 3e-3", "adam_lr = nan", "adam_lr is nan: it must be from"),
        ("adam_lr = 3e-3", "adam_lr = 3e-3\nbeta2 = 1.5", "beta2 is 1.5"),
        ("log_every = 1", "log_every = 0", "log_every is 0: it must be at least 1"),
        ("[model]", "stages = 3\n[model]", "stages is no list"),
        ("[model]", "run = 3\n[model]", "cannot be read"),
        ("files = ", "# files = ", "no files"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path: Path, fasta: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(NexVarError, match=says) as error:
        pretrain(recipe_file(tmp_path, fasta, **{old: new}))
    assert "\n" not in str(error.value)


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "nexvar.train", str(tmp_path / "absent.toml")], capture_output=True, text=True
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "absent.toml" in result.stderr


# -- logs, baselines, recipes


def test_tensorboard_frames_are_whole(tmp_path: Path) -> None:
    crc = ((masked_crc32c(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF) << 15
    assert (crc | crc >> 32) & 0xFFFFFFFF == 0xE3069283  # CRC-32C's published check value
    board = TensorBoard(tmp_path)
    board.scalars(300, {"loss": 1.5})
    raw, frames = next(tmp_path.iterdir()).read_bytes(), []
    while raw:
        (length,) = struct.unpack("<Q", raw[:8])
        body, raw = raw[12 : 12 + length], raw[16 + length :]
        frames.append(body)
    assert b"brain.Event:2" in frames[0]
    assert frames[1][9:12] == b"\x10\xac\x02" and frames[1].endswith(b"loss\x15" + struct.pack("<f", 1.5))


def test_a_tracker_gets_every_number(tmp_path: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    seen: list[tuple[int, dict[str, float]]] = []
    fake = types.SimpleNamespace(
        init=lambda project, name: seen.append((0, {})),
        log=lambda values, step: seen.append((step, values)),
        finish=lambda: seen.append((-1, {})),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    pretrain(recipe_file(tmp_path, fasta, **{"steps = 12": "steps = 6"}), track="trackio")
    assert seen[0] == (0, {}) and seen[-1] == (-1, {}) and {"loss", "tokens_s"} <= seen[1][1].keys()
    with pytest.raises(NexVarError, match="no tracker 'mlflow'"):
        pretrain(recipe_file(tmp_path, fasta, "other", **{"threads = 1": 'threads = 1\ntrack = "mlflow"'}))


def test_markov_is_the_formula() -> None:
    text = b"ACGACGTTACGA"
    m = Markov(2, pseudo=2.0).fit([np.frombuffer(text, dtype=np.uint8)])

    def p(context: bytes, base: bytes) -> float:
        lower = p(context[1:], base) if context else 0.25
        n = [text.count(context + b) if context else text[2:].count(b) for b in (b"A", b"C", b"G", b"T")]
        if len(context) == 1:  # counted as the ends of whole 3-mers
            n = [sum(text[i : i + 2] == context + b for i in range(1, len(text) - 1)) for b in (b"A", b"C", b"G", b"T")]
        return (n[b"ACGT".index(base)] + 2 * lower) / (sum(n) + 2)

    out = m.log2_probabilities(np.frombuffer(b"GACN", dtype=np.uint8))
    assert out[2, 1] == pytest.approx(math.log2(p(b"GA", b"C")))
    assert out[1, 0] == pytest.approx(math.log2(p(b"G", b"A")))
    assert np.allclose((2**out).sum(1), 1)
    constant = Markov(3).fit([np.full(500, ord("A"), dtype=np.uint8)])
    assert constant.bits_per_base([np.full(50, ord("A"), dtype=np.uint8)]) < 0.05


def test_the_work_of_a_unet_counts_its_depths_at_their_own_resolution() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = models.get("ntv3").Config(num_downsamples=4, num_layers=2)
    model = models.get("ntv3").Model(config)
    with FlopCounterMode(display=False) as counted:
        model(torch.full((1, 256), 6))
    assert 256 * _work(model, config) / 3 == pytest.approx(counted.get_total_flops(), rel=0.25)


def test_work_is_counted_by_tokens_not_by_bases(tmp_path: Path, fasta: Path) -> None:
    model = """architecture = "nucleotide_transformer"
tokenizer = "kmer3_v2"
[model.config]
vocab_size = 75
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
max_position_embeddings = 64
[objective]
kind = "masked"
"""
    path = recipe_file(tmp_path, fasta)
    text = path.read_text()
    path.write_text("[model]\n" + model + text[text.index("[data]") :])
    run = Run(read(path))
    assert run.source.unit == pytest.approx((1 + 48 / 3) / 48)  # <cls> and 16 tokens of 48 bases
    assert run.flops == _work(run.model, run.start.config) * run.source.unit


@pytest.mark.parametrize("path", FROM_SCRATCH, ids=lambda p: p.stem)
def test_every_recipe_builds_its_model(path: Path) -> None:
    recipe = read(path)
    config = load.make_config(recipe.model.architecture, recipe.model.config, path)
    with torch.device("meta"):
        model = models.get(recipe.model.architecture).Model(config)
    assert sum(p.numel() for p in model.parameters()) > 100_000
    s = recipe.schedule
    assert optim.Schedule(s.kind, s.steps, s.warmup, s.decay, s.floor, s.cosine_steps).factor(s.steps - 1) < 0.2


@pytest.mark.parametrize("path", FROM_SCRATCH, ids=lambda p: p.stem)
def test_every_recipe_trains_when_made_small(path: Path, tmp_path: Path, fasta: Path) -> None:
    """The recipe's own objective, tokenizer, optimizer and schedule kind, at a size for a test."""
    recipe = read(path)
    small = {
        "striped_hyena2": {"hidden_size": 32, "pattern": "SDH*", "num_attention_heads": 2, "inner_mlp_size": 32,
                           "hcs_filter_groups": 4, "hcm_filter_groups": 4},
        "genos": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                  "intermediate_size": 32},
        "caduceus": {"d_model": 16, "n_layer": 2},
        "hyenadna": {"d_model": 16, "d_inner": 32, "max_seq_len": 66},
        "ntv3": {"num_downsamples": 1, "attention_heads": 2, "key_size": 16, "conv_init_embed_dim": 32, "embed_dim": 32,
                 "ffn_embed_dim": 32, "num_layers": 1},
    }[recipe.model.architecture]  # fmt: skip
    model = dataclasses.replace(recipe.model, config=recipe.model.config | small)
    data_part = dataclasses.replace(recipe.data, files=[str(fasta)], length=64, holdout=0, exclude=[], loss_weights="")
    optimizer = dataclasses.replace(recipe.optimizer, adam_lr=1e-2)
    schedule = SchedulePart(steps=8, warmup=1, kind=recipe.schedule.kind)
    run_part = RunPart(out=str(tmp_path / "run"), batch=8, micro_batch=4, bf16=False)
    stages = (Stage(0, 64, 8, 4),)
    run = Run(dataclasses.replace(recipe, model=model, data=data_part, optimizer=optimizer, schedule=schedule,
                                  run=run_part, stages=stages))  # fmt: skip
    first = run.train_step()[0]
    classes = getattr(run.start.config, "vocab_size", run.start.tokenizer.vocab_size)
    assert abs(first - math.log(classes)) < 1.0  # a fresh model knows nothing and claims nothing
    for _ in range(7):
        last = run.train_step()[0]
    assert last < first - 0.3


def test_the_built_in_models_card_is_its_recipes() -> None:
    recipe, card = read(RECIPES / "nexvar_mito.toml"), load.cards.get("nexvar_mito")
    assert (recipe.model.architecture, recipe.model.config) == (card.architecture, card.config)
    assert {key: getattr(card, key) for key in recipe.model.card} == recipe.model.card
