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
# # BRCA1: variant effects without training
#
# Findlay and colleagues (Nature 2018) made nearly every single-base change in 13 exons of BRCA1, in living cells.
# They measured which changes destroy the protein's function. Can a model that never saw a label tell them apart?
# This notebook repeats the analysis of the Evo 2 paper from recorded scores, then shows how to compute scores yourself.
#
# **Scores are research output, not a diagnosis.**
#
# | setting | what is scored | memory | time |
# |---|---|---|---|
# | full | 3,893 variants by Evo 2 1B, 8,192 bases each | 5 GB | 30 hours on two CPU cores, by arithmetic; not run |
# | fast (`NEXVAR_FAST=1`) | 60 variants by `nexvar_mito` on made-up DNA | 1 GB | half a minute |
#
# The first part is the same in both settings, and its numbers are real: it reads recorded Evo 2 1B scores.
# The scores of the fast second part mean nothing. They show that the steps go together.
# The full setting needs chromosome 17 of hg19: name its FASTA by the environment variable `NEXVAR_BRCA1_FASTA`.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nexvar import NexVar
from nexvar.evals import plots, variants
from nexvar.evals.tables import read_table
from nexvar.genome.reference import Fasta

FAST = os.environ.get("NEXVAR_FAST")
TABLE = "tests/data/brca1_findlay.hg19.tsv.gz"
table = next(folder / TABLE for folder in (Path.cwd(), *Path.cwd().parents) if (folder / TABLE).exists())
columns = read_table(table)
print(f"{len(columns['pos']):,} variants;", ", ".join(columns))

# %% [markdown]
# ## From recorded scores to the published numbers
#
# `evo2_1b_delta` is the score: the mean log-likelihood of the changed window minus that of the reference.
# Below 0 means that the change makes the sequence less likely. `func_class` is what the experiment found:
# LOF (loss of function), FUNC (functional) or INT (between). LOF is class 1, and the two others are class 0.
# AUROC is the chance that a random LOF variant scores worse than a random other one.
#
# The recorded scores come from bshihab/evo2-brca1-variant-effect (MIT licence); `docs/data.md` says more.

# %%
report = variants.run(
    table, score="evo2_1b_delta", label="func_class", positive="LOF", by="region",
    against="phyloP", against_higher=True, draws=200 if FAST else 1000,
)  # fmt: skip
print(*variants.table(report.rows), sep="\n")
print()
print(*variants.compare(report, draws=200 if FAST else 1000), sep="\n")

# %% [markdown]
# Without one label, Evo 2 1B is far from chance, most of all outside of the protein code, where changes break splicing.
# But phyloP, a simple conservation score, separates the classes better over all variants.
# A model is only as good as what it beats, so put a simple baseline beside it.

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained", width_ratios=[1.5, 1, 1.3])
names = ("FUNC or INT", "LOF")
plots.dress(axes[0], "Scores", "log-likelihood lost, Evo 2 1B (nats a base)")
plots.strip(axes[0], report.badness, report.labels, list(report.groups), names)
plots.dress(axes[1], "ROC", "false positive rate", "true positive rate")
plots.roc(axes[1], {"Evo 2 1B": (report.labels, report.badness), "phyloP": (report.labels, report.against)})
plots.dress(axes[2], "AUROC with 95 % interval")
plots.auroc_bars(axes[2], report.rows, names)
plt.show()

# %% [markdown]
# Which kinds of changes does it see? A stop in the middle of the protein is clear, a changed amino acid is not.

# %%
kinds = np.array([columns["consequence"][i] for i in report.index])
for kind in sorted(set(kinds), key=lambda kind: -np.sum(kinds == kind)):
    chosen = kinds == kind
    print(f"{kind:18} {chosen.sum():5} variants, {report.labels[chosen].mean():4.0%} LOF, "
          f"median score {-np.median(report.badness[chosen]) * 1000:6.2f} / 1,000")  # fmt: skip

# %% [markdown]
# ## Compute scores yourself
#
# With a genome and a model, scoring is one call. `protocol="evo2-brca1"` sets what the publication fixes:
# 8,192 bases with the variant in the middle, the forward strand, and the mean log-likelihood.
#
# The fast setting has no human genome: it writes random bases, with the table's reference bases at their places.

# %%
folder = Path(tempfile.mkdtemp())
fasta = os.environ.get("NEXVAR_BRCA1_FASTA")
start, end = 41_176_311, 41_350_000  # 0-based half-open, hg19 chr17
every = [f"{c}:{p}{r}>{a}" for c, p, r, a in zip(*(columns[k] for k in ("chrom", "pos", "ref", "alt")), strict=True)]
if FAST:
    bases = np.random.default_rng(0).choice(list("ACGT"), end - start)
    for pos, ref in zip(columns["pos"], columns["ref"], strict=True):
        bases[int(pos) - 1 - start] = ref
    fasta = folder / "made_up.fa"
    fasta.write_text(f">chr17:{start + 1}-{end}\n{''.join(bases)}\n")
    chosen, name, options = every[::65][:60], "nexvar_mito", {"window": 512}
else:
    chosen, name, options = every, "evo2_1b_base", {}

if fasta is None:
    rows = []
    print("skipped: name a FASTA of hg19 chr17 by the environment variable NEXVAR_BRCA1_FASTA")
else:
    model = NexVar(name)
    options |= {"protocol": "evo2-brca1", "windowing": "centred"}
    rows = list(model.score_variants(chosen, fasta, **options))
    for variant, row in list(zip(chosen, rows, strict=True))[:5]:
        print(f"{variant:20} {row.llr:9.5f}  {row.status}")

# %% [markdown]
# What is this number? Build both windows by hand, ask the model for the log-likelihood of each, and subtract.

# %%
by_hand = []
if rows:
    genome, window = Fasta(fasta), options.get("window", 8192)
    for row in rows[:3]:
        left = row.pos - 1 - window // 2
        reference = genome.fetch("chr17", left, left + window)
        changed = reference[: window // 2] + row.alt + reference[window // 2 + 1 :]
        before, after = model.score_sequences([reference, changed])
        by_hand.append(after - before)
        print(f"{row.pos:,} {row.ref}>{row.alt}: {after - before:.5f} by hand, {row.llr:.5f} by score_variants")

# %% [markdown]
# ## Checks
#
# Each of these lines stops the notebook if it is not true.

# %%
auroc = {row.group: round(row.estimates["auroc"].value, 3) for row in report.rows}
assert auroc == {"all": 0.729, "coding": 0.672, "noncoding": 0.874}, auroc
assert len(report.labels) == 3_893 and report.labels.sum() == 823, "not the table of the publication"
assert all(row.estimates["auroc"].low > 0.5 for row in report.rows), "an interval holds chance"
assert np.median(report.badness[kinds == "Nonsense"]) > np.median(report.badness[kinds == "Synonymous"])
if rows:
    assert len(rows) == len(chosen) and all(row.llr is not None for row in rows), "a variant has no score"
    assert np.allclose(by_hand, [row.llr for row in rows[:3]], atol=1e-5), "the score is not what its text says"
print("all checks passed")
