"""Jobs: files scored by the server's model, on the engine of `nexvar score`, one after the other.

    submit ── queue (store.py) ── one thread: runs/score_run.py ── ThreadExecutor ── the model thread, part by part
                                        │ parts on disk: a server that was killed goes on from them
                                        └ results: the bytes that `nexvar score` writes

Interactive requests go first: between two layers of a part, the model thread does those that wait (worker.py).
"""

from __future__ import annotations

import logging
import re
import shlex
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexvar.doors import explain
from nexvar.errors import NexVarError
from nexvar.files import remove
from nexvar.genome.reference import Fasta
from nexvar.inference.options import Options
from nexvar.runs.executor import Done, Identity, PartTask, Report, Setup
from nexvar.runs.job import InputFiles, ScoreJob
from nexvar.runs.partscorer import PartScorer
from nexvar.runs.rows import ScoreSummary
from nexvar.runs.score_run import score_file
from nexvar.serve.errors import (
    FAULT,
    Busy,
    Conflict,
    Full,
    NotFound,
    ServeError,
    body_of,
    status_of,
    without_folders,
)
from nexvar.serve.genomes import Genome, Genomes
from nexvar.serve.metrics import Metrics
from nexvar.serve.models import Models
from nexvar.serve.settings import Settings
from nexvar.serve.store import DONE, FAILED, QUEUED, RUNNING, Job, Store, new_id
from nexvar.serve.uploads import LISTS, check_expansion
from nexvar.serve.worker import ModelThread, Ticket
from nexvar.weights.offload import units

