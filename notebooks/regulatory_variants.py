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
# # Variants outside of the protein code
#
# Most variants of a genome change no protein. Some break splicing or the control of a gene.
# Here you compare a model with simple baselines on 1,125 such variants of BRCA1, and correct for the number of tests.
#
# **Scores are research output, not a diagnosis.**
#
# | setting | data | memory | time |
# |---|---|---|---|
# | full | the same, and your own table of variants with your own model | of your model | depends on both |
# | fast (`NEXVAR_FAST=1`) | recorded scores of Evo 2 1B; no model runs | 1 GB | half a minute |
#
# In the full setting, name these by environment variables: `NEXVAR_REGULATORY_FASTA`, `NEXVAR_REGULATORY_MODEL`, and
# `NEXVAR_REGULATORY_TSV`, a table with the columns `chrom`, `pos`, `ref`, `alt`, `effect` and `element`.
# Measured effects of regulatory elements (MPRA) are such a table. We may not ship one.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nexvar import NexVar
from nexvar.evals import metrics, plots, statistics, variants
from nexvar.evals.tables import read_table

FAST = os.environ.get("NEXVAR_FAST")
TABLE = "tests/data/brca1_findlay.hg19.tsv.gz"
columns = read_table(next(f / TABLE for f in (Path.cwd(), *Path.cwd().parents) if (f / TABLE).exists()))
noncoding = np.array(columns["region"]) == "noncoding"
kind = np.array(columns["consequence"])[noncoding]
function = np.array(columns["function_score"], dtype=float)[noncoding]
lost = np.array(columns["func_class"])[noncoding] == "LOF"
for name in dict.fromkeys(kind):
    print(f"{name:17} {np.sum(kind == name):4} variants, {np.sum(lost[kind == name]):3} with loss of function")

# %% [markdown]
# The experiment (Findlay and colleagues, Nature 2018) measured a function score: low means that the gene was broken.
#
# ## Three scores
#
# - **Evo 2 1B**: the log-likelihood ratio. Below 0 means that the change makes the sequence less likely.
# - **phyloP**: conservation among species. High means conserved.
# - **place**: no model at all. 2 for the two bases next to an exon, 1 for the splice region, 0 elsewhere.
#
# All are turned so that higher means worse.

# %%
worse = {
    "Evo 2 1B": -np.array(columns["evo2_1b_delta"], dtype=float)[noncoding],
    "phyloP": np.array(columns["phyloP"], dtype=float)[noncoding],
    "place": np.select([kind == "Canonical splice", kind == "Splice region"], [2.0, 1.0], 0.0),
}
draws = 200 if FAST else 1000


def within(of_score):
    """The row of the splice region, the kind with the most variants of both classes."""
    return next(row for row in of_score if row.group == "Splice region")


rows = {name: variants.evaluate(values, lost, list(kind), draws=draws) for name, values in worse.items()}
for name, of_score in rows.items():
    print(name, *variants.table(of_score), "", sep="\n")

# %% [markdown]
# Look at the rows below "all". The place has a high AUROC over all variants, because it says which kind a variant is.
# Within one kind it can say nothing: it gives the same number to each.
# So a high AUROC over mixed kinds may mean only that a score knows the kinds.
#
# ## Is a difference real?
#
# Each pair of scores is compared on the same variants (DeLong's test), over all and within kinds with enough variants.
# Of many tests some are small by chance. The q-value corrects for their number.

# %%
tests = statistics.compare_all(lost, worse, dataset="all")
for name in ("Splice region", "Canonical splice"):
    chosen = kind == name
    of_kind = {model: values[chosen] for model, values in worse.items() if model != "place"}
    tests += statistics.compare_all(lost[chosen], of_kind, dataset=name)
tests = statistics.with_q_values(tests)
for t in tests:
    print(f"{t.dataset:14} {t.model_a:8} - {t.model_b:6} {t.auroc_diff:+.3f} [{t.ci_lower:+.3f}, {t.ci_upper:+.3f}]  "
          f"q = {t.q_value:.2g} {t.note}")  # fmt: skip

