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
from nexvar.evals import made_of
from nexvar.files import disk_errors, read_json, write_bytes

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
            what = "this folder is of another benchmark: "
            made_of.check_same(known, facts, manifest, "another --output, or remove it", what)
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

    def read(self, width: int, model: str, method: str, set: str, source: Mapping[str, Any]) -> Cell | None:
        """A cell that is there; NexVarError where something else made it. source: the model and its settings."""
        path = self._path(width, model, method, set)
        if not path.exists():
            return None
        try:
            facts = made_of.read_facts(path)
            scores = pq.read_table(path)["score"].to_numpy(zero_copy_only=False)
            known = dict(facts["made_of"])
            cell = Cell(width, model, method, scores, set, facts["detail"], facts["parameters"])
        except (NexVarError, OSError, KeyError, TypeError, ValueError, pa.ArrowException):
            return None  # damaged: it is computed again
        made_of.check_same(known, source, path, "another --output, or remove this file")
        return cell

    def write(self, cell: Cell, source: Mapping[str, Any]) -> None:
        facts = {"detail": cell.detail, "parameters": cell.parameters, "made_of": dict(source)}
        path = self._path(cell.width, cell.model, cell.method, cell.set)
        write_bytes(path, made_of.with_facts(pa.table({"score": cell.score_N}), facts))
