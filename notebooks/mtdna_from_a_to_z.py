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
# # Human mtDNA from A to Z
#
# This notebook takes one small genome, that of the human mitochondrion, through NexVar.
# You score variants, measure the scores, and look at every change of one gene.
# Then you ask why the model says so, turn scores into probabilities, and write new sequence.
#
# **Scores are research output, not a diagnosis.**
#
# | setting | model | memory | time on two CPU cores |
# |---|---|---|---|
# | full | `nexvar_mito`, built in, 2.3 M parameters | 1 GB | 1 minute |
# | fast (`NEXVAR_FAST=1`) | the same | 1 GB | half a minute |
#
# Nothing is downloaded: the genome, the genes, the labelled variants and the model are part of the package.
# Fast and full differ in the new sequence alone: fast writes less of it.

# %%
import os
import random
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display

from nexvar import NexVar
from nexvar.evals import demo, metrics, orfs, plots, variants
from nexvar.evals.calibration import calibrate
from nexvar.genome.reference import Fasta
from nexvar.runs.attribute_run import draw_map
from nexvar.runs.job import InputFiles, ScoreJob
from nexvar.runs.score_run import score_file
from nexvar.runs.tracks import Line, draw_logo

FAST = os.environ.get("NEXVAR_FAST")
folder = Path(tempfile.mkdtemp())
fasta, labelled = demo.shipped("chrM_rCRS.fa"), demo.shipped("mtdna_labelled.vcf")
genome = Fasta(fasta)
model = NexVar("nexvar_mito")
print(model, f"{len(genome.fetch('chrM', 0, 16_569)):,} bases", sep="\n")

# %% [markdown]
# ## Score
#
# The file has 796 single-base changes that a database calls pathogenic (71) or benign (725).
# The model never saw a human genome or one of these labels.
# For each change it computes a log-likelihood ratio: **below 0 means that the change makes the sequence less likely**.
#
# The command line does the same: `nexvar score --vcf mtdna_labelled.vcf --fasta chrM_rCRS.fa -o scored.vcf`.

# %%
scored = folder / "scored.vcf"
summary = score_file(ScoreJob(InputFiles(fasta, labelled), scored, model=model.loaded))
print(*summary.lines(explain=True), sep="\n")

# %% [markdown]
# Three known variants, with their scores:

# %%
known = ["chrM:3243A>G", "chrM:8993T>G", "chrM:1555A>G"]
score_of = {}
for name, row in zip(known, model.score_variants(known, fasta), strict=True):
    score_of[name] = row.llr
    print(f"{name:14} {row.llr:6.1f}")

# %% [markdown]
# ## Measure
#
# AUROC is the chance that a random pathogenic variant scores worse than a random benign one.
# 0.5 is chance and 1.0 is perfect. The brackets hold 95 % of 1,000 bootstrap draws.

# %%
report = variants.run(scored, by="REGION")
print(*variants.table(report.rows), sep="\n")

# %%
picture = demo.draw(report, scored, folder / "ring.png", "2.3 M parameters")
display(Image(picture))

# %% [markdown]
# The model is good in protein genes and middling in tRNA genes. It has too few labels in rRNA genes to say.
# A mean over all regions hides this, so look at the regions.
#
# ## Every change of one gene
#
# MT-TL1 is the gene of a tRNA of leucine. It is 75 bases long, at chrM:3,230-3,304, and has 225 single-base changes.
# Each column of the logo is a base: the higher its letter, the surer the model is of it.
# The colours beneath are the scores of the changes: red ones are damaging in the eyes of the model.

# %%
first, last = 3_230, 3_304  # 1-based, both inside
logo, effects = folder / "logo.png", folder / "effects.tsv"
gene = ScoreJob(InputFiles(fasta, saturate=f"chrM:{first}-{last}"), [logo, effects], model=model.loaded)
print(*score_file(gene).lines(), sep="\n")
display(Image(logo))

# %% [markdown]
# ## Why does the model say so?
#
# **Which bases matter?** Change each base, and see what the whole window loses. High letters are bases that matter.

# %%
window_start = first - 1 - 200  # 0-based: 200 bases on each side are read, and not shown
text = genome.fetch("chrM", window_start, last + 200)
keep = (200, 200 + last - first + 1)
why = model.attribute(text, method="ism", keep=keep)
places = np.arange(first - 1, last)
draw_logo(folder / "why.png", [Line("chrM", places, why.heights_K4, why.hypothetical_K4)], "nats", "change")
display(Image(folder / "why.png"))

# %% [markdown]
# **Which bases depend on each other?** Change base *i*, and see how the prediction of base *j* changes.
# A diagonal from the lower left to the upper right is a stem: bases that pair in the folded tRNA.
# Nobody showed a structure to the model.

