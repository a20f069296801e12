"""The way in and out of every program: ``nexvar``, ``python -m nexvar.train``, the demo, parity, worker processes.

    from nexvar import doors
    if __name__ == "__main__":
        doors.catch_signals()       before the slow imports: a Ctrl-C in one of them is one line, too
    import torch
    …
    if __name__ == "__main__":
        doors.run(main)             one line for whatever ends it, and an exit code

    0  done            2  bad input, or a machine that is full       130  Ctrl-C
    1  a check failed  3  a fault of NexVar, to be reported          143  SIGTERM

Nothing that happens inside ends as a traceback; with NEXVAR_DEBUG=1 the traceback is shown before the line.

NOTE no import but of small modules: nothing is caught before they are there.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from nexvar.errors import EXIT_BAD_INPUT, MAX_MESSAGE, NexVarError, printable

EXIT_FAULT, EXIT_INTERRUPTED, EXIT_TERMINATED = 3, 130, 143
# Rounds for which a thread of libgomp (torch's on Linux) asks whether the others are ready, before it sleeps. Its own
# choice is a hundred times as many: nearly all of the time where others use the cores, too (docs/performance.md).
SPINS = "2000"
KEPT = "the finished parts are kept, the same command resumes"
REPORT = "please report this line with the command, and what NEXVAR_DEBUG=1 shows"
MORE_MEMORY = "free some, or ask for less: --batch-tokens, --workers, --dtype, a smaller model"
# What a machine refuses, whatever the program does.
_OF_THE_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE,
    errno.EIO, errno.ELOOP, errno.ESTALE, errno.EFBIG,
}  # fmt: skip
_OF_A_STREAM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE}
_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "failed to map segment",
)
Packed = tuple[str, "str | None", "str | None", bool]  # of an error: what, where, fix, is it a fault


class Fault(NexVarError):
    """Anything that is no NexVarError: a mistake in this package. It says where, and asks to be reported."""


class Stop(BaseException):
    """Ctrl-C or SIGTERM, on its way out. No Exception: nobody must take it for an error and go on."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Door:
    """What signals and the last catch know of this process."""

    told = False  # a line is out
    stopped = 0  # the exit code of the signal that came
    leaving = False  # nothing is left to be lost
    resumable = False  # finished parts are on disk


_door = _Door()


def run(function: Callable[[], int | None], *, quiet: bool = False) -> None:
    """Call ``function``, and exit unless its code is 0; whatever it raises becomes one line and a code of its own.

    quiet: without the line (of several processes that stop for one reason, one tells it).
    """
    _door.told, _door.stopped, _door.leaving, _door.resumable = quiet, 0, False, False
    program = sys._getframe(1).f_globals.get("__name__") == "__main__" or _called_by_script()
    before = catch_signals()
    code: int | None = 0
    try:
        _open_closed_streams()
        code = function()
        _door.leaving = True
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else EXIT_BAD_INPUT
        if isinstance(end.code, str):
            _tell(end.code)
    except BaseException as error:
        _door.leaving = True
        code = _last_catch(error)
    code = _flushed(code or 0)
    if not program:  # somebody who goes on
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise SystemExit(code)


@contextmanager
def resumable() -> Iterator[None]:
    """What is computed in here is kept in parts: whatever ends it says so."""
    _door.resumable = True
    yield
    _door.resumable = False


def explain(error: BaseException) -> NexVarError:
    """The error in words for people: as it is, or of the machine, or a ``Fault``."""
    if isinstance(error, NexVarError):
        return error
    text = " ".join(str(error).split())
    kept = KEPT if _door.resumable else None
    number = error.errno if isinstance(error, OSError) else None
    lacking = isinstance(error, (ImportError, OSError, RuntimeError)) and any(w in text.lower() for w in _MEMORY_WORDS)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or lacking:
        what = f"not enough memory ({printable(text, 120)})" if text else "not enough memory"
        return NexVarError(what, where=place(error), fix=f"{MORE_MEMORY}{f'; {kept}' if kept else ''}")
    if isinstance(error, OSError) and number in _OF_THE_MACHINE:
        return NexVarError(f"{error.strerror}", where=error.filename or place(error), fix=kept)
    if isinstance(error, ImportError) and not (error.name or "").startswith("nexvar"):
        what = f"{error.name or 'a library'} cannot be imported ({printable(text, 200)})"
        return NexVarError(what, where=place(error), fix="install NexVar again, with what it needs: pip install nexvar")
    what = f"this is a fault of NexVar: {type(error).__name__}: {printable(text, 200)}"
    return Fault(what, where=place(error), fix=f"{REPORT}{f'; {kept}' if kept else ''}")


def place(error: BaseException) -> str:
    """``nexvar/runs/parts.py:120``: where in this package it happened, or in whose call."""
    where, traceback = "nexvar", error.__traceback__
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename.replace(os.sep, "/")
        if "/nexvar/" in name and not name.endswith(("/nexvar/doors.py", "/nexvar/cli/__init__.py", "/cli/_app.py")):
            where = f"nexvar/{name.rpartition('/nexvar/')[2]}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return where


