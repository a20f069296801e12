# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tracks: learn coverage along a genome
#
# RNA-seq and PRO-seq count reads at each base of a genome, on each strand. A model can learn to predict such tracks
# from the sequence alone. Here it learns a rule that we made up, so that you can see whether it found it.
#
# **Predictions are research output, not a diagnosis.**
#
# | setting | data and model | memory | time on two CPU cores |
# |---|---|---|---|
# | full | the same, and your own recipe | of your model | the same, and that of your recipe |
# | fast (`NEXVAR_FAST=1`) | 60,000 made-up bases, a model of 0.1 M parameters from scratch | 1 GB | half a minute |
#
# In the full setting, name a recipe with `[task] kind = "tracks"` by the environment variable `NEXVAR_TRACKS_RECIPE`.
# `nexvar recipes finetune-fly-proseq` is one for real PRO-seq; `docs/tracks.md` explains it and says what was measured.

# %%
import json
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nexvar import NexVar
from nexvar.evals import plots
from nexvar.genome.reference import reverse_complement
from nexvar.train import pretrain

FAST = os.environ.get("NEXVAR_FAST")
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A made-up genome with a rule
#
# Wherever `TATAAA` stands, a gene begins: the 64 bases behind it have coverage 8, on the strand on which it is read.
# Everywhere else the coverage is 0. The bases are random, and the word is put in about every 150 bases.

# %%
WORD, LENGTH, HEIGHT = "TATAAA", 64, 8.0
LENGTHS = {"train": 40_000, "valid": 8_000, "test": 12_000}
rng = np.random.default_rng(1)


def make_contig(length):
    """Random bases with the word put in, on either strand."""
    bases = rng.choice(list("ACGT"), length)
    for at in range(rng.integers(100), length - 100, 150):
        at += rng.integers(60)
        bases[at : at + len(WORD)] = list(WORD if rng.random() < 0.5 else reverse_complement(WORD))
    return "".join(bases)


def coverage(bases):
    """The rule: what is read at each base of the strand as it is given."""
    values = np.zeros(len(bases), dtype=np.float32)
    at = bases.find(WORD)
    while at >= 0:
        values[at + len(WORD) : at + len(WORD) + LENGTH] = HEIGHT
        at = bases.find(WORD, at + 1)
    return values


