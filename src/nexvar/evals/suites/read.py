"""A task's files in the user's folder -> one labelled table, every row checked; written once, read by every method.

    table         columns of a TSV, CSV or Parquet
    fasta         >name|label
    folders       train/<class>/<id>.txt
    coordinates   train/<class>.csv.gz: id,region,start,end,strand (0-based, half-open); metadata.yaml; a genome

Ambiguous bases (R, Y, …) are read as N, which every model reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nexvar.errors import NexVarError
from nexvar.evals.probes.leaks import strandless
from nexvar.evals.suites.task import SPLITS, Door, Task
from nexvar.files import read_text, write_atomically
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.genome.textio import Lines
from nexvar.train.kinds import YES_NO
from nexvar.train.labels import TEST, TRAIN, VALID, hash_of, split_word, table_rows, text_of

AMBIGUOUS = str.maketrans("RYSWKMBDHVUryswkmbdhvu", "NNNNNNNNNNTNNNNNNNNNNT")
BASES = re.compile("[ACGTN]+")
INSIDE = 0.9  # of a test that stands in the training rows: then it is no test


@dataclass
class Table:
    """Columns of equal length. alternatives: the other sequence of a pair, or "". strata: the stratum's words.

    places: file and line (or row) of each.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[tuple[str, ...]] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    alternatives: list[str] = field(default_factory=list)
    strata: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, place: str, text: str, labels: tuple[str, ...], split: str, group: str = "", alternative: str = "",
            stratum: str = "") -> None:  # fmt: skip
        self.texts.append(_bases(text, place))
        self.alternatives.append(_bases(alternative, place) if alternative else "")
        self.labels.append(labels)
        self.split.append(split)
        self.groups.append(group)
        self.strata.append(stratum)
        self.places.append(place)

    def of(self, split: str) -> list[int]:
        return [i for i, each in enumerate(self.split) if each == split]

    def keep(self, rows: list[int]) -> None:
        for each in fields(self):
            column = getattr(self, each.name)
            column[:] = [column[i] for i in rows]


def load(task: Task, data: Path, most: int = 0, seed: int = 0) -> Table:
    """The rows of a task; NexVarError names the file and the line that is wrong, or where missing files are to be had.

    most: rows of each split at most, drawn by a hash of seed and sequence; 0 for all (or as many as the task says).
    """
    door = _open_door(task, data)
    table = Table()
    for split, name in task.files(door).items():
        before = len(table.texts)
        READERS[door.format](task, table, data / name, split, data)
        if len(table.texts) == before:
            raise NexVarError("no rows", where=data / name, fix=f"it is {split} of {task.key}")
    check(task, table, data)
    _draw(table, {s: min(filter(None, (most, task.most.get(s, 0))), default=0) for s in SPLITS}, seed)
    return table


def _open_door(task: Task, data: Path) -> Door:
    """The first way of which every file is there."""
    for door in task.doors:
        paths = [data / name for name in task.files(door).values()]
        if all(map(_is_there[door.format], paths)):
            return door
    first = ", ".join(task.files(task.doors[0]).values())
    raise NexVarError(f"no {first} for {task.key}", where=data, fix=f"to be had from {task.source}: {task.obtain}")


_is_there: dict[str, Callable[[Path], bool]] = {
    "table": Path.is_file,
    "fasta": Path.is_file,
    "folders": lambda path: any(each.is_dir() for each in path.glob("*")),
    "coordinates": lambda path: any(path.glob("*.csv.gz")) and (path.parent / "metadata.yaml").is_file(),
}


# -- four ways


def _table(task: Task, table: Table, path: Path, split: str, data: Path) -> None:
    names = {role: task.column(role, split) for role in ("sequence", "alternative", "group")}
    names["split"] = task.column("split", split) if split == "rows" else ""
    names["stratum"] = task.strata.get("column", "") if split in (TEST, "rows") else ""
    labels = task.columns.get("labels") or [task.column("label", split)]
    wanted = [*filter(None, names.values()), *labels, *(task.valid if split in (TRAIN, "rows") else ())]
    for number, row in table_rows(path):
        place = f"{path}:{number}"
        if missing := next((name for name in wanted if row.get(name) is None), None):
            has = ", ".join(str(key) for key in row if key)
            raise NexVarError(f"no column {missing!r}", where=place, fix=f"{task.key} reads it; the file has {has}")
        said = {role: text_of(row[name]) if name else "" for role, name in names.items()}
        word = split_word(said["split"] if split == "rows" else split, place) or TRAIN
        if word == TRAIN and any(text_of(row[name]) in values for name, values in task.valid.items()):
            word = VALID
        stratum = _stratum(task, said["stratum"], place) if said["stratum"] and word == TEST else ""
        found = _labels(task, [text_of(row[name]) for name in labels], place)
        table.add(place, said["sequence"], found, word, said["group"], said["alternative"], stratum)


