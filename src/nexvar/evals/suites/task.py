"""A task of a benchmark as data: what is asked, where its files are, how they are read, what others published.

    src/nexvar/suites/<suite>/suite.toml     what all tasks of a suite share
    src/nexvar/suites/<suite>/<task>.toml    one task; what it says goes before what its suite says

A user's own task is one TOML, named by its path; a ``suite.toml`` beside it is read, too.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.files import read_text
from nexvar.train.kinds import KINDS
from nexvar.train.recipe import TaskPart
from nexvar.weights.typed import check_types

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

HOME = Path(__file__).resolve().parents[2] / "suites"
SUITE = "suite.toml"
TRACKS = "tracks"  # a kind that this command describes and does not run
FORMATS = ("table", "fasta", "folders", "coordinates")
PAIRS = ("", "concatenate", "difference")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Door:
    """One way in which a task's files may lie in the user's folder (read.py). Paths may hold {folder}.

    format: "table" (TSV, CSV, Parquet), "fasta" (the label behind the last | of a header), "folders" (a .txt for each
    sequence, in a folder for each class) or "coordinates" (a .csv.gz for each class, metadata.yaml, and a genome).
    train, valid, test: the file or folder of each split; rows: one file whose split column says it.
    """

    format: str
    train: str = ""
    valid: str = ""
    test: str = ""
    rows: str = ""

    def files(self, folder: str) -> dict[str, str]:
        """Split, or "rows" -> path inside the user's folder."""
        said = {name: getattr(self, name) for name in (*SPLITS, "rows")}
        return {name: path.replace("{folder}", folder) for name, path in said.items() if path}


@dataclass(frozen=True)
class FineTune:
    """``--method finetune``. weights, rank, alpha, dropout, targets: what is trained (``train.recipe.TunePart``).

    lr, weight_decay, batch, epochs, warmup (steps) of AdamW with a cosine; steps: at most, 0 for no limit.
    """

    weights: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ()
    lr: float = 1e-4
    weight_decay: float = 0.0
    batch: int = 32
    epochs: float = 3.0
    warmup: int = 50
    steps: int = 0


@dataclass(frozen=True)
class Source:
    """Who published numbers. cite: paper or repository. differs: why they are not comparable; empty where they are."""

    cite: str
    differs: str = ""


@dataclass(frozen=True)
class Published:
    """A number that others published of this task; source: a key of ``sources``. rows: of a stratum, else of all."""

    source: str
    model: str
    metric: str
    value: float
    rows: str = "all"


@dataclass(frozen=True)
class Task:
    """question: what is asked of a sequence. kind: as of training (``train/kinds.py``), or "tracks".

    outputs: how many classes, labels or targets. metric: the one that is reported with an interval.
    length: bases of a sequence, the median where lengths differ. rows: of each split, as published.
    licence, source: of the files, and where they are to be had. obtain: how they are laid out, where that needs words.
    doors: ways to read them, tried in this order; folder: what {folder} in their paths stands for; default: the name.
    columns: sequence, label or labels, split, group, alternative -> column of a table; ``test`` (``train``, ``valid``)
    holds those that differ there. pair: what is read of (sequence, alternative): "concatenate" both embeddings, or
    their "difference". strata: a column by which the test is measured once more, in bins if it has edges.
    valid: column -> values of the training rows that choose instead. most: rows of a split at most, drawn.
    pool: of embeddings. protocol: how it was measured by those who published it. finetune: settings of
    ``--method finetune`` that follow it. leak: what is known of the test in the training rows.
    published, sources: numbers of others, and whose. of: another task, whose values hold where this one says nothing.
    """

    name: str
    suite: str
    question: str
    kind: str
    outputs: int
    metric: str
    length: int
    licence: str
    source: str
    doors: tuple[Door, ...]
    folder: str = ""
    obtain: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    pair: str = ""
    strata: dict[str, Any] = field(default_factory=dict)
    valid: dict[str, list[str]] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    pool: str = "mean"
    protocol: str = ""
    finetune: FineTune = FineTune()
    leak: str = ""
    published: tuple[Published, ...] = ()
    sources: dict[str, Source] = field(default_factory=dict)
    of: str = ""

    @property
    def key(self) -> str:
        return f"{self.suite}/{self.name}"

    @property
    def labels(self) -> list[str]:
        """Names of the label columns of the table that all methods read."""
        named = self.columns.get("labels")
        if named:
            return list(named)
        many = self.outputs > 1 and self.kind != "classification"
        return [f"label_{i + 1}" for i in range(self.outputs)] if many else ["label"]

    @property
    def part(self) -> TaskPart:
        """As training and probes know it; without a file."""
        return TaskPart("", self.labels, self.kind, pool=self.pool, metric=self.metric)

    def column(self, role: str, split: str) -> Any:
        """The name of a column; "" where the task has none."""
        default = {"sequence": "sequence", "label": "label"}.get(role, "")
        return self.columns.get(split, {}).get(role, self.columns.get(role, default))

    def files(self, door: Door) -> dict[str, str]:
        return door.files(self.folder or self.name)

    @property
    def digest(self) -> str:
        """Of what decides a result: another one is another task."""
        words = ("name", "suite", "question", "licence", "source", "obtain", "protocol", "leak", "published", "sources",
                 "rows", "finetune", "length")  # fmt: skip
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in words}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


