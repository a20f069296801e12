"""The report as text: for a terminal, as Markdown, and as a page of HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nexvar.evals import markup, statistics
from nexvar.evals.metrics import METRICS
from nexvar.evals.noncoding.report import ALL, Row
from nexvar.evals.noncoding.run import Found
from nexvar.evals.noncoding.store import BASELINE

_METRIC_TITLES = ("", "class 1", "class 0", "no score", "AUROC [95 %]", "AUPRC", "MCC", "F1")
_BEST = ("less the best baseline", "AUROC", "difference [95 %]", "q")


@dataclass(frozen=True)
class Block:
    """One table under a title; without rows, the title says all."""

    title: str
    titles: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def blocks(rows: Sequence[Row], compared: Sequence[statistics.Row]) -> Iterator[Block]:
    """A table for each width, set and region; behind that of a whole set, its models against the best baseline."""
    for width, set, region in dict.fromkeys((row.width, row.set, row.region) for row in rows):
        some = [row for row in rows if (row.width, row.set, row.region) == (width, set, region)]
        title = f"{set}, {width} bp" if region == ALL else f"{set}, {region}, {width} bp"
        if region != ALL and not any(row.estimates for row in some):
            most = max(some, key=lambda row: row.positives + row.negatives)
            yield Block(f"{title}: too few, {most.positives:,} of class 1, {most.negatives:,} of class 0")
            continue
        yield Block(title, _METRIC_TITLES, [_cells(row) for row in sorted(some, key=_rank)])
        if region == ALL:
            yield from _against_the_best(some, title, [c for c in compared if c.dataset == f"{set} {width}bp"])


def _rank(row: Row) -> tuple[bool, float]:
    """Models before baselines, the highest AUROC first."""
    return row.method == BASELINE, -(row.estimates["auroc"].value if row.estimates else -1.0)


def _cells(row: Row) -> list[str]:
    how = f"{row.method} ({row.detail})" if row.detail else row.method
    who = row.model if row.method == BASELINE else f"{row.model}, {how}"
    counts = [f"{row.positives:,}", f"{row.negatives:,}", f"{row.missing:,}" if row.missing else ""]
    values = [str(row.estimates[name]) for name in METRICS] if row.estimates else [row.note] + [""] * (len(METRICS) - 1)
    return [who, *counts, *values]


def _against_the_best(rows: Sequence[Row], title: str, compared: Sequence[statistics.Row]) -> Iterator[Block]:
    """Every model less the baseline with the highest AUROC, on the variants that both score."""
    baselines = sorted((row for row in rows if row.method == BASELINE and row.estimates), key=_rank)
    best = baselines[0].model if baselines else ""
    made = [c for c in compared if c.model_b == best and not math.isnan(c.auroc_diff)]
    if made:
        body = [[c.model_a, f"{c.auroc_a:.3f}", f"{c.auroc_diff:+.3f} [{c.ci_lower:+.3f} to {c.ci_upper:+.3f}]",
                 f"{c.q_value:.2g}"] for c in made]  # fmt: skip
        yield Block(f"{title}: models less the best baseline, {best} ({made[0].test})", _BEST, body)


def lines(rows: Sequence[Row], compared: Sequence[statistics.Row]) -> Iterator[str]:
    """What a terminal shows."""
    for block in blocks(rows, compared):
        yield block.title
        body = [block.titles, *block.rows] if block.rows else []
        widths = [max(map(len, column)) for column in zip(*body, strict=True)]
        for cells in body:
            yield ("  " + "  ".join(cell.ljust(wide) for cell, wide in zip(cells, widths, strict=True))).rstrip()


def markdown(rows: Sequence[Row], compared: Sequence[statistics.Row], found: Found) -> Iterator[str]:
    """Tables of GitHub's Markdown, and what a reader should know of the variants."""
    for block in blocks(rows, compared):
        yield f"**{block.title}**"
        yield ""
        if block.rows:
            yield from markup.markdown_table(block.titles, block.rows)
            yield ""
    yield from (f"- {line}" for line in notes(found))


def page(rows: Sequence[Row], compared: Sequence[statistics.Row], found: Found) -> str:
    """The same as a page of HTML."""
    parts = list[str]()
    for block in blocks(rows, compared):
        parts.append(f"<h3>{html.escape(block.title)}</h3>")
        if block.rows:
            parts += markup.html_table(block.titles, block.rows)
    parts += ["<ul>", *(f"<li>{html.escape(line)}" for line in notes(found)), "</ul>"]
    return markup.html_page("Non-coding variants", parts)


def notes(found: Found) -> Iterator[str]:
    """What was left out, which regions these are, what intervals resample, and what a set cannot show."""
    yield from found.data.notes
    for cut in found.cuts.values():
        yield from cut.notes
        count = len(np.unique(cut.group_N[cut.usable_N]))
        resampled = "them" if cut.grouped else "variants"
        yield f"{cut.width} bp: folds keep {count:,} groups of neighbours whole; intervals resample {resampled}"
    if "N3" in found.data.sets.rows:
        yield "N3: both classes share their reference windows, so that a probe of the reference is at chance"
        yield "N3: two of three random SNVs are transversions, and few pathogenic ones are: see transversion"
