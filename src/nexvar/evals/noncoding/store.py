"""Scores on disk, cell by cell: what is there when a run is killed is not computed again.

out/benchmark.json                                  which variants, sets and choices this folder is of
out/1024bp/cells/zero-shot~all~nexvar_mito.parquet  a score for each variant (row); what made it, in the metadata
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.errors import NexVarError
from nexvar.files import check_regular, disk_errors, read_json, write_atomically, write_bytes

MANIFEST = "benchmark.json"
BASELINE = "baseline"


@dataclass(frozen=True)
class Cell:
    """One way of scoring at one width. score_N: (N,) higher = more likely pathogenic, NaN for none.

    set: the one that it was fitted to; "" for what knows no label. detail: the readout. parameters: of the model.
    """

    width: int
    model: str
    method: str
    score_N: np.ndarray
    set: str = ""
    detail: str = ""
    parameters: int = 0

    @property
    def name(self) -> str:
        """In tables of comparisons."""
        return self.model if self.method == BASELINE else f"{self.model} {self.method}"


class Store:
    """The folder of one benchmark. facts: what its cells depend on; NexVarError where it holds another benchmark."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        manifest = folder / MANIFEST
        facts = json.loads(json.dumps(facts))
        if manifest.exists():
            known = read_json(manifest)
            if changed := [name for name in facts if known.get(name) != facts[name]]:
                what = f"this folder is of another benchmark: {changed[0]} was {known.get(changed[0])}, not "
                raise NexVarError(f"{what}{facts[changed[0]]}", where=manifest, fix="another --output, or remove it")
            return
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_bytes(manifest, f"{json.dumps(facts, indent=1)}\n".encode())

    def place(self, width: int) -> Path:
        """The folder of one width."""
        folder = self.folder / f"{width}bp"
        with disk_errors(folder):
            (folder / "cells").mkdir(parents=True, exist_ok=True)
        return folder

    def _path(self, width: int, model: str, method: str, set: str) -> Path:
        parts = (method, set or "all", model)
        return self.place(width) / "cells" / f"{'~'.join(re.sub('[^A-Za-z0-9._-]+', '-', p) for p in parts)}.parquet"

    def read(self, width: int, model: str, method: str, set: str, made_of: Mapping[str, Any]) -> Cell | None:
        """A cell that is there; NexVarError where something else made it. made_of: the model and its settings."""
        path = self._path(width, model, method, set)
        if not path.exists():
            return None
        try:
            table = pq.read_table(check_regular(path))
            facts = json.loads(table.schema.metadata[b"nexvar"])
            scores = table["score"].to_numpy(zero_copy_only=False)
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
            return None  # damaged: it is computed again
        if changed := [name for name in made_of if facts["made_of"].get(name) != made_of[name]]:
            what = f"{changed[0]} was {facts['made_of'].get(changed[0])}, not {made_of[changed[0]]}"
            raise NexVarError(what, where=path, fix="another --output, or remove this file")
        return Cell(width, model, method, scores, set, facts["detail"], facts["parameters"])

    def write(self, cell: Cell, made_of: Mapping[str, Any]) -> None:
        facts = {"detail": cell.detail, "parameters": cell.parameters, "made_of": dict(made_of)}
        table = pa.table({"score": cell.score_N}).replace_schema_metadata({b"nexvar": json.dumps(facts).encode()})
        with write_atomically(self._path(cell.width, cell.model, cell.method, cell.set)) as unfinished:
            pq.write_table(table, unfinished)
