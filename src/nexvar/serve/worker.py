"""The one thread in which the model computes; everybody else waits for it.

    submit(work) ── queue: interactive, bounded (full: Busy at once) ─┐
                 ── queue: parts of jobs ─────────────────────────────┴─ one thread ── work(ticket) ── Task.future

Interactive work always goes first; a part of a job starts when nobody else waits. Work that is cancelled while it waits
is dropped; work that runs asks its ticket between tokens or batches, and ends there.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import torch

from nexvar.errors import NexVarError
from nexvar.inference.core.batching import out_of_memory
from nexvar.serve.errors import Busy, Cancelled, OutOfMemory, TimedOut

T = TypeVar("T")
LIMIT = 64
FIRST_GUESS = 1.0  # seconds of a request before one was measured


class Ticket:
    """What the work sees of who asked for it."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.cancelled = threading.Event()

    def check(self, *_: object) -> None:
        """Raises Cancelled when nobody waits any more, TimedOut past the deadline. It fits a progress callback."""
        if self.cancelled.is_set():
            raise Cancelled
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimedOut(f"timed out after {self.seconds:g} s", fix="ask for less at once, or make a job of it")


class Task(Generic[T]):
    """What the asker holds: ``future``, and a way to leave."""

    def __init__(self, thread: ModelThread, work: Callable[[Ticket], T], interactive: bool, ticket: Ticket) -> None:
        self.future: Future[T] = Future()
        self.ticket, self.work, self.interactive = ticket, work, interactive
        self._thread = thread

    def cancel(self) -> None:
        """Never start it; or stop it at its next check. Its future ends with Cancelled."""
        self.ticket.cancelled.set()
        self._thread._drop(self)

    def run(self) -> None:
        """Do the work in this thread; whatever happens is the future's."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.ticket.check()
            self.future.set_result(self.work(self.ticket))
        except BaseException as error:  # the thread must live
            self.future.set_exception(_told(error))


class ModelThread:
    """One thread, two queues. limit: how many interactive requests may wait.

    waiting, busy, seconds (a running mean of interactive work): for metrics and for estimates.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.busy = False
        self.seconds = FIRST_GUESS
        self._queues: dict[bool, deque[Task[Any]]] = {True: deque(), False: deque()}  # interactive, or not
        self._changed = threading.Condition()
        self._closed = False
        self._inside = False  # of interactive work that a job's part gave way to
        self._thread = threading.Thread(target=self._loop, name="nexvar-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Interactive requests in the queue."""
        return len(self._queues[True])

    def submit(self, work: Callable[[Ticket], T], *, interactive: bool = True, seconds: float | None = None) -> Task[T]:
        """Let the thread do ``work`` when it is its turn.

        seconds: from now until it must be done. Raises Busy when ``limit`` requests wait, or when those that wait would
        take longer than that.
        """
        task = Task(self, work, interactive, Ticket(seconds))
        with self._changed:
            if self._closed:
                raise Busy("the server is stopping", retry_after=10)
            if interactive:
                ahead = (self.waiting + self.busy) * self.seconds
                if self.waiting >= self.limit:
                    raise Busy(f"queue full: {self.waiting} requests wait", retry_after=ahead)
                if seconds is not None and ahead > seconds:
                    raise Busy(f"queue full: the wait would be about {ahead:.0f} s", retry_after=ahead - seconds)
            self._queues[interactive].append(task)
            self._changed.notify()
        return task

    def give_way(self) -> bool:
        """Do the interactive work that waits, here and now: a part of a job asks between two layers.

        False inside of what it gave way to, which passes the same layers.
        """
        if self._inside:
            return False
        self._inside = True
        try:
            while (task := self._next(jobs=False)) is not None:
                with torch.inference_mode(False):  # as it is at the beginning of a thread
                    self._do(task)
        finally:
            self._inside = False
        return True

    def close(self) -> None:
        """Take nothing more, drop what waits, and return when what runs has ended."""
        with self._changed:
            self._closed = True
            waiting = [task for queue in self._queues.values() for task in queue]
            self._changed.notify()
        for task in waiting:
            task.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _drop(self, task: Task[Any]) -> None:
        with self._changed:
            try:
                self._queues[task.interactive].remove(task)
            except ValueError:  # it runs, or has ended
                return
        if task.future.set_running_or_notify_cancel():
            task.future.set_exception(Cancelled())

    def _loop(self) -> None:
        while (task := self._next()) is not None:
            self._do(task)
            self.busy = False
            del task  # or its result would live until the next one comes

    def _do(self, task: Task[Any]) -> None:
        began = time.monotonic()
        task.run()
        if task.interactive:
            self.seconds += 0.2 * (time.monotonic() - began - self.seconds)

    def _next(self, jobs: bool = True) -> Task[Any] | None:
        """The next task, as soon as there is one, None when the thread is to end. Without jobs: None if none waits."""
        with self._changed:
            while jobs and not (any(self._queues.values()) or self._closed):
                self._changed.wait()
            queue = self._queues[True] or (self._queues[False] if jobs else None)
            if not queue:
                return None
            self.busy = True
            return queue.popleft()


def _told(error: BaseException) -> BaseException:
    """The error without the frames that hold the model's tensors where memory ran out; any other as it is."""
    cause = error.__cause__ if isinstance(error, NexVarError) else error
    lacking = isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and out_of_memory(cause))
    if not lacking:
        return error
    what = error.what if isinstance(error, NexVarError) else "the model ran out of memory"
    error.__traceback__ = error.__cause__ = error.__context__ = None
    del error, cause
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return OutOfMemory(what, fix="shorter or fewer sequences; the memory is free again")
