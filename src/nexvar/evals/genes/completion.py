"""Gene completion: how much of a protein comes back when a model goes on with the beginning of its gene.

    panel (CSV) ── prompt ── samples ── recovery.py ── a row for each sample ── per gene, per panel, of all genes

Prompts, sampling and scorers of Evo 2's benchmark (ArcInstitute/evo2 @ 53f19599, scripts/gene_completion); beside each
score the part of the protein that it compares, and chance: random codons, the reference shuffled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import stdev
from typing import Any

import pyarrow as pa

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.genes import recovery
from nexvar.evals.genes.genes import reasons
from nexvar.evals.genes.recovery import Recovery, Spliced, aligned, chance, mean, placewise, splice, translated
from nexvar.evals.genes.table_run import Rows, check_table, table_run
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import generate
from nexvar.runs.job import Progress
from nexvar.train.labels import table_rows
from nexvar.weights.choice import ModelChoice, loaded_model
from nexvar.weights.load import Loaded

UPSTREAM, SHARE = 1000, 0.3  # bases before a prokaryote's CDS; of the CDS, or of a eukaryote's window
TEMPERATURE = {"Prokaryota": 0.7, "Eukaryota": 1.0}
_WHOLE, _PROTEIN = re.compile("[0-9]{1,10}"), re.compile(r"[A-Z]+\*?")
NEEDED = ("gene", "organism", "domain", "reference_protein", "genomic_sequence")
SCHEMA = pa.schema(
    {
        "gene": pa.string(), "organism": pa.string(), "panel": pa.string(), "sample": pa.int64(), "status": pa.string(),
        "recovery": pa.float64(), "covered": pa.float64(), "of_all": pa.float64(), "residues": pa.int64(),
    }
)  # fmt: skip


@dataclass(frozen=True)
class PanelGene:
    """A gene of a panel, its window upper case. cds_start: of a prokaryote, where the CDS begins in the window."""

    name: str
    organism: str
    panel: str
    window: str
    reference: str
    cds_start: int | None

    @property
    def known(self) -> int:
        """Residues that the published rule takes for the prompt's."""
        if self.cds_start is None:
            return int(len(self.window) * SHARE) // 3
        return round((len(self.window) - self.cds_start) / 3 * SHARE)

    @property
    def prompt(self) -> str:
        if self.cds_start is None:
            return self.window[: int(len(self.window) * SHARE)]
        return self.window[max(0, self.cds_start - UPSTREAM) : self.cds_start + 3 * self.known]

    @property
    def n_tokens(self) -> int:
        if self.cds_start is None:
            return len(self.window) - len(self.prompt) + 50
        return 3 * max(1, len(self.reference) - self.known) + 150


def read_panel(path: str | Path) -> list[PanelGene]:
    """The genes of a CSV of the benchmark (plain or gzip; also TSV, Parquet), checked."""
    found = []
    for number, row in table_rows(Path(path)):
        where = f"{path}:{number}"
        if missing := [name for name in NEEDED if not row.get(name)]:
            raise NexVarError(f"no {missing[0]}", where=where, fix=f"columns {', '.join(NEEDED)}")
        panel, start = row["domain"], _text(row.get("cds_start"))
        if panel not in TEMPERATURE or (panel == "Prokaryota") != bool(_WHOLE.fullmatch(start)):
            what = f"domain {panel[:20]!r}, cds_start {start[:20]!r}"
            raise NexVarError(what, where=where, fix="Prokaryota with a cds_start, or Eukaryota without")
        window = row["genomic_sequence"].upper()
        if set(window) - set("ACGTN") or (start and int(start) >= len(window)):
            raise NexVarError("no window of A, C, G, T and N with its CDS", where=where, fix="check genomic_sequence")
        protein = row["reference_protein"].upper()
        if not _PROTEIN.fullmatch(protein):
            raise NexVarError("no protein of letters alone", where=where, fix="check reference_protein")
        place = int(start) if start else None
        found.append(PanelGene(row["gene"], row["organism"], panel, window, protein, place))
    if not found:
        raise NexVarError("no gene", where=path, fix="a line for each gene")
    return found


def _text(value: object) -> str:
    return "" if value is None else str(value)


