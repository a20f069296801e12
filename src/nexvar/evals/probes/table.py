"""A probe's report as text for people, as a table for programs, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.evals.metrics import Estimate
from nexvar.evals.probes.probe import Report
from nexvar.files import write_bytes, write_tsv

ENDINGS = (".tsv", ".md")
COLUMNS = ("task", "features", "layer", "metric", "value", "low", "high", "apart", "apart_low", "apart_high", "rows")


def lines(task: str, report: Report) -> list[str]:
    """What a terminal shows."""
    wide = max(len(line.features) for line in report.lines)
    head = f"{task}: {report.lines[0].metric}, with 95 % intervals over groups; {report.design}"
    said = [head, report.leaks.line]
    for line in report.lines:
        apart = f"   without near-duplicates {line.apart}" if line.apart is not None else ""
        layer = f"   {line.layer}" if line.layer else ""
        said.append(f"  {line.features:<{wide}}  {line.value}{apart}{layer}")
    return said


def markdown(task: str, report: Report) -> list[str]:
    """A table of GitHub's Markdown."""
    some = any(line.apart is not None for line in report.lines)
    rows = [f"| {task} | {report.lines[0].metric} [95 %] |{' without near-duplicates |' if some else ''} layer |",
            f"|---|---|{'---|' if some else ''}---|"]  # fmt: skip
    for line in report.lines:
        apart = f" {line.apart if line.apart is not None else ''} |" if some else ""
        rows.append(f"| {line.features} | {line.value} |{apart} {line.layer} |")
    return [*rows, "", f"{report.design}. {report.leaks.line[0].upper()}{report.leaks.line[1:]}."]


def write(path: Path, task: str, report: Report) -> None:
    """The table, by the ending of ``path``: .tsv, .md."""
    check(path)
    if path.suffix == ".md":
        write_bytes(path, ("\n".join(markdown(task, report)) + "\n").encode())
    else:
        write_tsv(path, COLUMNS, _rows(task, report))


def check(path: Path) -> None:
    """NexVarError for an ending that no table has."""
    if path.suffix not in ENDINGS:
        kind = path.suffix or "a file without an ending"
        raise NexVarError(f"cannot write {kind}", where=path, fix=f"name it {' or '.join(ENDINGS)}")


def write_predictions(path: Path, report: Report) -> None:
    """TSV: of each predicted row its number in the file (from 1), group, labels, and what each set of features says."""
    names = report.kind.names
    head = ["row", "group", *(f"true_{i}" for i in range(len(report.rows.labels[0])))]
    head += [f"{line.features}: {name}" for line in report.lines for name in names]
    order = report.lines[0].fitted.rows
    body = (
        [int(i) + 1, report.rows.groups[i][:80], *report.rows.labels[i],
         *(float(v) for line in report.lines for v in line.fitted.out_NK[at])]
        for at, i in enumerate(order)
    )  # fmt: skip
    write_tsv(path, head, body)


def _rows(task: str, report: Report) -> Iterator[list[Any]]:
    for line in report.lines:
        apart = line.apart
        numbers = [number for each in (line.value, apart) for number in _numbers(each)]
        yield [task, line.features, line.layer, line.metric, *numbers, len(line.fitted.rows)]


def _numbers(estimate: Estimate | None) -> list[float | None]:
    return [None] * 3 if estimate is None else [estimate.value, estimate.low, estimate.high]
