"""Learning tracks along a genome: windows, strands, losses, metrics, resuming, and files that cannot be meant."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Fasta, Interval, reverse_complement
from nexvar.genome.signals import Signal
from nexvar.inference.track_model import Tracks
from nexvar.models.track_heads import HEADS
from nexvar.train import pretrain
from nexvar.train.loop import Run
from nexvar.train.recipe import read
from nexvar.train.track_losses import LOSSES, loss
from nexvar.train.track_metrics import Gene, gene_measures, measures, read_genes
from nexvar.train.track_task import check
from nexvar.train.track_windows import tiles
from nexvar.weights.assemble import build, make_config
from places import GOLDEN, RECIPES
from tiny import tiny_card, tiny_loaded
from toy_genome import random_bases, write_fasta

LENGTHS = {"one": 2000, "two": 900, "three": 500}
SCRATCH = """
[model]
architecture = "ntv3"
tokenizer = "ntv3"
card = {context = 4096}
[model.config]
num_downsamples = 2
attention_heads = 2
key_size = 4
token_embed_dim = 4
conv_init_embed_dim = 16
embed_dim = 8
ffn_embed_dim = 10
num_layers = 1
"""
INIT = """
[model]
init = "{}"
"""
TASK = """
[task]
kind = "tracks"
fasta = "{folder}/genome.fa"
annotation = "{folder}/genes.gff3"
train = ["one"]
valid = ["two:1-400"]
test = ["three"]
window = 128
stride = 32
resolution = 4
head = "linear"
[[task.tracks]]
name = "fwd"
file = "{folder}/fwd.bw"
strand = "+"
pair = "rev"
power = 0.75
[[task.tracks]]
name = "rev"
file = "{folder}/rev.bw"
strand = "-"
pair = "fwd"
power = 0.75
[[task.tracks]]
name = "gc"
file = "{folder}/gc.bedGraph"
[optimizer]
adam_lr = 3e-3
clip = 1.0
[schedule]
steps = 4
warmup = 1
[run]
out = "{folder}/run"
batch = 4
micro_batch = 2
threads = 1
bf16 = false
log_every = 1
save_every = 2
eval_every = 2
"""


def signal_values(bases: str) -> dict[str, np.ndarray]:
    """Forward: 9 behind every GGA. Reverse: the same on the other strand. gc: 2 at G and C."""
    letters = np.array(list(bases))
    gga = np.array([9.0 if bases[max(i - 5, 0) : i + 1].count("GGA") else 0.0 for i in range(len(bases))])
    other = reverse_complement(bases)
    tcc = np.array([9.0 if other[max(i - 5, 0) : i + 1].count("GGA") else 0.0 for i in range(len(bases))])[::-1]
    return {"fwd": gga, "rev": tcc, "gc": 2.0 * np.isin(letters, list("GC"))}


def bigwig(path: Path, values: dict[str, np.ndarray], lengths: dict[str, int] | None = None) -> Path:
    rows = ((c, i, i + 1, float(v)) for c in sorted(values) for i, v in enumerate(values[c]) if v != 0)
    write_bigwig(path, path, lengths or {c: len(v) for c, v in values.items()}, rows)
    return path


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with genome.fa, three tracks and genes."""
    folder = tmp_path_factory.mktemp("tracks")
    bases = {name: random_bases(n, seed=i) for i, (name, n) in enumerate(LENGTHS.items())}
    bases["one"] = bases["one"][:300] + "N" * 10 + bases["one"][310:]
    write_fasta(folder / "genome.fa", **bases)
    values = {name: signal_values(text) for name, text in bases.items()}
    for track in ("fwd", "rev"):
        bigwig(folder / f"{track}.bw", {name: values[name][track] for name in LENGTHS})
    lines = [f"{c}\t{i}\t{i + 1}\t{v:g}\n" for c in LENGTHS for i, v in enumerate(values[c]["gc"]) if v]
    (folder / "gc.bedGraph").write_text("".join(lines))
    genes = [("two", 41, 160, "+"), ("two", 201, 380, "-"), ("three", 21, 200, "+"), ("three", 221, 300, "+"),
             ("three", 301, 460, "-"), ("three", 461, 490, "-")]  # fmt: skip
    rows = [f"{c}\t.\tgene\t{a}\t{b}\t.\t{s}\t.\tID=g{i}\n" for i, (c, a, b, s) in enumerate(genes)]
    (folder / "genes.gff3").write_text("##gff-version 3\n" + "".join(rows))
    return folder


