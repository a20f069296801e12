"""Exon or not, from the embeddings of the last token on either side of a position: Evo 2's classifier, for any model.

    positions.py ─┬─ last token of forward, of reverse, side by side ─┐
                  ├─ k-mers of the same bases                        ├─ linear model, chosen inside ─ AUROC [95 %]
                  ├─ share of G and C                                │  of the training rows (probes/)
                  └─ the last 16 bases of each side                  ┘

The published one reads block 26 of Evo 2 7B (2 x 4,096 numbers) and is another, trained elsewhere; its weights are not
used here. Source: ArcInstitute/evo2 @ 53f19599, notebooks/exon_classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.genes.positions import Positions, of_annotation, of_table
from nexvar.evals.probes import features
from nexvar.evals.probes.features import Features
from nexvar.evals.probes.fitting import INNER, Fold
from nexvar.evals.probes.probe import DRAWS, Report, compare
from nexvar.genome.annotation import read_annotation
from nexvar.genome.reference import Fasta
from nexvar.train.kinds import Classification
from nexvar.train.labels import TEST, TRAIN, Rows, folds_of
from nexvar.weights.choice import ModelChoice, loaded_model
from nexvar.weights.load import Loaded

WINDOW, COUNT, FOLDS = 8192, 2000, 5
NEAR = 16  # bases of each side that a control reads
METRIC = "auroc"


def probe_exons(
    model: ModelChoice | Loaded,
    *,
    fasta: str | Path | None = None,
    annotation: str | Path | None = None,
    table: str | Path | None = None,
    window: int | None = None,
    count: int = COUNT,
    folds: int = FOLDS,
    layers: Sequence[str] = (),
    random_weights: bool = False,
    cache: str | Path | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """AUROC of linear models on the model's embeddings, and on the controls.

    fasta, annotation: positions are drawn there, and whole clusters of genes held out in ``folds``. table: positions as
    in samplePositions.tsv: with an annotation the test, alone each species held out in turn. window: bases of each
    side; None: 8,192, or the model's context. layers: to choose among; none: all blocks.
    """
    if annotation is None and table is None or (annotation is None) != (fasta is None):
        raise NexVarError("nothing to learn from", where="--gff3", fix="give --fasta and --gff3, or --positions")
    seed, count = arguments.whole(seed, "--seed", 0), arguments.whole(count, "--count", 2)
    folds, draws = arguments.whole(folds, "--folds", 2), arguments.whole(draws, "--draws", 10, 100_000)
    loaded = loaded_model(model)
    size = arguments.whole(min(WINDOW, loaded.card.context) if window is None else window, "--window", NEAR)
    learned = None
    if annotation is not None and fasta is not None:
        learned = of_annotation(read_annotation(annotation, Fasta(fasta)), size, count, seed)
    tested = None if table is None else of_table(table, size)
    everything = learned + tested if learned and tested else learned or tested
    assert everything is not None
    outer, design, split = _design(learned, tested, everything, folds, seed)
    rows = Rows(everything.around(), [(str(label),) for label in everything.labels], everything.groups, [], split)
    kind = Classification(("no exon", "exon"))
    candidates = _candidates(loaded, everything, layers, random_weights, cache, seed, progress)
    return compare(rows, kind, everything.labels, METRIC, outer, design, candidates, draws=draws, seed=seed)


def _design(
    learned: Positions | None, tested: Positions | None, everything: Positions, folds: int, seed: int
) -> tuple[list[Fold], str, np.ndarray]:
    """What is fitted on and what is predicted, a line that says so, and the split of every row."""
    size = len(everything.labels)
    split = np.full(size, TRAIN, dtype=object)
    if learned is not None and tested is not None:
        train, test = np.split(np.arange(size), [len(learned.labels)])
        split[test] = TEST
        what = f"{len(train):,} positions of the annotation; {len(test):,} of the table: the test"
        return [(train, test)], what, split
    if learned is not None:
        fold = folds_of(everything.groups, np.full(size, True), folds, seed, "--gff3")
        found = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(folds)]
        clusters = len(set(everything.groups))
        return found, f"{size:,} positions in {folds} folds; of {clusters} clusters of genes none is divided", split
    names = np.array(everything.groups)
    found = [(np.flatnonzero(names != name), np.flatnonzero(names == name)) for name in dict.fromkeys(names)]
    if len(found) <= INNER:
        fix = f"{INNER + 1} or more, or --gff3 to learn from"
        raise NexVarError(f"{len(found)} species to hold out in turn", where="--positions", fix=fix)
    return found, f"{size:,} positions, each of {len(found)} species held out in turn", split


def _candidates(
    loaded: Loaded,
    positions: Positions,
    layers: Sequence[str],
    random_weights: bool,
    cache: str | Path | None,
    seed: int,
    progress: Callable[[str], None],
) -> Iterator[tuple[str, Features]]:
    texts, count = [*positions.forward, *positions.reverse], len(positions.labels)
    progress(f"{loaded.card.name}: the last token of {len(texts):,} sequences")
    yield loaded.card.name, _sides(features.of_model(loaded, texts, "last", layers, cache), count)
    if random_weights:
        progress(f"{loaded.card.name}, random weights")
        drawn = features.of_model(features.with_random_weights(loaded, seed), texts, "last", layers, None)
        yield f"{loaded.card.name}, random weights", _sides(drawn, count)
    progress("controls")
    yield "k-mers, 1 to 5", _sides({"": features.kmers(texts)}, count)
    yield "GC", _sides({"": features.composition(texts)[:, :2]}, count)
    last = positions.last(NEAR)
    placed = features.positions([*last.forward, *last.reverse])
    assert placed is not None
    yield f"last {NEAR} bases", _sides({"": placed}, count)


def _sides(made: Features, count: int) -> Features:
    """The features of both sequences of each position side by side."""
    return {layer: np.concatenate([x_ND[:count], x_ND[count:]], axis=1) for layer, x_ND in made.items()}