@cache
def catalogue() -> dict[str, Task]:
    """NexVar's own tasks by ``suite/name``, suites and tasks sorted."""
    found = sorted(path for path in HOME.glob("*/*.toml") if path.name != SUITE)
    return {task.key: task for task in map(read, found)}


def find(name: str) -> list[Task]:
    """A task by ``suite/name``, or by its name if no other suite has it; all of a suite; or a TOML by its path."""
    tasks = catalogue()
    if name.endswith(".toml"):
        return [read(Path(name))]
    if name in tasks:
        return [tasks[name]]
    if of_suite := [task for task in tasks.values() if task.suite == name]:
        return of_suite
    called = [task for task in tasks.values() if task.name == name]
    if len(called) == 1:
        return called
    if called:
        raise NexVarError(f"{name!r} is in several suites", fix=f"one of {', '.join(task.key for task in called)}")
    known = [*tasks, *{task.suite for task in tasks.values()}, *{task.name for task in tasks.values()}]
    near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.5))
    hint = f"did you mean {near}? " if near else ""
    raise NexVarError(f"no task {name!r}", fix=f"{hint}`nexvar benchmark list` lists them; a TOML by its path")


def read(path: Path) -> Task:
    """The task in a TOML file; NexVarError names what is unknown, missing or of the wrong type."""
    values = _values(path)
    values |= {"name": path.stem, "suite": path.resolve().parent.name}
    known = {f.name: f for f in dataclasses.fields(Task)}
    _only(values, known, path)
    needed = [n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING and n not in values]
    if needed:
        raise NexVarError(f"no {needed[0]}", where=path, fix=f"a task says {', '.join(needed[:6])}")
    values["doors"] = tuple(_table(Door, door, path, "doors") for door in _list(values["doors"], path, "doors"))
    values["published"] = tuple(
        _table(Published, row, path, "published") for row in _list(values.get("published", []), path, "published")
    )
    sources = values.get("sources", {})
    if not isinstance(sources, dict):
        raise NexVarError("sources is no table", where=path, fix="[sources.name] with cite and differs")
    values["sources"] = {key: _table(Source, row, path, f"sources.{key}") for key, row in sources.items()}
    values["finetune"] = _table(FineTune, values.get("finetune", {}), path, "finetune")
    plain = {n: v for n, v in values.items() if n not in ("doors", "published", "sources", "finetune", "columns")}
    check_types(Task, plain, path)
    _check_columns(values.get("columns", {}), path)
    task = Task(**values)
    if problem := _problem(task):
        raise NexVarError(problem, where=path, fix="evals/suites/task.py says what a task holds")
    return task


def _values(path: Path) -> dict[str, Any]:
    """What the TOML says, over what its suite says, over what the task says that it refers to."""
    suite = path.parent / SUITE
    values = {**(_toml(suite) if suite.exists() else {}), **_toml(path)}
    if "of" not in values:
        return values
    base = HOME / f"{values['of']}.toml"
    if not base.exists() or base.name == SUITE or base.resolve() == path.resolve():
        raise NexVarError(f"of is {str(values['of'])[:80]!r}", where=path, fix='another task, such as "nt_original/H3"')
    return {"folder": base.stem, **_values(base), "published": [], "sources": {}, **values}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise NexVarError(f"no TOML ({error})", where=path) from None


