"""What a benchmark shows: the tasks there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from nexvar.evals.suites.task import catalogue


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
            yield f"  {task.name:<{wide}}  {task.metric:<8}  {kind:<20}  {task.length:>7,} bp  {rows}"