# %% [markdown]
# Over all variants no score is better than another, and "place" is no model at all. Only the rows of one kind ask
# what a model adds. In the splice region the interval leaves out 0, but the q-value is above 0.05: one such test of
# several proves nothing. At the canonical splice sites phyloP is better, with few variants to say so.
#
# ## Not only two classes
#
# The function score is a number. Spearman's correlation asks whether the order agrees, with a 95 % interval.
# It is below 0, since a worse score should mean less function.

# %%
correlation = {name: metrics.bootstrap_spearman(values, function, draws=draws) for name, values in worse.items()}
for name, value in correlation.items():
    print(f"{name:9} {value}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained", width_ratios=[1.5, 1])
kinds = sorted(set(kind), key=lambda name: -np.sum(kind == name))
for name, colour in zip(kinds, (plots.FAINT, plots.CLASS_0, plots.CLASS_1, plots.MUTED), strict=True):
    chosen = kind == name
    left.scatter(worse["Evo 2 1B"][chosen] * 1000, function[chosen], s=14, color=colour, label=name, linewidth=0)
left.legend(frameon=False, fontsize=9, labelcolor=plots.INK, markerscale=1.6)
plots.dress(left, "Measured and predicted", "log-likelihood lost, Evo 2 1B (1/1,000 nats a base)", "function score")
for y, of_score in enumerate(rows.values()):
    for row, shift, colour in ((of_score[0], -0.14, plots.INK), (within(of_score), 0.14, plots.CLASS_0)):
        estimate = row.estimates["auroc"]
        right.plot([estimate.low, estimate.high], [y + shift] * 2, color=colour, lw=1.6)
        right.plot(estimate.value, y + shift, "o", color=colour, ms=7)
right.set_yticks(range(len(rows)), list(rows))
right.set_ylim(len(rows) - 0.5, -0.6)
right.axvline(0.5, color=plots.MUTED, lw=1)
plots.dress(right, "AUROC with 95 % interval", "dark: all variants; blue: the splice region alone")
plt.show()

# %% [markdown]
# ## Your own variants and model
#
# With a table of measured effects, each element has its own correlation: elements are not comparable with each other.
# An unlikely change may raise or lower the activity of an element, so sizes are compared, without their signs.

# %%
needed = [f"NEXVAR_REGULATORY_{what}" for what in ("TSV", "FASTA", "MODEL")]
path, fasta, name = (os.environ.get(variable) for variable in needed)
if FAST or not (path and fasta and name):
    print("skipped: it is of the full setting, with", ", ".join(needed), "in the environment")
else:
    own = read_table(path)
    wanted = [f"{c}:{p}{r}>{a}" for c, p, r, a in zip(*(own[k] for k in ("chrom", "pos", "ref", "alt")), strict=True)]
    scores = np.array([np.nan if s.llr is None else s.llr for s in NexVar(name).score_variants(wanted, fasta)])
    effects, elements = np.array(own["effect"], dtype=float), np.array(own["element"])
    for element in dict.fromkeys(elements):
        chosen = (elements == element) & np.isfinite(scores)
        print(element, metrics.bootstrap_spearman(np.abs(scores[chosen]), np.abs(effects[chosen])))

# %% [markdown]
# ## Checks
#
# Each of these lines stops the notebook if it is not true.

# %%
assert len(kind) == 1_125 and lost.sum() == 239, "not the noncoding variants of the publication"
assert round(rows["Evo 2 1B"][0].estimates["auroc"].value, 3) == 0.874
assert within(rows["place"]).estimates["auroc"].value == 0.5, "the place cannot know more than the kind"
assert all(value.high < 0 for value in correlation.values()), f"not less function: {correlation}"
assert len(tests) == 5 and all(t.q_value >= t.p_value for t in tests), "a correction makes no p-value smaller"
print("all checks passed")