def _labels(task: Task, said: list[str], place: str) -> tuple[str, ...]:
    """One for each label column; a column that holds a list is all of them."""
    each = said[0].split(",") if len(said) == 1 and len(task.labels) > 1 else said
    if len(each) != len(task.labels):
        raise NexVarError(f"{len(each)} labels", where=place, fix=f"{task.key} has {len(task.labels)}")
    return tuple(value.strip() for value in each)


def _stratum(task: Task, said: str, place: str) -> str:
    """The word of a stratum, or the bin of a number; several words are joined by +."""
    column, edges = task.strata["column"], task.strata.get("edges")
    if not edges:
        return "+".join(f"{column} {word}" for word in said.split("+") if word)
    try:
        at = int(np.searchsorted(edges, abs(float(said)), side="right"))
    except ValueError:
        raise NexVarError(f"{column} is {said[:40]!r}", where=place, fix="a number") from None
    low, high = [0.0, *edges][at], [*edges, float("inf")][at]
    return f"{column} {low:g} to {high:g}" if high < float("inf") else f"{column} from {low:g}"


def _fasta(task: Task, table: Table, path: Path, split: str, data: Path) -> None:
    place, label, parts = "", "", list[str]()

    def finish() -> None:
        if place:
            table.add(place, "".join(parts), (label,), split)
            parts.clear()

    for number, line in Lines(path):
        if line.startswith(">"):
            finish()
            place, (_, bar, label) = f"{path}:{number}", line.rpartition("|")
            if not bar or not label.strip():
                raise NexVarError(f"no label in {line[:60]!r}", where=place, fix="the header ends with |label")
            label = label.strip()
        elif place:
            parts.append(line.strip())
        elif line.strip():
            raise NexVarError("text before the first '>'", where=f"{path}:{number}", fix="a FASTA starts with '>name'")
    finish()


def _folders(task: Task, table: Table, path: Path, split: str, data: Path) -> None:
    for folder in sorted(each for each in path.iterdir() if each.is_dir()):
        for file in sorted(folder.glob("*.txt")):
            table.add(str(file), read_text(file).strip(), (folder.name,), split)


def _coordinates(task: Task, table: Table, path: Path, split: str, data: Path) -> None:
    classes = _metadata(path.parent / "metadata.yaml")
    for file in sorted(path.glob("*.csv.gz")):
        name = file.name.removesuffix(".csv.gz")
        if name not in classes:
            raise NexVarError(
                f"no class {name!r}", where=path.parent / "metadata.yaml", fix=f"it has {', '.join(classes)}"
            )
        genome = _open_genome(_genome(classes[name], path.parent, data))
        versions = {contig.partition(".")[0]: contig for contig in genome.contigs}
        for number, row in table_rows(file):
            place = f"{file}:{number}"
            table.add(place, _fetch(genome, versions, row, place), (name,), split)


