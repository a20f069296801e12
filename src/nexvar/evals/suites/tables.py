"""What a benchmark shows: the tasks there are; of a run, one long table, pages in Markdown and HTML, two pictures.

rows (cells.py) ─> one section for all tasks, one for each task with published numbers beside ─> text
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from nexvar.errors import RESEARCH_ONLY
from nexvar.evals import markup
from nexvar.evals.metrics import Estimate
from nexvar.evals.suites.cells import ALL, APART, BASELINES, Row, read_rows
from nexvar.evals.suites.task import Task, catalogue
from nexvar.files import write_atomically, write_bytes

LONG = "results.parquet"
PUBLISHED, APART_FROM = "published", "≠"
CHANCE = {"auroc": 0.5, "mean_auroc": 0.5, "mcc": 0.0, "pearson": 0.0, "spearman": 0.0}  # by metric


def listing() -> Iterator[str]:
    """Lines for people: every suite, where its files are to be had, and its tasks."""
    for suite, tasks in groupby(catalogue().values(), key=lambda task: task.suite):
        every = list(tasks)
        yield f"{suite}: {len(every)} tasks"
        for source in dict.fromkeys(f"{task.source} ({task.licence})" for task in every):
            yield f"  from {source}"
        wide = max(len(task.name) for task in every)
        for task in every:
            rows = " / ".join(f"{count:,} {split}" for split, count in task.rows.items())
            kind = f"{task.kind}, {task.outputs}" if task.kind != "regression" or task.outputs > 1 else task.kind
            yield f"  {task.name:<{wide}}  {task.metric:<10}  {kind:<18}  {task.length:>7,} bp  {rows}".rstrip()


def write_all(output: Path, tasks: Sequence[Task]) -> list[str]:
    """The tables and pictures of all cells in a run's folder; their paths.

    tasks: of this run, which need not be NexVar's own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for path in sorted((output / "cells").glob("*.parquet")) for row in read_rows(path)]
    known = catalogue() | {task.key: task for task in tasks}
    with write_atomically(output / LONG) as unfinished:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), unfinished)
    pictures = _pictures(output, rows)
    parts = sections(rows, known)
    write_bytes(output / "results.md", markdown(parts).encode())
    write_bytes(
        output / "results.html", page(parts, [path.name for path in pictures if path.suffix == ".png"]).encode()
    )
    return [str(output / name) for name in (LONG, "results.md", "results.html")] + [str(path) for path in pictures]


@dataclass
class Section:
    """A title, a table, and sentences below it."""

    title: str
    head: list[str]
    body: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sections(rows: Sequence[Row], tasks: dict[str, Task]) -> list[Section]:
    """An overview of all tasks, then each task on its own."""
    by_task = grouped(rows)
    return [_overview(by_task), *(_section(key, each, tasks.get(key)) for key, each in by_task.items())]


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By task."""
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(f"{row.suite}/{row.task}", []).append(row)
    return by_task


def _overview(by_task: dict[str, list[Row]]) -> Section:
    metrics = {key: rows[0].metric for key, rows in by_task.items()}  # the first is the task's own
    section = Section("All tasks", ["model", "method", *(f"{key} {metric}" for key, metric in metrics.items())])
    values = {
        (row.model, row.method, key): _said(row)
        for key, rows in by_task.items()
        for row in rows
        if row.metric == metrics[key] and row.rows == ALL
    }
    for model, method in _lines([row for rows in by_task.values() for row in rows]):
        section.body.append([model, method, *(values.get((model, method, key), "") for key in by_task)])
    section.notes.append("95 % intervals by a bootstrap over groups of the test rows.")
    return section


def _lines(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(model, method) in the order of a table: models, their controls, baselines."""
    return sorted(dict.fromkeys((row.model, row.method) for row in rows), key=lambda line: line[1] == BASELINES)


