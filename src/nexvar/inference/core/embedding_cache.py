"""Pooled embeddings on disk, for windows that come again in another run. Opt-in, bounded, keyed by content.

    cache = EmbeddingCache("cache", model=fingerprint(loaded))
    found = cache.get([("mean", layer, sequence), …])      # a tensor or None for each
    cache.put([("mean", layer, sequence), …], vectors)

One SQLite file: several processes may share it (on a local disk), a kill loses at most the last call, and a read or
write touches only its rows. When it is full, what has not been used for longest goes.

NOTE a vector from the cache was computed in another batch than it would be now: scores agree within 1e-6, not bitwise.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError

FILE = "embeddings.sqlite"
MAX_BYTES = 10_000_000_000
KEPT = 0.9  # of the limit, after a clean-up
ROW_BYTES = 100  # what a row takes beside its vector
WAIT_S = 60.0  # for other processes

# used: time of the last use; rows: 0 for a vector, n for (n, D); total: of ``bytes``, kept by the triggers.
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, used INTEGER, bytes INTEGER, rows INTEGER, vector BLOB);
CREATE INDEX IF NOT EXISTS by_use ON vectors (used, bytes);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS more AFTER INSERT ON vectors BEGIN UPDATE total SET bytes = bytes + new.bytes; END;
CREATE TRIGGER IF NOT EXISTS less AFTER DELETE ON vectors BEGIN UPDATE total SET bytes = bytes - old.bytes; END;
COMMIT;
"""

Key = tuple[str, ...]


class EmbeddingCache:
    """``get`` and ``put`` of float32 tensors by what they were computed from.

    folder: made if need be. model: what tells two models apart (weights, dtype, device); part of every key.
    max_bytes: of the vectors kept. NexVarError where the folder cannot be used or the file is damaged.
    """

    def __init__(self, folder: str | Path, model: str, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 1:
            raise NexVarError(f"a cache of {max_bytes} bytes", where="--cache-gb", fix="a positive size")
        self.folder, self.model, self.max_bytes = Path(folder), model, max_bytes
        self.path = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NexVarError(f"cannot be made ({error.strerror})", where=self.folder, fix="choose a folder") from None
        with self._session() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SCHEMA)

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """One transaction. NOTE a connection of its own: connections may not cross processes or threads."""
        try:
            database = sqlite3.connect(self.path, timeout=WAIT_S)
            try:
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            fix = "delete it" if "database" in str(error) and "locked" not in str(error) else "is the disk full?"
            raise NexVarError(f"the embedding cache fails ({error})", where=self.path, fix=fix) from None

    def _digest(self, key: Key) -> bytes:
        return hashlib.sha256("\0".join((self.model, *key)).encode()).digest()

    def get(self, keys: Sequence[Key]) -> list[Tensor | None]:
        """The tensor of each key, (n, D) or (D,) as it was put, or None; those found count as used now."""
        found: list[Tensor | None] = []
        now = time.time_ns()
        with self._session() as database:
            for key in keys:
                digest = self._digest(key)
                row = database.execute("SELECT vector, rows FROM vectors WHERE key = ?", (digest,)).fetchone()
                if row is None:
                    found.append(None)
                    continue
                vector = torch.from_numpy(np.frombuffer(row[0], dtype="<f4").copy())
                found.append(vector if row[1] == 0 else vector.reshape(row[1], -1))
                database.execute("UPDATE vectors SET used = ? WHERE key = ?", (now, digest))
        return found

    def put(self, keys: Sequence[Key], vectors: Sequence[Tensor]) -> None:
        """Keep float32 vectors (D,) or (n, D); the longest unused go where there is no room."""
        now = time.time_ns()
        rows = []
        for key, vector in zip(keys, vectors, strict=True):
            data = vector.detach().cpu().numpy().astype("<f4").tobytes()
            count = 0 if vector.ndim == 1 else vector.shape[0]
            rows.append((self._digest(key), now, len(data) + ROW_BYTES, count, data))
        with self._session() as database:
            database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?, ?)", rows)
            total = database.execute("SELECT bytes FROM total").fetchone()[0]
            if total <= self.max_bytes:
                return
            gone = []
            for digest, size in database.execute("SELECT key, bytes FROM vectors ORDER BY used"):
                if total <= KEPT * self.max_bytes:
                    break
                gone.append((digest,))
                total -= size
            database.executemany("DELETE FROM vectors WHERE key = ?", gone)

    def __len__(self) -> int:
        with self._session() as database:
            return int(database.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
