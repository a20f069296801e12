"""What the recipe finetune-yeast-tracks came to: the picture and the numbers of docs/tracks.md.

    python docs/scripts/yeast_tracks_figure.py runs/yeast-tracks data/yeast docs/tracks-yeast.png

Prints log1p Pearson on XVI of the model and of "in a gene of this strand", and MNase around start codons.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from nexvar.genome.reference import Fasta
from nexvar.genome.signals import Signal
from nexvar.train.track_metrics import read_genes

FILES = {"RNA_fwd": "RNA.fwd", "RNA_rev": "RNA.rev", "PolII": "PolII", "MNase": "MNase", "Scc1": "Scc1"}
TEST, BIN = "XVI", 75
REGION = (397_050, 437_025)  # 0-based, of the picture
AROUND = 900  # bases on either side of a start codon
TRUE, SAID = "#9aa5b1", "#c2410c"


def binned(path: Path, genome: Fasta) -> np.ndarray:
    """(N,) the mean a base of each bin of the test chromosome."""
    bins = genome.contigs[TEST] // BIN
    return Signal(path, genome).values(TEST, 0, bins * BIN).reshape(bins, BIN).mean(1)


def around(values_N: np.ndarray, starts: list[tuple[int, str]]) -> np.ndarray:
    """The mean over start codons of the bins around each, upstream on the left."""
    reach, rows = AROUND // BIN, []
    for pos0, strand in starts:
        at = pos0 // BIN
        if reach <= at < len(values_N) - reach:
            row = values_N[at - reach : at + reach + 1]
            rows.append(row if strand == "+" else row[::-1])
    return np.mean(rows, 0)


def main(run: Path, data: Path, picture: Path) -> None:
    """Print the numbers, draw the picture."""
    genome = Fasta(data / "genome.fa")
    genes = [g for g in read_genes(data / "genes.gff3", genome) if g.place.chrom == TEST]
    true = {name: binned(data / f"{file}.bw", genome) for name, file in FILES.items()}
    said = {name: binned(run / f"test.{name}.bw", genome) for name in FILES}
    middles = np.arange(len(true["RNA_fwd"])) * BIN + BIN // 2
    for name, strand in (("RNA_fwd", "+"), ("RNA_rev", "-")):
        bases = np.zeros(genome.contigs[TEST])
        for g in genes:
            if g.strand == strand:
                bases[g.place.start : g.place.end] = 1
        inside = bases[: len(middles) * BIN].reshape(-1, BIN).mean(1)
        base, model = (np.corrcoef(np.log1p(true[name]), x)[0, 1] for x in (inside, np.log1p(said[name])))
        print(f"{name}: in a gene of this strand {base:.3f}, model {model:.3f}")
    starts = [(g.place.start if g.strand == "+" else g.place.end - 1, g.strand) for g in genes]
    dip = {kind: around(values["MNase"], starts) for kind, values in (("true", true), ("said", said))}
    for kind, values in dip.items():
        print(f"MNase around {len(starts)} starts, {kind}:", " ".join(f"{v:.2f}" for v in values))

    figure = plt.figure(figsize=(11, 9), dpi=100, layout="constrained")
    grid = figure.add_gridspec(len(FILES) + 2, 2, height_ratios=[2.2, *[1] * len(FILES), 0.35])
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    curve = figure.add_subplot(grid[0, 0])
    for name, style in (("RNA_fwd", "-"), ("RNA_rev", "--"), ("PolII", ":"), ("MNase", "-.")):
        key = f"log1p_pearson_{name}"
        points = [(r["step"], r[key]) for r in rows if key in r]
        curve.plot(*zip(*points, strict=True), style, color="#2f5d8a", label=name)
    curve.set(xlabel="step", ylabel="log1p Pearson, half of II", title="while it learned")
    curve.legend(frameon=False, fontsize=8)
    mean = figure.add_subplot(grid[0, 1])
    offsets = (np.arange(len(dip["true"])) - AROUND // BIN) * BIN
    mean.plot(offsets, dip["true"], color=TRUE, label="measured")
    mean.plot(offsets, dip["said"], color=SAID, label="predicted")
    mean.set(xlabel="bases from the start codon", ylabel="MNase", title=f"{len(starts)} genes of {TEST}")
    mean.legend(frameon=False, fontsize=8)
    low, high = (edge // BIN for edge in REGION)
    x = middles[low:high] / 1000
    for i, name in enumerate(FILES):
        panel = figure.add_subplot(grid[i + 1, :])
        panel.fill_between(x, np.log1p(true[name][low:high]), step="mid", color=TRUE, linewidth=0)
        panel.plot(x, np.log1p(said[name][low:high]), color=SAID, linewidth=1.2, drawstyle="steps-mid")
        panel.set_ylabel(name, fontsize=8)
        if i == 0:
            panel.set_title("log1p of what was measured (grey) and predicted (line)", fontsize=10)
        panel.set_xlim(REGION[0] / 1000, REGION[1] / 1000)
        panel.set_xticklabels([])
    strip = figure.add_subplot(grid[-1, :])
    for g in genes:
        y = 1 if g.strand == "+" else 0
        strip.barh(y, (g.place.end - g.place.start) / 1000, left=g.place.start / 1000, height=0.7,
                   color="#2e8b57" if y else "#7b5ea7")  # fmt: skip
    strip.set(xlim=(REGION[0] / 1000, REGION[1] / 1000), xlabel=f"{TEST}, thousand bases", yticks=[0, 1])
    strip.set_yticklabels(["-", "+"])
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