def _metadata(path: Path) -> dict[str, str]:
    """Class -> address of its reference."""
    import yaml

    try:
        said = yaml.safe_load(read_text(path))
        return {str(name): str(values["url"]) for name, values in said["classes"].items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = " ".join(f"no classes with a url ({error})".split())
        raise NexVarError(what, where=path, fix="metadata.yaml of the data set") from None


def _genome(url: str, folder: Path, data: Path) -> Path:
    """The reference of a class, beside its data set or in the user's folder, packed or not."""
    name = PurePosixPath(url).name
    places = [where / each for where in (folder, data) for each in (name.removesuffix(".gz"), name)]
    if found := next((place for place in places if place.is_file()), None):
        return found
    raise NexVarError(f"no {name.removesuffix('.gz')}", where=data, fix=f"to be had from {url}; unpack it")


_open_genome = lru_cache(maxsize=2)(Fasta)  # several classes and splits read the same one


def _fetch(genome: Fasta, versions: dict[str, str], row: dict[str, Any], place: str) -> str:
    try:
        region, strand = row["region"], row["strand"]
        start, end = int(row["start"]), int(row["end"])
    except (KeyError, TypeError, ValueError):
        raise NexVarError("no row of coordinates", where=place, fix="id,region,start,end,strand") from None
    match = genome.resolve(region)
    contig = match.contig if match is not None else versions.get(region)
    if contig is None:
        raise NexVarError(f"no {region} in the genome", where=place, fix=genome.why_unknown(region))
    first, last = genome.span(contig, start, end)
    if strand not in ("+", "-") or not first <= start < end <= last:
        what = f"{region}:{start}-{end} {strand} is no place of the genome"
        raise NexVarError(what, where=place, fix="0-based, half-open; is it the genome that metadata.yaml names?")
    text = genome.fetch(contig, start, end)
    return reverse_complement(text) if strand == "-" else text


READERS: dict[str, Callable[[Task, Table, Path, str, Path], None]] = {
    "table": _table,
    "fasta": _fasta,
    "folders": _folders,
    "coordinates": _coordinates,
}


def _bases(text: str, place: str) -> str:
    upper = text.translate(AMBIGUOUS).upper()
    if not BASES.fullmatch(upper):
        odd = next((letter for letter in upper if letter not in "ACGTN"), "")
        what = f"{odd!r} is no base" if odd else "no sequence"
        raise NexVarError(what, where=place, fix="A, C, G, T, N, or an ambiguous base")
    return upper


# -- is it a task


def check(task: Task, table: Table, data: Path) -> None:
    """NexVarError for a table on which nothing could be measured, or not what the task says."""
    if not table.of(TRAIN):
        fix = "a score without training: `nexvar score`" if "train" not in task.rows else task.obtain
        raise NexVarError("no training rows", where=task.key, fix=fix)
    if task.kind == "classification":
        _check_classes(task, table)
    else:
        _check_numbers(task, table)
    _check_inside(task, table)


def _check_classes(task: Task, table: Table) -> None:
    classes: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for (label,), split, place in zip(table.labels, table.split, table.places, strict=True):
        if not label:
            raise NexVarError("an empty label", where=place, fix="a class, or leave the row out")
        classes[split].setdefault(label, place)
    learned = classes[TRAIN]
    if len(learned) < 2:
        raise NexVarError(f"only one class, {next(iter(learned))[:40]!r}", where=task.key, fix="two labels or more")
    for split in (VALID, TEST):
        if odd := next((label for label in classes[split] if label not in learned), None):
            what = f"label {odd[:40]!r} of the {split} rows is in no training row"
            raise NexVarError(what, where=classes[split][odd], fix=f"they have {', '.join(sorted(learned))[:120]}")
    if len(learned) != task.outputs:
        what = f"{len(learned)} classes, not {task.outputs}: {', '.join(sorted(learned))[:120]}"
        raise NexVarError(what, where=task.key, fix="are these the files of this task?")


def _check_numbers(task: Task, table: Table) -> None:
    for labels, place in zip(table.labels, table.places, strict=True):
        for label in labels:
            good = label.lower() in YES_NO if task.kind == "multi-label" else _is_number(label)
            if not good:
                what = f"label {label[:40]!r} is no {'yes or no' if task.kind == 'multi-label' else 'number'}"
                raise NexVarError(what, where=place, fix="the same kind of label in every split")
    for split in (TRAIN, TEST):
        rows = table.of(split)
        for k, name in enumerate(task.labels):
            if rows and len(known := {table.labels[i][k] for i in rows} - {""}) < 2:
                what = f"{name} of the {split} rows has {f'one value, {known.pop()[:40]!r}' if known else 'no value'}"
                raise NexVarError(what, where=task.key, fix="two values or more")


def _is_number(label: str) -> bool:
    try:
        return label == "" or bool(np.isfinite(float(label)))
    except ValueError:
        return False


def _check_inside(task: Task, table: Table) -> None:
    """A test that stands in the training rows measures memory."""
    pairs = [f"{a}>{b}" if b else strandless(a) for a, b in zip(table.texts, table.alternatives, strict=True)]
    known, test = {pairs[i] for i in table.of(TRAIN)}, table.of(TEST)
    inside = sum(pairs[i] in known for i in test)
    if test and inside >= INSIDE * len(test):
        what = f"{inside:,} of {len(test):,} test sequences stand in the training rows"
        raise NexVarError(what, where=task.key, fix="is the test another file?")


# -- as every method reads it


def _draw(table: Table, most: dict[str, int], seed: int) -> None:
    """At most so many rows of each split, by a hash of the seed and their sequence; the order stays."""
    kept = []
    for split in SPLITS:
        rows = table.of(split)
        if most[split] and len(rows) > most[split]:
            rows = sorted(rows, key=lambda i: hash_of(f"{seed}:{table.texts[i]}:{table.alternatives[i]}"))[
                : most[split]
            ]
        kept += rows
    if len(kept) < len(table.texts):
        table.keep(sorted(kept))


def write(task: Task, table: Table, path: Path) -> None:
    """Parquet with the columns of ``train/labels.py``: sequence, alternative, labels, split, group; and stratum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"sequence": table.texts, "alternative": table.alternatives}
    columns |= {name: [row[k] for row in table.labels] for k, name in enumerate(task.labels)}
    columns |= {"split": table.split, "group": table.groups, "stratum": table.strata}
    with write_atomically(path) as unfinished:
        pq.write_table(pa.table(columns), unfinished, compression="zstd")