contigs = {name: make_contig(length) for name, length in LENGTHS.items()}
truth = {
    "plus": {name: coverage(bases) for name, bases in contigs.items()},
    "minus": {name: coverage(reverse_complement(bases))[::-1] for name, bases in contigs.items()},
}
(folder / "genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
for strand, tracks in truth.items():
    rows = [f"{name}\t{i}\t{i + 1}\t{HEIGHT}\n" for name in sorted(tracks) for i in np.flatnonzero(tracks[name])]
    (folder / f"{strand}.bedGraph").write_text("".join(rows))
print(f"{sum(bases.count(WORD) for bases in contigs.values())} genes on the forward strand")

# %% [markdown]
# ## A recipe, and training
#
# The recipe is a text file: a genome, one contig for each purpose, and two bedGraph files that are partners.
# bigWig files would do as well. The model is a small U-Net from scratch. The `test` contig is asked once, at the end.

# %%
recipe = folder / "recipe.toml"
recipe.write_text(f"""
[model]
architecture = "ntv3"
tokenizer = "ntv3"
card = {{context = 4096}}
[model.config]
num_downsamples = 3
attention_heads = 2
key_size = 24
token_embed_dim = 8
conv_init_embed_dim = 32
embed_dim = 48
ffn_embed_dim = 96
num_layers = 1

[task]
kind = "tracks"
fasta = "{folder}/genome.fa"
train = ["train"]
valid = ["valid"]
test = ["test"]
window = 512
stride = 128
resolution = 4
head = "linear"
loss = "mse"

[[task.tracks]]
name = "plus"
file = "{folder}/plus.bedGraph"
strand = "+"
pair = "minus"
[[task.tracks]]
name = "minus"
file = "{folder}/minus.bedGraph"
strand = "-"
pair = "plus"

[optimizer]
kind = "muon"
muon_lr = 0.02
adam_lr = 3e-3
clip = 1.0
[schedule]
kind = "wsd"
steps = 200
warmup = 10
decay = 80
[run]
out = "{folder}/run"
batch = 8
micro_batch = 8
bf16 = false
eval_every = 100
log_every = 50
""")
pretrain(recipe)
measured = json.loads((folder / "run" / "metrics.json").read_text())["test"]
print({name: round(value, 3) for name, value in measured.items() if "pearson" in name})

# %% [markdown]
# ## Predict
#
# The trained folder is a model like any other. It reads the contig in windows, on both strands, and takes the mean.
# `nexvar tracks` writes the same as bigWig files for a genome browser.
# A warning says that the model has no head for bases. That is right: its head is of tracks.

# %%
model = NexVar(folder / "run" / "model")
(predicted,) = model.predict_tracks([contigs["test"]])
print(predicted.names, f"bins of {predicted.resolution} bases", predicted.values_NK.shape)
binned = {strand: tracks["test"].reshape(-1, predicted.resolution).mean(1) for strand, tracks in truth.items()}
correlation = {strand: float(np.corrcoef(predicted[strand], binned[strand])[0, 1]) for strand in binned}
print({strand: round(value, 3) for strand, value in correlation.items()})

# %%
figure, axes = plt.subplots(2, 1, figsize=(12, 4.2), layout="constrained", sharex=True)
shown = slice(0, 2_000 // predicted.resolution)
places = np.arange(len(binned["plus"]))[shown] * predicted.resolution
for ax, strand, colour in zip(axes, ("plus", "minus"), (plots.CLASS_0, plots.CLASS_1), strict=True):
    ax.fill_between(places, binned[strand][shown], step="post", color=plots.FAINT, label="truth")
    ax.plot(places, predicted[strand][shown], color=colour, lw=1.6, label="predicted")
    ax.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), ncol=2, labelcolor=plots.INK)
    plots.dress(ax, f"{strand} strand, r = {correlation[strand]:.2f}", "", "coverage")
axes[1].set_xlabel("base of the held-out contig")
plt.show()

# %% [markdown]
# ## What does a variant change?
#
# Break the word of one gene by one base, and predict again. If the model found the rule, the gene falls silent.

# %%
bases = contigs["test"]
site = bases.find(WORD, 1_000)
gene = slice((site + len(WORD)) // predicted.resolution + 1, (site + len(WORD) + LENGTH) // predicted.resolution)
broken = bases[: site + 2] + "C" + bases[site + 3 :]
(after,) = model.predict_tracks([broken])
print(f"TATAAA>TACAAA at base {site + 3:,}: coverage {predicted['plus'][gene].mean():.1f} before, "
      f"{after['plus'][gene].mean():.1f} after")  # fmt: skip

# %% [markdown]
# ## Your own recipe

# %%
own = os.environ.get("NEXVAR_TRACKS_RECIPE")
if FAST or not own:
    print("skipped: it is of the full setting, with a recipe in the environment variable NEXVAR_TRACKS_RECIPE")
else:
    pretrain(own)

# %% [markdown]
# ## Checks
#
# Each of these lines stops the notebook if it is not true.

# %%
assert min(correlation.values()) > 0.7, f"correlations on the held-out contig: {correlation}"
wrong_strand = float(np.corrcoef(predicted["plus"], binned["minus"])[0, 1])
assert wrong_strand < 0.3, f"the strands are mixed up: {wrong_strand:.2f}"
assert after["plus"][gene].mean() < 0.5 * predicted["plus"][gene].mean(), "the variant changes nothing"
one_window, other_strand = model.predict_tracks([bases[:512], reverse_complement(bases[:512])])
assert np.allclose(other_strand["minus"][::-1], one_window["plus"], atol=1e-3), "both strands are one genome"
print("all checks passed")