def complete(
    model: ModelChoice | Loaded,
    panels: Sequence[str | Path],
    output: str | Path,
    *,
    only: Sequence[str] = (),
    samples: int = 50,
    top_k: int = 4,
    temperature: float | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """A row for each sample to ``output`` (.tsv), and a table by gene for people; it goes on where it was stopped.

    only: some of the genes. temperature: None is the panel's (0.7 prokaryotes, 1.0 eukaryotes).
    """
    samples, seed = arguments.whole(samples, "--samples", 1, 10_000), arguments.whole(seed, "--seed", 0)
    path = check_table(output, panels)
    genes = [gene for panel in panels for gene in read_panel(panel)]
    names = [gene.name for gene in genes]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise NexVarError(f"gene {twice[:40]!r} is there twice", where="--genes", fix="rename one, or two runs")
    if unknown := sorted(set(only) - set(names)):
        have = ", ".join(names)
        raise NexVarError(f"no gene {unknown[0][:40]!r}", where="--only", fix=f"the panels have {have}")
    genes = [gene for gene in genes if not only or gene.name in only]
    truth = {gene.name: splice(gene.window, gene.reference) for gene in genes if gene.cds_start is None}
    recovery.aligned("M", "M", 0)  # raises where Biopython is missing
    loaded = loaded_model(model)
    fits = [g for g in genes if len(g.prompt) + g.n_tokens <= loaded.card.context]
    left_out = [
        _row(gene, 0, f"prompt and completion exceed the context, {loaded.card.context:,}")
        for gene in genes if gene not in fits
    ]  # fmt: skip
    items = [(gene, i) for gene in fits for i in range(samples)]
    options = {"samples": samples, "top_k": top_k, "temperature": temperature, "seed": seed}
    compute = partial(_sampled, loaded, truth, top_k, temperature, seed)
    rows = table_run(path, "completion", items, compute, SCHEMA, loaded=loaded, options=options, left_out=left_out,
                     progress=progress)  # fmt: skip
    return table(rows, fits, truth)


def _row(gene: PanelGene, sample: int, status: str = "") -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    return row | {"gene": gene.name, "organism": gene.organism, "panel": gene.panel, "sample": sample, "status": status}


def _sampled(
    loaded: Loaded, truth: dict[str, Spliced], top_k: int, temperature: float | None, seed: int,
    some: Sequence[tuple[PanelGene, int]],
) -> Rows:  # fmt: skip
    """The rows of (gene, number of the sample); a sample's seed is ``seed`` plus its number, whatever runs with it."""
    rows = []
    for gene, group in groupby(some, key=lambda item: item[0]):
        numbers = [number for _, number in group]
        warmth = TEMPERATURE[gene.panel] if temperature is None else temperature
        drawn = generate(loaded, [gene.prompt] * len(numbers), Sampling(gene.n_tokens, warmth, top_k),
                         seed=seed + numbers[0])  # fmt: skip
        for number, text in zip(numbers, drawn.sequences, strict=True):
            published, ours, length = score(gene, gene.prompt + text, truth.get(gene.name))
            rows.append(_row(gene, number) | {
                "recovery": _number(published.percent), "covered": _number(ours.covered),
                "of_all": _number(ours.of_all), "residues": length,
            })  # fmt: skip
    return rows


def score(gene: PanelGene, text: str, truth: Spliced | None) -> tuple[Recovery, Recovery, int]:
    """(by the published rule, over all residues that the prompt does not hold, residues of the product).

    text: prompt and completion. truth: of a eukaryote, the spliced true window. The two differ for eukaryotes alone:
    there the published rule begins at a third of the prompt's bases, coding or not, and finds nothing to compare in the
    published windows, whose prompts end before the gene.
    """
    if truth is None:
        protein = translated(text[len(gene.prompt) - 3 * gene.known :])
        found = aligned(protein, gene.reference, gene.known)
        return found, found, len(protein)
    protein = splice(text, gene.reference).protein
    published = placewise(protein, truth.protein, gene.known)
    return published, placewise(protein, truth.protein, truth.residues_before(len(gene.prompt))), len(protein)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def headline(means: dict[str, float], panels: dict[str, str]) -> dict[str, float]:
    """The mean of the gene means, of each panel and of all genes. panels: gene -> panel."""
    groups = {name: [means[g] for g in means if panels[g] == name] for name in dict.fromkeys(panels.values())}
    return {**{name: mean(values) for name, values in groups.items()}, "all": mean(list(means.values()))}


def table(rows: Rows, genes: Sequence[PanelGene], truth: dict[str, Spliced]) -> list[str]:
    """Per gene: recovery with its standard error, what it covers, chance; then panels and all genes."""
    said = [f"{'gene':<8}{'n':>4}  recovery %       covered %    of all %   random codons   shuffled"]
    by_rule: dict[str, dict[str, float]] = {"recovery": {}, "of all": {}}
    for gene in genes:
        own = [row for row in rows if row["gene"] == gene.name]
        values = {k: [row[k] for row in own if row[k] is not None] for k in ("recovery", "covered", "of_all")}
        error = stdev(values["recovery"]) / len(values["recovery"]) ** 0.5 if len(values["recovery"]) > 1 else math.nan
        true = truth.get(gene.name)
        levels = (chance(aligned, gene.reference, gene.known) if true is None
                  else chance(placewise, true.protein, true.residues_before(len(gene.prompt))))  # fmt: skip
        for rule, means in by_rule.items():
            means[gene.name] = mean(values[rule.replace(" ", "_")])
        said.append(
            f"{gene.name:<8}{len(values['recovery']):>4}  {_shown(mean(values['recovery'])):>6} +- {_shown(error):<6}"
            f"{_shown(mean(values['covered'])):>10}{_shown(mean(values['of_all'])):>12}"
            f"{_shown(levels[0]):>13}{_shown(levels[1]):>14}"
        )
    panels = {gene.name: gene.panel for gene in genes}
    for rule, means in by_rule.items():
        said += [f"{rule}, mean of the gene means, {name}: {_shown(value)}" for name, value in
                 (headline(means, panels) if means else {}).items()]  # fmt: skip
    return [*said, *reasons(rows)]


def _shown(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}"
