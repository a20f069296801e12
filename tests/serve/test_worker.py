"""The model thread: who goes first, who is refused, who is stopped."""

from __future__ import annotations

import threading

import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.serve.errors import Busy, Cancelled, OutOfMemory, TimedOut
from nexvar.serve.worker import ModelThread

WAIT = 20  # seconds: what does not happen by then never does


@pytest.fixture
def thread():
    thread = ModelThread(limit=3)
    yield thread
    thread.close()


class Held:
    """Work that has begun and goes on until it is let go."""

    def __init__(self, thread: ModelThread, **options):
        self.began, self.go = threading.Event(), threading.Event()
        self.task = thread.submit(self._work, **options)
        assert self.began.wait(WAIT)

    def _work(self, ticket):
        self.began.set()
        while not self.go.wait(0.005):
            ticket.check()
        return "done"


def test_work_runs_in_one_thread_that_is_not_the_askers(thread):
    names = {thread.submit(lambda _: threading.get_ident()).future.result(WAIT) for _ in range(3)}
    assert len(names) == 1 and threading.get_ident() not in names


def test_an_error_is_the_askers_and_the_thread_lives(thread):
    def wrong(ticket):
        raise NexVarError("no", where="here")

    with pytest.raises(NexVarError, match="here: no"):
        thread.submit(wrong).future.result(WAIT)
    assert thread.submit(lambda _: 1).future.result(WAIT) == 1


def test_interactive_work_goes_before_parts_of_jobs(thread):
    held, order = Held(thread), []
    tasks = [
        thread.submit(lambda _, name=name: order.append(name), interactive=name[0] == "i")
        for name in ("job1", "i1", "job2", "i2")
    ]
    held.go.set()
    for task in tasks:
        task.future.result(WAIT)
    assert order == ["i1", "i2", "job1", "job2"]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(thread):
    held = Held(thread)
    tasks = [thread.submit(lambda _: None) for _ in range(3)]
    with pytest.raises(Busy, match="queue full") as refused:
        thread.submit(lambda _: None)
    assert refused.value.status == 503 and int(refused.value.headers["Retry-After"]) >= 1
    thread.submit(lambda _: None, interactive=False)  # jobs have their own queue
    held.go.set()
    for task in tasks:
        task.future.result(WAIT)


def test_what_cannot_meet_its_deadline_is_refused_at_once(thread):
    held = Held(thread)
    thread.seconds = 30.0  # what a request takes here
    with pytest.raises(Busy, match="the wait would be about 30 s"):
        thread.submit(lambda _: None, seconds=5)
    held.go.set()


def test_work_that_is_cancelled_while_it_waits_never_starts_and_frees_its_place(thread):
    held, started = Held(thread), []
    tasks = [thread.submit(lambda _: started.append(1)) for _ in range(3)]
    tasks[0].cancel()
    with pytest.raises(Cancelled):
        tasks[0].future.result(WAIT)
    tasks.append(thread.submit(lambda _: started.append(1)))  # there is room again
    held.go.set()
    for task in tasks[1:]:
        task.future.result(WAIT)
    assert len(started) == 3


def test_work_that_runs_stops_at_its_next_check(thread):
    held = Held(thread)
    held.task.cancel()
    with pytest.raises(Cancelled):
        held.task.future.result(WAIT)


def test_work_past_its_deadline_is_stopped(thread):
    held = Held(thread, seconds=0.05)
    with pytest.raises(TimedOut, match="timed out after 0.05 s"):
        held.task.future.result(WAIT)


def test_a_result_that_somebody_cancels_is_kept(thread):
    task = thread.submit(lambda _: 7)
    assert task.future.result(WAIT) == 7
    task.cancel()
    assert task.future.result() == 7


def _torch_out(ticket):
    raise torch.OutOfMemoryError("CUDA out of memory")


def _cpu_out(ticket):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


def _told_out(ticket):
    try:
        _torch_out(ticket)
    except RuntimeError as error:
        raise NexVarError("one sequence of 9 tokens does not fit in the memory of cuda") from error


def _python_out(ticket):
    raise MemoryError


@pytest.mark.parametrize("work", [_torch_out, _cpu_out, _told_out, _python_out])
def test_memory_that_runs_out_is_507_and_free_again(thread, work):
    with pytest.raises(OutOfMemory) as told:
        thread.submit(work).future.result(WAIT)
    assert told.value.status == 507
    assert told.value.__cause__ is None and told.value.__context__ is None  # no frame holds tensors
    assert thread.submit(lambda _: 1).future.result(WAIT) == 1


def test_closing_drops_what_waits_and_lets_end_what_runs():
    thread = ModelThread()
    held = Held(thread)
    waiting = thread.submit(lambda _: None)
    closing = threading.Thread(target=thread.close)
    closing.start()
    with pytest.raises(Cancelled):
        waiting.future.result(WAIT)
    held.go.set()
    closing.join(WAIT)
    assert not closing.is_alive() and held.task.future.result() == "done"
    with pytest.raises(Busy, match="stopping"):
        thread.submit(lambda _: None)


def test_a_part_of_a_job_gives_way_to_what_waits_and_only_once(thread):
    order, began, asked = [], threading.Event(), threading.Event()

    def part(ticket):
        began.set()
        asked.wait(WAIT)
        with torch.inference_mode():
            order.append(("part", thread.give_way()))
        order.append(("end", thread.give_way()))

    def click(name):
        def work(ticket):
            order.append((name, thread.give_way(), torch.is_inference_mode_enabled()))
            if name == "wrong":
                raise NexVarError("no")

        return work

    job = thread.submit(part, interactive=False)
    assert began.wait(WAIT)
    later = thread.submit(lambda _: order.append("next part"), interactive=False)
    tasks = [thread.submit(click(name)) for name in ("first", "wrong", "last")]
    tasks[2].cancel()
    asked.set()
    job.future.result(WAIT)
    later.future.result(WAIT)
    assert order == [("first", False, False), ("wrong", False, False), ("part", True), ("end", True), "next part"]
    with pytest.raises(NexVarError, match="no"):
        tasks[1].future.result(WAIT)