def packed(error: BaseException) -> Packed:
    """An error for another process: plain values."""
    if not isinstance(error, NexVarError):
        _show_traceback(error)
    said = explain(error)
    return said.what, None if said.where is None else str(said.where), said.fix, isinstance(said, Fault)


def unpacked(values: Packed) -> NexVarError:
    """What was packed, to be raised."""
    what, where, fix, fault = values
    return (Fault if fault else NexVarError)(what, where=where, fix=fix)


# -- the end


def _last_catch(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):  # where the signal is not ours to catch
        _door.stopped = EXIT_INTERRUPTED
    if isinstance(error, Stop):
        _door.stopped = error.code
    if _door.stopped:  # whatever a library made of it
        _tell_stopped()
        return _door.stopped
    if isinstance(error, OSError) and error.filename is None and error.errno in _OF_A_STREAM:  # files' have their names
        error = _output_error(error)
    if isinstance(error, BrokenPipeError):  # `| head` has what it wants
        return 1
    try:
        said = explain(error)
    except BaseException:  # no memory for words
        said = NexVarError(f"not enough memory or stack ({type(error).__name__})")
    _show_traceback(error)
    _tell(str(said))
    return EXIT_FAULT if isinstance(said, Fault) else EXIT_BAD_INPUT


def _flushed(code: int) -> int:
    """The exit code once all of standard output is out; what cannot be written is told, and dropped."""
    broken = _broken_output()
    if broken is None:
        return code
    with suppress(OSError, ValueError, AttributeError):  # or Python complains once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(broken, BrokenPipeError):
        return code or 1
    if not code:
        _tell(str(broken))
    return code or EXIT_BAD_INPUT


def _broken_output() -> OSError | NexVarError | None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _output_error(error)
    except ValueError:
        return _output_error(OSError(errno.EBADF, ""))
    return None


def _output_error(error: OSError) -> OSError | NexVarError:
    if isinstance(error, BrokenPipeError):
        return error
    what = "it is closed" if error.errno == errno.EBADF else f"it cannot be written ({error.strerror or error})"
    return NexVarError(what, where="standard output", fix="see where `>` or `|` sends it, or name a file with -o")


def _tell(line: str) -> None:
    """One line on standard error, if that can be written, and if none is out yet."""
    if _door.told:
        return
    _door.told = True
    with suppress(OSError, ValueError, AttributeError):
        print(f"nexvar: {printable(' '.join(line.split()), MAX_MESSAGE)}", file=sys.stderr, flush=True)


def _tell_stopped() -> None:
    word = "interrupted" if _door.stopped == EXIT_INTERRUPTED else "terminated"
    _tell(f"{word}: {KEPT}" if _door.resumable else word)


def _show_traceback(error: BaseException) -> None:
    if os.environ.get("NEXVAR_DEBUG", "") not in ("", "0"):
        import traceback

        with suppress(OSError, ValueError, AttributeError):
            traceback.print_exception(error, file=sys.stderr)


# -- signals


def catch_signals() -> dict[int, Any]:
    """Ctrl-C and SIGTERM end this process with one line; returns the handlers that were there.

    Other threads than the main one cannot, and go on without. What else must be said before torch is imported is said
    here, too: see ``SPINS``.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    numbers = {signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        again = _door.leaving or _door.stopped
        _door.stopped = _door.stopped or numbers[signal.Signals(number)]
        # NOTE an exception in the middle of an import is lost, or becomes another one, and there is nothing to tidy up
        if again or (not _door.resumable and _imports(frame)):
            with suppress(BaseException):
                _tell_stopped()
            os._exit(_door.stopped)
        raise Stop(_door.stopped)

    def unraisable(problem: Any) -> None:
        if isinstance(problem.exc_value, Stop):  # it came in a destructor, from where nothing can be raised
            stop(signal.SIGINT, None)
        sys.__unraisablehook__(problem)

    sys.unraisablehook = unraisable
    for number in numbers:
        with suppress(ValueError):
            if (handler := signal.getsignal(number)) != signal.SIG_IGN:  # `nohup`, a shell's background job
                signal.signal(number, stop)
                before[number] = handler
    return before


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _called_by_script() -> bool:
    """Whether the caller of ``run``'s caller is the program itself, such as the installed script ``nexvar``."""
    with suppress(ValueError):
        return sys._getframe(3).f_globals.get("__name__") == "__main__"
    return False


# -- streams


def _open_closed_streams() -> None:
    """A stream that the shell closed (`>&-`) is the null device: or the next file we open would stand in its place.

    Standard output opens it for reading, so that writing to it fails, as it should.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115, PTH123
        elif name == "stdout" and hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # file names that are no UTF-8