LOG = logging.getLogger("nexvar.serve")
FORMATS = ("vcf.gz", "tsv", "parquet")
INDEX = "vcf.gz.tbi"
VARIANTS = ("vcf", "bcf", "list", "text")  # kinds of files that may hold some
MAX_WAITING = 100
CLEANING = 3600.0  # seconds between two looks for what is too old
RETRY = 5.0  # seconds until a database that could not be written is tried again
_ENDING = re.compile(rf"(\.vcf|\.bcf|{'|'.join(map(re.escape, LISTS))})?(\.gz|\.bgz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Progress:
    """How far the running job is. rate: alleles in a second, since this run of it began; eta: seconds to its end."""

    id: str
    done: int = 0
    total: int | None = None
    first: int = 0  # that were done when it began
    began: float = 0.0

    @property
    def rate(self) -> float | None:
        seconds = time.monotonic() - self.began
        return (self.done - self.first) / seconds if self.done > self.first and seconds > 0 else None

    @property
    def eta(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate and self.total is not None else None


class ThreadExecutor:
    """The executor (runs/executor.py) whose parts are computed in the model thread, by the model that is there.

    store, job: what the parts take on the disk is counted.
    """

    def __init__(self, thread: ModelThread, store: Store, job: str) -> None:
        self.notes: list[str] = []
        self.thread, self.store, self.job = thread, store, job
        self.scorer = PartScorer()

    def prepare(self, setup: Setup, fasta: Fasta | None = None) -> Identity:
        return self.scorer.prepare(setup, fasta)

    def run(self, tasks: Iterable[PartTask], report: Report) -> Iterator[Done]:
        for task in tasks:

            def work(_: Ticket, task: PartTask = task) -> Done:
                return self._score(task, report)

            done = self.thread.submit(work, interactive=False).future.result()
            self.store.grow_job(self.job, len(done.data))
            self.store.need_room()
            yield done

    def _score(self, task: PartTask, report: Report) -> Done:
        """One part; before each of its layers others go first, and the job may be stopped."""

        def before_layer(*_: object) -> None:
            if self.thread.give_way():
                report(0)

        module = self.scorer.loaded.module
        layers = [module.get_submodule(name) for name in units(module) or ("",)]
        hooks = [layer.register_forward_pre_hook(before_layer, prepend=True) for layer in layers]
        try:
            return self.scorer.score(task, report)
        finally:
            for hook in hooks:
                hook.remove()


class Jobs:
    """The jobs of a server, and the thread that runs them."""

    def __init__(
        self,
        store: Store,
        thread: ModelThread,
        models: Models,
        genomes: Genomes,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self.store, self.thread, self.models, self.genomes = store, thread, models, genomes
        self.settings, self.metrics = settings, metrics
        self._progress = Progress("")
        self._cancelled: set[str] = set()
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._runner = threading.Thread(target=self._loop, name="nexvar-jobs", daemon=True)

    def start(self) -> None:
        self._runner.start()

    def stop(self) -> None:
        """Ends the running job's work within a layer; it waits for the next start."""
        self._stopping.set()
        self._wake.set()

    def close(self, seconds: float = 10.0) -> None:
        """``stop``, and wait until the thread has ended; one that reads or writes a large file is left to the exit."""
        self.stop()
        if self._runner.is_alive():
            self._runner.join(seconds)

    # -- what people ask for

    def submit(
        self, file: str, genome: str | None, model: str | None, options: dict[str, Any], outputs: list[str]
    ) -> Job:
        """Queue a scoring job; NexVarError for whatever is wrong with it that can be told now.

        options: values of ``Options`` by name. outputs: some of ``FORMATS``.
        """
        stored, name = self.store.file(file), self.models.find(model)
        if stored.kind not in VARIANTS:
            what = f"{stored.name} is a {stored.kind.upper()}, not a list of variants"
            raise ServeError(what, where="file", fix="upload a VCF, a BCF, a MAF, or variants one a line")
        checked = Options(**options)
        if (loaded := self.models.loaded.get(name)) is not None:
            checked.resolve(loaded)
        self.store.need_room()
        if self.store.counts()[QUEUED] >= MAX_WAITING:
            raise Busy(f"queue full: {MAX_WAITING} jobs wait", retry_after=60)
        outputs = [each for each in FORMATS if each in outputs]
        job = Job(new_id(), "score", file, stored.name, self.genomes.get(genome).id, name, options, outputs)
        self.store.add_job(job)
        self._wake.set()
        return job

    def get(self, id_: str) -> tuple[Job, Progress | None]:
        """The job as it is now, and of the running one how far it is; NotFound."""
        return self._now(self.store.job(id_))

    def newest(self) -> list[tuple[Job, Progress | None]]:
        """The newest first."""
        return [self._now(job) for job in self.store.jobs()]

    def _now(self, job: Job) -> tuple[Job, Progress | None]:
        progress = self._progress
        if job.state != RUNNING or progress.id != job.id or progress.total is None:
            return job, None
        return replace(job, done=progress.done, total=progress.total), progress

    def cancel(self, id_: str) -> bool:
        """From now on it is cancelled; its work ends within a layer. False: it had ended already."""
        cancelled = self.store.cancel(id_)
        if cancelled:
            self._cancelled.add(id_)
        return cancelled

    def result(self, id_: str, format_: str) -> Path:
        """A result's file. NotFound: not among the outputs. Conflict: the job is not done."""
        job = self.store.job(id_)
        if format_ not in job.outputs and not (format_ == INDEX and INDEX.removesuffix(".tbi") in job.outputs):
            raise NotFound(f"no result {format_[:20]!r}", where="format", fix=f"one of {', '.join(job.outputs)}")
        if job.state != DONE:
            raise Conflict(f"the job is {job.state}", where="job", fix="wait for its event `done`")
        path = self.store.job_folder(id_) / result_name(job, format_)
        if not path.is_file():
            unindexed = "there is no .tbi: the variants are not sorted, or a contig has more than 2^29 bases"
            raise NotFound(unindexed if format_ == INDEX else "the file is gone", where="format")
        return path

    # -- the thread

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.store.expire()
                job = self.store.claim()
                if job is not None:
                    self._run(job)
                    continue
            except Exception as error:  # a full disk, most likely: some day there is room
                LOG.error("%s", explain(error))
                self._stopping.wait(RETRY)
                continue
            self._wake.wait(CLEANING)
            self._wake.clear()

    def _run(self, job: Job) -> None:
        """Do one job to its end, whatever that is."""
        try:
            summary = self._score(job)
        except Exception as error:
            if self._stopping.is_set():
                self.store.requeue(job.id)
                return
            if status_of(error) == FAULT:
                LOG.error("%s", explain(error), exc_info=LOG.isEnabledFor(logging.DEBUG))
            remove(self.store.job_folder(job.id))  # first: it may be what filled the disk
            now = self._progress
            self._end(job, FAILED, done=now.done, total=now.total, error=body_of(error)["error"])
        else:
            lines = [without_folders(line) for line in summary.lines()]
            if not self._end(job, DONE, done=summary.alleles, total=summary.alleles, summary=lines):
                remove(self.store.job_folder(job.id))
        self._cancelled.clear()

    def _end(self, job: Job, state: str, **said: Any) -> bool:
        """Write down how it ended, as soon as that can be written; False: it was cancelled."""
        while True:
            try:
                return self.store.end(job.id, state, **said)
            except Full as error:
                LOG.error("%s", error)
                if self._stopping.wait(RETRY):
                    return True

    def _score(self, job: Job) -> ScoreSummary:
        self._progress = Progress(job.id)
        file, genome = self.store.file(job.file), self.genomes.get(job.genome)
        self.store.need_room()
        check_expansion(self.store, file)
        folder = self.store.job_folder(job.id)
        folder.mkdir(mode=0o700, exist_ok=True)
        loaded = self.thread.submit(lambda _: self.models.get(job.model), interactive=False).future.result()
        return _resumed(
            ScoreJob(
                InputFiles(genome.fasta.path, self.store.path_of(file), circular=self._circular(genome)),
                [folder / result_name(job, each) for each in job.outputs],
                model=loaded,
                options=Options(**job.options),
                command=self.command(job),
                progress=self._note,
                stop=lambda: self._stopping.is_set() or job.id in self._cancelled,
                executor=ThreadExecutor(self.thread, self.store, job.id),
            )
        )

    def _note(self, done: int, total: int) -> None:
        now = self._progress
        if now.total is None:
            self._progress = Progress(now.id, done, total, done, time.monotonic())
        else:
            self._progress = replace(now, done=done)
            self.metrics.add("alleles", done - now.done)

    def _circular(self, genome: Genome) -> tuple[str, ...]:
        return tuple(name for name in self.settings.circular if genome.fasta.resolve(name) is not None)

    def command(self, job: Job) -> str:
        """The command that writes the same bytes where the same files are; it stands in the results' headers."""
        genome = self.genomes.get(job.genome)
        words = ["nexvar", "score", "--vcf", job.name, "--fasta", genome.fasta.path.name, "--model", job.model]
        for name in self._circular(genome):
            words += ["--circular", name]
        choices = dict(zip(self.models.loaded, self.settings.models, strict=False))
        choice = choices.get(job.model, self.settings.models[0])
        words += _flags({"dtype": choice.dtype, "quantize": choice.quantize, "device_map": choice.device_map})
        words += _flags(job.options)
        for each in job.outputs:
            words += ["-o", result_name(job, each)]
        return shlex.join(words)


def _resumed(job: ScoreJob) -> ScoreSummary:
    """Do the job, from its parts on; anew where they are damaged, or of another NexVar, model or genome."""
    folder = job.folder
    assert folder is not None
    began = (folder / "manifest.json").exists()
    try:
        return score_file(job)
    except NexVarError as error:
        if not began or error.where not in (folder, folder / "manifest.json"):
            raise
        remove(folder)
        return score_file(job)


def result_name(job: Job, format_: str) -> str:
    """``cohort.vcf.gz`` -> ``cohort.scored.tsv``."""
    return f"{_ENDING.sub('', job.name) or 'variants'}.scored.{format_}"


def _flags(values: dict[str, Any]) -> list[str]:
    """Values that were given, as options of `nexvar score`."""
    words: list[str] = []
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or (name == "dtype" and value == "auto"):
            continue
        if name == "readouts":
            words += ["--readout", ",".join(value)]
        elif name == "begin":
            words.append("--begin" if value else "--no-begin")
        else:
            words += [option, str(value)]
    return words
