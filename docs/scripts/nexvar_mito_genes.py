"""Where the RNA genes of the mitogenomes lie, as loss weights for the recipe nexvar_mito.

    python docs/scripts/nexvar_mito_genes.py data/features.tsv.gz > data/rna_genes.bed

A tRNA gene is 70 bases of a genome of 16,500: unweighted, a small model sees 13 protein genes and little else.
"""

import csv
import gzip
import re
import sys

WEIGHTS = {"rRNA": 2, "tRNA": 4}  # with them, proteins have about half of the loss and each kind of RNA a fifth

with gzip.open(sys.argv[1], "rt") as file:
    rows = [row for row in csv.DictReader(file, delimiter="\t") if row["type"] in WEIGHTS]
for row in sorted(rows, key=lambda row: WEIGHTS[row["type"]]):  # where they overlap, tRNA holds
    for start, end in re.findall(r"<?(\d+)\.\.>?(\d+)", row["location"]):
        print(row["species"], int(start) - 1, end, row["product"] or row["type"], WEIGHTS[row["type"]], sep="\t")
