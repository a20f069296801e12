"""What a server keeps on disk: uploaded files, jobs and their results. What is known of them stands in an sqlite3 file.

    DATA_DIR/serve.sqlite       a row for each file, a row for each job
    DATA_DIR/serve.lock         held by the server that is at work here
    DATA_DIR/files/<id>/<name>  an uploaded file, under its cleaned name
    DATA_DIR/jobs/<id>/         the parts of a running job, the results of a done one

A row stands for what is on disk: files are written before their row, and go after it. Whatever a kill leaves between
the two is removed at the next start, and a job that ran is queued again.

    queued ──> running ──> done, failed        queued, running ──> cancelled        from these three nothing leads on
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.files import remove
from nexvar.serve.errors import Conflict, Full, NotFound

try:
    import fcntl
except ImportError:  # Windows: two servers on one folder are not told apart there
    fcntl = None  # type: ignore[assignment]

VERSION = 1  # of the tables
APPLICATION = 0x4E585652  # "NXVR": other programs' databases are left alone
QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
FINAL = (DONE, FAILED, CANCELLED)
DAY = 86_400.0
SCHEMA = f"""
CREATE TABLE files (id TEXT PRIMARY KEY, name TEXT, kind TEXT, bytes INTEGER, sha256 TEXT, created REAL);
CREATE TABLE jobs (id TEXT PRIMARY KEY, kind TEXT, file TEXT, name TEXT, genome TEXT, model TEXT, options TEXT,
    outputs TEXT, state TEXT, done INTEGER, total INTEGER, bytes INTEGER, error TEXT, summary TEXT, created REAL,
    started REAL, ended REAL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file. kind: what its first bytes are (uploads.py). created: seconds since 1970."""

    id: str
    name: str
    kind: str
    bytes: int
    sha256: str
    created: float


@dataclass(frozen=True)
class Job:
    """One job. file, name: what it reads. done, total: alleles; total is None until they are counted. bytes: of its
    folder. summary: lines for people. created, started, ended: seconds since 1970."""

    id: str
    kind: str
    file: str
    name: str
    genome: str
    model: str
    options: dict[str, Any]
    outputs: list[str]
    state: str = QUEUED
    done: int = 0
    total: int | None = None
    bytes: int = 0
    error: str | None = None
    summary: list[str] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None


JSON = ("options", "outputs", "summary")


def new_id() -> str:
    """An id nobody can guess; fit for a path and a URL."""
    return secrets.token_urlsafe(12)


_NO_ROOM = ("disk is full", "disk I/O error", "readonly database")  # what SQLite says of the disk, not of the file


class Store:
    """One folder, one server. Safe to use from several threads; every call takes about a millisecond."""

    def __init__(self, folder: Path, *, max_bytes: float, file_days: float = 7, result_days: float = 30) -> None:
        """Open or make the folder, and put right what a kill left.

        Raises NexVarError: another server is at work here, or the database is damaged or of a newer NexVar.
        """
        self.folder, self.max_bytes = folder, max_bytes
        self.file_seconds, self.result_seconds = file_days * DAY, result_days * DAY
        self._uploading = 0.0  # bytes of files that have no row yet
        self._lock = threading.RLock()
        try:
            for each in (folder, folder / "files", folder / "jobs"):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = _alone(folder)
        except OSError as error:
            raise NexVarError(f"cannot be used ({error.strerror})", where=folder, fix="--data-dir") from None
        try:
            self._db = _open(folder / "serve.sqlite")
            self._tidy()
        except BaseException:
            os.close(self._held)
            raise

    def close(self) -> None:
        with self._lock:
            self._db.close()
            os.close(self._held)

    # -- files

    def file_folder(self, id_: str) -> Path:
        return self.folder / "files" / id_

    def path_of(self, file: StoredFile) -> Path:
        return self.file_folder(file.id) / file.name

    def add_file(self, file: StoredFile) -> None:
        """Keep a file whose bytes are in their place."""
        self._insert("files", file)

    def file(self, id_: str) -> StoredFile:
        """NotFound where there is none."""
        rows = self._rows(StoredFile, "SELECT * FROM files WHERE id = ?", id_)
        if not rows:
            raise NotFound(f"no file {id_[:40]!r}", where="file", fix="upload it first; files are kept for some days")
        return rows[0]

    def remove_file(self, id_: str) -> None:
        """Delete it. Raises NotFound, or Conflict while a job needs it."""
        with self._lock:
            self.file(id_)
            if not self._delete_file(id_):
                raise Conflict("a job needs this file", where="file", fix="cancel the job, or wait until it is done")

    def _delete_file(self, id_: str) -> bool:
        """Delete it unless a job needs it."""
        needed = f"SELECT 1 FROM jobs WHERE file = ? AND state IN ('{QUEUED}', '{RUNNING}')"
        if not self._change(f"DELETE FROM files WHERE id = ? AND NOT EXISTS ({needed})", id_, id_):
            return False
        remove(self.file_folder(id_))
        return True

    # -- jobs

    def job_folder(self, id_: str) -> Path:
        return self.folder / "jobs" / id_

    def add_job(self, job: Job) -> None:
        """Queue a job; NotFound where its file is gone."""
        with self._lock:
            self.file(job.file)
            self._insert("jobs", job)

    def job(self, id_: str) -> Job:
        """NotFound where there is none."""
        rows = self._rows(Job, "SELECT * FROM jobs WHERE id = ?", id_)
        if not rows:
            raise NotFound(f"no job {id_[:40]!r}", where="job", fix="GET /api/v1/jobs lists them")
        return rows[0]

    def jobs(self, limit: int = 100) -> list[Job]:
        """The newest first."""
        return self._rows(Job, "SELECT * FROM jobs ORDER BY rowid DESC LIMIT ?", limit)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found = dict(self._read("SELECT state, count(*) FROM jobs GROUP BY state"))
        return {state: found.get(state, 0) for state in (QUEUED, RUNNING, *FINAL)}

    def claim(self) -> Job | None:
        """The oldest queued job, now running; None where there is none."""
        with self._lock:
            rows = self._read("SELECT id FROM jobs WHERE state = ? ORDER BY rowid LIMIT 1", QUEUED)
            if not rows:
                return None
            id_ = rows[0][0]
            sql = "UPDATE jobs SET state = ?, bytes = ?, started = coalesce(started, ?) WHERE id = ?"
            self._change(sql, RUNNING, folder_bytes(self.job_folder(id_)), time.time(), id_)
            return self.job(id_)

    def grow_job(self, id_: str, more: int) -> None:
        """The folder of a running job has so many bytes more."""
        self._change("UPDATE jobs SET bytes = bytes + ? WHERE id = ? AND state = ?", more, id_, RUNNING)

    def requeue(self, id_: str) -> None:
        """A running job that the server had to leave waits again."""
        self._change("UPDATE jobs SET state = ? WHERE id = ? AND state = ?", QUEUED, id_, RUNNING)

    def end(
        self,
        id_: str,
        state: str,
        *,
        done: int = 0,
        total: int | None = None,
        error: str | None = None,
        summary: Sequence[str] = (),
    ) -> bool:
        """A running job is done or has failed; False: it was cancelled meanwhile, and stays so."""
        size, lines = folder_bytes(self.job_folder(id_)), json.dumps(list(summary))
        sql = """UPDATE jobs SET state = ?, done = ?, total = ?, error = ?, summary = ?, bytes = ?, ended = ?
            WHERE id = ? AND state = ?"""
        return bool(self._change(sql, state, done, total, error, lines, size, time.time(), id_, RUNNING))

    def cancel(self, id_: str) -> bool:
        """From now on the job is cancelled; False: it had ended already."""
        sql = f"UPDATE jobs SET state = ?, ended = ?, bytes = 0 WHERE id = ? AND state IN ('{QUEUED}', '{RUNNING}')"
        return bool(self._change(sql, CANCELLED, time.time(), id_))

    def remove_job(self, id_: str) -> None:
        """Delete a job that has ended, and its results. Raises NotFound, Conflict."""
        with self._lock:
            self.job(id_)
            if not self._change(f"DELETE FROM jobs WHERE id = ? AND state IN {FINAL}", id_):
                raise Conflict("the job has not ended", where="job", fix="cancel it first")
        remove(self.job_folder(id_))

    # -- room

    def room(self) -> float:
        """Bytes that may still be written here; below 0 where the limit was passed."""
        sql = "SELECT (SELECT coalesce(sum(bytes), 0) FROM files) + (SELECT coalesce(sum(bytes), 0) FROM jobs)"
        return self.max_bytes - self._read(sql)[0][0] - self._uploading

    def reserve(self, more: float) -> None:
        """So many bytes of an upload are on their way to the disk; Full where they are too many."""
        with self._lock:
            self.need_room(more)
            self._uploading += more

    def release(self, more: float) -> None:
        """They have a row of their own now, or are gone."""
        with self._lock:
            self._uploading -= more

    def need_room(self, more: float = 0) -> None:
        """Full where ``more`` bytes are too many."""
        if self.room() < more:
            what = f"the server keeps {self.max_bytes / 1e9:g} GB and is full"
            raise Full(what, fix="delete files and finished jobs, or start it with more --data-gb")

    def expire(self, now: float | None = None) -> None:
        """Delete what is too old: files that no job needs, jobs that ended long ago."""
        now = time.time() if now is None else now
        for (id_,) in self._read("SELECT id FROM files WHERE created < ?", now - self.file_seconds):
            self._delete_file(id_)
        for (id_,) in self._read(
            f"SELECT id FROM jobs WHERE state IN {FINAL} AND ended < ?", now - self.result_seconds
        ):
            with suppress(NotFound):
                self.remove_job(id_)

    def _tidy(self) -> None:
        """After a kill: what ran is queued again, rows without files go, and files without rows."""
        self._change("UPDATE jobs SET state = ? WHERE state = ?", QUEUED, RUNNING)
        for file in self._rows(StoredFile, "SELECT * FROM files"):
            if not self.path_of(file).is_file():
                self._change("DELETE FROM files WHERE id = ?", file.id)
        kept = {id_ for (id_,) in self._read("SELECT id FROM files")}
        _remove_others(self.folder / "files", kept)
        lasting = {id_ for (id_,) in self._read(f"SELECT id FROM jobs WHERE state IN ('{QUEUED}', '{DONE}')")}
        _remove_others(self.folder / "jobs", lasting)

    # -- sqlite

    def _insert(self, table: str, row: StoredFile | Job) -> None:
        values = {name: json.dumps(value) if name in JSON else value for name, value in asdict(row).items()}
        marks = ", ".join("?" * len(values))
        self._change(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())

    def _rows(self, kind: Callable[..., Any], sql: str, *values: object) -> list[Any]:
        names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
        found = self._read(sql.replace("*", ", ".join(names), 1), *values)
        rows = (dict(zip(names, row, strict=True)) for row in found)
        return [kind(**{n: json.loads(v) if n in JSON else v for n, v in row.items()}) for row in rows]

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._db.execute(sql, values).fetchall()

    def _change(self, sql: str, *values: object) -> int:
        """How many rows changed; on the disk when it returns."""
        with self._lock, self._errors():
            return self._db.execute(sql, values).rowcount

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Full(f"the server's database cannot be used ({error})", fix="is its disk full?") from None


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below it."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def _alone(folder: Path) -> int:
    """The descriptor of the lock; NexVarError where another server holds it."""
    number = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        fix = "one server a folder: give this one another --data-dir"
        raise NexVarError("another server is at work on it", where=folder, fix=fix) from None
    except OSError:  # a file system without locks
        pass
    return number


def _open(path: Path) -> sqlite3.Connection:
    """The database, new or checked; NexVarError where it is damaged, newer, or another program's."""
    fix = "move it away to start anew, or give another --data-dir"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise NexVarError(f"cannot be opened ({error})", where=path, fix=fix) from None
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        version, application = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
        )
        if (version, application) == (0, 0) and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif application != APPLICATION:
            raise NexVarError("this is another program's database", where=path, fix=fix)
        elif version > VERSION:
            raise NexVarError(f"written by a newer NexVar (tables {version}, known: {VERSION})", where=path, fix=fix)
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        for kind, table in ((StoredFile, "files"), (Job, "jobs")):
            db.execute(f"SELECT {', '.join(each.name for each in fields(kind))} FROM {table} LIMIT 0")
    except sqlite3.OperationalError as error:
        problem = str(error)
        if any(text in problem for text in _NO_ROOM):  # the database is sound, as far as anybody can say
            db.close()
            fix = "make room on the disk, or give another --data-dir"
            raise NexVarError(f"cannot be written ({problem})", where=path, fix=fix) from None
    except sqlite3.Error as error:
        problem = str(error)
    except NexVarError:
        db.close()
        raise
    if problem != "ok":
        db.close()
        raise NexVarError(f"the database is damaged ({problem})", where=path, fix=fix)
    return db


def _remove_others(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            remove(path)
