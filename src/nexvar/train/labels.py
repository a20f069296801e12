"""Labelled sequences: a TSV, CSV or Parquet file -> rows, each of them for training, for choosing, or for the test.

    sequence   label                split    group
    ACGT…      promoter             train    gene1      columns as the recipe names them; split and group may be missing
    ACGT…      0.3                  valid    gene2

The words of ``split`` are train; valid, validation, val or dev; test. Without them, shares are drawn by a hash of the
group (of the sequence, if there is no group), so that a group is never on two sides and a new row moves no old one.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.files import check_regular
from nexvar.train.recipe import TaskPart

LONGEST_CELL = (1 << 31) - 1  # csv's own limit, 131,072, is less than long sequences and their labels have
TRAIN, VALID, TEST = "train", "valid", "test"
WORDS = {"train": TRAIN, "valid": VALID, "validation": VALID, "val": VALID, "dev": VALID, "test": TEST}


@dataclass(frozen=True)
class Rows:
    """texts: sequences. labels: what each row's label columns say. groups: what stays together.

    sites: 0-based base of each sequence that pool "site" reads. split: (N,) of TRAIN, VALID and TEST.
    alternatives: the other sequence of a row that is a pair, else ""; none at all where no row is one.
    """

    texts: list[str]
    labels: list[tuple[str, ...]]
    groups: list[str]
    sites: list[int]
    split: np.ndarray
    alternatives: list[str] = field(default_factory=list)

    def of(self, name: str) -> np.ndarray:
        """Indices of the rows of one split."""
        return np.flatnonzero(self.split == name)


def read_rows(part: TaskPart, clean: Callable[[str, str], str], seed: int) -> Rows:
    """The labelled file, every row checked; NexVarError names the file and the row.

    clean: (sequence as written, where) -> as a model reads it, or NexVarError (``sequences.clean``).
    """
    path = Path(part.file)
    texts, labels, groups, sites, words, alternatives = [], [], [], [], [], []
    for number, row in table_rows(path):
        where = f"{path}:{number}"
        for column in ("sequence", *part.labels):
            if row.get(column) is None or row[column] == "" and column == "sequence":
                has = ", ".join(str(key) for key in row if key)
                fix = f"columns sequence, {', '.join(part.labels)}; it has {has}"
                raise NexVarError(f"no {column}", where=where, fix=fix)
        text = clean(str(row["sequence"]), where)
        texts.append(text)
        labels.append(tuple(text_of(row[column]) for column in part.labels))
        if part.kind == "classification" and "" in labels[-1]:
            raise NexVarError("an empty label", where=where, fix="a class, or leave the row out")
        group = row.get("group")
        groups.append(text if group is None or group == "" else f"group {group}")
        sites.append(_site(row.get("site"), len(text), where))
        words.append(split_word(row.get("split"), where))
        alternative = str(row.get("alternative") or "")
        alternatives.append(clean(alternative, where) if alternative else "")
    if not texts:
        raise NexVarError("no row to train on", where=path, fix="a line for each sequence")
    pairs = alternatives if any(alternatives) else []
    rows = Rows(texts, labels, groups, sites, _split(part, words, groups, seed), pairs)
    if not len(rows.of(TRAIN)):
        raise NexVarError("no row to train on", where=path, fix="rows of split train, or a smaller task.holdout")
    return rows


def text_of(value: Any) -> str:
    """As a CSV would say it: a whole number that Parquet holds as 1.0 is "1", NaN is empty, a list has commas."""
    if isinstance(value, list):
        return ",".join(map(text_of, value))
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _site(value: Any, length: int, where: str) -> int:
    if value is None or value == "":
        return length // 2
    text = text_of(value)
    if not text.isdecimal() or int(text) >= length:
        raise NexVarError(f"site is {text[:20]!r}", where=where, fix=f"a base, from 0 to {length - 1}")
    return int(text)


def split_word(value: Any, where: str) -> str | None:
    """TRAIN, VALID or TEST; None for an empty cell."""
    if value is None or value == "":
        return None
    word = WORDS.get(str(value).strip().lower())
    if word is None:
        raise NexVarError(f"split is {str(value)[:40]!r}", where=where, fix=f"one of {', '.join(WORDS)}")
    return word


def _split(part: TaskPart, words: Sequence[str | None], groups: Sequence[str], seed: int) -> np.ndarray:
    """Which rows are for what: as the file says, else drawn."""
    given = [word for word in words if word is not None]
    if given and len(given) != len(words):
        raise NexVarError("split is given for some rows only", where=part.file, fix="for all of them, or none")
    split = np.array(words if given else [TRAIN] * len(words), dtype=object)
    _check_straddling(split, groups, part.file)
    if part.folds:
        if VALID in given:
            raise NexVarError("folds beside rows of split valid", where="task.folds", fix="call them train")
        fold = folds_of(groups, split == TRAIN, part.folds, seed, part.file)
        if TEST in given:
            raise NexVarError("folds beside rows of split test", where="task.folds", fix="leave them out of the file")
        split[fold == part.fold - 1] = TEST
    if VALID not in given:
        drawn = np.array([hash_of(f"{seed}:{group}") < part.holdout for group in groups])
        split[drawn & (split == TRAIN)] = VALID
    return split


def _check_straddling(split: np.ndarray, groups: Sequence[str], file: str) -> None:
    """Groups may not stand on two sides; equal sequences without a group are told of."""
    sides = defaultdict(set)
    for group, side in zip(groups, split, strict=True):
        sides[group].add(side)
    straddling = [group for group, where in sides.items() if len(where) > 1]
    named = [group for group in straddling if group.startswith("group ")]
    if named:
        both = " and in ".join(sorted(sides[named[0]]))
        raise NexVarError(f"{named[0][:80]} is in {both}", where=file, fix="keep a group on one side")
    if straddling:
        what = f"{len(straddling):,} sequences are on two sides of the split"
        warnings.warn(f"{file}: {what}: what is measured is too good", stacklevel=2)


def folds_of(groups: Sequence[str], among: np.ndarray, count: int, seed: int, file: str) -> np.ndarray:
    """(N,) the fold of each row, from 0; -1 outside ``among``. Whole groups, largest first, to the smallest fold."""
    sizes = Counter(group for group, inside in zip(groups, among, strict=True) if inside)
    if len(sizes) < count:
        raise NexVarError(f"{len(sizes)} groups do not fill {count} folds", where=file, fix="fewer folds")
    filled, of = [0] * count, {}
    for group in sorted(sizes, key=lambda g: (-sizes[g], hash_of(f"{seed}:fold:{g}"))):
        smallest = filled.index(min(filled))
        of[group] = smallest
        filled[smallest] += sizes[group]
    return np.array([of[group] if inside else -1 for group, inside in zip(groups, among, strict=True)])


def check_folds(rows: Rows, among: np.ndarray, count: int, where: object) -> None:
    """NexVarError where a class has fewer groups in the rows ``among`` than there are folds."""
    groups: dict[str, set[str]] = defaultdict(set)
    for i in np.flatnonzero(among):
        groups[rows.labels[i][0]].add(rows.groups[i])
    small = min(groups, key=lambda label: len(groups[label]))
    if len(groups[small]) < count:
        what = f"class {small[:80]!r} has {len(groups[small])} groups for {count} folds"
        raise NexVarError(what, where=where, fix="fewer folds")


def hash_of(text: str) -> float:
    """In [0, 1)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def table_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line or row number, column -> value) of a TSV, CSV (also .gz) or Parquet file."""
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind not in ("tsv", "csv", "parquet"):
        raise NexVarError(f"unknown format {kind!r}", where=path, fix="tsv, csv or parquet")
    check_regular(path)
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as table:
                batches = table.iter_batches(1024)  # not all at once: sequences may be long
                for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                    yield number, {name: "" if value is None else value for name, value in row.items()}
            return
        opener: Any = gzip.open if path.suffix == ".gz" else open
        csv.field_size_limit(LONGEST_CELL)
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            # NOTE strict: a quote that is never closed would take all rows behind it into one cell
            reader = csv.DictReader(file, delimiter="\t" if kind == "tsv" else ",", strict=True)
            for row in reader:
                if None in row:
                    what = f"{len(row) - 1 + len(row[None])} cells, but {len(row) - 1} titles"
                    raise NexVarError(what, where=f"{path}:{reader.line_num}", fix="one cell for each title")
                yield reader.line_num, row
    except (OSError, EOFError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise NexVarError(f"cannot be read: {error}", where=path, fix="is it a table in UTF-8, and whole?") from error
