"""What a scoring run would do, without its model: statuses, how contigs were read, tokens, time, memory.

    job ── check (inputs.py) ── windows ── tokens (scorers.count_windows) ── x seconds a token (weights/speed.py)

Nothing is written, downloaded or loaded. A model that is named is counted exactly (long inputs: from some of their
parts); without one, a sample of the records tells what each checkpoint that fits this machine would need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from nexvar.cards import Card, all_cards
from nexvar.errors import NexVarError
from nexvar.genome.assemblies import guess_assembly
from nexvar.genome.vcf import Record
from nexvar.genome.windows import Status, Windows
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import Options, ScoreSettings
from nexvar.inference.score import MITO_CONTIGS, count_alleles, windows_of
from nexvar.runs.inputs import Inputs, check
from nexvar.runs.job import ScoreJob
from nexvar.runs.plan import cut, records_of
from nexvar.tokenizers import BpeTokenizer
from nexvar.weights import footprint, machine, speed, suggest
from nexvar.weights.choice import BUILT_IN, ModelChoice
from nexvar.weights.load import Loaded, outline

COUNTED = 1 << 28  # bases of windows up to which every token is counted; beyond, those of evenly spaced parts
SAMPLE_STRETCHES, SAMPLE_RECORDS = 6, 8  # the sample: so many stretches of so many records
BASES_PER_BPE_TOKEN = 4
MOST_MODELS = 10


@dataclass(frozen=True)
class ModelEstimate:
    """One checkpoint: what the run would take with it.

    setting: how it would be loaded. window: bases. tokens: that one process computes; how: "exactly", or how they were
    estimated. seconds: in the middle of ``speed.UNCERTAIN``. bytes: weights and one window. fits: free memory now.
    """

    name: str
    setting: str
    device: str
    window: int
    readouts: tuple[str, ...]
    tokens: float
    how: str
    seconds: float
    bytes: float
    fits: bool
    note: str = ""

    @property
    def time(self) -> str:
        return "nothing to compute" if not self.tokens else f"about {speed.human_time(self.seconds)}"


@dataclass
class DryRun:
    """What was found: ``alleles == scored + sum(skipped.values())``.

    window: bases of the windows that the statuses hold for. contigs: how each contig was read, and its alleles.
    unknown: contigs that were not, with the reason. assembly: of the FASTA, by the lengths of its contigs; declared: of
    the variants' header. models: the one that was named, or those that fit.
    """

    records: int = 0
    alleles: int = 0
    scored: int = 0
    window: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    contigs: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    assembly: str | None = None
    declared: str | None = None
    notes: list[str] = field(default_factory=list)
    models: list[ModelEstimate] = field(default_factory=list)
    named: bool = True

    def add(self, record: Record, windows: list[Windows]) -> None:
        """Count the alleles of one record."""
        self.records += 1
        for w in windows:
            self.alleles += 1
            if w.status.scored:
                self.scored += 1
            else:
                self.skipped[str(w.status)] += 1
            if w.status is Status.UNKNOWN_CONTIG:
                self.unknown[f"contig {record.chrom} is unknown" + (f": {w.detail}" if w.detail else "")] += 1
            elif w.contig:
                self.contigs[f"{record.chrom} read as {w.contig} ({w.rule})"] += 1

    def lines(self) -> list[str]:
        """For people."""
        skipped = sum(self.skipped.values())
        rows = [
            f"{self.alleles:,} alleles in {self.records:,} records: {self.scored:,} would be scored,"
            f" {skipped:,} skipped (windows of {self.window:,} bases)"
        ]
        rows += [f"  {count:,} {reason}" for reason, count in self.skipped.most_common()]
        rows += _listed("contig ", self.contigs) + _listed("", self.unknown)
        rows.append(f"assembly of the FASTA, by its lengths: {self.assembly or 'none that is known here'}")
        if self.declared is not None:
            rows.append(f"assembly of the variants' header, by its lengths: {self.declared}")
        low, high = speed.UNCERTAIN
        if self.named:
            for model in self.models:
                rows += _detail(model)
        elif self.models:
            rows.append("on this machine, the largest of each architecture that fits (all: `nexvar models --fits`):")
            rows += _table(self.models)
        else:
            rows.append("no checkpoint fits the free memory of this machine (`nexvar models --fits`)")
        if self.models:
            rows.append(f"times were derived from a measurement of this machine now: {low:g} to {high:g} times of that")
        return rows + self.notes


def _listed(start: str, counted: Counter[str]) -> list[str]:
    """At most ten lines."""
    rows = [f"{start}{text}: {count:,} alleles" for text, count in counted.most_common(10)]
    return rows + ([f"{start}… and {len(counted) - 10:,} more contigs"] if len(counted) > 10 else [])


def _detail(m: ModelEstimate) -> list[str]:
    low, high = (speed.human_time(m.seconds * factor) for factor in speed.UNCERTAIN)
    between = f" (between {low} and {high})" if m.tokens and low != high else ""
    fits = "fits" if m.fits else "does not fit"
    return [
        f"model {m.name}, {m.setting}, on {m.device}: readout {','.join(m.readouts)}, windows of {m.window:,} bases",
        f"  tokens  {m.tokens:,.0f}, {m.how}",
        f"  time    {m.time}{between}",
        f"  memory  {machine.human_bytes(m.bytes)} for weights and one window: {fits}",
        *([f"  note    {m.note}"] if m.note else []),
    ]


def _table(models: list[ModelEstimate]) -> list[str]:
    rows = [("  model", "window", "tokens", "memory", "time", "how")]
    for m in models:
        size = machine.human_bytes(m.bytes)
        rows.append((f"  {m.name}", f"{m.window:,}", f"{m.tokens:.2g}", size, m.time, m.setting))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def dry_run(job: ScoreJob) -> DryRun:
    """Everything but the model. ``job.outputs`` may be empty; those given are checked, and none is written.

    NexVarError for what would stop the run itself: files, options that the model does not have, an unknown model.
    """
    inputs = check(job)
    loaded: Loaded | None
    if isinstance(job.model, Loaded):
        loaded, choice = job.model, ModelChoice(dtype=str(job.model.dtype).removeprefix("torch."))
    else:
        choice = job.model
        source = choice.source or (BUILT_IN if only_mitochondria(inputs) else None)
        loaded = None if source is None else outlined(choice, source)
    if loaded is None:
        return _without_model(job, inputs, choice)
    settings = job.options.resolve(loaded)
    inputs = inputs.as_haplotypes(settings.window // 2)
    result = _new(inputs, settings.window)
    tokens, how = _count(result, inputs, loaded, settings)
    if job.placement.shard is not None:
        tokens, how = tokens / job.placement.shard[1], f"{how}; of this shard"
    result.models.append(_estimate(loaded, settings, tokens, how, choice))
    return result


def only_mitochondria(inputs: Inputs) -> bool:
    """Whether the built-in model knows all the contigs that variants are on."""
    return all(name in MITO_CONTIGS for name in inputs.survey.contigs)


def outlined(choice: ModelChoice, source: object) -> Loaded:
    """The model of ``choice`` without its weights."""
    return outline(str(source), device=choice.device, dtype=choice.dtype, quantize=choice.quantize)


def _new(inputs: Inputs, window: int) -> DryRun:
    declared = {name: length for name, length in inputs.reader.contigs.items() if length is not None}
    return DryRun(
        window=window,
        assembly=guess_assembly(inputs.fasta.contigs),
        declared=guess_assembly(declared),
        notes=list(inputs.survey.notes),
    )


def _count(result: DryRun, inputs: Inputs, loaded: Loaded, settings: ScoreSettings) -> tuple[float, str]:
    """Every allele into ``result``; the tokens of all of them, and how they were counted."""
    parts = cut(inputs.survey, inputs.reader, settings.window, settings.together)
    alleles = sum(part.alleles for part in parts)
    every = max(1, min(alleles * settings.window // COUNTED, len(parts) // 4))
    tally, counted = Tally(), 0
    for part, records in records_of(inputs.reader, list(parts)):
        this = part.index % every == 0
        before = result.scored
        items = ((record, record.variant) for record in records)
        for record, windows in count_alleles(
            loaded, items, inputs.fasta, settings, tally if this else None, inputs.regions
        ):
            result.add(record, windows)
        counted += result.scored - before if this else 0
    total = tally.computed * (result.scored / counted if counted else 0.0)
    how = "counted exactly (padding aside)" if every == 1 else f"estimated from {counted:,} alleles"
    return _bpe(loaded, total, how)


def _bpe(loaded: Loaded, tokens: float, how: str) -> tuple[float, str]:
    """Tokens of a model whose BPE vocabulary is not on this machine: by their usual length."""
    if loaded.card.tokenizer == "bpe" and not isinstance(loaded.tokenizer, BpeTokenizer):
        return (
            tokens / BASES_PER_BPE_TOKEN,
            f"estimated: its tokenizer is not here, {BASES_PER_BPE_TOKEN} bases a token",
        )
    return tokens, how


def _estimate(
    loaded: Loaded, settings: ScoreSettings, tokens: float, how: str, choice: ModelChoice, setting: str = ""
) -> ModelEstimate:
    card = loaded.card
    dtype = str(loaded.dtype).removeprefix("torch.")
    length = footprint.tokens_of(card, loaded.module.config, settings.window)
    needed = footprint.footprint(card, settings.window, dtype=dtype, quantize=loaded.quantize)
    measured = speed.measure(loaded.device, loaded.dtype)
    notes = [footprint.hindrance(card)]
    if choice.device_map is not None:
        notes.append("weights that lie elsewhere (device_map) take longer, by how much was not measured")
    return ModelEstimate(
        name=card.name,
        setting=setting or loaded.precision,
        device=str(loaded.device),
        window=settings.window,
        readouts=settings.readout.names,
        tokens=tokens,
        how=how,
        seconds=tokens * speed.work(loaded.module).seconds(length, measured),
        bytes=needed.total,
        fits=needed.total <= footprint.SHARE * machine.free_memory(loaded.device),
        note="; ".join(note for note in notes if note),
    )


# -- no model was named


def _without_model(job: ScoreJob, inputs: Inputs, choice: ModelChoice) -> DryRun:
    """Statuses in the windows of the first model of the list, and an estimate for each from a sample of the records."""
    models = list(_resolved(job.options, choice, _largest_that_fit()))
    smallest = outlined(choice, suggest.candidates()[0].name)
    settings = models[0][1] if models else job.options.resolve(smallest)
    window = settings.window
    inputs = inputs.as_haplotypes(window // 2)
    result = _new(inputs, window)
    sample: list[Record] = []
    result.named = False
    stretch = max(SAMPLE_RECORDS, inputs.survey.records[-1] // SAMPLE_STRETCHES)
    for index, record in enumerate(inputs.reader):
        if index % stretch < SAMPLE_RECORDS and len(sample) < SAMPLE_STRETCHES * SAMPLE_RECORDS:
            sample.append(record)
        result.add(record, windows_of(record.variant, inputs.fasta, settings, inputs.regions))
    for loaded, own in models:
        tokens, how = _sampled(loaded, own, sample, inputs, result.scored)
        result.models.append(_estimate(loaded, own, tokens, how, choice))
    result.models.sort(key=lambda model: model.seconds)
    return result


def _sampled(
    loaded: Loaded, settings: ScoreSettings, sample: list[Record], inputs: Inputs, scored: int
) -> tuple[float, str]:
    """Tokens for ``scored`` alleles, from those of a few records."""
    tally, seen = Tally(), 0
    items = ((record, record.variant) for record in sample)
    for _, windows in count_alleles(loaded, items, inputs.fasta, settings, tally, inputs.regions):
        seen += sum(w.status.scored for w in windows)
    return _bpe(loaded, tally.computed * (scored / seen if seen else 0.0), f"estimated from {seen:,} alleles")


def _largest_that_fit() -> list[Card]:
    """Of each architecture the largest checkpoint of all of biology that fits as it is and is right here."""
    chosen: dict[str, Card] = {}
    budget = footprint.SHARE * machine.free_memory()
    for card in sorted(all_cards().values(), key=lambda card: -card.parameters):
        if card.architecture in chosen or card.species is not None or footprint.hindrance(card) is not None:
            continue
        if machine.weight_bytes(card) < budget and footprint.footprint(card).total <= budget:
            chosen[card.architecture] = card
    return list(chosen.values())[:MOST_MODELS]


def _resolved(options: Options, choice: ModelChoice, cards: list[Card]) -> Iterator[tuple[Loaded, ScoreSettings]]:
    """Outlines of these checkpoints with the options as they understand them, without those that refuse them."""
    refused = None
    some = False
    for card in cards:
        loaded = outlined(choice, card.name)
        try:
            settings = options.resolve(loaded)
        except NexVarError as error:
            refused = refused or error
            continue
        some = True
        yield loaded, settings
    if refused is not None and not some:
        raise refused


def choices(job: ScoreJob, inputs: Inputs) -> str:
    """At most three checkpoints for these variants, each with its memory and time, in a few words: for one error.

    Times are for the first records, times as many as there are; they are left out where the options are none of a
    model's.
    """
    assert isinstance(job.model, ModelChoice)
    sample = list(islice(inputs.reader, SAMPLE_RECORDS))
    texts = []
    for choice in suggest.suggestions():
        text = (
            f"{choice.card.name} ({choice.role}: AUROC {choice.auroc:g} on BRCA1, {machine.human_bytes(choice.bytes)}"
        )
        if choice.fits:
            try:
                loaded = outlined(job.model, choice.card.name)
                settings = job.options.resolve(loaded)
                tokens, how = _sampled(loaded, settings, sample, inputs, inputs.survey.alleles[-1])
                text += f", {_estimate(loaded, settings, tokens, how, job.model).time}"
            except NexVarError:
                pass
        texts.append(f"{text})")
    return "; ".join(texts)
