"""``nexvar eval variants``: how well scores separate labelled variants, overall and by group.

    scores (VCF, TSV, Parquet) + labels (VCF INFO, TSV, Parquet) -> joined by (chrom, pos, ref, alt)
        -> Rows: one per group, every metric with its 95 % interval -> table, metrics.tsv, metrics.png

Two classes give AUROC, AUPRC, and MCC and F1 at Youden's threshold; continuous labels give Spearman.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals import metrics, plots, statistics
from nexvar.evals.metrics import Estimate
from nexvar.evals.report import Report, Row
from nexvar.evals.tables import column, joined, labels_of, read_table


def evaluate(
    badness: np.ndarray,
    labels: np.ndarray,
    by: Sequence[str] | None = None,
    *,
    clusters: np.ndarray | None = None,
    draws: int = metrics.DRAWS,
    seed: int = 0,
) -> list[Row]:
    """A Row for all variants, then one for each group of ``by``, in the order they appear.

    badness: (N,) finite, higher = more likely class 1. labels: (N,) bool, or float for a correlation.
    clusters: (N,) what to resample whole (genes). A group with too few of a class gets a note, not numbers.
    """
    labels, badness = metrics.as_numbers(labels, "labels"), metrics.as_numbers(badness, "badness")
    if labels.ndim != 1 or labels.shape != badness.shape:
        raise NexVarError(f"{labels.shape} labels but {badness.shape} scores", where="evaluate", fix="one for each")
    groups = np.asarray(by if by is not None else [], dtype=object)
    if by is not None and groups.shape != labels.shape:
        raise NexVarError(f"{groups.shape} groups but {labels.shape} labels", where="by", fix="one for each variant")
    named = [("all", np.full(len(labels), True))]
    named += [(str(group), groups == group) for group in dict.fromkeys(groups)]
    rows = []
    for group, chosen in named:
        some = None if clusters is None else np.asarray(clusters)[chosen]
        of_labels, of_badness = labels[chosen], badness[chosen]
        binary = of_labels.dtype == bool
        estimates: dict[str, Estimate] = {}
        note = ""
        try:
            if binary:
                estimates = metrics.bootstrap(of_labels, of_badness, draws=draws, seed=seed, clusters=some)
            else:
                correlation = metrics.bootstrap_spearman(of_labels, of_badness, draws=draws, seed=seed, clusters=some)
                estimates = {"spearman": correlation}
        except metrics.TooFew as error:
            note = f"too few: {error.what}"
        positives = int(of_labels.sum()) if binary else len(of_labels)
        rows.append(Row(group, positives, len(of_labels) - positives, estimates, note))
    return rows


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of aligned text."""
    names = next((list(row.estimates) for row in rows if row.estimates), ["auroc"])
    cells = [["", "class 1", "class 0", *(_title(name) for name in names)]]
    for row in rows:
        values = [str(row.estimates[name]) for name in names] if row.estimates else [row.note]
        cells.append([row.group, f"{row.positives:,}", f"{row.negatives:,}", *values])
    widths = [max(len(r[i]) for r in cells if len(r) == len(cells[0])) for i in range(len(cells[0]))]
    lines = []
    for r in cells:
        aligned = [c.rjust(w) if i in (1, 2) else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths, strict=False))]
        lines.append("  ".join(aligned).rstrip())
    return lines


def _title(name: str) -> str:
    return {"auroc": "AUROC", "auprc": "AUPRC", "mcc": "MCC", "f1": "F1", "spearman": "Spearman"}[name]


def compare(report: Report, *, draws: int = metrics.DRAWS, seed: int = 0) -> list[str]:
    """Lines that set the scores against the other model's, on the same variants."""
    if report.against is None:
        return []
    if not {"auroc"} <= set(report.rows[0].estimates):
        return ["no comparison: it takes two classes of sufficient size"]
    both = report.labels, report.badness, report.against
    paired = statistics.paired_bootstrap(*both, draws=draws, seed=seed, clusters=report.clusters)
    tests: list[tuple[str, statistics.Comparison]] = [("paired bootstrap", paired)]
    if report.clusters is None:  # DeLong's test takes the variants for independent
        tests.insert(0, ("DeLong", statistics.delong(*both)))
    other = metrics.auroc(report.labels, report.against)
    lines = [f"AUROC of {report.score_name} minus that of {report.against_name} ({other:.3f}):"]
    for name, result in tests:
        d = result.difference
        lines.append(f"  {name}: {d.value:+.3f} [{d.low:+.3f} to {d.high:+.3f}], p = {result.p:.2g}")
    return lines


