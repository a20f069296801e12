"""Pooled embeddings on disk, for windows that come again in another run. Opt-in, bounded, keyed by content.

    cache = EmbeddingCache("cache", model=identity(loaded))
    vectors = cache.get([("mean", layer, sequence), …])    # a tensor or None for each
    cache.put([("mean", layer, sequence), …], vectors)

One SQLite file: several processes may share it (on a local disk), a kill loses at most the last call, and a read or
write touches only its rows. When it is full, what has not been used for longest goes.

A row says which shape and dtype its vector has, and its digest covers these, the key and the bytes: whatever became of
the file, a row that does not bear this out, or holds NaN, is none, which is said once.

NOTE a vector from the cache was computed in another batch than it would be now: scores agree within 1e-6, not bitwise.
"""

from __future__ import annotations

import hashlib
import math
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError, note
from nexvar.files import check_regular
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.load import Loaded

FILE = "embeddings-2.sqlite"
OLDER = "embeddings.sqlite"  # rows without a digest: not read, and not deleted
DTYPE = "<f4"
COLUMNS = "shape, dtype, digest, vector"
MAX_BYTES = 10_000_000_000
KEPT = 0.9  # of the limit, after a clean-up
ROW_BYTES = 100  # what a row takes beside its vector
WAIT_S = 60.0  # for other processes

# used: time of the last use; shape: "D" or "n,D"; total: of ``bytes``, kept by the triggers.
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, used INTEGER, bytes INTEGER, shape TEXT, dtype TEXT, digest BLOB, vector BLOB
);
CREATE INDEX IF NOT EXISTS by_use ON vectors (used, bytes);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS more AFTER INSERT ON vectors BEGIN UPDATE total SET bytes = bytes + new.bytes; END;
CREATE TRIGGER IF NOT EXISTS less AFTER DELETE ON vectors BEGIN UPDATE total SET bytes = bytes - old.bytes; END;
COMMIT;
"""

Key = tuple[str, ...]


def identity(loaded: Loaded) -> str:
    """What tells two models' embeddings apart: weights, arithmetic, kind of device."""
    return f"{fingerprint(loaded)} {loaded.precision} {loaded.device.type}"


class EmbeddingCache:
    """``get`` and ``put`` of float32 tensors by what they were computed from.

    folder: made if need be. model: what tells two models apart (``identity``); part of every key.
    max_bytes: of the vectors kept. NexVarError where the folder cannot be used or the file is damaged.
    """

    def __init__(self, folder: str | Path, model: str, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 1:
            raise NexVarError(f"a cache of {max_bytes} bytes", where="--cache-gb", fix="a positive size")
        self.folder, self.model, self.max_bytes = Path(folder), model, max_bytes
        self.path = self.folder / FILE
        self.told = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NexVarError(f"cannot be made ({error.strerror})", where=self.folder, fix="choose a folder") from None
        if self.path.exists():
            check_regular(self.path, empty_ok=True)
        elif (self.folder / OLDER).exists():
            note(f"{self.folder / OLDER} is of an older version and is not read; it may be deleted")
        with self._session() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SCHEMA)

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """One transaction. NOTE a connection of its own: connections may not cross processes or threads."""
        try:
            database = sqlite3.connect(self.path, timeout=WAIT_S)
            database.text_factory = bytes  # a damaged text is no text
            try:
                with database:
                    yield database
            finally:
                database.close()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # sqlite quotes a damaged schema
            busy = "locked" in str(error) or "full" in str(error)
            fix = "is the disk full?" if busy else "delete it, or choose another folder"
            raise NexVarError(f"the embedding cache fails ({error})", where=self.path, fix=fix) from None

    def _digest(self, key: Key) -> bytes:
        return hashlib.sha256("\0".join((self.model, *key)).encode()).digest()

    def get(self, keys: Sequence[Key]) -> list[Tensor | None]:
        """The tensor of each key, (n, D) or (D,) as it was put, or None; those that are there count as used now."""
        vectors: list[Tensor | None] = []
        now = time.time_ns()
        with self._session() as database:
            for key in keys:
                digest = self._digest(key)
                row = database.execute(f"SELECT {COLUMNS} FROM vectors WHERE key = ?", (digest,)).fetchone()
                vector = None if row is None else _sound(digest, *row)
                vectors.append(vector)
                if vector is not None:
                    database.execute("UPDATE vectors SET used = ? WHERE key = ?", (now, digest))
                elif row is not None:
                    database.execute("DELETE FROM vectors WHERE key = ?", (digest,))
                    if not self.told:
                        note(f"{self.path}: a damaged row; such are computed again")
                    self.told = True
        return vectors

    def put(self, keys: Sequence[Key], vectors: Sequence[Tensor]) -> None:
        """Keep finite float32 vectors (D,) or (n, D); the longest unused go where there is no room."""
        now = time.time_ns()
        rows = []
        for key, vector in zip(keys, vectors, strict=True):
            if not torch.isfinite(vector).all():
                continue
            data = vector.detach().cpu().numpy().astype(DTYPE).tobytes()
            shape = ",".join(map(str, vector.shape))
            digest = self._digest(key)
            seal = _seal(digest, shape, DTYPE, data)
            rows.append((digest, now, len(data) + ROW_BYTES, shape, DTYPE, seal, data))
        with self._session() as database:
            database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            total = database.execute("SELECT CAST(SUM(bytes) AS INTEGER) FROM total").fetchone()[0] or 0
            if total <= self.max_bytes:
                return
            gone = []
            for digest, size in database.execute("SELECT key, CAST(bytes AS INTEGER) FROM vectors ORDER BY used"):
                if total <= KEPT * self.max_bytes:
                    break
                gone.append((digest,))
                total -= size
            database.executemany("DELETE FROM vectors WHERE key = ?", gone)

    def __len__(self) -> int:
        with self._session() as database:
            return int(database.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])


def _seal(key: bytes, shape: str, dtype: str, data: bytes) -> bytes:
    return hashlib.sha256(b"\0".join((key, shape.encode(), dtype.encode(), data))).digest()


def _sound(key: bytes, shape: Any, dtype: Any, seal: Any, data: Any) -> Tensor | None:
    """The vector of a row as sqlite gives it, values of any type; None where anything about it is not as it was put."""
    if not all(isinstance(value, bytes) for value in (shape, dtype, seal, data)):
        return None
    text = shape.decode("ascii", "replace")
    if dtype.decode("ascii", "replace") != DTYPE or not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})?", text, re.ASCII):
        return None
    sizes = [int(size) for size in text.split(",")]
    if len(data) != np.dtype(DTYPE).itemsize * math.prod(sizes) or seal != _seal(key, text, DTYPE, data):
        return None
    vector = torch.from_numpy(np.frombuffer(data, dtype=DTYPE).copy()).reshape(sizes)
    return vector if torch.isfinite(vector).all() else None
