"""Splitting a model over processes changes how it is computed and not what: every way against the single process."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from nexvar.errors import NexVarError
from nexvar.train.grid import AXES, Grid
from nexvar.train.loop import Run
from nexvar.train.recipe import ParallelPart, read
from nexvar.train.split import Cut
from nexvar.train.weights import blocks_of, checkpoint_blocks
from nexvar.weights.load import load
from places import GOLDEN

STRIPED = """
[model]
architecture = "striped_hyena2"
[model.config]
hidden_size = 32
pattern = "SDH*"
num_attention_heads = 4
inner_mlp_size = 48
vocab_size = 128
hcs_filter_groups = 4
hcm_filter_groups = 4
"""
GENOS = """
[model]
architecture = "genos"
tokenizer = "onehot"
init_std = 0.05
[model.config]
vocab_size = 128
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
intermediate_size = 32
num_local_experts = 4
num_experts_per_tok = 2
[objective]
router_aux = 1e-2
router_z = 1e-3
"""
REST = """
[data]
files = ["{fasta}"]
length = 48
circular = true
holdout = 1
[optimizer]
kind = "adamw"
adam_lr = 3e-3
[schedule]
steps = 4
warmup = 1
[run]
out = "{out}"
batch = 4
micro_batch = 2
bf16 = false
ema = 0.5
checkpoint_activations = {checkpoint}
shard = {shard}
[parallel]
{parallel}
"""
# processes -> name: model, [parallel], run.shard
TWO = {
    "striped-tensor": (STRIPED, "tensor = 2", False),
    "striped-context": (STRIPED, "context = 2", False),
    "striped-context-sharded": (STRIPED, "context = 2", True),
    "striped-copies-sharded": (STRIPED, "copies = 2", True),
    "genos-tensor": (GENOS, "tensor = 2", False),
    "genos-context": (GENOS, "context = 2", False),
    "genos-expert": (GENOS, "expert = 2", False),
    "genos-expert-sharded": (GENOS, "expert = 2", True),
}
FOUR = {
    "striped-tensor-context": (STRIPED, "tensor = 2\ncontext = 2", False),
    "genos-tensor-expert": (GENOS, "tensor = 2\nexpert = 2", False),
    "striped-context-copies-sharded-4": (STRIPED, "context = 2\ncopies = 2", True),
}


def write_recipe(folder: Path, name: str, model: str, parallel: str = "", shard: bool = False) -> Path:
    values = {"fasta": folder / "g.fa", "out": folder / name, "parallel": parallel, "checkpoint": str(shard).lower()}
    path = folder / f"{name}.toml"
    path.write_text(model + REST.format(shard=str(shard).lower(), **values))
    return path


def trained(path: Path, rank: int = 0, world: int = 1) -> None:
    """Train, save, and note (loss, norm) of every step and the held-out bits beside the state."""
    run = Run(read(path), rank, world)
    rows = [run.train_step() for _ in range(4)]
    run.save()
    bits = run.evaluate()["held_out_bits"]
    if rank == 0:
        (run.out / "curve.json").write_text(json.dumps([*rows, [bits]]))


def worker(recipes: list[Path], rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    for path in recipes:
        trained(path, rank, world)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every way, trained by two or four processes (one start for all), and both models by this one."""
    folder = tmp_path_factory.mktemp("ways")
    rng = np.random.default_rng(0)
    rows = [f">Genus{i}_a\n{''.join('ACGT'[b] for b in rng.integers(4, size=150))}\n" for i in range(6)]
    (folder / "g.fa").write_text("".join(rows))
    trained(write_recipe(folder, "striped", STRIPED))
    trained(write_recipe(folder, "genos", GENOS))
    server = multiprocessing.get_context("forkserver")  # torch is imported once, and nothing is forked from here
    server.set_forkserver_preload(["nexvar.train.loop", "pytest"])
    for world, ways in ((2, TWO), (4, FOUR)):
        recipes = [write_recipe(folder, name, *way) for name, way in ways.items()]
        processes = [server.Process(target=worker, args=(recipes, rank, world, folder)) for rank in range(world)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(200)
        assert [process.exitcode for process in processes] == [0] * world
    return folder


@pytest.mark.parametrize("name", [*TWO, *FOUR])
def test_many_processes_follow_the_single_one(folder: Path, name: str) -> None:
    single = name.split("-")[0]
    one, two = (json.loads((folder / out / "curve.json").read_text()) for out in (single, name))
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    assert one[0][0] > one[-2][0]  # and it learns
    for file in ("state.safetensors", "model/model.safetensors"):
        a, b = (load_file(folder / out / file) for out in (single, name))
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=key)


