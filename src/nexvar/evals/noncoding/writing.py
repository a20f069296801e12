"""What a benchmark leaves in its folder, beside its cells (store.py) and pictures (pictures.py).

table.parquet, .md, .html      model x method x set x region: AUROC, AUPRC, MCC, F1 with 95 % intervals
comparisons.parquet            every two of them: the difference of AUROCs, p, and q over the whole table
1024bp/scores.parquet          every variant with all scores
1024bp/*.json                  one file a cell, in the layout and by the names of the published code
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.evals import statistics
from nexvar.evals.metrics import METRICS
from nexvar.evals.noncoding import tables
from nexvar.evals.noncoding.report import ALL, Row, compare, measure
from nexvar.evals.noncoding.run import Found
from nexvar.evals.noncoding.store import BASELINE
from nexvar.evals.noncoding.windows import Cut
from nexvar.files import disk_errors, write_atomically, write_bytes


def write(found: Found, folder: Path, draws: int, seed: int) -> tuple[list[Row], list[statistics.Row]]:
    """Measure, compare, and write everything; the rows of both tables."""
    rows = measure(found, draws, seed)
    compared = compare(found, draws, seed)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write_parquet(folder / "table.parquet", [_flat(row) for row in rows])
    if compared:
        _write_parquet(folder / "comparisons.parquet", [vars(row) for row in compared])
    write_bytes(folder / "table.md", ("\n".join(tables.markdown(rows, compared, found)) + "\n").encode())
    write_bytes(folder / "table.html", tables.page(rows, compared, found).encode())
    for width, cut in found.cuts.items():
        _write_scores(folder / f"{width}bp", found, cut)
    for row in rows:
        if row.region == ALL and row.method != BASELINE:
            _write_json(folder / f"{row.width}bp", row, rows)
    return rows, compared


def _flat(row: Row) -> dict[str, Any]:
    flat = {name: value for name, value in vars(row).items() if name != "estimates"}
    for name in METRICS:
        e = row.estimates.get(name)
        flat |= {name: e and e.value, f"{name}_low": e and e.low, f"{name}_high": e and e.high}
    return flat


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with write_atomically(path) as unfinished:
        pq.write_table(pa.Table.from_pylist(list(rows)), unfinished)


def _write_scores(folder: Path, found: Found, cut: Cut) -> None:
    """Every variant of any set, with what each cell says of it."""
    data = found.data
    alleles = data.sets.alleles
    columns: dict[str, Any] = {
        "chrom": [a.contig for a in alleles],
        "pos": [a.pos0 + 1 for a in alleles],
        "ref": [a.ref for a in alleles],
        "alt": [a.alt for a in alleles],
        "label": data.sets.positive_N.astype(int),
        "region_category": data.region_N.tolist(),
        "group": cut.group_N,
        "has_window": cut.usable_N,
    }
    for name, rows in data.sets.rows.items():
        columns[f"in_{name}"] = np.isin(np.arange(len(alleles)), rows)
    for cell in found.cells:
        if cell.width == cut.width:
            name = f"{cell.name} {cell.set}".strip()
            columns[name] = pa.array(cell.score_N, mask=~np.isfinite(cell.score_N))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / "scores.parquet") as unfinished:
        pq.write_table(pa.table(columns), unfinished)


def _write_json(folder: Path, row: Row, rows: Sequence[Row]) -> None:
    """The published layout, with intervals. name: zeroshot_MODEL_SET, linprobe_MODEL_SET_ref, lora_MODEL_SET."""
    method, _, read = row.method.partition(" ")
    kind, prefix = {"zero-shot": ("zero_shot", "zeroshot"), "probe": ("linear_probe", "linprobe"),
                    "LoRA": ("lora_finetune", "lora")}[method]  # fmt: skip
    ending = f"_{read.replace(' - ', '_minus_')}" if read else ""
    within = [r for r in rows if r.region != ALL and (r.width, r.set, r.model, r.method) == (
        row.width, row.set, row.model, row.method)]  # fmt: skip
    facts: dict[str, Any] = {"model": row.model, "negative_set": row.set, "method": kind, "context_size": row.width,
                             "n_variants": row.positives + row.negatives, "n_missing": row.missing}  # fmt: skip
    if read:
        facts["seq_type"] = read
    if row.detail:
        facts["readout"] = row.detail
    facts |= {"overall": _numbers(row), "per_region": {r.region: _numbers(r) for r in within}}
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    write_bytes(folder / f"{prefix}_{row.model}_{row.set}{ending}.json", f"{text}\n".encode())


def _numbers(row: Row) -> dict[str, Any]:
    made: dict[str, Any] = {"positives": row.positives, "negatives": row.negatives}
    if row.note:
        return made | {"note": row.note}
    for name, e in row.estimates.items():
        made |= {name: e.value, f"{name}_interval": [e.low, e.high]}
    return made | {"optimal_threshold": row.threshold}
