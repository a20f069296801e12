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
# # Embeddings, and a classifier of coding bases
#
# An embedding is the list of numbers that a model has inside when it has read a sequence. It holds what the model
# knows of it.
# Here a simple classifier learns from embeddings whether a base lies in a protein gene.
# The Evo 2 paper finds exons in this way; the same function runs that on a genome of yours at the end.
#
# **Scores are research output, not a diagnosis.**
#
# | setting | model and data | memory | time |
# |---|---|---|---|
# | full | the same, and exons of your genome by `evo2_7b`, 8,192 bases a side | 16 GB on a GPU | not run by us |
# | fast (`NEXVAR_FAST=1`) | `nexvar_mito`, human mtDNA, 400 positions | 1 GB | half a minute on two CPU cores |
#
# The full setting needs a genome and its genes: name them by the environment variables `NEXVAR_EXONS_FASTA` and
# `NEXVAR_EXONS_GFF3`.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nexvar import NexVar
from nexvar.evals import demo, metrics, mito_figure, plots
from nexvar.evals.genes.exons import probe_exons
from nexvar.evals.probes import features, table
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.weights.choice import ModelChoice

FAST = os.environ.get("NEXVAR_FAST")
model = NexVar("nexvar_mito")
genome = Fasta(demo.shipped("chrM_rCRS.fa"))

# %% [markdown]
# ## Two sides of a position
#
# A causal model reads from left to right. What it knows at its last base comes from the bases before it.
# So we read up to a position from the left, and on the other strand up to the same position from the right.
# The two last embeddings, side by side, know both sides. The positions lie 40 bases apart; each side has 128 bases.

# %%
WINDOW, STEP = 128, 40
positions = np.arange(WINDOW, mito_figure.LENGTH - WINDOW, STEP)  # 0-based
left = [genome.fetch("chrM", p - WINDOW, p) for p in positions]
right = [reverse_complement(genome.fetch("chrM", p, p + WINDOW)) for p in positions]
LAYERS = ["blocks.2", "blocks.4", model.model.last_hidden]
sides = [model.embed(texts, layer=LAYERS, pool="last") for texts in (left, right)]
embedded = {layer: np.concatenate([np.asarray(side[layer]) for side in sides], axis=1) for layer in LAYERS}
print({layer: values.shape for layer, values in embedded.items()})

proteins = [(first, last) for _, first, last, kind in mito_figure.GENES if kind == "protein"]  # 1-based, both inside
coding = np.array([any(first <= p + 1 <= last for first, last in proteins) for p in positions])
print(f"{coding.sum()} positions in protein genes, {(~coding).sum()} elsewhere")

# %% [markdown]
# ## Fair folds, and a baseline
#
# Neighbours look alike, so a random split would let the classifier copy. We cut the genome into stretches of 1,000
# bases and hold out whole stretches. What reads the same bases as a held-out position is not learned from, either.
# The baseline is a classifier of the same kind on k-mer counts of the same bases.
#
# The genome is small, and `nexvar_mito` has seen the same genes in other animals. It was never told what a gene is.

# %%
stretches = positions // 1_000
folds = list(GroupKFold(n_splits=8).split(positions, groups=stretches))


def held_out(x):
    """The probability of each position, by a classifier that did not see its stretch."""
    probability = np.empty(len(x))
    for train, test in folds:
        distance = np.abs(positions[train][:, None] - positions[test]).min(axis=1)
        train = train[distance >= 2 * WINDOW]
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=500))
        probability[test] = classifier.fit(x[train], coding[train]).predict_proba(x[test])[:, 1]
    return probability


both_sides = [a + reverse_complement(b) for a, b in zip(left, right, strict=True)]
probability = {name: held_out(x) for name, x in (embedded | {"k-mers": features.kmers(both_sides)}).items()}
auroc = {
    name: metrics.bootstrap(coding, values, ("auroc",), clusters=stretches, draws=300)["auroc"]
    for name, values in probability.items()
}
for name, value in auroc.items():
    print(f"{name:10} AUROC {value}")

# %% [markdown]
# The intervals come from whole stretches, drawn again. They are wide because the genome has only 17 of them.
# Embeddings are a little better than k-mers, and the intervals overlap: k-mers are a strong baseline, as often.
# We looked at three layers and show the best one, which flatters it. `nexvar probe` chooses inside the training rows.
#
# ## The picture
#
# Above are the embeddings, pressed from many numbers to two. Below is the probability along the genome,
# each point by a classifier that never saw its stretch. The red bars are the protein genes.
# The classifier is wrong in the control region, at both ends.

# %%
best = max(LAYERS, key=lambda layer: auroc[layer].value)
flat = PCA(2, random_state=0).fit_transform(StandardScaler().fit_transform(embedded[best]))
figure, (above, below) = plt.subplots(2, 1, figsize=(12, 7.5), layout="constrained", height_ratios=[1.5, 1])
for chosen, colour, name in ((~coding, plots.CLASS_0, "elsewhere"), (coding, plots.CLASS_1, "in a protein gene")):
    above.scatter(*flat[chosen].T, s=22, alpha=0.7, color=colour, label=name, linewidth=0)
above.legend(frameon=False, labelcolor=plots.INK)
plots.dress(above, f"Embeddings of {best}, both sides", "first principal component", "second")
below.plot(positions + 1, probability[best], color=plots.INK, lw=1.2)
for first, last in proteins:
    below.axvspan(first, last, ymin=0, ymax=0.045, color=plots.CLASS_1, lw=0)
below.set_ylim(-0.06, 1.02)
below.set_xlim(0, mito_figure.LENGTH)
plots.dress(below, "Held-out probability of a protein gene", "position on chrM", "probability")
plt.show()

# %% [markdown]
# ## Exons of your own genome
#
# `nexvar probe exons` does the same for any genome and annotation. It holds out whole genes and has its own baselines.

# %%
exons = None
fasta, gff3 = os.environ.get("NEXVAR_EXONS_FASTA"), os.environ.get("NEXVAR_EXONS_GFF3")
if FAST or not (fasta and gff3):
    print("skipped: it is of the full setting, with NEXVAR_EXONS_FASTA and NEXVAR_EXONS_GFF3 in the environment")
else:
    exons = probe_exons(ModelChoice("evo2_7b"), fasta=fasta, annotation=gff3, layers=["blocks.26"])
    print(*table.lines("exons", exons), sep="\n")

# %% [markdown]
# ## Checks
#
# Each of these lines stops the notebook if it is not true.

# %%
alone = np.asarray(model.embed([left[7]], pool="last"))[0]
width = len(alone)
assert np.allclose(embedded[model.model.last_hidden][7, :width], alone, atol=1e-4), "an embedding depends on its batch"
assert all(not set(stretches[train]) & set(stretches[test]) for train, test in folds), "a stretch is on both sides"
assert auroc[best].value > 0.8, f"AUROC {auroc[best]}"
shuffled = np.random.default_rng(0).permutation(coding)
assert 0.4 < metrics.auroc(shuffled, probability[best]) < 0.6, "shuffled labels must give chance"
print("all checks passed")
