"""What a run says of every allele: its row, the names of its columns, and the count of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nexvar.genome.agreement import agreeing
from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import VariantSource, open_variants
from nexvar.genome.vcf import Record
from nexvar.genome.windows import Status
from nexvar.inference import scorers
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import Options, ScoreSettings
from nexvar.inference.score import MITO_CONTIGS, AlleleScore, make_circular, score_alleles
from nexvar.runs.plan import pieces
from nexvar.weights.load import Loaded


@dataclass(slots=True)
class ScoredAllele:
    """One row: an allele, its status and its scores (None where it has none).

    record: index of the record in the input, from 0; line_no: its line; allele: index of the ALT.
    chrom, pos, id, ref, alt: as in the input, ``pos`` 1-based.
    llr: the score; llr_fwd, llr_rev: each strand's. extra: values of further readouts, by name (``COSINE``, …).
    contig: the FASTA's name; rule: how it was resolved. window_start, window_end: 0-based half-open, reference window.
    """

    record: int
    line_no: int
    allele: int
    chrom: str
    pos: int
    id: str
    ref: str
    alt: str
    status: Status
    llr: float | None = None
    llr_fwd: float | None = None
    llr_rev: float | None = None
    contig: str = ""
    rule: str = ""
    window_start: int | None = None
    window_end: int | None = None
    n_fraction: float | None = None
    detail: str = ""
    extra: dict[str, float | None] = field(default_factory=dict)


@dataclass
class ScoreSummary:
    """What happened to every allele: ``alleles == scored + sum(skipped.values())``.

    counted: False for one shard, whose alleles are counted when all are merged.
    """

    records: int = 0
    alleles: int = 0
    scored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    counted: bool = True

    def add(self, row: ScoredAllele) -> None:
        """Count one allele."""
        self.alleles += 1
        if row.status.scored:
            self.scored += 1
        else:
            self.skipped[str(row.status)] += 1
        if row.status is Status.UNKNOWN_CONTIG and row.detail:
            self.unknown[f"contig {row.chrom} is unknown: {row.detail}"] += 1
        if row.rule not in ("", "exact"):
            self.rules[f"{row.chrom} read as {row.contig} ({row.rule})"] += 1

    def lines(self, *, explain: bool = False) -> list[str]:
        """For people: alleles in = scored + skipped by reason."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.most_common())
        skipped = sum(self.skipped.values())
        count = f"{self.alleles:,} alleles in {self.records:,} records = {self.scored:,} scored + {skipped:,} skipped"
        lines = [f"{count} ({reasons})" if reasons else count] if self.counted else []
        lines += [f"contig {rule}: {count:,} alleles" for rule, count in self.rules.items()]
        lines += [f"{reason}: {count:,} alleles" for reason, count in self.unknown.items()]
        if explain and self.tally.naive:
            share = self.tally.computed / self.tally.naive
            lines.append(
                f"computed {self.tally.computed:,} tokens; one pass per window would need"
                f" {self.tally.naive:,} ({share:.0%})"
            )
        return lines + self.notes


def score_variants(
    loaded: Loaded,
    variants: str | Path | Sequence[str | Variant],
    genome: str | Path | Fasta,
    options: Options,
) -> Iterator[ScoredAllele]:
    """See ``NexVar.score_variants``."""
    fasta = genome if isinstance(genome, Fasta) else Fasta(genome)
    reader = open_variants(variants, fasta, require_sorted=False)
    make_circular(fasta, (), reader.circular)
    yield from score_records(loaded, reader, fasta, options)


def score_records(loaded: Loaded, reader: VariantSource, fasta: Fasta, options: Options) -> Iterator[ScoredAllele]:
    """``score_variants`` of a reader that is open, on a genome whose circular contigs are known.

    The values are those of a run (score_run.py), bit for bit: it is cut alike.
    """
    resolved = options.resolve(loaded)
    records = agreeing(reader, fasta) if options.max_ref_mismatch < 1 else reader
    index = 0
    for piece in pieces(records, resolved.window, resolved.together):
        items = ((record, record.variant) for record in piece)
        for record, scores in score_alleles(loaded, items, fasta, resolved, Tally()):
            yield from rows(index, record, scores, resolved)
            index += 1


def doubts(model: str, species: str | None, contigs: Iterable[str]) -> list[str]:
    """A note where the model knows other DNA than that of the variants. species: of its card."""
    other = [name for name in dict.fromkeys(contigs) if name not in MITO_CONTIGS]
    if species is None or not other:
        return []
    return [f"{model} knows {species} only: scores on {', '.join(other[:3])} mean little"]


def rows(index: int, record: Record, scores: Sequence[AlleleScore], options: ScoreSettings) -> list[ScoredAllele]:
    """The output rows of one record, one per ALT; ``index`` is the record's place in the input, from 0."""
    made = []
    for allele, (alt, score) in enumerate(zip(record.alts, scores, strict=True)):
        w = score.windows
        row = ScoredAllele(
            index, record.line_no, allele, record.chrom, record.pos0 + 1, record.id, record.ref, alt, w.status,
            contig=w.contig, rule=w.rule, detail=w.detail,
        )  # fmt: skip
        if w.status.scored:
            row.window_start, row.window_end, row.n_fraction = w.start, w.end, w.n_fraction
            for name in options.readout.names:
                columns = dict(zip(columns_of(name, options), (score.mean(name), *score.values[name]), strict=True))
                row.extra |= columns
            row.llr, row.llr_fwd, row.llr_rev = (row.extra.pop(name, None) for name in ("LLR", "LLR_FWD", "LLR_REV"))
        made.append(row)
    return made


def score_readout(names: Sequence[str]) -> str:
    """Which of the readouts is the score: llr, or else the first log-ratio, or else the first distance."""
    ratios = [name for name in names if name not in scorers.EMBEDDING]
    return "llr" if "llr" in ratios else (ratios or list(names))[0]


def columns_of(readout: str, settings: ScoreSettings) -> tuple[str, str, str]:
    """Column names of a readout, its forward and its reverse value: LLR is llr or else the first log-ratio, others
    have their own name.

    Tiled scores are never called LLR.
    """
    is_llr = readout == score_readout(settings.readout.names) and readout not in scorers.EMBEDDING
    name = f"{readout.upper()}_TILED" if settings.windowing == "tiled" else "LLR" if is_llr else readout.upper()
    return name, f"{name}_FWD", f"{name}_REV"
