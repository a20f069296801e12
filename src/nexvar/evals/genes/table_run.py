"""A long table, computed in parts that stay on disk: killed, the same command goes on behind the last whole part.

items ── parts of ``PART`` items ── OUT.parts/ ── OUT (a TSV, there and whole, or not there)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.errors import NexVarError
from nexvar.files import write_tsv
from nexvar.inference.core.embedding_cache import identity
from nexvar.paths import Read, Write, check_apart
from nexvar.runs import arrow
from nexvar.runs import parts as on_disk
from nexvar.runs.job import Progress
from nexvar.runs.lock import locked
from nexvar.weights.load import Loaded

PART = 8
T = TypeVar("T")
Rows = list[dict[str, Any]]


def check_table(output: str | Path, reads: Sequence[str | Path]) -> Path:
    """NexVarError unless ``output`` can be written, is a .tsv and none of what is read."""
    path = Path(output)
    if path.suffix != ".tsv":
        raise NexVarError(f"no format for the ending of {path.name!r}", where=path, fix="name it .tsv")
    check_apart([Read(each) for each in reads], [Write(path, parts=True)])
    return path


def table_run(
    output: Path,
    kind: str,
    items: Sequence[T],
    compute: Callable[[Sequence[T]], Rows],
    schema: pa.Schema,
    *,
    loaded: Loaded,
    options: dict[str, Any],
    left_out: Rows,
    progress: Progress,
) -> Rows:
    """The rows of every item, in order, then ``left_out``; ``output`` has them, too.

    compute: some items -> their rows, with the columns of ``schema``. kind, options, the model and ``repr`` of the
    items are what the rows depend on: where one of them changed, the unfinished run is not gone on with.
    """
    chunks = [items[i : i + PART] for i in range(0, len(items), PART)]
    folder = Path(f"{output}.parts")
    manifest = on_disk.make_manifest(
        options={**options, "model": identity(loaded)},
        parts=len(chunks),
        inputs={},
        provenance={"model": loaded.card.name},
        kind=kind,
        variants=hashlib.sha256(repr(list(items)).encode()).hexdigest(),
    )
    with locked(folder):
        on_disk.open_parts(folder, manifest)
        indices = range(len(chunks))
        todo = sorted({*on_disk.missing_parts(folder, indices), *on_disk.damaged_parts(folder, indices)})
        done = len(items) - sum(len(chunks[i]) for i in todo)
        progress(done, len(items))
        try:
            for i in todo:
                on_disk.write_part(folder, i, arrow.parquet(pa.Table.from_pylist(compute(chunks[i]), schema)))
                done += len(chunks[i])
                progress(done, len(items))
        except BaseException:
            if not done:  # nothing to go on with: a mended command must not meet an unfinished run
                on_disk.remove_parts(folder)
            raise
        tables = [pq.read_table(path) for path in on_disk.finished_parts(folder, len(chunks))]
        rows = [*(row for table in tables for row in table.to_pylist()), *left_out]
        write_rows(output, schema.names, rows)
        on_disk.remove_parts(folder)
    return rows


def write_rows(path: Path, columns: Sequence[str], rows: Rows) -> None:
    """A TSV of these columns of the rows."""
    write_tsv(path, columns, ([row[name] for name in columns] for row in rows))