def run(
    scores: str | Path,
    labels: str | Path | None = None,
    *,
    score: str = "LLR",
    label: str = "LABEL",
    positive: str | None = None,
    by: str | None = None,
    cluster: str | None = None,
    higher: bool = False,
    against: str | None = None,
    against_higher: bool = False,
    draws: int = metrics.DRAWS,
    seed: int = 0,
) -> Report:
    """Join, check and evaluate.

    scores, labels: files ``read_table`` reads; without ``labels`` one file holds both.
    score, label, by, cluster: column names or INFO keys. positive: the label that is class 1 (all others are
    class 0); without it labels are 0/1, or numbers to correlate with.
    higher: class 1 scores higher (distances, conservation); by default lower (log-likelihood ratios).
    against: another column, or FILE:COLUMN, to compare with; against_higher is its direction.
    """
    draws = arguments.whole(draws, "--draws", 1, metrics.MAX_DRAWS)
    seed = arguments.whole(seed, "--seed", 0)
    for option, name in (("--score", score), ("--label", label)):
        arguments.text(name, option, "the name of a column")
    for option, wanted in (("--positive", positive), ("--by", by), ("--cluster", cluster), ("--against", against)):
        if wanted is not None:
            arguments.text(wanted, option)
    higher, against_higher = arguments.flag(higher, "--higher"), arguments.flag(against_higher, "--against-higher")
    scored, labelled = read_table(scores), read_table(scores if labels is None else labels)
    where = scores if labels is None else labels
    notes = []

    values = labels_of(labelled, label, positive, where)
    binary = bool(np.isin(values[np.isfinite(values)], (0, 1)).all())
    sign = 1.0 if higher or not binary else -1.0  # a correlation is that of the scores as they are
    badness = sign * joined(scored, score, scores, labelled, where, same_file=labels is None)
    other = None
    if against is not None:
        file, _, name = against.rpartition(":")
        table_b = read_table(file) if file else (labelled if against in labelled else scored)
        same = not file and (labels is None or against in labelled)
        other = joined(table_b, name, file or scores, labelled, where, same_file=same)
        other = other * (1.0 if against_higher else -1.0)

    usable = np.isfinite(values) & np.isfinite(badness)
    notes.append(f"{len(values):,} variants, {int(np.isfinite(values).sum()):,} labelled, {int(usable.sum()):,} used")
    if missing := int((np.isfinite(values) & ~np.isfinite(badness)).sum()):
        notes.append(f"{missing:,} labelled variants have no score and are left out")
    if other is not None:
        if unpaired := int((usable & ~np.isfinite(other)).sum()):
            notes.append(f"{unpaired:,} more lack the other score and are left out")
        usable &= np.isfinite(other)
    if not usable.any():
        raise NexVarError("no variant has both a score and a label", where=where, fix="are the files of one assembly?")

    def words(name: str) -> np.ndarray:
        return np.array([str(v) for v in column(labelled, name, where)], dtype=object)[usable]

    values = values[usable]
    clusters = None if cluster is None else words(cluster)
    report = Report(
        rows=evaluate(
            badness[usable],
            values.astype(bool) if binary else values,
            None if by is None else list(words(by)),
            clusters=clusters,
            draws=draws,
            seed=seed,
        ),
        index=np.flatnonzero(usable),
        labels=values.astype(bool) if binary else values,
        badness=badness[usable],
        groups=words(by) if by is not None else np.full(int(usable.sum()), "all", dtype=object),
        clusters=clusters,
        against=None if other is None else other[usable],
        score_name=score,
        against_name="" if against is None else against.rpartition(":")[2],
        notes=notes,
    )
    if not binary:
        return report
    direction = "higher" if higher else "lower"
    notes.append(f"{score}: {direction} = more likely class 1")
    whole = report.rows[0].estimates.get("auroc")
    if whole is not None and whole.high < 0.5:
        notes.append(f"AUROC is below chance: is {direction} the right direction?")
    return report


def write(report: Report, folder: str | Path, *, title: str = "") -> list[Path]:
    """metrics.tsv and metrics.png in ``folder`` (made if need be); returns their paths."""
    folder = arguments.path(folder, "folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write(report, folder, title)
    except OSError as error:
        raise NexVarError(f"cannot be written ({error.strerror or error})", where=folder, fix="choose a folder with "
                          "room that is yours") from None  # fmt: skip


def _write(report: Report, folder: Path, title: str) -> list[Path]:
    tsv = folder / "metrics.tsv"
    names = next((list(row.estimates) for row in report.rows if row.estimates), [])
    with tsv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        bounds = [f"{name}{suffix}" for name in names for suffix in ("", "_low", "_high")]
        writer.writerow(["group", "class_1", "class_0", *bounds, "note"])
        for row in report.rows:
            numbers = [
                f"{x:.6g}" for e in (row.estimates.get(n) for n in names) if e for x in (e.value, e.low, e.high)
            ] or [""] * len(bounds)
            writer.writerow([row.group, row.positives, row.negatives, *numbers, row.note])
    if report.labels.dtype != bool or not report.rows[0].estimates:
        return [tsv]
    return [tsv, plots.report(report, folder / "metrics.png", title=title)]
