"""What the nexvar_mito benchmarks share: the recipe's split, the annotation, log p of the four bases at a site.

The split is the recipe's: same function, same seed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import torch

from nexvar import NexVar
from nexvar.genome.windows import bases_from_anchor
from nexvar.train import data
from nexvar.train.recipe import read

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "nexvar_mito.toml"
RCRS = ROOT / "src" / "nexvar" / "data" / "chrM_rCRS.fa"
LABELLED = ROOT / "src" / "nexvar" / "data" / "mtdna_labelled.vcf"
GENES = ("CDS", "tRNA", "rRNA")
KINDS = (*GENES, "D-loop")
TRANSITION = np.zeros(256, dtype=np.uint8)
TRANSITION[list(b"ACGT")] = list(b"GTAC")
Gene = tuple[int, int, bool]  # start, end (0-based half-open) and whether it lies on the other strand


def parser(page: str) -> argparse.ArgumentParser:
    """The options that every command has; ``page`` is its own docstring."""
    options = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--genomes", type=Path, required=True)
    options.add_argument("--model", default="nexvar_mito")
    options.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "nexvar_mito_store")
    return options


def open_split(genomes: Path, cache: Path) -> tuple[data.Store, data.Split]:
    d = read(RECIPE).data
    store = data.build_store([genomes], cache)
    parts = data.split(store.records, by=d.holdout_by, count=d.holdout, seed=d.holdout_seed, exclude=d.exclude)
    return store, parts


def annotation(features: Path, records: Container[str], types: Container[str]) -> Iterator[dict[str, str]]:
    """The rows of a TSV(.gz) of species, type, location, gene, product that are of these records and types."""
    with (gzip.open if features.suffix == ".gz" else open)(features, "rt") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["species"] in records and row["type"] in types:
                yield row


def in_one_piece(location: str) -> Gene | None:
    """The place of a feature that is whole; None for one in parts or cut off."""
    whole = re.fullmatch(r"(complement\()?(\d+)\.\.(\d+)\)?", location)
    return (int(whole[2]) - 1, int(whole[3]), bool(whole[1])) if whole else None


def kinds(features: Path, records: list[data.CorpusRecord]) -> dict[str, np.ndarray]:
    """Record -> the kind of each base (length,): 0 none, else 1 + its place in KINDS."""
    kind_of = {r.name: np.zeros(r.length, dtype=np.int8) for r in records}
    for row in annotation(features, kind_of, KINDS):
        for start, end in re.findall(r"<?(\d+)\.\.>?(\d+)", row["location"]):
            kind_of[row["species"]][int(start) - 1 : int(end)] = 1 + KINDS.index(row["type"])
    return kind_of


def alleles(model: NexVar, genome: np.ndarray, at: int, left: int, right: int, stride: int | None = None) -> np.ndarray:
    """(4, right + 1): log p of A, C, G, T at ``at`` and of 0 .. right bases behind it, mean of both strands.

    stride: read from the anchor before the site, of either strand, which is ``left`` bases or more away.
    """
    behind = []
    for strand, place, order in ((genome, at, b"ACGT"), (data.COMPLEMENT[genome[::-1]], len(genome) - 1 - at, b"TGCA")):
        before = left if stride is None else bases_from_anchor(place, left, stride, len(genome))
        window = np.take(strand, np.arange(place - before, place + right + 1), mode="wrap").astype(np.int64)
        ids = torch.from_numpy(np.stack([window[before:]] * 4))
        ids[:, 0] = torch.tensor(list(order))
        with torch.inference_mode():
            cache = model.model.new_cache(1, len(window))
            first = model.model(torch.from_numpy(window[None, :before]), cache=cache).logits[:, -1:]
            cache = cache.select(torch.zeros(4, dtype=torch.long))
            logits = torch.cat([first.expand(4, -1, -1), model.model(ids[:, :-1], cache=cache).logits], 1)
        logp = logits.float().log_softmax(-1)
        behind.append(logp.gather(2, ids[..., None])[..., 0].double().cumsum(1))
    return ((behind[0] + behind[1]) / 2).numpy()
