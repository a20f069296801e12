"""Coding bases of a genome as two bedGraphs, for the recipe finetune-yeast-genes.

python docs/scripts/coding_tracks.py genome.fa genes.gff3 data/yeast   ->   coding.fwd.bedGraph, coding.rev.bedGraph
"""

from __future__ import annotations

import sys
from pathlib import Path

from nexvar.genome.annotation import read_annotation
from nexvar.genome.bed import Regions
from nexvar.genome.reference import Fasta, Interval


def main(fasta: str, genes: str, folder: str) -> None:
    """1 where a base is of a coding sequence of the strand; else nothing."""
    genome = Fasta(fasta)
    annotation = read_annotation(genes, genome)
    for strand, name in (("+", "fwd"), ("-", "rev")):
        features = [f for c in annotation.contigs for f in annotation.features(c, *genome.span(c))]
        coding = Regions(Interval(f.contig, f.start, f.end) for f in features if f.kind == "CDS" and f.strand == strand)
        lines = [f"{c}\t{a}\t{b}\t1\n" for c in annotation.contigs for a, b in coding.intervals(c)]
        (Path(folder) / f"coding.{name}.bedGraph").write_text("".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