def _list(value: Any, path: Path, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise NexVarError(f"{name} is no list of tables", where=path, fix=f"[[{name}]]")
    return value


def _table(cls: Any, values: Any, path: Path, name: str) -> Any:
    """One of the small tables of a task."""
    if not isinstance(values, dict):
        raise NexVarError(f"{name} is {str(values)[:40]!r}", where=path, fix="a table")
    _only(values, {f.name: f for f in dataclasses.fields(cls)}, path, f"{name}.")
    check_types(cls, values, path)
    try:
        return cls(**values)
    except TypeError as error:
        raise NexVarError(f"{name}: {error}", where=path, fix=(cls.__doc__ or "").split("\n")[0]) from None


def _only(values: Mapping[str, Any], known: Mapping[str, Any], path: Path, prefix: str = "") -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.3) or list(known)
            raise NexVarError(f"unknown key {prefix}{key}", where=path, fix=f"did you mean {near[0]}?")


ROLES = ("sequence", "label", "split", "group", "alternative")  # each is a column, perhaps another one in a split
_ROLES = ", ".join(ROLES)


def _check_columns(columns: Any, path: Path) -> None:
    """NexVarError for what names no column."""
    if not isinstance(columns, dict):
        raise NexVarError("columns is no table", where=path, fix='columns = { sequence = "seq", label = "y" }')
    for name, value in columns.items():
        if name in SPLITS:
            if not isinstance(value, dict) or set(value) - set(ROLES):
                raise NexVarError(f"columns.{name} is {str(value)[:40]!r}", where=path, fix=f"a table of {_ROLES}")
            _check_columns(value, path)
        elif name == "labels":
            if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
                raise NexVarError(
                    f"columns.labels is {str(value)[:40]!r}", where=path, fix="a list of names of columns"
                )
        elif name not in ROLES:
            fix = f"one of {_ROLES}, labels, {', '.join(SPLITS)}"
            raise NexVarError(f"columns has {name!r}", where=path, fix=fix)
        elif not isinstance(value, str):
            raise NexVarError(f"columns.{name} is {str(value)[:40]!r}", where=path, fix="the name of a column")


def _problem(task: Task) -> str | None:
    """What is wrong with the values of a task taken together."""
    if task.kind not in (*KINDS, TRACKS):
        return f"kind is {task.kind!r}: one of {', '.join((*KINDS, TRACKS))}"
    if task.pair not in PAIRS:
        return f"pair is {task.pair!r}: concatenate or difference"
    if task.outputs < (2 if task.kind == "classification" else 1):
        return f"outputs is {task.outputs}"
    if not task.doors:
        return "doors is empty"
    for door in task.doors:
        files = door.files("x")
        if door.format not in FORMATS:
            return f"a door's format is {door.format!r}: one of {', '.join(FORMATS)}"
        if not ("train" in files or "test" in files) ^ ("rows" in files):
            return "a door has files for train and test, or one for rows"
        if any(Path(path).is_absolute() or ".." in Path(path).parts for path in files.values()):
            return f"a file of {door.format} leads out of the folder"
    if "labels" in task.columns and (task.kind == "classification" or len(task.labels) != task.outputs):
        return f"columns.labels has {len(task.labels)} columns, and {task.kind} with {task.outputs} outputs has another"
    if task.kind in KINDS and not _measured(task):
        return f"metric is {task.metric!r}: one of {', '.join(KINDS[task.kind].METRICS)}"
    if task.pair and not any("alternative" in each for each in (task.columns, *map(task.columns.get, SPLITS)) if each):
        return "a pair needs columns.alternative"
    if task.length < 1:
        return f"length is {task.length}"
    for name in (*task.rows, *task.most):
        if name not in SPLITS:
            return f"rows has {name!r}: one of {', '.join(SPLITS)}"
    if task.strata and not (isinstance(task.strata.get("column"), str) and set(task.strata) <= {"column", "edges"}):
        return "strata has a column, and edges where it is a number"
    if "edges" in task.strata and not _rising(task.strata["edges"]):
        return "strata.edges is no list of numbers, each above the one before"
    for row in task.published:
        if row.source not in task.sources:
            return f"no source {row.source!r} of a published number"
    return None


def _measured(task: Task) -> bool:
    """Whether its kind has its metric: of all outputs, or of one."""
    names = KINDS[task.kind].METRICS
    return task.metric in (*names, *(f"{name}_{label}" for name in (*names, "auroc") for label in task.labels))


def _rising(edges: Any) -> bool:
    """Whether these are finite numbers, each above the one before."""
    if not isinstance(edges, list) or not edges or not all(type(edge) in (int, float) for edge in edges):
        return False
    return all(low < high for low, high in pairwise([-math.inf, *edges, math.inf]))
