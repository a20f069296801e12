"""Files that people hand us, opened so that they cannot hurt, and files we write, there and whole or not there.

    open_regular(path)           never a pipe, a device or a folder
    check_inside(path)           no link out of a downloaded folder
    read_json(path)              bounded in size, depth and numbers; no key twice
    write_atomically(path)       a hidden, unguessable name beside it, renamed at the end

Everything that opens a file by a name from outside goes through here (text with lines: ``genome/textio.py``).
"""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from nexvar.errors import NexVarError

MAX_JSON = 20_000_000  # bytes: a hundred times the largest config, index or header of a released checkpoint
MAX_DEPTH = 64
MAX_DIGITS = 40  # tokenizers say 1000000000000000019884624838656 for "no limit"
NO_ROOM = "is the disk full? is its folder still there?"


# -- reading


def at_home(path: str | Path) -> Path:
    """``path`` with ~ and ~user replaced; NexVarError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NexVarError("no such user, or no home folder", where=path, fix="write the whole path") from None


def check_regular(path: str | Path, *, pipe_ok: bool = False, empty_ok: bool = False) -> Path:
    """``path`` if it is a readable, non-empty, regular file (or, if allowed, a pipe); NexVarError otherwise."""
    if "\0" in str(path):
        raise NexVarError("the path holds a NUL byte", where=repr(str(path)), fix="give a file name")
    path = Path(path)
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise NexVarError("is a directory", where=path, fix="give the file inside it")
        if not stat.S_ISREG(info.st_mode) and not (pipe_ok and stat.S_ISFIFO(info.st_mode)):
            raise NexVarError("is not a regular file", where=path, fix="write it to a file first")
        if info.st_size == 0 and stat.S_ISREG(info.st_mode) and not empty_ok:
            raise empty(f"{path}:1")
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except FileNotFoundError:
        raise NexVarError("no such file", where=path, fix="check the path") from None
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise NexVarError(what, where=path, fix="check the path and its rights") from None
    return path


def empty(where: str) -> NexVarError:
    """The error for a file without content."""
    return NexVarError("the file is empty", where=where, fix="was it written or downloaded completely?")


def open_regular(path: str | Path, *, empty_ok: bool = False) -> BinaryIO:
    """``path`` opened for reading bytes; NexVarError, and no waiting, for a pipe, a device or a folder."""
    path = check_regular(path, empty_ok=empty_ok)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was replaced a moment ago
            os.close(descriptor)
            raise NexVarError("is not a regular file", where=path, fix="write it to a file first")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise NexVarError(what, where=path, fix="check the path and its rights") from None
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, limit: int = MAX_JSON) -> bytes:
    """A small file; NexVarError where it has more than ``limit`` bytes."""
    with open_regular(path, empty_ok=True) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise NexVarError(f"more than {limit:,} bytes", where=path, fix="is this the right file?")
    return content


def read_text(path: str | Path, limit: int = MAX_JSON) -> str:
    """A small UTF-8 file."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise NexVarError(f"byte {error.start + 1} is not UTF-8", where=path, fix="save it as UTF-8") from None


def check_inside(path: Path) -> Path:
    """``path``, unless it is a link out of its folder; the hub's cache (snapshots/<revision> -> blobs) is one place."""
    if not path.is_symlink():
        return path
    try:
        folder, target = path.parent.resolve(), path.resolve()
    except (OSError, RuntimeError):
        raise NexVarError("a link that leads nowhere", where=path, fix="put the file itself there") from None
    home = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else folder
    if not target.is_relative_to(folder) and not target.is_relative_to(home):
        raise NexVarError(f"a link out of its folder, to {target}", where=path, fix="put the file itself there")
    return path


# -- JSON


def read_json(path: str | Path, limit: int = MAX_JSON) -> dict[str, Any]:
    """The JSON table in a file."""
    value = parse_json(read_bytes(path, limit), path, limit)
    if not isinstance(value, dict):
        raise NexVarError("not a JSON table", where=path)
    return value


