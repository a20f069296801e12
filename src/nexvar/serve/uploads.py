"""Files that strangers send: streamed to the disk, counted, hashed; known by what they hold, not by their names."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote

from nexvar.errors import NexVarError
from nexvar.files import remove
from nexvar.genome.bcf import is_bcf
from nexvar.genome.textio import Lines
from nexvar.serve.errors import Full, ServeError, TooLarge, WrongType, without_folders
from nexvar.serve.store import Store, StoredFile, new_id

MAX_NAME = 100
MAX_RATIO = 1000  # of a gzip file: what deflate can do at most is 1,032, and only with nothing inside
LISTS = (".tsv", ".txt", ".hgvs", ".maf", ".spdi")


def clean_name(given: str | None) -> str:
    """The file name that a client gave, without folders and odd characters; it is shown, and its ending counts."""
    last = re.split(r"[/\\]", unquote(given or ""))[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last)[-MAX_NAME:].lstrip("._-") or "variants.vcf"


class Upload:
    """One file on its way; ``keep`` it when it is whole, and ``close`` in any case.

    limit: bytes. Every method may wait for the disk.
    """

    def __init__(self, store: Store, name: str | None, limit: int) -> None:
        self.store, self.limit = store, limit
        self.id, self.name, self.bytes, self.kept = new_id(), clean_name(name), 0, False
        self.digest = hashlib.sha256()
        folder = store.file_folder(self.id)
        with _disk():
            folder.mkdir(mode=0o700)
            self.file = (folder / self.name).open("xb")

    def close(self) -> None:
        """What was not kept is gone."""
        with suppress(OSError):  # what could not be written is told already
            self.file.close()
        self.store.release(self.bytes)
        if not self.kept:
            remove(self.store.file_folder(self.id))

    def write(self, data: bytes) -> None:
        """Add bytes. Raises TooLarge, or Full where the server has no room."""
        if self.bytes + len(data) > self.limit:
            raise TooLarge(self.limit, file=True)
        self.store.reserve(len(data))
        self.bytes += len(data)
        with _disk():
            self.file.write(data)
        self.digest.update(data)

    def keep(self) -> StoredFile:
        """The file is whole: look what it is, and keep it. Raises WrongType: it is nothing that we read."""
        if not self.bytes:
            raise ServeError("the body is empty", where="body", fix="send the file itself: curl --data-binary @FILE")
        with _disk():
            self.file.flush()
            os.fsync(self.file.fileno())
        kind = self._kind()
        file = StoredFile(self.id, self.name, kind, self.bytes, self.digest.hexdigest(), time.time())
        self.store.add_file(file)
        self.kept = True
        return file

    def _kind(self) -> str:
        """vcf, bcf, fasta, list (of variants, by its ending) or text."""
        try:
            lines = Lines(self.store.file_folder(self.id) / self.name, binary_ok=is_bcf)
            with lines.open() as stream:
                start = stream.read(64)
        except NexVarError as error:
            raise WrongType(error.what, where=without_folders(str(error.where)), fix=error.fix) from None
        if lines.is_binary:
            return "bcf"
        if start.startswith((b"##fileformat=VCF", b"#CHROM")):
            return "vcf"
        if start.startswith(b">"):
            return "fasta"
        if b"\0" in start:
            fix = "send a VCF, a BCF or a text file, compressed once at most"
            raise WrongType("this is no text", where=self.name, fix=fix)
        return "list" if self.name.removesuffix(".gz").removesuffix(".bgz").lower().endswith(LISTS) else "text"


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Full(f"the file cannot be kept ({error.strerror})", fix="ask the operator to make room") from None


def check_expansion(store: Store, file: StoredFile) -> None:
    """NexVarError for a gzip bomb: more than ``MAX_RATIO`` times its bytes, or than the server has room for."""
    lines = Lines(store.path_of(file), binary_ok=is_bcf)
    limit = min(store.room(), MAX_RATIO * file.bytes)

    def count(lines: Lines) -> None:
        total = 0
        with lines.open() as stream:
            while chunk := stream.read(1 << 20):
                total += len(chunk)
                if total > limit:
                    what = f"it decompresses to more than {limit:,.0f} bytes"
                    raise NexVarError(what, where=file.name, fix="a smaller file, or more --data-gb")

    if lines.is_gzip:
        lines.checked(count)
