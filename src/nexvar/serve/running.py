"""A handler asks the model thread, and waits for it as long as its client does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from fastapi import Request

from nexvar.serve.errors import Cancelled
from nexvar.serve.state import Server
from nexvar.serve.worker import Task, Ticket
from nexvar.weights.load import Loaded

T = TypeVar("T")
E = TypeVar("E")
POLL = 0.25  # seconds between two looks whether the client is still there
Emit = Callable[[E], None]


def server_of(request: Request) -> Server:
    """The server that answers this request."""
    server: Server = request.app.state.server
    return server


async def run(request: Request, work: Callable[[Ticket], T], *, seconds: float | None = None) -> T:
    """What ``work`` gives in the model thread. When the client leaves, the work is cancelled.

    seconds: until it must be done (default: the server's). Raises what the work raises, Busy, TimedOut, Cancelled.
    """
    server = server_of(request)
    task = server.thread.submit(work, seconds=seconds or server.settings.seconds)
    return await finished(request, task)


async def with_model(
    request: Request,
    name: str | None,
    verb: Callable[[Loaded], T],
    objective: str | None = None,
    *,
    seconds: float | None = None,
) -> T:
    """``verb(model)`` in the model thread, stopped between two forwards when nobody waits for it any more.

    name: of a model; None: the first with this objective, or the first. seconds: see ``run``. Raises NotFound, Conflict
    before it waits.
    """
    models = server_of(request).models
    found = models.find(name, objective)

    def work(ticket: Ticket) -> T:
        with models.using(found, ticket) as loaded:
            return verb(loaded)

    return await run(request, work, seconds=seconds)


async def finished(request: Request, task: Task[T]) -> T:
    """The result of a task, or Cancelled when the client leaves before."""
    future = asyncio.wrap_future(task.future)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks for it when all have left
    try:
        while not future.done():
            await asyncio.wait({future}, timeout=POLL)
            if not future.done() and await request.is_disconnected():
                raise Cancelled("the client left")
        return future.result()
    finally:
        task.cancel()


async def stream(
    request: Request, work: Callable[[Ticket, Emit[E]], None], *, seconds: float | None = None
) -> AsyncIterator[E]:
    """What ``work(ticket, emit)`` emits in the model thread, as it comes. Closing the iterator cancels the work."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[E | None]()

    def put(event: E | None) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    server = server_of(request)
    task = server.thread.submit(lambda ticket: work(ticket, put), seconds=seconds or server.settings.seconds)
    task.future.add_done_callback(lambda _: put(None))

    async def emitted() -> AsyncIterator[E]:
        try:
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), POLL)
                except asyncio.TimeoutError:
                    if await request.is_disconnected():
                        raise Cancelled("the client left") from None
                    continue
                if event is None:
                    break
                yield event
            task.future.result()
        finally:
            task.cancel()

    return emitted()