def recipe(tmp_path: Path, genome: Path, model: str = SCRATCH, out: str = "run", **changes: str) -> Path:
    """The recipe with lines replaced."""
    text = TASK.replace("{folder}/run", str(tmp_path / out)).replace("{folder}", str(genome))
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path / f"{out}.toml"
    path.write_text(model + text)
    return path


# -- what is trained


@pytest.mark.parametrize("head", HEADS)
def test_a_run_leaves_a_model_that_says_what_was_measured(tmp_path, genome, head, capsys):
    folder = pretrain(recipe(tmp_path, genome, **{'head = "linear"': f'head = "{head}"'}))
    measured = json.loads((tmp_path / "run/metrics.json").read_text())
    assert measured["test"]["bins"] == 125 and measured["valid"]["bins"] == 100 and measured["test"]["genes"] == 4
    for kind in ("log1p_pearson_fwd", "gene_spearman_rev", "gene_total_pearson"):
        assert -1 <= measured["test"][kind] <= 1
    said = Signal(tmp_path / "run/test.rev.bw", Fasta(genome / "genome.fa")).values("three", 0, 500)
    tracks = Tracks.load(folder, "cpu")
    assert tracks.facts.partners == (1, 0, 2) and tracks.facts.strands == ("+", "-", ".") and tracks.facts.window == 128
    text = Fasta(genome / "genome.fa").fetch("three", 0, 128)  # the first window, whose beginning is kept
    there, back = tracks.values([text]), tracks.facts.other_strand(tracks.values([reverse_complement(text)]))
    assert np.array_equal(said[0:96:4], said[3:96:4])
    np.testing.assert_allclose(said[:96:4], ((there + back) / 2)[0, :24, 1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["caduceus_ps_tiny", "dnabert2_tiny", "genos_tiny", "hyenadna_tiny", "nt_v1_tiny",
                                  "nt_v2_3mer_tiny", "ntv3_post_tiny", "sh1_a", "sh2_a"])  # fmt: skip
def test_every_architecture_learns_tracks(tmp_path, genome, name):
    run = Run(read(recipe(tmp_path, genome, INIT.format(GOLDEN / name))))
    assert math.isfinite(run.train_step()[0])
    assert math.isfinite(run.evaluate()["valid_loss"])
    run.write_model()
    assert Tracks.load(tmp_path / "run/model", "cpu").values(["ACGTTGCANA" * 4]).shape == (1, 10, 3)


@pytest.mark.parametrize("weights", ["head", "lora"])
def test_the_head_alone_or_updates_of_the_trunk(tmp_path, genome, weights):
    tune = f'\n[tune]\nweights = "{weights}"\n'
    run = Run(read(recipe(tmp_path, genome, INIT.format(GOLDEN / "genos_tiny") + tune)))
    before = {n: p.detach().clone() for n, p in run.model.named_parameters()}
    run.train_step(), run.train_step()
    changed = {n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}
    assert any(n.startswith("head.") for n in changed)
    assert all(n.startswith("head.") or "lora" in n.lower() for n in changed) and (weights == "head") == all(
        n.startswith("head.") for n in changed
    )


def test_it_learns_a_motif_and_its_strand(tmp_path, genome):
    changes = {
        "steps = 4": "steps = 60", "eval_every = 2": "eval_every = 60", "save_every = 2": "save_every = 60",
        "adam_lr = 3e-3": "adam_lr = 1e-2", "batch = 4\nmicro_batch = 2": "batch = 8\nmicro_batch = 8",
    }  # fmt: skip
    pretrain(recipe(tmp_path, genome, **changes))
    test = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    assert min(test["log1p_pearson_fwd"], test["log1p_pearson_rev"]) > 0.2 and test["log1p_pearson_gc"] > 0.8


@pytest.mark.parametrize("head", ["genos", "unet"])
def test_a_resumed_run_has_the_same_bytes(tmp_path, genome, head):
    """Genos' head has running averages and dropout."""
    change = {'head = "linear"': f'head = "{head}"'}
    pretrain(recipe(tmp_path, genome, out="whole", **change))
    pretrain(recipe(tmp_path, genome, out="cut", **change, **{"steps = 4": "steps = 2"}))
    pretrain(recipe(tmp_path, genome, out="cut", **change))
    for name in ("model/model.safetensors", "model/head.safetensors", "model/tracks.json", "test.gc.bw"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_a_folder_goes_on_with_its_own_run_alone(tmp_path, genome):
    pretrain(recipe(tmp_path, genome, **{"steps = 4": "steps = 1"}))
    for change, said in (
        ({"gc.bedGraph": "fwd.bw"}, "the contents of task.tracks changed"),
        ({'["three"]': '["three:1-400"]'}, "the contents of task.test changed"),
        ({"stride = 32": "stride = 64"}, "task.stride was 32 and is 64"),
    ):
        with pytest.raises(NexVarError, match=said):
            pretrain(recipe(tmp_path, genome, **change))
    moved = tmp_path / "elsewhere.bw"
    moved.write_bytes((genome / "fwd.bw").read_bytes())
    pretrain(recipe(tmp_path, genome, **{f"{genome}/fwd.bw": str(moved), "annotation": "# annotation"}))


# -- windows


def test_windows_on_both_strands(tmp_path, genome):
    plus = Run(read(recipe(tmp_path, genome, **{"window = 128": "window = 128\nreverse_complement = 0.0"}))).source
    minus = Run(read(recipe(tmp_path, genome, **{"window = 128": "window = 128\nreverse_complement = 1.0"}))).source
    for i in (0, 1, 70):
        (text, targets, keep), (other, flipped, kept) = plus.sample(i), minus.sample(i)
        assert other == reverse_complement(text) and torch.equal(kept, keep.flip(0))
        assert torch.equal(flipped, targets.flip(0)[:, [1, 0, 2]])
        own = signal_values(other)  # what the tracks of that sequence would be; its first bases' context is cut off
        assert np.array_equal(kept.numpy(), [("N" not in other[j : j + 4]) for j in range(0, 128, 4)])
        sums = torch.from_numpy(np.stack([own[n].reshape(-1, 4).sum(1) for n in ("fwd", "rev", "gc")], 1))
        torch.testing.assert_close(flipped[2:-2], plus.facts.scaling.scaled(sums).float()[2:-2])


def test_bins_with_n_are_neither_learned_from_nor_measured(tmp_path, genome):
    task = Run(read(recipe(tmp_path, genome))).source
    window = task.files.window(Interval("one", 280, 320))
    assert window.text[20:30] == "N" * 10 and window.keep_N.tolist() == [True] * 5 + [False] * 3 + [True] * 2


def test_regions_by_bed_and_what_the_others_leave(tmp_path, genome):
    with gzip.open(tmp_path / "valid.bed.gz", "wt") as file:
        file.write("one\t401\t1001\none\t1001\t1203\n")
    changes = {'train = ["one"]\n': "", '["two:1-400"]': f'["{tmp_path}/valid.bed.gz"]'}
    train, valid, test = Run(read(recipe(tmp_path, genome, **changes))).source.files.regions()
    assert valid == [Interval("one", 404, 1200)] and test == [Interval("three", 0, 500)]
    assert train == [Interval("one", 0, 400), Interval("one", 1204, 2000), Interval("two", 0, 900)]


@given(st.lists(st.integers(8, 60), min_size=1, max_size=3), st.integers(1, 8), st.sampled_from([1, 5]))
def test_tiles_keep_every_bin_once(lengths, bins, resolution):
    places = [Interval(str(i), 10 * resolution, (10 + n) * resolution) for i, n in enumerate(lengths)]
    seen = []
    for tile in tiles(places, bins * resolution, resolution):
        place = places[int(tile.place.chrom)]
        assert place.start <= tile.place.start and tile.place.end <= place.end and 0 <= tile.first < tile.last <= bins
        first = (tile.place.start - place.start) // resolution + tile.first + sum(lengths[: int(tile.place.chrom)])
        assert first == tile.at
        seen += range(tile.at, tile.at + tile.last - tile.first)
    assert seen == list(range(sum(lengths)))


# -- losses and metrics


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_least_at_the_truth_and_leave_out_what_does_not_count(name):
    torch.manual_seed(0)
    y, keep = torch.rand(2, 6, 3) * 4, torch.ones(2, 6, dtype=torch.bool)
    p = y.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(name, p, y, keep), p)
    assert float(grad.abs().max()) < 1e-4
    assert float(loss(name, y * 1.1, y, keep)) > float(loss(name, y, y, keep)) - 1e-6
    assert float(loss(name, y + torch.rand(y.shape), y, keep)) > float(loss(name, y, y, keep))
    keep[1, 2] = False
    odd = y.clone()
    odd[1, 2] = 77.0
    torch.testing.assert_close(loss(name, y.flip(0), y, keep), loss(name, y.flip(0), odd, keep))
    assert math.isfinite(float(loss(name, torch.zeros_like(y), y, keep)))


def test_losses_are_the_published_ones():
    y, p = torch.tensor([[[2.0], [0.0]]]), torch.tensor([[[1.0], [3.0]]])
    keep = torch.ones(1, 2, dtype=torch.bool)
    poisson = (1 - 2 * math.log(1)) - (2 - 2 * math.log(2)) + 3
    assert float(loss("poisson", p, y, keep)) == pytest.approx(poisson, abs=1e-5)
    assert float(loss("mse", p, y, keep)) == pytest.approx(0.5 * (1 + 9))
    tweedie = (2 + 4) - (2 * 2**0.5 + 4 / 2**0.5) + 2 * 3**0.5  # 2 sqrt(m) + 2 y / sqrt(m), less its value at y
    assert float(loss("tweedie", p, y, keep)) == pytest.approx(tweedie, abs=2e-3)
    totals = (4 - 2 * math.log(4)) - (2 - 2 * math.log(2))
    assert float(loss("poisson-multinomial", p, y, keep)) == pytest.approx(totals - 5 * 2 * math.log(1 / 4), abs=1e-4)


def test_genes_of_a_short_bed(tmp_path, genome):
    (tmp_path / "genes.bed").write_text("three\t20\t200\tg1\t0\t-\nthree\t300\t400\tg2\t0\t+\n")
    genes = read_genes(tmp_path / "genes.bed", Fasta(genome / "genome.fa"))
    assert genes == [Gene(Interval("three", 20, 200), "-"), Gene(Interval("three", 300, 400), "+")]


def test_metrics_over_genes_of_the_tracks_strand():
    rng = np.random.default_rng(0)
    true = rng.gamma(1.0, 3.0, (40, 2))
    said = true.copy()
    said[20:, 0] = rng.random(20)  # the track of + is wrong where genes are of -
    spans, strands = np.array([[0, 6], [6, 10], [12, 20], [20, 30], [32, 40]]), ["+", "+", "+", "-", "-"]
    measured = gene_measures(said, true, spans, strands, ["a", "b"], ["+", "-"])
    assert measured["gene_pearson_a"] == pytest.approx(1) and measured["gene_total_spearman_b"] == pytest.approx(1)
    assert gene_measures(said, true, spans, strands, ["a", "b"], [".", "."])["gene_pearson_a"] < 0.9
    assert measures([said[:, 0]], [true[:, 0]], ["a"])["log1p_pearson"] == pytest.approx(
        np.corrcoef(np.log1p(said[:, 0]), np.log1p(true[:, 0]))[0, 1]
    )


@pytest.mark.parametrize("path", sorted(RECIPES.glob("finetune-*-*.toml")), ids=lambda p: p.stem)
def test_the_recipes_can_be_meant(path):
    recipe = read(path)
    check(recipe.task, replace(tiny_loaded(), card=tiny_card(context=96_000)))
    assert [t.strand for t in recipe.task.tracks][:2] == ["+", "-"] and recipe.task.valid and recipe.schedule.decay
    if recipe.model.architecture:
        config = make_config(recipe.model.architecture, recipe.model.config, path)
        assert 400_000 < sum(p.numel() for p in build(recipe.model.architecture, config).parameters()) < 600_000


# -- what cannot be meant


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('head = "linear"', 'head = "cnn"', r"no head 'cnn': one of genos, linear, unet"),
        ("resolution = 4", 'resolution = 4\nloss = "huber"', r"no loss 'huber': one of mse, poisson, tweedie"),
        ("window = 128", "window = 130", "window 130 is no multiple of resolution 4"),
        ("window = 128", "window = 4100", "window of 4,100 exceeds the context of run, 4,096"),
        ("window = 128", "window = 512", r"task.valid: two:1-400 has 400 bases, a window 512"),
        ('["three"]', '["four"]', "'four' is not a region"),
        ('["three"]', '["one:1-400"]', "one:1-400 is in train and in test"),
        ('pair = "rev"', 'pair = "gc"', "pair 'gc' is not its partner"),
        ('strand = "-"', 'strand = "+"', "its pair is of strand '\\+'"),
        ('name = "gc"', 'name = "fwd"', "two tracks have one name"),
        ('name = "gc"', 'name = "../gc"', "name '../gc'"),
        ("gc.bedGraph\"", "gc.bedGraph\"\npower = 0.0", "power is 0.0"),
        ("pair = \"fwd\"\npower = 0.75", "pair = \"fwd\"", "its pair has power 1.0"),
        ("gc.bedGraph", "genes.bed", r"genes.bed:1: .* is neither of a bigWig nor of a bedGraph"),
        ("gc.bedGraph", "short.bw", "one has 1,900 bases, 2,000 in genome.fa"),
        ("gc.bedGraph", "negative.bw", "negative values, down to -3: absolute values"),
        ("gc.bedGraph", "nan.bw", "NaN or infinite values"),
        ("gc.bedGraph", "without.bw", "contig one is not in it: leave it out of task.train"),
        ("gc.bedGraph", "other.bw", "none of its contigs"),
        ("gc.bedGraph", "zero.bedGraph", "gc has no value in the regions to train on"),
        ("genes.gff3", "empty.gff3", "no genes: a GFF3, GTF or BED"),
        ("[[task.tracks]]", "[[task.track]]", "unknown key|has no tracks"),
        ("resolution = 4", 'resolution = 4\nmetric = "r2"', "no metric 'r2': one of valid_loss, pearson"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, bad_files, old, new, said):
    with pytest.raises(NexVarError, match=said):
        Run(read(recipe(tmp_path, bad_files, **{old: new})))


@pytest.fixture(scope="session")
def bad_files(genome: Path) -> Path:
    ones = {name: np.ones(n) for name, n in LENGTHS.items()}
    bigwig(genome / "short.bw", {**ones, "one": np.ones(1900)})
    bigwig(genome / "negative.bw", {**ones, "two": -3 * np.ones(900)})
    bigwig(genome / "nan.bw", {**ones, "two": np.full(900, np.nan)})
    bigwig(genome / "without.bw", {"two": ones["two"], "three": ones["three"]})
    bigwig(genome / "other.bw", {"chrX": np.ones(50)})
    (genome / "zero.bedGraph").write_text("two\t0\t900\t1\none\t0\t10\t0\nthree\t0\t10\t1\n")
    (genome / "empty.gff3").write_text("##gff-version 3\none\t.\tregion\t1\t2000\t.\t.\t.\tID=one\n")
    (genome / "genes.bed").write_text("one\t10\t50\tgene1\t0\t+\n")
    return genome
