"""What a server keeps: one server a folder, nothing without its row, nothing for ever."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time

import pytest

from nexvar.errors import NexVarError
from nexvar.serve.errors import Conflict, Full, NotFound
from nexvar.serve.store import DAY, DONE, FAILED, Job, Store, StoredFile, new_id


def open_store(folder, **options):
    return Store(folder / "data", **{"max_bytes": 1e6, **options})


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path)
    yield store
    store.close()


def add_file(store, size=10, age=0.0):
    file = StoredFile(new_id(), "a.vcf", "vcf", size, "0" * 64, time.time() - age)
    store.file_folder(file.id).mkdir()
    store.path_of(file).write_bytes(b"x" * size)
    store.add_file(file)
    return file


def add_job(store, file, **changes):
    job = Job(new_id(), "score", file.id, file.name, "chrM", "tiny", {"window": 64}, ["tsv"], **changes)
    store.add_job(job)
    return job


def ran(store, state=DONE):
    """A job that ended so, and its result."""
    job = add_job(store, add_file(store))
    assert store.claim().id == job.id
    store.job_folder(job.id).mkdir()
    (store.job_folder(job.id) / "a.tsv").write_bytes(b"y" * 100)
    assert store.end(job.id, state, error="why" if state == FAILED else None, summary=["1 allele"], done=1, total=1)
    return store.job(job.id)


def test_files_and_jobs_come_back_as_they_were(store):
    file = add_file(store)
    job = add_job(store, file)
    assert store.file(file.id) == file and store.job(job.id) == job and store.jobs() == [job]
    with pytest.raises(NotFound):
        store.file("no")
    with pytest.raises(NotFound):
        store.job("no")


def test_nobody_else_can_read_the_folder(store):
    for path in (store.folder, store.folder / "files", store.folder / "jobs", store.folder / "serve.sqlite"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_jobs_are_claimed_in_their_order_each_once(store):
    file = add_file(store)
    jobs = [add_job(store, file) for _ in range(30)]
    claimed, lock = [], threading.Lock()

    def claim():
        while (job := store.claim()) is not None:
            with lock:
                claimed.append(job.id)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(claimed) == sorted(job.id for job in jobs)
    add_job(store, file)
    last = add_job(store, file)
    assert store.claim().id != last.id


def test_a_job_ends_once(store):
    job = add_job(store, add_file(store))
    assert not store.end(job.id, DONE)  # it has not begun
    store.claim()
    store.grow_job(job.id, 500)
    assert store.cancel(job.id) and not store.cancel(job.id)
    store.grow_job(job.id, 500)
    assert store.job(job.id).bytes == 0
    assert not store.end(job.id, DONE) and not store.end(job.id, FAILED, error="late")
    store.requeue(job.id)
    assert (store.job(job.id).state, store.job(job.id).error) == ("cancelled", None)


def test_a_file_that_a_job_needs_stays(store):
    file = add_file(store)
    job = add_job(store, file)
    with pytest.raises(Conflict, match="a job needs this file"):
        store.remove_file(file.id)
    with pytest.raises(Conflict, match="has not ended"):
        store.remove_job(job.id)
    store.cancel(job.id)
    store.remove_file(file.id)
    assert not store.file_folder(file.id).exists()
    with pytest.raises(NotFound):
        add_job(store, file)


# -- after a kill


def test_a_second_server_on_the_folder_is_refused(store, tmp_path):
    with pytest.raises(NexVarError, match="data: another server is at work on it: .*--data-dir"):
        open_store(tmp_path)


def test_what_ran_is_queued_again_and_nothing_is_left_without_a_row(tmp_path):
    store = open_store(tmp_path)
    done, failed = ran(store), ran(store, FAILED)
    file, lost = add_file(store), add_file(store)
    running = add_job(store, file)
    store.claim()
    store.job_folder(running.id).mkdir()
    for stray in ("files/half", "jobs/half"):
        (store.folder / stray).mkdir()
        (store.folder / stray / "x").write_bytes(b"x")
    (store.folder / "files" / "stray").write_bytes(b"x")
    store.path_of(lost).unlink()
    store.close()

    store = open_store(tmp_path)
    assert store.job(running.id).state == "queued" and store.job(done.id) == done and store.job(failed.id) == failed
    assert store.claim().id == running.id
    with pytest.raises(NotFound):
        store.file(lost.id)
    files = {done.file, failed.file, file.id}
    assert {path.name for path in (store.folder / "files").iterdir()} == files
    assert {path.name for path in (store.folder / "jobs").iterdir()} == {done.id, running.id}
    store.close()


# -- room and age


def test_what_is_too_old_goes(store):
    old, needed, fresh = add_file(store, age=8 * DAY), add_file(store, age=8 * DAY), add_file(store)
    waiting, ended = add_job(store, needed), None
    ended = ran(store) if store.cancel(waiting.id) else None
    add_job(store, needed)
    store.expire()
    with pytest.raises(NotFound):
        store.file(old.id)
    assert store.file(needed.id) and store.file(fresh.id) and store.job(ended.id)
    store.expire(time.time() + 31 * DAY)
    with pytest.raises(NotFound):
        store.job(ended.id)
    assert not store.job_folder(ended.id).exists() and store.file(needed.id)


def test_room_counts_files_uploads_and_jobs(store):
    add_file(store, size=1000)
    ran(store)
    assert store.room() == 1e6 - 1010 - 100
    store.reserve(900_000)
    with pytest.raises(Full, match="the server keeps 0.001 GB and is full"):
        store.reserve(100_000)
    store.release(900_000)
    store.reserve(100_000)
    assert Full.status == 507


# -- databases that are not ours


def truncated(path):
    path.write_bytes(path.read_bytes()[:-5000])


def newer(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 9")
    db.commit()
    db.close()


def foreign(path):
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (title)")
    db.commit()
    db.close()


def other_tables(path):
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE jobs RENAME COLUMN state TO status")
    db.commit()
    db.close()


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(("change", "said"), [
    (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40), "damaged"),
    (lambda path: path.write_bytes(b"hello " * 1000), "damaged"),
    (truncated, "damaged"), (other_tables, "damaged"),
    (newer, r"written by a newer NexVar \(tables 9, known: 1\)"), (foreign, "another program's"),
    (a_folder, "cannot be opened"),
])  # fmt: skip
def test_a_database_that_cannot_be_used_is_one_line(tmp_path, change, said):
    store = open_store(tmp_path)
    for _ in range(20):
        ran(store)
    store.close()
    change(store.folder / "serve.sqlite")
    with pytest.raises(NexVarError, match=f"serve.sqlite: .*{said}.*: move it away") as error:
        open_store(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["database or disk is full", "disk I/O error", "attempt to write a readonly database"])
def test_a_full_disk_is_no_damage_that_somebody_should_move_away(tmp_path, monkeypatch, text):
    open_store(tmp_path).close()

    class FullDisk(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql.startswith("PRAGMA journal_mode"):
                raise sqlite3.OperationalError(text)
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, factory=FullDisk, **kw))
    with pytest.raises(NexVarError, match="serve.sqlite: cannot be written .*: make room on the disk") as error:
        open_store(tmp_path)
    assert "damaged" not in str(error.value) and "move it away" not in str(error.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(NexVarError, match="data: cannot be used"):
        open_store(tmp_path)


def test_a_database_that_cannot_be_written_is_507_and_not_the_end(store):
    file = add_file(store)
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(Full, match="database cannot be used"):
        add_job(store, file)
    store._db.execute("PRAGMA query_only = 0")
    add_job(store, file)
