"""Who is at work on a folder of parts. The lock goes with the process that holds it, however that ends.

OUT.parts/run.lock              held alone by a run or a merge, shared by shards
OUT.parts/shard-3-of-8.lock     held by that shard
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nexvar.errors import NexVarError, printable

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not told apart there
    fcntl = None  # type: ignore[assignment]

WHOLE = "run.lock"
TRIES = 50  # each is lost only to a run that ended, and took the folder with it, in that moment


@contextmanager
def locked(folder: Path, shard: tuple[int, int] | None = None, *, make: bool = True) -> Iterator[None]:
    """Alone in ``folder``, but for other shards; NexVarError says who else is.

    make: the folder, if it is not there; else nothing is locked where none is. File systems without locks go without.
    """
    with ExitStack() as held:
        if fcntl is not None:
            for _ in range(TRIES):
                with ExitStack() as trying:
                    if _take(folder, shard, make, trying):
                        held.push(trying.pop_all())
                        break
        yield


def _take(folder: Path, shard: tuple[int, int] | None, make: bool, held: ExitStack) -> bool:
    """Whether the locks are held now, or there is nothing to lock; False: the folder went away meanwhile."""
    if make:
        make_folder(folder)
    elif not folder.is_dir():
        return True
    try:
        if shard is not None:
            own = f"shard-{shard[0]}-of-{shard[1]}.lock"
            return _lock(folder, own, True, held) and _lock(folder, WHOLE, False, held)
        return _lock(folder, WHOLE, True, held)
    except FileNotFoundError:
        return False


def _lock(folder: Path, name: str, alone: bool, held: ExitStack) -> bool:
    try:
        number = os.open(folder / name, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _no_parts(folder, error) from None
    held.callback(os.close, number)
    try:
        fcntl.flock(number, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NexVarError(
            f"another run is at work on it{_holder(folder, name)}",
            where=folder,
            fix="wait for it; all finished parts are kept, the same command goes on from them",
        ) from None
    except OSError:  # a file system without locks
        return True
    if (folder / name).stat().st_ino != os.fstat(number).st_ino:
        return False
    if alone:
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # a full disk: what the run itself writes says so
            os.truncate(number, 0)
            os.pwrite(number, f"process {os.getpid()} on {socket.gethostname()}, since {started}".encode(), 0)
    return True


def _holder(folder: Path, name: str) -> str:
    """ ": process 123 on host, since …", as far as it is known."""
    names = [name]
    if name == WHOLE:  # a shard, which shares it, or one that has it alone
        names = [*sorted(path.name for path in folder.glob("shard-*.lock") if _is_held(path)), WHOLE]
    with suppress(OSError, IndexError):
        text = (folder / names[0]).read_bytes()[:200].decode("utf-8", "replace")
        which = (
            "" if names[0] == WHOLE else names[0].removesuffix(".lock").replace("-of-", "/").replace("-", " ") + ", "
        )
        return f": {which}{printable(text)}" if text else ""
    return ""


def _is_held(path: Path) -> bool:
    with suppress(OSError):
        number = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(number)
    return False


def make_folder(folder: Path) -> None:
    """The folder of parts; NexVarError where it cannot be."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _no_parts(folder, error) from None


def _no_parts(folder: Path, error: OSError) -> NexVarError:
    what = f"cannot keep parts here ({error.strerror})"
    return NexVarError(what, where=folder, fix="is the disk full? may you write there? is a file of that name there?")
