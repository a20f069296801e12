"""Which genes matter: premature stop codons in each, and how much less likely the model then finds the stretch.

    wild type  ── context ── CDS, 5' to 3' ─────────────────────────────── context ──
    mutant     ── context ── [stops] 12 bases [stops] 12 bases [stops] … ── context ──

Protocol of the Evo 2 paper (Brixi et al., section 4.3.10), as replicated in Ollie117/evo2-essentiality @ 10c9c6ba:
TAATAATAATAGTGA is inserted before the CDS's bases 0, 12, 24, …; score = log-likelihood of the mutant minus that of the
wild type, lower for genes that matter. Sum and mean order genes differently, since the mutant is longer: both are
given, the replication ranks by the mean. Introns stay as they are, and so does what lies around the gene.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.genes import measures
from nexvar.evals.genes.genes import Gene, LabelledGene, read_labelled, reasons
from nexvar.evals.genes.table_run import Rows, check_table, table_run
from nexvar.genome.genetic_codes import genetic_code
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.inference.core.batching import default_batch_tokens
from nexvar.inference.core.likelihood import Member, log_likelihoods
from nexvar.inference.core.sequences import begin_ids, token_ids
from nexvar.runs.job import Progress
from nexvar.weights.choice import ModelChoice, loaded_model
from nexvar.weights.load import Loaded

_TEXT, _WHOLE, _NUMBER = pa.string(), pa.int64(), pa.float64()
SCHEMA = pa.schema(
    {
        "gene": _TEXT, "contig": _TEXT, "start": _WHOLE, "end": _WHOLE, "strand": _TEXT, "cds": _WHOLE,
        "essential": _WHOLE, "status": _TEXT, "wild_sum": _NUMBER, "wild_mean": _NUMBER, "delta_sum": _NUMBER,
        "delta_mean": _NUMBER,
    }
)  # fmt: skip
PAPER_STOPS = "TAATAATAATAGTGA"


@dataclass(frozen=True)
class Protocol:
    """stops: what is inserted, ``repeats`` times, before every ``every``-th base of the CDS. context: bases a side."""

    stops: str = PAPER_STOPS
    every: int = 12
    repeats: int = 1
    context: int = 4096

    def __post_init__(self) -> None:
        if not self.stops or set(self.stops) - set("ACGT"):
            raise NexVarError(f"stops {self.stops[:40]!r}", where="--stops", fix="bases, such as TAATAATAATAGTGA")
        for name, low in (("every", 1), ("repeats", 1), ("context", 0)):
            arguments.whole(getattr(self, name), f"--{name}", low)


@dataclass(frozen=True)
class Choice:
    """Of the genes: CDS of at most ``longest`` bases (None: any), and of each class ``sample`` by lot (None: all)."""

    longest: int | None = None
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("longest", "sample"):
            if getattr(self, name) is not None:
                arguments.whole(getattr(self, name), f"--{name}", 1)

    def of(self, genes: Sequence[LabelledGene]) -> list[LabelledGene]:
        """In the order of the table; genes with a status stay, as they are not computed."""
        short = [g for g in genes if g.status or self.longest is None or (g.gene and g.gene.length <= self.longest)]
        if self.sample is None:
            return short
        drawn: set[int] = set()
        for label in (True, False):
            rows = [i for i, g in enumerate(short) if g.label == label and not g.status]
            drawn.update(random.Random(self.seed).sample(rows, min(self.sample, len(rows))))
        return [g for i, g in enumerate(short) if g.status or i in drawn]


def sequences(fasta: Fasta, gene: Gene, protocol: Protocol) -> tuple[str, str]:
    """(wild type, mutant), 5' to 3' of the gene, upper case; context is cut at a contig's ends."""
    first, last = gene.cds[0][0], gene.cds[-1][1]
    low, high = fasta.span(gene.contig, first, last)
    start = max(low, first - protocol.context)
    wild = fasta.fetch(gene.contig, start, min(high, last + protocol.context))
    coding = [position - start for piece in gene.cds for position in range(*piece)]
    if gene.strand == "-":
        wild = reverse_complement(wild)
        coding = [len(wild) - 1 - i for i in reversed(coding)]
    pieces, at = [], 0
    for place in coding[:: protocol.every]:
        pieces += [wild[at:place], protocol.stops * protocol.repeats]
        at = place
    return wild, "".join([*pieces, wild[at:]])