# %%
dependency = model.dependency_map(text, keep=keep, strand="both")
draw_map(folder / "map.png", "chrM", places, why.bases, dependency)
display(Image(folder / "map.png", width=620))

# %% [markdown]
# The pairs of the T stem are known: 3,279 with 3,297, and so on inwards. Are they among the strongest?

# %%
pairs = [(3_279 + k, 3_297 - k) for k in range(5)]
apart = np.abs(np.subtract.outer(places, places)) > 3  # neighbours always depend on each other
of_pairs = [dependency[i - first, j - first] for i, j in pairs]
stronger = [float(np.mean(dependency[apart] < value)) for value in of_pairs]
for (i, j), share in zip(pairs, stronger, strict=True):
    print(f"{i:,} with {j:,}: {genome.fetch('chrM', i - 1, i)}-{genome.fetch('chrM', j - 1, j)}, "
          f"stronger than {share:.0%} of all pairs")  # fmt: skip

# %% [markdown]
# ## From a score to a probability
#
# A score orders variants, but it is no probability. A calibration measures what a score meant for labelled variants.
# The prior is the share of pathogenic ones that you expect among new variants; here it is 4.4 %, the default.
# The same variants set the line and are judged by it, so these numbers are optimistic.

# %%
calibration, lines = calibrate(scored, fasta)
print(*lines, sep="\n")
for name, score in score_of.items():
    print(f"{name:14} score {score:6.1f}, probability {calibration.probability(score):.2f}")

# %% [markdown]
# m.1555A>G is a known pathogenic variant, and its probability is low. A calibration does not repair a score.
#
# ## Write new sequence, and check it
#
# The model continues the first 300 bases of the gene MT-CO1. Does it write a protein gene?
# A gene of a protein is a long reading frame: many codons without a stop.
# The controls are the real sequence and the same bases in random order.

# %%
N_TOKENS, COPIES = (600, 3) if FAST else (1_500, 8)
start = 5_903  # MT-CO1, 0-based
prompt = genome.fetch("chrM", start, start + 300)
made = model.generate([prompt] * COPIES, n_tokens=N_TOKENS, temperature=0.7, top_k=4, seed=1)


def longest_frame(dna):
    """Codons of the longest open reading frame, in the genetic code of vertebrate mitochondria."""
    return max(len(frame.protein) for frame in orfs.reading_frames(dna, code=2, least=1))


real = genome.fetch("chrM", start + 300, start + 300 + N_TOKENS)
shuffler = random.Random(1)
lengths = {
    "real": [longest_frame(real)],
    "made": [longest_frame(sequence) for sequence in made.sequences],
    "shuffled": [longest_frame("".join(shuffler.sample(real, len(real)))) for _ in range(20)],
}
for name, values in lengths.items():
    print(f"{name:9} longest open frame, codons: median {np.median(values):.0f}, most {max(values)}")

# %%
figure, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
colours = [plots.INK, plots.CLASS_1, plots.CLASS_0]
for y, (values, colour) in enumerate(zip(lengths.values(), colours, strict=True)):
    ax.scatter(values, np.full(len(values), y), s=42, alpha=0.6, color=colour)
ax.set_yticks(range(3), list(lengths))
ax.set_ylim(2.6, -0.6)
plots.dress(ax, "", f"codons of the longest open frame in {N_TOKENS:,} bases")
plt.show()

# %% [markdown]
# A long open frame is no proof of a protein: a repeat has one, too.
# `nexvar_mito` is small, and does not write whole mitochondrial genomes; its page says what was measured.
# Sequences that a model writes are hypotheses.
#
# ## Checks
#
# Each of these lines stops the notebook if it is not true.

# %%
by_region = {row.group: row.estimates.get("auroc") for row in report.rows}
assert summary.scored == len(report.labels) == 796, "a labelled variant has no score"
assert 0.80 < by_region["all"].value < 0.84, by_region["all"]
assert by_region["protein"].low > 0.85, by_region["protein"]
shuffled_labels = np.random.default_rng(0).permutation(report.labels)
chance = metrics.bootstrap(shuffled_labels, report.badness, ("auroc",), draws=200)["auroc"]
assert chance.low < 0.5 < chance.high, f"shuffled labels give {chance}"
assert len(effects.read_text().splitlines()) >= 225, "not every change of the gene was scored"
assert np.mean(stronger) > 0.9, f"the T stem does not show: {stronger}"
assert calibration.probability(-12.0) > calibration.probability(0.0), "a worse score must mean a higher probability"
again = model.generate([prompt], n_tokens=50, temperature=0.7, top_k=4, seed=1)
assert made.sequences[0].startswith(again.sequences[0]), "the same seed must write the same bases"
assert set("".join(made.sequences)) <= set("ACGT")
print("all checks passed")
