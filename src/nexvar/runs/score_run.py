"""Scoring a file: checked first, cut into parts, each part written atomically, merged at the end.

    ScoreJob ─ check: every line and REF read (plan.py), outputs tried ─ open: model and genome, wherever (executor.py)
        ─ plan: parts of whole positions; OUT.parts/manifest.json holds what the scores depend on
        ─ compute: each part that is missing -> OUT.parts/part-000012.parquet (partscorer.py, parts.py)
        ─ merge: the input's records + the parts' rows -> VCF, TSV, Parquet; OUT.parts is removed

The same job again skips finished parts; other inputs are refused. The plan fixes the batches: a run that was killed
and resumed, or cut into shards, gives the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError, shortened
from nexvar.genome.haplotypes import Haplotypes
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import VariantSource
from nexvar.inference.core.batching import Tally
from nexvar.inference.options import ScoreSettings
from nexvar.inference.score import MITO_CONTIGS
from nexvar.paths import Read, Write, check_apart
from nexvar.runs import parts as on_disk
from nexvar.runs.dry_run import choices, only_mitochondria
from nexvar.runs.executor import Executor, Identity, PartTask, Setup
from nexvar.runs.inputs import Inputs, check, open_source
from nexvar.runs.job import ScoreJob, Watch, recorded
from nexvar.runs.judged import Judge
from nexvar.runs.lock import locked
from nexvar.runs.output import COMPRESSED_VCF, check_output, open_writer
from nexvar.runs.partscorer import PartScorer
from nexvar.runs.plan import Part, cut, records_of, survey
from nexvar.runs.rows import ScoredAllele, ScoreSummary, doubts
from nexvar.runs.writers import Provenance, read_rows
from nexvar.weights.choice import BUILT_IN, ModelChoice


@dataclass(frozen=True)
class Plan:
    """What is computed: the parts of the input, with every choice made. folder: where they are kept."""

    folder: Path
    reader: VariantSource
    parts: tuple[Part, ...]
    resolved: ScoreSettings
    provenance: Provenance


def score_file(job: ScoreJob) -> ScoreSummary:
    """Do the job. NexVarError for bad input, ``job.Stopped`` where the job says so; then parts may be left."""
    if not job.targets:
        raise NexVarError("no output", where="-o", fix="name a file, or --dry-run")
    inputs = check(job)
    with ExitStack() as stack:
        hashing = stack.enter_context(ThreadPoolExecutor(1)).submit(
            on_disk.genome_digest, inputs.fasta, inputs.survey.contigs
        )
        executor = stack.enter_context(_open_executor(job))
        earlier = len(executor.notes)
        identity = executor.prepare(_setup(job, inputs), inputs.fasta)
        genome = hashing.result()  # seconds for a human genome, meanwhile the model was loaded
        folder = job.folder
        if folder is None:  # standard output: nothing to resume from
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexvar-")))
        stack.enter_context(locked(folder, job.placement.shard))
        plan = _plan(job, inputs, identity, genome, folder)
        judge = None if job.calibration is None else Judge.of(job.calibration, plan.provenance, inputs.fasta)
        tally = _compute(job, executor, plan)
        if (shard := job.placement.shard) is not None:
            summary = ScoreSummary(notes=[on_disk.shard_note(shard, folder, len(plan.parts))], counted=False)
        else:
            summary = _merge(
                folder, plan.reader, plan.provenance, len(plan.parts), job.targets, job.spreadsheet_safe, judge, job.ask
            )
    summary.tally = tally
    summary.notes += [*inputs.survey.notes, *executor.notes[earlier:]]
    if not inputs.survey.sorted and shard is None:
        unindexed = (path for path in job.targets if str(path).endswith(COMPRESSED_VCF))
        summary.notes += [f"{path} has no index: its variants are in the order of the list" for path in unindexed]
    summary.notes += doubts(identity.provenance.model, identity.species, inputs.survey.contigs)
    return summary


# -- open


@contextmanager
def _open_executor(job: ScoreJob) -> Iterator[Executor]:
    where = job.placement
    if job.executor is not None:
        yield job.executor
    elif where.engine == "ray":
        from nexvar.runs.ray_executor import RayExecutor

        with RayExecutor(where.workers, where.ray_address) as cluster:
            yield cluster
    elif not where.here:
        from nexvar.runs.workers import Workers

        with Workers(where.workers or 1) as processes:
            yield processes
    else:
        yield PartScorer()


def _setup(job: ScoreJob, inputs: Inputs) -> Setup:
    """The job for whoever computes: what other processes need of it, with the model named."""
    files, where, model = job.inputs, job.placement, job.model
    if isinstance(model, ModelChoice) and model.source is None:
        model = replace(model, source=_default_model(job, inputs))
    return Setup(
        model=model,
        options=job.options,
        fasta=Path(files.fasta).absolute(),
        synonyms=None if files.synonyms is None else Path(files.synonyms).absolute(),
        circular=tuple(sorted(inputs.fasta.circular)),
        regions=inputs.regions,
        cache=None if where.cache is None else Path(where.cache).absolute(),
        cache_bytes=int(where.cache_gb * 1e9),
    )


def _default_model(job: ScoreJob, inputs: Inputs) -> str:
    """The built-in model where it knows something; elsewhere an error with at most three others, and what they take."""
    if only_mitochondria(inputs):
        return BUILT_IN
    other = next(name for name in inputs.survey.contigs if name not in MITO_CONTIGS)
    raise NexVarError(
        f"the built-in model knows mitochondria only, and the variants are on {shortened(other, 30)}",
        where="--model",
        fix=f"choose {choices(job, inputs)}; see --dry-run and `nexvar models --fits`",
    )


# -- plan


def _plan(job: ScoreJob, inputs: Inputs, identity: Identity, genome: str, folder: Path) -> Plan:
    """The parts, and the folder that is either new or of an unfinished run of the same job."""
    resolved = identity.resolved
    if job.options.batch_tokens is None and (tokens := on_disk.unfinished_batch_tokens(folder)) is not None:
        resolved = replace(resolved, readout=replace(resolved.readout, batch_tokens=tokens))
    inputs = inputs.as_haplotypes(resolved.window // 2)
    parts = cut(inputs.survey, inputs.reader, resolved.window, resolved.together)
    provenance = replace(identity.provenance, command=recorded(job.command))
    manifest = on_disk.make_manifest(
        variants=inputs.survey.digest,
        genome=genome,
        circular=sorted(inputs.fasta.circular),
        model=f"{provenance.model} {provenance.revision} {identity.fingerprint}",
        dtype=provenance.dtype,
        device=identity.device,
        regions=inputs.regions.digest() if inputs.regions else None,
        options=asdict(resolved),
        parts=len(parts),
        inputs=inputs.paths,
        provenance=asdict(provenance),
    )
    on_disk.open_parts(folder, manifest)
    return Plan(folder, inputs.reader, parts, resolved, provenance)


# -- compute


def _compute(job: ScoreJob, executor: Executor, plan: Plan) -> Tally:
    """Compute the parts of this run that are not there yet."""
    tally = Tally()
    mine = on_disk.of_shard(job.placement.shard, len(plan.parts))
    missing = {*on_disk.missing_parts(plan.folder, mine), *on_disk.damaged_parts(plan.folder, mine)}
    todo = [part for part in plan.parts if part.index in missing]
    total = sum(plan.parts[i].alleles for i in mine)
    watch = Watch(job, total - sum(part.alleles for part in todo), total)
    if not todo:
        return tally
    tasks = (PartTask(part, records, plan.resolved) for part, records in records_of(plan.reader, todo))
    for done in executor.run(tasks, watch):
        on_disk.write_part(plan.folder, done.index, done.data)
        tally.computed += done.computed
        tally.naive += done.naive
    return tally


# -- merge


def merge(
    output: str | Path,
    targets: Sequence[str | Path] | None = None,
    *,
    spreadsheet_safe: bool = False,
    calibration: str | Path | None = None,
) -> ScoreSummary:
    """The outputs of a run whose shards are all done, from ``OUTPUT.parts`` alone; no model is loaded.

    targets: other files than ``output``, or several. spreadsheet_safe, calibration: see ``ScoreJob``.
    """
    with locked(Path(f"{output}.parts"), make=False):
        return _merge_locked(output, list(targets or [output]), spreadsheet_safe, calibration)


def _merge_locked(
    output: str | Path, wanted: list[str | Path], spreadsheet_safe: bool, calibration: str | Path | None
) -> ScoreSummary:
    folder, manifest = on_disk.unfinished_run(output, "score")
    paths = manifest["inputs"]
    check_apart([Read(folder), *on_disk.inputs_of(manifest)], map(Write, wanted))
    for path in wanted:
        check_output(path)
    provenance = _checked(folder, paths, manifest["provenance"])
    fasta = Fasta(paths["fasta"], synonyms=paths.get("synonyms"))
    reader = open_source(paths.get("variants"), paths.get("saturate"), fasta)
    if paths.get("sample") is not None:
        reader = Haplotypes(reader, fasta, paths["sample"], int(paths["reach"]))
    if survey(reader, fasta, 1.0).digest != manifest["variants"]:
        raise NexVarError("the variants changed since they were scored", where=paths["variants"], fix="score again")
    judge = None if calibration is None else Judge.of(calibration, provenance, fasta)
    return _merge(folder, reader, provenance, manifest["parts"], wanted, spreadsheet_safe, judge)


def _checked(folder: Path, paths: dict[str, Any], provenance: dict[str, Any]) -> Provenance:
    """What a manifest says of a scoring run, as far as it is whole."""
    reach = paths.get("reach", "0")
    whole = (
        isinstance(paths.get("fasta"), str)
        and (paths.get("variants") is None) != (paths.get("saturate") is None)
        and isinstance(reach, str) and reach.isascii() and reach.isdecimal() and len(reach) < 10
        and set(provenance) == {each.name for each in fields(Provenance)}
        and None not in provenance.values()
    )  # fmt: skip
    if not whole:
        fix = f"delete {folder} and start again"
        raise NexVarError("the manifest is damaged: it is of no scoring run", where=folder / "manifest.json", fix=fix)
    return Provenance(**provenance)


def _merge(
    folder: Path,
    reader: VariantSource,
    provenance: Provenance,
    parts: int,
    targets: Sequence[str | Path],
    spreadsheet_safe: bool,
    judge: Judge | None,
    ask: Callable[[], None] = lambda: None,
) -> ScoreSummary:
    """The input's records beside the rows of the parts, in one pass, to every output; then the parts are removed.

    ask: called again and again; what it raises ends the merge, and the parts stay.
    """
    if judge is not None:
        provenance = judge.described(provenance)
    summary = ScoreSummary()
    paths = on_disk.finished_parts(folder, parts, provenance.command)
    all_rows = (row for path in paths for row in _rows(path, provenance.command))
    with ExitStack() as stack:
        writers = [
            stack.enter_context(open_writer(path, reader, provenance, spreadsheet_safe=spreadsheet_safe))
            for path in targets
        ]
        for record in reader:
            rows = list(islice(all_rows, len(record.alts)))
            if [row.alt for row in rows] != list(record.alts) or rows[0].line_no != record.line_no:
                raise _misfit(folder, record.line_no)
            summary.records += 1
            if summary.records % 1000 == 0:
                ask()
            for row in rows:
                summary.add(row)
                if judge is not None:
                    judge.judge(row)
            for writer in writers:
                writer.write(record, rows)
        if next(all_rows, None) is not None:
            raise _misfit(folder, record.line_no)
    on_disk.remove_parts(folder)
    return summary


def _rows(path: Path, command: str) -> Iterator[ScoredAllele]:
    try:
        yield from read_rows(path)
    except NexVarError as error:
        raise on_disk.damaged(path, command, error.what) from None


def _misfit(folder: Path, line_no: int) -> NexVarError:
    return NexVarError(f"the parts are not those of line {line_no:,}", where=folder, fix="delete it and start again")