def essentiality(
    model: ModelChoice | Loaded,
    fasta_path: str | Path,
    labels: str | Path,
    output: str | Path,
    *,
    annotation: str | Path | None = None,
    label: str = "essential",
    code: int = 11,
    protocol: Protocol = Protocol(),
    choice: Choice = Choice(),
    progress: Progress = lambda done, total: None,
) -> list[str]:
    """A row for each labelled gene to ``output`` (.tsv), and lines for people. The same call goes on where it ended.

    code: NCBI's, for the start codons (11 has the most, and the amino acids of 1).
    """
    path = check_table(output, [fasta_path, labels, *([annotation] if annotation else [])])
    fasta = Fasta(fasta_path)
    genes = choice.of(read_labelled(labels, fasta, annotation, genetic_code(code), label))
    loaded = loaded_model(model)
    if loaded.card.objective != "causal":
        what = f"{loaded.card.name} is a masked model: it has no left-to-right likelihood"
        raise NexVarError(what, where="--model", fix="take a causal model (`nexvar models`)")
    loaded.need_head("essentiality")
    items, left_out, digest = [], [], hashlib.sha256()
    for each in genes:
        wild, mutant, status = _texts(loaded, fasta, each, protocol)
        if status:
            left_out.append(_row(each, status))
        else:
            items.append(each)
            digest.update(f"{wild}\n{mutant}\n".encode())
    options = {**vars(protocol), "code": code, "label": label, "sequences": digest.hexdigest()}
    rows = table_run(
        path, "essentiality", items, partial(_scored, loaded, fasta, protocol), SCHEMA, loaded=loaded, options=options,
        left_out=left_out, progress=progress,
    )  # fmt: skip
    return summary(rows)


def _texts(loaded: Loaded, fasta: Fasta, each: LabelledGene, protocol: Protocol) -> tuple[str, str, str]:
    """(wild type, mutant, ""), or why there is no score."""
    if each.gene is None or each.status:
        return "", "", each.status
    wild, mutant = sequences(fasta, each.gene, protocol)
    if len(mutant) > loaded.card.context:
        return "", "", f"longer than the context of {loaded.card.name}, {loaded.card.context:,}"
    if set(mutant) - set("ACGTN"):
        return "", "", "letters other than A, C, G, T, N"
    return wild, mutant, ""


def _row(each: LabelledGene, status: str = "") -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row |= {"gene": each.name, "essential": int(each.label), "status": status}
    if (gene := each.gene) is not None:
        row |= {"contig": gene.contig, "start": gene.cds[0][0], "end": gene.cds[-1][1], "strand": gene.strand,
                "cds": gene.length}  # fmt: skip
    return row


def _scored(loaded: Loaded, fasta: Fasta, protocol: Protocol, some: Sequence[LabelledGene]) -> Rows:
    begin = begin_ids(loaded)
    pairs = [sequences(fasta, each.gene, protocol) for each in some if each.gene is not None]
    families = [[Member([*begin, *token_ids(loaded.tokenizer, text, special=False)]) for text in pair]
                for pair in pairs]  # fmt: skip
    rows = []
    likelihoods = log_likelihoods(loaded, families, batch_tokens=default_batch_tokens(loaded))
    for each, (of_wild, of_mutant) in zip(some, likelihoods, strict=True):
        mean = of_wild.total / of_wild.predictions
        values = {"wild_sum": of_wild.total, "wild_mean": mean, "delta_sum": of_mutant.total - of_wild.total,
                  "delta_mean": of_mutant.total / of_mutant.predictions - mean}  # fmt: skip
        rows.append(_row(each) | values)
    return rows


def summary(rows: Rows) -> list[str]:
    """AUROC of the scores and of their controls, and what was left out."""
    scored = [row for row in rows if not row["status"]]
    essential = [bool(row["essential"]) for row in scored]
    said = [f"{len(rows):,} genes, {len(scored):,} scored: {sum(essential):,} essential, "
            f"{len(scored) - sum(essential):,} others", *reasons(rows)]  # fmt: skip
    if not scored:
        return said
    scores = {
        "mutant - wild type, mean": [-row["delta_mean"] for row in scored],
        "mutant - wild type, sum": [-row["delta_sum"] for row in scored],
        "control: length of the CDS": [row["cds"] for row in scored],
        "control: wild type alone, mean": [row["wild_mean"] for row in scored],
        "control: wild type alone, sum": [row["wild_sum"] for row in scored],
    }
    return [*said, *measures.lines(essential, scores)]