def test_any_grid_goes_on_from_any_state(folder: Path) -> None:
    path = write_recipe(folder, "on", GENOS)
    (folder / "on").mkdir()
    (folder / "genos-expert/state.safetensors").rename(folder / "on/state.safetensors")
    run = Run(read(path))
    assert run.resume() and run.step == 4
    (folder / "on/state.safetensors").rename(folder / "genos-expert/state.safetensors")


def test_a_cut_puts_its_pieces_together_again() -> None:
    whole = torch.arange(24.0).view(12, 2)
    cut = Cut(0, 3, ("tensor", "context"))
    sizes = dict(zip(AXES, (1, 1, 1, 2, 2), strict=True))
    pieces = [cut.mine(whole, Grid(sizes, rank)) for rank in range(4)]
    assert pieces[1].tolist() == whole[[1, 5, 9]].tolist()  # row 1 of each of three matrices of four
    assert torch.equal(cut.joined(pieces), whole)


def test_neighbours_in_context_are_neighbours_in_rank() -> None:
    grid = Grid.of(ParallelPart(tensor=2, context=2, expert=2), 5, 16, torch.device("cpu"))
    assert grid.sizes == {"copies": 1, "data": 2, "expert": 2, "tensor": 2, "context": 2}
    assert [grid.index(axis) for axis in AXES] == [0, 0, 1, 0, 1] and grid.index("data", "expert") == 1


@pytest.mark.parametrize(
    ("model", "parallel", "world", "says"),
    [
        (STRIPED, "tensor = 2", 1, r"\[parallel\]: 1 processes cannot be tensor 2: torchrun --nproc-per-node 2"),
        (STRIPED, "tensor = 2", 3, "3 processes cannot be tensor 2"),
        (STRIPED, "data = 2\ncontext = 2", 8, "8 processes cannot be data 2 x context 2.*--nproc-per-node 4"),
        (STRIPED, "tensor = 0", 1, "at least 1"),
        (STRIPED, "expert = 2", 2, "striped_hyena2 has no experts"),
        (STRIPED, "tensor = 8", 8, "num_attention_heads 4 does not divide into 8 parts"),
        (GENOS, "tensor = 4", 4, "num_key_value_heads 2 does not divide into 4 parts"),
        (STRIPED, "context = 5", 5, "a window of 48 does not split into 5 parts"),
        (STRIPED, "", 3, "a batch of 4 does not split into 3 processes"),
        (STRIPED.replace('"SDH*"', '"SDH"').replace("hcm_filter_groups = 4", "hcm_filter_groups = 2"), "tensor = 4", 4,
         r"blocks.1.filter.h \(2, 1, 128\) does not divide into 4 parts"),
        (STRIPED.replace("striped_hyena2", "hyenadna").split("[model.config]")[0] + "tokenizer = 'hyenadna'\n"
         "[model.config]\nd_model = 16\nn_layer = 1\nd_inner = 16\nmax_seq_len = 66\nvocab_size = 16", "tensor = 2", 2,
         "hyenadna cannot be split"),
    ],
)  # fmt: skip
def test_an_impossible_plan_is_one_line(folder: Path, model: str, parallel: str, world: int, says: str) -> None:
    with pytest.raises(NexVarError, match=says) as error:
        Run(read(write_recipe(folder, "bad", model, parallel)), 0, world)
    assert "\n" not in str(error.value)


def test_muon_needs_whole_matrices(folder: Path) -> None:
    path = write_recipe(folder, "muon", STRIPED, "tensor = 2")
    path.write_text(path.read_text().replace('"adamw"', '"muon"'))
    with pytest.raises(NexVarError, match="muon needs whole matrices"):
        Run(read(path), 0, 2)


@pytest.mark.parametrize("golden", sorted((GOLDEN).glob("*/weights.safetensors")), ids=str)
def test_checkpointing_saves_activations_in_every_architecture(golden: Path) -> None:
    loaded = load(golden.parent, dtype="float32", device="cpu")
    ids = torch.tensor([loaded.tokenizer.encode("ACGTTGCA" * 15, special=loaded.card.special_tokens).ids])

    def kept() -> tuple[int, torch.Tensor]:
        sizes: dict[int, int] = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            logits = loaded.module(ids).logits
        return sum(sizes.values()), logits

    before, logits = kept()
    assert blocks_of(loaded.module)
    checkpoint_blocks(loaded.module)
    after, again = kept()
    assert after < before and torch.equal(logits, again)
