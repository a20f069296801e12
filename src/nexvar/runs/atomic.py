"""Files that are there and whole, or not there: written under a hidden name beside the target, then renamed."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nexvar.errors import NexVarError

NO_ROOM = "is the disk full? is its folder still there?"


@contextmanager
def disk_errors(path: Path, fix: str = NO_ROOM) -> Iterator[None]:
    """A full disk or a lost folder, as one line about ``path``."""
    try:
        yield
    except OSError as error:
        raise NexVarError(f"cannot be written ({error.strerror or error})", where=path, fix=fix) from None


@contextmanager
def replacing(path: Path, companions: Sequence[str] = (), fix: str = NO_ROOM) -> Iterator[Path]:
    """A hidden name beside ``path`` for a file or a folder, renamed to it at the end; removed after an error.

    companions: endings of files that belong to it, such as ".tbi": older ones go, those written beside the hidden name
    come along.
    """
    _remove_stale(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    beside = [(temporary.with_name(temporary.name + ending), Path(f"{path}{ending}")) for ending in companions]
    try:
        yield temporary
        with disk_errors(path, fix):
            for _, old in beside:
                old.unlink(missing_ok=True)  # an older run's would not fit
            temporary.replace(path)
            for new, target in beside:
                if new.exists():
                    new.replace(target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        for leftover in (temporary, *(new for new, _ in beside)):
            leftover.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, fix: str = NO_ROOM) -> None:
    """``data``, on the disk before it has its name: not even a power cut leaves half of it."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with disk_errors(path, fix):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except NexVarError:
        temporary.unlink(missing_ok=True)
        raise


def _remove_stale(path: Path) -> None:
    """Delete what killed processes left of earlier attempts at ``path``."""
    for leftover in path.parent.glob(f".*.{glob.escape(path.name)}*"):
        owner = leftover.name[1:].partition(".")[0]
        if owner.isdecimal() and not _is_alive(int(owner)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is a Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
