"""What a benchmark found, as rows: each cell on each set, overall and within each region, and models compared.

    table.parquet, .md, .html      model x method x set x region: AUROC, AUPRC, MCC, F1 with 95 % intervals
    comparisons.parquet            every two of them: the difference of AUROCs, p, and q over the whole table
    1024bp/scores.parquet          every variant with all scores
    1024bp/*.json                  one file a cell, in the layout and by the names of the published code
    figures/                       see pictures.py

A region with fewer than ten variants of either class has no numbers: it says "too few".
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.evals import metrics, statistics
from nexvar.evals.metrics import METRICS, Estimate, TooFew
from nexvar.evals.noncoding.baselines import REGION, REGION_CLASS
from nexvar.evals.noncoding.regions import CLASSES
from nexvar.evals.noncoding.run import Data, Found
from nexvar.evals.noncoding.store import BASELINE, Cell
from nexvar.evals.noncoding.windows import Cut
from nexvar.files import disk_errors, write_atomically, write_bytes

ALL = "all"


@dataclass(frozen=True)
class Row:
    """A cell on the variants of one set, in one region. missing: variants without a score, which do not count.

    estimates: of each of ``METRICS``; empty where ``note`` says why. threshold: of MCC and F1 (Youden's).
    """

    width: int
    set: str
    region: str
    model: str
    method: str
    detail: str
    parameters: int
    positives: int
    negatives: int
    missing: int
    estimates: dict[str, Estimate]
    threshold: float
    note: str


def measure(found: Found, draws: int, seed: int) -> list[Row]:
    """Every cell on its sets; cells that could not be computed are rows with the reason."""
    rows: list[Row] = []
    for cell in found.cells:
        for set in _sets(cell, found.data):
            rows += _of(cell, set, found, draws, seed)
    for f in found.failures:
        for set in [f.set] if f.set else found.data.sets.rows:
            rows.append(Row(f.width, set, ALL, f.model, f.method, "", 0, 0, 0, 0, {}, np.nan, f.why))
    order = {name: i for i, name in enumerate(found.data.sets.rows)}
    return sorted(rows, key=lambda r: (r.width, order[r.set], r.region != ALL, r.region, r.method == BASELINE))


def _sets(cell: Cell, data: Data) -> list[str]:
    return [cell.set] if cell.set else list(data.sets.rows)


def members(cell_set: str, data: Data, cut: Cut) -> np.ndarray:
    """(M,) the variants of a set that have a window."""
    rows = data.sets.rows[cell_set]
    return rows[cut.usable_N[rows]]


def regions_of(region_N: np.ndarray) -> list[str]:
    """Those that are there, in the order of the rules; then the file's own."""
    there = set(region_N.tolist()) - {""}
    return [name for name in CLASSES if name in there] + sorted(there - set(CLASSES))


def _of(cell: Cell, set: str, found: Found, draws: int, seed: int) -> Iterator[Row]:
    cut, data = found.cuts[cell.width], found.data
    rows = members(set, data, cut)
    constant = cell.method == BASELINE and cell.model in (REGION, REGION_CLASS)
    for region in [ALL, *([] if constant else regions_of(data.region_N[rows]))]:
        some = rows if region == ALL else rows[data.region_N[rows] == region]
        scored = some[np.isfinite(cell.score_N[some])]
        labels, scores = data.sets.positive_N[scored], cell.score_N[scored]
        estimates, threshold, note = dict[str, Estimate](), float("nan"), ""
        clusters = cut.group_N[scored] if cut.grouped else None
        try:
            estimates = metrics.bootstrap(labels, scores, draws=draws, seed=seed, clusters=clusters)
            threshold = metrics.youden_threshold(labels, scores)
        except TooFew as few:
            note = f"too few: {few.what}"
        yield Row(cell.width, set, region, cell.model, cell.method, cell.detail, cell.parameters, int(labels.sum()),
                  int((~labels).sum()), len(some) - len(scored), estimates, threshold, note)  # fmt: skip


def compare(found: Found, draws: int, seed: int) -> list[statistics.Row]:
    """Every two cells on the same set and width, of which one is a model's; q-values over all of them.

    DeLong's test, or, where the file names groups (genes), the bootstrap of whole groups.
    """
    made = []
    for width, cut in found.cuts.items():
        for set in found.data.sets.rows:
            cells = [c for c in found.cells if c.width == width and set in _sets(c, found.data)]
            rows = members(set, found.data, cut)
            groups = cut.group_N[rows] if cut.grouped else None
            models = [cell for cell in cells if cell.method != BASELINE]
            others = [cell for cell in cells if cell.method == BASELINE]
            pairs = [(a, b) for i, a in enumerate(models) for b in [*models[i + 1 :], *others]]
            for a, b in pairs:
                made.append(
                    statistics.compare(
                        found.data.sets.positive_N[rows], a.score_N[rows], b.score_N[rows], names=(a.name, b.name),
                        dataset=f"{set} {width}bp", groups=groups, draws=draws, seed=seed,
                    )
                )  # fmt: skip
    return statistics.with_q_values(made)


# -- files


def write(found: Found, folder: Path, draws: int, seed: int) -> tuple[list[Row], list[statistics.Row]]:
    """Measure, compare, and write everything; the rows of both tables."""
    rows = measure(found, draws, seed)
    compared = compare(found, draws, seed)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write_parquet(folder / "table.parquet", [_flat(row) for row in rows])
    if compared:
        _write_parquet(folder / "comparisons.parquet", [vars(row) for row in compared])
    write_bytes(folder / "table.md", ("\n".join(markdown(rows, found)) + "\n").encode())
    write_bytes(folder / "table.html", _page(rows, found).encode())
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


def _cells(row: Row) -> list[str]:
    who = (
        row.model if row.method == BASELINE else f"{row.model}, {row.method}{f' ({row.detail})' if row.detail else ''}"
    )
    counts = [f"{row.positives:,}", f"{row.negatives:,}", f"{row.missing:,}" if row.missing else ""]
    values = [str(row.estimates[name]) for name in METRICS] if row.estimates else [row.note] + [""] * (len(METRICS) - 1)
    return [who, *counts, *values]


_TITLES = ["", "class 1", "class 0", "no score", "AUROC [95 %]", "AUPRC", "MCC", "F1"]


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Title and rows of each table: a width, a set, a region; regions without any number in one line."""
    titles = list(dict.fromkeys((row.width, row.set, row.region) for row in rows))
    for width, set, region in titles:
        some = [row for row in rows if (row.width, row.set, row.region) == (width, set, region)]
        where = "" if region == ALL else f", {region}"
        if region != ALL and not any(row.estimates for row in some):
            most = max(some, key=lambda row: row.positives + row.negatives)
            counts = f"{most.positives:,} of class 1, {most.negatives:,} of class 0"
            yield f"{set}{where}, {width} bp: too few, {counts}", []
        else:
            yield f"{set}{where}, {width} bp", sorted(some, key=_rank)


def _rank(row: Row) -> tuple[bool, float]:
    return row.method == BASELINE, -(row.estimates["auroc"].value if row.estimates else -1.0)


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """What a terminal shows."""
    for title, some in _blocks(rows):
        yield title
        body = [_TITLES, *(_cells(row) for row in some)] if some else []
        widths = [max(len(cells[i]) for cells in body) for i in range(len(_TITLES))] if body else []
        for cells in body:
            yield ("  " + "  ".join(cell.ljust(wide) for cell, wide in zip(cells, widths, strict=True))).rstrip()


def markdown(rows: Sequence[Row], found: Found) -> Iterator[str]:
    """Tables of GitHub's Markdown, and what a reader should know of the variants."""
    for title, some in _blocks(rows):
        yield f"**{title}**"
        yield ""
        if some:
            yield f"| {' | '.join(_TITLES)} |"
            yield f"|---|{'--:|' * 3}{'---|' * (len(_TITLES) - 4)}"
            yield from (f"| {' | '.join(cell.replace('|', '/') for cell in _cells(row))} |" for row in some)
            yield ""
    yield from (f"- {line}" for line in _notes(found))


def _notes(found: Found) -> Iterator[str]:
    yield from found.data.notes
    for cut in found.cuts.values():
        yield from cut.notes
        count = len(np.unique(cut.group_N[cut.usable_N]))
        yield f"{cut.width} bp: {count:,} groups of neighbours" + (
            " or of the file; intervals resample whole groups" if cut.grouped else "; intervals resample variants"
        )
    if "N3" in found.data.sets.rows:
        yield "N3: both classes share their reference windows, so that a probe of the reference is at chance"


def _page(rows: Sequence[Row], found: Found) -> str:
    parts = [
        "<!doctype html><meta charset=utf-8><title>Non-coding variants</title>",
        "<style>body { font: 14px sans-serif } td, th { padding: 2px 12px; text-align: left }</style>",
    ]
    for title, some in _blocks(rows):
        parts.append(f"<h3>{html.escape(title)}</h3>")
        if some:
            body = [f"<tr>{''.join(f'<td>{html.escape(c)}' for c in _cells(row))}" for row in some]
            parts += ["<table><tr>" + "".join(f"<th>{html.escape(t)}" for t in _TITLES), *body, "</table>"]
    parts += ["<ul>", *(f"<li>{html.escape(line)}" for line in _notes(found)), "</ul>"]
    return "\n".join(parts) + "\n"
