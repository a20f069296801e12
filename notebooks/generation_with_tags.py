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
# # Write sequence: tags, temperature, and a guide
#
# A causal model continues a sequence, base by base. Here it gets the first third of a gene that all animals have, and
# writes more of it. You see how close it comes, what the temperature does, and how a function of yours steers it.
#
# **Not for harm.** Do not design or improve a pathogen or a toxin with this, and do not work around what models leave
# out. What a model writes is a hypothesis: research output, not a diagnosis, and nothing that was tested in a cell.
#
# | setting | model | memory | time |
# |---|---|---|---|
# | full | `evo2_7b`, with a phylogenetic tag before each prompt | 16 GB on a GPU | not run by us |
# | fast (`NEXVAR_FAST=1`) | `nexvar_mito`, which knows no tags | 1 GB | half a minute on two CPU cores |
#
# The gene is MT-CO1 of human mitochondria, from the package. `nexvar_mito` has seen it in other animals, but never in
# a human.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nexvar import NexVar
from nexvar.evals import demo, plots
from nexvar.genome.genetic_codes import genetic_code
from nexvar.genome.reference import Fasta
from nexvar.inference.core.tags import Taxonomy

FAST = os.environ.get("NEXVAR_FAST")
folder = Path(tempfile.mkdtemp())
model = NexVar("nexvar_mito" if FAST else "evo2_7b")
code = genetic_code(2)  # of vertebrate mitochondria

# %% [markdown]
# ## A tag says whose DNA it is
#
# Evo 2 learned from sequences with a line of descent before them. Such a tag in a prompt asks for DNA of that species.
# NexVar builds it from a file of yours: NCBI's taxdump, a GTDB table, or a small table such as this one.

# %%
table = folder / "lineages.tsv"
table.write_text(
    "domain\tphylum\tclass\torder\tfamily\tgenus\tspecies\n"
    "Eukaryota\tChordata\tMammalia\tPrimates\tHominidae\tHomo\tHomo sapiens\n"
    "Eukaryota\tChordata\tMammalia\tRodentia\tMuridae\tMus\tMus musculus\n"
)
tag = Taxonomy(table).tag("Homo sapiens")
print(tag)

# %% [markdown]
# ## Complete a gene
#
# The prompt is the 300 bases before the gene and its first 450 bases. The next 600 bases are to be made.
# We translate them and compare them with the real protein, residue by residue. Nothing is aligned, so a shift counts as
# wrong. Chance is the same comparison with the real residues in random order.

# %%
N_TOKENS, COPIES = 600, 4 if FAST else 20
start = 5_903  # of MT-CO1, 0-based
genome = Fasta(demo.shipped("chrM_rCRS.fa"))
dna = genome.fetch("chrM", start - 300, start + 450)
truth = code.translate(genome.fetch("chrM", start + 450, start + 450 + N_TOKENS))
prompt = dna if FAST else tag + dna


def same_residues(protein):
    """Where a protein has the residue of the real one: an array of True and False."""
    return np.array(list(protein)) == np.array(list(truth))


temperatures = (0.3, 0.7, 1.0, 1.5)
proteins = {}
for temperature in temperatures:
    made = model.generate([prompt] * COPIES, n_tokens=N_TOKENS, temperature=temperature, top_k=4, seed=1)
    proteins[temperature] = [code.translate(sequence) for sequence in made.sequences]
rng = np.random.default_rng(0)
chance = [same_residues(rng.permutation(list(truth))).mean() for _ in range(200)]
for temperature, several in proteins.items():
    shares = [same_residues(protein).mean() for protein in several]
    stops = np.mean([protein.count("*") for protein in several])
    print(f"temperature {temperature}: {np.mean(shares):.0%} of residues are the real ones, {stops:.1f} stops inside")
print(f"chance: {np.mean(chance):.0%}")

# %% [markdown]
# The real protein, and what the model made at temperature 0.3, 60 residues in a row. A dot is a residue that is right.

# %%
best = max(proteins[0.3], key=lambda protein: same_residues(protein).sum())
for at in range(0, len(truth), 60):
    there, here = truth[at : at + 60], best[at : at + 60]
    print("real", there)
    print("made", "".join("." if a == b else a for a, b in zip(here, there, strict=True)), "\n")

# %% [markdown]
# ## A guide
#
# A function of yours may choose. After every 60 bases the model proposes four continuations of each of two sequences.
# The function scores all of them, and the best two go on. This guide dislikes stop codons in the frame of the gene.
# We use a high temperature, at which the model alone writes many.


# %%
def few_stops(prompt, candidates):
    """Minus the number of stop codons; the prompt ends at the end of a codon."""
    return [-code.translate(text[: len(text) // 3 * 3]).count("*") for text in candidates]


HOT = 1.5
guided = model.generate(
    [prompt], n_tokens=N_TOKENS, temperature=HOT, top_k=4, seed=1, guide=few_stops, beam=2, branches=4, chunk=60
)
stops_guided = code.translate(guided.sequences[0]).count("*")
stops_alone = [protein.count("*") for protein in proteins[HOT]]
print(f"stop codons at temperature {HOT}: {stops_guided} with the guide, {np.mean(stops_alone):.1f} without")

# %% [markdown]
# The model proposes, and the guide alone chooses. A guide that asks for few stops gets few stops, not a better protein.
#
# ## The picture
#
# On the left is the share of right residues at each temperature. On the right it runs along the gene, in windows of 20
# residues: what was made first is closest to the prompt.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4), layout="constrained", width_ratios=[1, 1.7])
colours = dict(zip(temperatures, plt.get_cmap("viridis")(np.linspace(0.1, 0.85, len(temperatures))), strict=True))
for x, (temperature, several) in enumerate(proteins.items()):
    shares = [same_residues(protein).mean() for protein in several]
    left.scatter(np.full(len(shares), x), shares, s=45, alpha=0.7, color=colours[temperature])
    along = np.mean([same_residues(protein) for protein in several], axis=0)
    smooth = np.convolve(along, np.ones(20) / 20, mode="valid")
    right.plot(np.arange(len(smooth)) + 10, smooth, color=colours[temperature], label=f"temperature {temperature}")
for ax in (left, right):
    ax.axhline(np.mean(chance), color=plots.MUTED, lw=1, ls="--")
    ax.set_ylim(0, 1)
left.text(-0.45, np.mean(chance) + 0.02, "chance", fontsize=9, color=plots.MUTED)
left.set_xticks(range(len(temperatures)), [str(t) for t in temperatures])
left.set_xlim(-0.5, len(temperatures) - 0.5)
plots.dress(left, "Right residues", "temperature", "share of the protein")
plots.dress(right, "Along the gene", "residue after the prompt", "share of the copies")
right.legend(frameon=False, fontsize=9, labelcolor=plots.INK)
plt.show()

# %% [markdown]
# ## Checks
#
# Each of these lines stops the notebook if it is not true.

# %%
assert tag.startswith("|D__EUKARYOTA;P__CHORDATA;") and tag.endswith("S__HOMO SAPIENS|"), tag
again = model.generate([prompt], n_tokens=60, temperature=1.5, top_k=4, seed=1)
assert proteins[1.5][0].startswith(code.translate(again.sequences[0])), "the same seed must write the same bases"
cold = np.mean([same_residues(protein).mean() for protein in proteins[0.3]])
assert cold > np.max(chance), f"{cold:.2f} of the residues are right, and chance reaches {np.max(chance):.2f}"
assert stops_guided < np.mean(stops_alone), "the guide does not steer"
assert guided.guide_scores[0] == -stops_guided, "the guide's score is not that of the sequence it chose"
print("all checks passed")
