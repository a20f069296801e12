"""The bar of a run in a terminal: one of the callbacks that a job can have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from nexvar.runs.job import Progress

DELAY_S = 2.0  # shorter runs show none


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """A job's ``progress`` that draws on standard error, in ``unit``s such as "allele"."""
    bar: tqdm | None = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, initial=done, unit=unit, delay=DELAY_S)
        else:
            bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
