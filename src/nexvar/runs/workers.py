"""N processes on this machine, each with the model: one per GPU, or sharing the CPU's cores.

    parent:  prepare            ── Setup ─────> worker 0 (cuda:0) ── Identity
             reads the variants ── PartTask ──> worker 0 (cuda:0) ── scored, scored, …, Done ──> writes the part
                                ── PartTask ──> worker 1 (cuda:1) ──              …

A worker that dies (killed, out of memory) is replaced and its part computed again; a part that kills a second one
stops the run. Every finished part is kept, so that the same command resumes.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

import torch

from nexvar.doors import packed, unpacked
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.ops.arithmetic import cpu_products
from nexvar.runs.executor import Done, Identity, PartTask, Report, Setup, slim
from nexvar.runs.partscorer import PartScorer, default_threads

DEATHS_OF_A_PART = 2  # then it is the part's fault (or the machine's), not chance
BETWEEN_REPORTS_S = 0.2
RESUMES = "the finished parts are kept: the same command resumes"


def devices_of(workers: int, device: str) -> list[str]:
    """The device of each worker: one GPU each where there are any."""
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        if device.startswith("cuda:"):
            raise NexVarError(f"{workers} workers on {device}", where="--device", fix="--device cuda: one GPU each")
        return [device] * workers
    count = torch.cuda.device_count()
    if workers > count:
        raise NexVarError(f"{workers} workers for {count} GPUs", where="--workers", fix=f"at most {count}")
    return [f"cuda:{i}" for i in range(workers)]


class Workers:
    """The executor of ``--workers N``; a context manager that ends its processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.notes: list[str] = []
        self._members: list[_Member] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self._members:
            member.end()

    def prepare(self, setup: Setup, fasta: Fasta | None = None) -> Identity:
        devices = devices_of(self.workers, setup.choice.device)
        setup = replace(setup, threads=default_threads(self.workers), products=cpu_products())
        setups = [replace(setup, model=replace(setup.choice, device=device)) for device in devices]
        for number, each in enumerate(setups):
            if number == len(self._members):
                self._members.append(_Member(number, each))
            else:
                self._prepare_again(number, each)
        identities = [member.wait_until_ready() for member in self._members]
        fewest = min(each.resolved.readout.batch_tokens for each in identities)  # of the GPU with the least memory
        resolved = identities[0].resolved
        return replace(
            identities[0], resolved=replace(resolved, readout=replace(resolved.readout, batch_tokens=fewest))
        )

    def _prepare_again(self, number: int, setup: Setup) -> None:
        """A worker that is free keeps its model; one that still computes for a run that was left starts anew."""
        member = self._members[number]
        if member.is_idle and member.process.is_alive():
            member.prepare(setup)
        else:
            member.end()
            self._members[number] = _Member(number, setup)

    def run(self, tasks: Iterable[PartTask], report: Report) -> Iterator[Done]:
        coming, again = iter(tasks), deque[PartTask]()
        deaths: Counter[int] = Counter()
        all_given = False
        while True:
            for member in self._members:
                if member.is_idle and not (all_given and not again):
                    task = again.popleft() if again else next(coming, None)
                    if task is None:
                        all_given = True
                    else:
                        member.give(task)
            # NOTE a worker that is still loading has no task; parts that others lost may wait for it
            if all_given and not again and not any(member.task for member in self._members):
                return
            busy = {member.pipe: member for member in self._members if not member.is_idle}
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                member = busy[pipe]
                try:
                    message = member.receive()
                except EOFError:
                    report(-member.reported)
                    lost = self._replace(member)
                    if lost is not None:
                        deaths[lost.part.index] += 1
                        if deaths[lost.part.index] >= DEATHS_OF_A_PART:
                            raise NexVarError(f"{self.notes[-1]}; so did the one before it", where="--workers",
                                              fix=f"fewer workers or --batch-tokens; {RESUMES}") from None  # fmt: skip
                        again.append(lost)
                    continue
                if isinstance(message, int):
                    report(message)
                elif isinstance(message, Done):
                    yield message

    def _replace(self, member: _Member) -> PartTask | None:
        """Bury a worker, start another one in its place; the task it had."""
        how = member.how_it_ended()
        if member.identity is None:
            raise NexVarError(f"worker {member.number} {how} while it loaded the model", where="--workers",
                              fix=f"is there memory for {len(self._members)} of them? {RESUMES}")  # fmt: skip
        part = f" in part {member.task.part.index}, which is computed again" if member.task else ""
        self.notes.append(f"worker {member.number} {how}{part}")
        self._members[member.number] = _Member(member.number, member.setup)
        return member.task


class _Member:
    """One worker process, seen from the parent."""

    def __init__(self, number: int, setup: Setup) -> None:
        self.number, self.setup = number, setup
        self.identity: Identity | None = None  # once it has loaded
        self.task: PartTask | None = None
        self.reported = 0  # alleles of the task that the progress bar has seen
        context: Any = get_context("spawn")  # a fork would inherit threads and CUDA
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, setup), daemon=True, name=f"nexvar-{number}")
        with _shielded():
            self.process.start()
        theirs.close()  # so that the pipe ends with the process

    def prepare(self, setup: Setup) -> None:
        """Send the next job; a worker that is gone shows when it is waited for."""
        self.setup, self.identity = setup, None
        with suppress(OSError):
            self.pipe.send(setup)

    @property
    def is_idle(self) -> bool:
        return self.identity is not None and self.task is None

    def wait_until_ready(self) -> Identity:
        try:
            self.receive()
        except EOFError:
            raise NexVarError(f"worker {self.number} {self.how_it_ended()} while it loaded the model",
                              where="--workers", fix="is there memory for all of them?") from None  # fmt: skip
        assert self.identity is not None
        return self.identity

    def give(self, task: PartTask) -> None:
        """Send a part; a worker that is gone shows when it is waited for."""
        self.task, self.reported = task, 0
        with suppress(OSError):
            self.pipe.send(replace(task, records=[slim(record) for record in task.records]))

    def receive(self) -> Identity | Done | int:
        """The next message; EOFError if the process has ended; its NexVarError if it has raised one."""
        try:
            message = self.pipe.recv()
        except OSError:
            raise EOFError from None
        if isinstance(message, Identity):
            self.identity = message
        elif isinstance(message, Done):
            self.task = None
        elif isinstance(message, int):
            self.reported += message
        else:
            raise unpacked(message)
        return message

    def how_it_ended(self) -> str:
        self.process.join()
        code = self.process.exitcode
        return f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended with exit code {code}"

    def end(self) -> None:
        self.process.kill()  # it holds nothing that could be lost
        self.process.join()
        self.pipe.close()


@contextmanager
def _shielded() -> Iterator[None]:
    """A Ctrl-C waits: a process that is started in here never sees one, not even while it imports."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, setup: Setup) -> None:
    """A worker's life: load, then tasks and further jobs until the parent's end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends us
    waiting, last = 0, time.monotonic()

    def tell(alleles: int) -> None:
        nonlocal waiting, last
        waiting += alleles
        if time.monotonic() - last > BETWEEN_REPORTS_S:
            pipe.send(waiting)
            waiting, last = 0, time.monotonic()

    try:
        scorer = PartScorer()
        pipe.send(scorer.prepare(setup))
        while True:
            message = pipe.recv()
            if isinstance(message, Setup):
                pipe.send(scorer.prepare(message))
                continue
            done = scorer.score(message, tell)
            if waiting:
                pipe.send(waiting)
                waiting = 0
            pipe.send(done)
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
    except BaseException as error:
        with suppress(OSError):
            pipe.send(packed(error))
