"""A run, as a user sees it: losses, checkpoints, kills and resumes, processes, stages."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nexvar import NexVar, models
from nexvar.errors import NexVarError
from nexvar.ops import arithmetic
from nexvar.train import state
from nexvar.train.loop import Run, _work, pretrain
from nexvar.train.recipe import read
from nexvar.train.weights import checkpoint_blocks
from nexvar.weights import checkpoint
from tiny_run import losses, recipe_file, run_in_process


def test_a_run_learns_and_its_folder_is_a_model(tmp_path: Path, fasta: Path) -> None:
    folder = pretrain(recipe_file(tmp_path, fasta, **{"steps = 12": "steps = 30"}))
    curve = losses(tmp_path / "run")
    assert curve[30] < curve[1] - 1.0
    model = NexVar(folder)
    assert model.card.context == 48 and math.isfinite(model.score_sequences(["ACGTACGT"])[0])
    assert (tmp_path / "run/loss.png").stat().st_size > 1000


def test_kill_9_and_resume_gives_the_same_bits(tmp_path: Path, fasta: Path) -> None:
    changes = {"steps = 12": "steps = 40", "save_every = 2": "save_every = 3"}
    straight, killed = (recipe_file(tmp_path, fasta, out, **changes) for out in ("straight", "killed"))
    pretrain(straight)
    run_in_process(killed, kill_after=8)
    assert max(losses(tmp_path / "killed")) < 40
    pretrain(killed)
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    a, b = (checkpoint.read([tmp_path / out / "model/model.safetensors"]) for out in ("killed", "straight"))
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
        a, b = (checkpoint.read([tmp_path / out / file]) for out in ("single", "double"))
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
    saved = checkpoint.read([tmp_path / "run/model/model.safetensors"])[name]
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
    assert state.read_facts(path) == {"step": 1}
    assert state.read({"x": torch.Size([2])}, path)["x"].tolist() == [1, 1]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("inner_mlp_size = 48", "inner_mlp_size = 64", "model.config was .*48.* and is .*64"),
        ("adam_lr = 3e-3", "adam_lr = 1e-3", "optimizer.adam_lr was 0.003 and is 0.001"),
        ("holdout = 2", "holdout = 3", "data.holdout was 2 and is 3"),
        ("warmup = 2", "warmup = 3", "schedule.warmup was 2 and is 3"),
        ("batch = 4\n", "batch = 2\n", "run.batch was 4 and is 2"),
        ("log_every = 1", "log_every = 1\nseed = 7", "run.seed was 0 and is 7"),
        ("steps = 12", "steps = 6", "12 steps are done, 6 are asked"),
    ],
)
def test_another_recipe_on_a_folder_is_refused(tmp_path: Path, fasta: Path, old: str, new: str, says: str) -> None:
    pretrain(recipe_file(tmp_path, fasta))
    before = (tmp_path / "run/state.safetensors").read_bytes()
    with pytest.raises(NexVarError, match=says) as error:
        pretrain(recipe_file(tmp_path, fasta, **{old: new}))
    assert "another run.out" in str(error.value)
    assert (tmp_path / "run/state.safetensors").read_bytes() == before


def test_other_sources_on_a_folder_are_refused(tmp_path: Path, fasta: Path) -> None:
    path = recipe_file(tmp_path, fasta)
    pretrain(path)
    fasta.write_text(fasta.read_text().replace("A", "C", 1))
    with pytest.raises(NexVarError, match="contents of data.files changed"):
        pretrain(path)


def test_how_long_and_how_often_may_change(tmp_path: Path, fasta: Path) -> None:
    """More steps go on; who moved the sources, or saves more often, goes on, too."""
    pretrain(recipe_file(tmp_path, fasta))
    moved = fasta.rename(tmp_path / "moved.fa")
    changes = {"steps = 12": "steps = 16", "save_every = 2": "save_every = 5", "micro_batch = 2": "micro_batch = 1"}
    pretrain(recipe_file(tmp_path, moved, **changes))
    assert max(losses(tmp_path / "run")) == 16


def test_a_state_that_names_no_recipe_is_refused(tmp_path: Path, fasta: Path) -> None:
    path = recipe_file(tmp_path, fasta)
    pretrain(path)
    state.write({"x": torch.ones(2)}, {"step": 1}, tmp_path / "run/state.safetensors")
    with pytest.raises(NexVarError, match="does not say of which recipe"):
        pretrain(path)


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


@pytest.mark.parametrize("products", arithmetic.ARITHMETICS)
@pytest.mark.parametrize("bf16", ['"auto"', "true", "false"])
def test_bf16_follows_the_processor_unless_told(tmp_path, fasta, monkeypatch, recwarn, products, bf16):
    """The recipe's default asks the probe; who insists on what is slow here is told."""
    monkeypatch.setenv(arithmetic.VARIABLE, products)
    arithmetic.cpu_products.cache_clear()
    monkeypatch.setattr("nexvar.train.loop.matmul_rate", lambda device, dtype: 1e3)  # nothing is slow beside that
    path = recipe_file(tmp_path, fasta, **{"bf16 = false": f"bf16 = {bf16}", "steps = 12": "steps = 6"})
    wanted = {'"auto"': products == "bfloat16", "true": True, "false": False}[bf16]
    assert read(path).run.autocast(torch.device("cpu")) == wanted
    pretrain(path)
    told = [str(w.message) for w in recwarn.list if "run.bf16" in str(w.message)]
    assert bool(told) == (bf16 == "true" and products == "float32")
    arithmetic.cpu_products.cache_clear()


def test_a_run_that_uses_little_of_the_device_says_what_would_help(tmp_path, fasta, monkeypatch):
    monkeypatch.setattr("nexvar.train.loop.ADVICE_S", 0)
    with pytest.warns(UserWarning, match=r"MFU\): .*micro_batch") as told:
        pretrain(recipe_file(tmp_path, fasta))
    assert len([w for w in told if "MFU" in str(w.message)]) == 1