def _section(key: str, rows: Sequence[Row], task: Task | None) -> Section:
    metric = rows[0].metric
    published = task.published if task is not None else ()
    parts = [ALL, *([APART] if any(row.rows == APART for row in rows) else [])]
    parts += sorted({row.rows for row in rows} - {ALL, APART})
    columns = [(metric, part) for part in parts]
    columns += [c for c in dict.fromkeys((p.metric, p.rows) for p in published) if c not in columns]
    head = ["model", "method", *(f"{m}" if part == ALL else f"{m}, {part}" for m, part in columns), "layer"]
    section = Section(key, head)
    values = {(row.model, row.method, row.metric, row.rows): _said(row) for row in rows}
    layers = {(row.model, row.method): row.layer for row in rows}
    for line in _lines(rows):
        section.body.append([*line, *(values.get((*line, *column), "") for column in columns), layers[line]])
    differs: dict[str, str] = {}
    for model, source in dict.fromkeys((p.model, p.source) for p in published):
        assert task is not None
        why = task.sources[source].differs
        if why:
            differs.setdefault(why, APART_FROM * (len(differs) + 1))
        said = {(p.metric, p.rows): f"{p.value:g}{differs.get(why, '')}" for p in published
                if (p.model, p.source) == (model, source)}  # fmt: skip
        section.body.append(
            [f"{model} ({task.sources[source].cite})", PUBLISHED, *(said.get(c, "") for c in columns), ""]
        )
    first = rows[0]
    drawn = f", at most {first.max_rows:,} of each split" if first.max_rows else ""
    section.notes.append(f"{first.n_train:,} training rows, {first.n:,} tested{drawn}.")
    if task is not None:
        section.notes.insert(0, f"{task.question[0].upper()}{task.question[1:]}.")
        section.notes += [f"{mark} not comparable: {why}." for why, mark in differs.items()]
        section.notes += [f"Known of it: {task.leak}."] if task.leak else []
    return section


def _said(row: Row) -> str:
    return f"{row.value:.3f}" if math.isnan(row.low) else str(Estimate(row.value, row.low, row.high))


def markdown(parts: Sequence[Section]) -> str:
    """Tables of GitHub's Markdown."""
    lines = ["# Benchmark", "", RESEARCH_ONLY, ""]
    for part in parts:
        lines += [f"## {markup.markdown(part.title)}", "", *markup.markdown_table(part.head, part.body), ""]
        lines += [line for note in part.notes for line in (markup.markdown(note), "")]
    return "\n".join(lines)


def page(parts: Sequence[Section], pictures: Sequence[str]) -> str:
    """One HTML file; pictures lie beside it."""
    lines = list[str]()
    for part in parts:
        lines += [f"<h2>{html.escape(part.title)}</h2>", *markup.html_table(part.head, part.body)]
        lines += [f"<p>{html.escape(note)}</p>" for note in part.notes]
        if part is parts[0]:
            lines += [f'<p><img src="{name}" alt="{name}"></p>' for name in pictures]
    return markup.html_page("Benchmark", lines)


def _pictures(output: Path, rows: Sequence[Row]) -> list[Path]:
    """A heat map and a forest plot of each metric, where matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return []
    from nexvar.evals.figures import Point, forest, heat_map, save

    points: dict[str, list[Point]] = {}
    for key, of_task in grouped(rows).items():
        for row in sorted(of_task, key=lambda row: row.method == BASELINES):
            if row.metric == of_task[0].metric and row.rows == ALL:
                model = row.model if row.method in ("probe", BASELINES) else f"{row.model}, {row.method}"
                points.setdefault(row.metric, []).append(Point(model, key, row.value, row.low, row.high, row.n))
    written = []
    for metric, each in points.items():
        chance = CHANCE.get(metric)
        written += save(heat_map(each, metric=metric, span=(chance or 0.0, 1.0)), output / f"heat-{metric}")
        written += save(forest(each, metric=metric, chance=chance), output / f"forest-{metric}")
    return written