def parse_json(content: bytes | str, where: object, limit: int = MAX_JSON) -> Any:
    """The value of a JSON text, in linear time; NexVarError for what no file of ours or of a released model holds.

    Refused: more than ``limit`` bytes, ``MAX_DEPTH`` levels or ``MAX_DIGITS`` digits, a key that occurs twice, NaN,
    Infinity, 1e999, and text that is no Unicode (half a surrogate pair).
    """
    try:
        if len(content) > limit:
            raise ValueError(f"more than {limit:,} bytes")
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(
            text, object_pairs_hook=_table, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
        _check_tree(value)
    except RecursionError:
        raise NexVarError(f"not readable as JSON (more than {MAX_DEPTH} levels deep)", where=where) from None
    except ValueError as error:
        raise NexVarError(f"not readable as JSON ({error})", where=where) from None
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} occurs twice")
            seen.add(key)
    return table


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _check_tree(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                item.encode()  # a UnicodeEncodeError is a ValueError
        level = below
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} levels deep")


# -- writing


@contextmanager
def disk_errors(path: Path, fix: str = NO_ROOM) -> Iterator[None]:
    """A full disk or a lost folder, as one line about ``path``."""
    try:
        yield
    except OSError as error:
        raise NexVarError(f"cannot be written ({error.strerror or error})", where=path, fix=fix) from error


@contextmanager
def replacing(
    path: Path, companions: Sequence[str] = (), *, durable: bool = False, tidy: bool = True, fix: str = NO_ROOM
) -> Iterator[Path]:
    """A new, empty, hidden file beside ``path`` to write to; it takes the name at the end, and vanishes after an error.

    Whoever reads ``path`` sees the old content or the whole new one. A body may replace the file by a folder.
    companions: endings of files that belong to it, such as ".tbi": older ones go, those written beside the hidden name
    come along. durable: on the disk before it has its name, so that not even a power cut leaves half of it. tidy:
    leftovers of killed runs are looked for in the folder, which costs time where there are thousands of files.
    """
    if tidy:
        remove_leftovers(path.parent)
    temporary = temporary_name(path)
    beside = [(temporary.with_name(temporary.name + ending), Path(f"{path}{ending}")) for ending in companions]
    try:
        with disk_errors(path, fix):
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))
        yield temporary
        with disk_errors(path, fix):
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            for _, old in beside:
                old.unlink(missing_ok=True)  # an older run's would not fit
            temporary.replace(path)
            for new, target in beside:
                if new.exists():
                    new.replace(target)
    finally:
        for leftover in (temporary, *(new for new, _ in beside)):
            remove(leftover)


@contextmanager
def write_atomically(path: str | Path, *, fix: str = NO_ROOM, **options: Any) -> Iterator[Path]:
    """``replacing``, where every OSError in the body is about ``path``."""
    path = Path(path)
    with disk_errors(path, fix), replacing(path, fix=fix, **options) as temporary:
        yield temporary


def write_bytes(path: str | Path, data: bytes, **options: Any) -> None:
    """``path`` holds ``data``, or what it held before."""
    with write_atomically(path, **options) as temporary:
        temporary.write_bytes(data)


def write_tsv(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table with tabs, there and whole. head: names of the columns, or none. Floats have six digits, None nothing."""
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if head:
            writer.writerow(head)
        for row in rows:
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])  # csv writes None as nothing


def spreadsheet_safe(cell: str) -> str:
    """A cell of text that a spreadsheet takes for text: one that begins like a formula gets a ' before it."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path`` that nobody can guess and that ends like it; who made it can be told from it."""
    return path.with_name(f".nexvar-{_host()}-{os.getpid()}-{secrets.token_hex(8)}-{path.name[-40:]}")


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes of this machine left in ``folder``; never stops a run."""
    pattern = re.compile(rf"\.nexvar-{_host()}-(\d+)-[0-9a-f]{{16}}-.*", re.DOTALL)
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if (match := pattern.fullmatch(entry.name)) and not is_alive(match[1]):
            remove(entry)


def remove(path: Path) -> None:
    """Delete a temporary file or folder of ours, if it can be."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_alive(pid: int | str) -> bool:
    """Whether a process of this machine has this number; absurd numbers are nobody's."""
    if os.name == "nt":  # where signal 0 is a Ctrl-C
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _host() -> str:
    """This machine, in eight hex digits: shared disks show what processes of others write."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{zlib.crc32(name.encode()):08x}"
