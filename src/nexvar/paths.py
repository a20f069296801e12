"""What a command reads and what it will write, told apart before anything is computed.

    check_apart([Read("ref.fa"), Read("in.vcf"), Read("models/mine")], [Write("out.vcf.gz", parts=True)])

A name stands for more than one path: an output for its index and its folder of parts, a genome for its index, a model
for all its folder. Links are resolved, and hard links known by their inode. The command line declares them option by
option (cli/options.py), the jobs of Python name their own; the rule is this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nexvar.errors import NexVarError

MAX_NAME = 240  # bytes of an output's name: file systems take 255, and a folder of parts and an index are named by it
INDEXES = (".tbi", ".csi")  # of a compressed VCF
PARTS = ".parts"
READ_BESIDE = (".fai", ".gzi")


@dataclass(frozen=True)
class Read:
    """A file, or a folder of which anything may be read; what does not exist (a model's name) is nothing."""

    path: str | Path

    def claims(self) -> Iterator[tuple[Path, bool]]:
        """(path, whether all that lies in it counts)."""
        path = Path(self.path)
        if str(path) == "-" or not _exists(path):
            return
        yield path, path.is_dir()
        yield from ((beside, False) for ending in READ_BESIDE if _exists(beside := Path(f"{path}{ending}")))


@dataclass(frozen=True)
class Write:
    """A file; with ``parts`` also its folder of parts; a whole folder (``tree``), or the files ``names`` in one."""

    path: str | Path
    parts: bool = False
    tree: bool = False
    names: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        return self.tree or bool(self.names)

    def claims(self) -> Iterator[tuple[Path, bool]]:
        """(path, whether all that lies in it counts)."""
        path = Path(self.path)
        if self.names:
            yield from ((path / name, False) for name in self.names)
            return
        yield path, self.tree
        if path.name.endswith((".vcf.gz", ".vcf.bgz")):
            yield from ((Path(f"{path}{ending}"), False) for ending in INDEXES)
        if self.parts:
            yield Path(f"{path}{PARTS}"), True


def check_apart(reads: Iterable[Read], writes: Iterable[Write]) -> None:
    """NexVarError where an output cannot be written, would replace what is read, or is named twice."""
    reads, writes = list(reads), list(writes)
    if any(str(write.path) == "-" for write in writes):
        _check_standard_output()
    writes = [write for write in writes if str(write.path) != "-"]
    for write in writes:
        check_writable(write)
    for i, write in enumerate(writes):
        for other in writes[:i]:
            if _meet(other.claims(), write.claims()):
                same = _meet([(Path(other.path), False)], [(Path(write.path), False)])
                what = "the same output twice" if same else f"it lies where {other.path} is written"
                raise NexVarError(what, where=write.path, fix="one name for each output")
        for read in reads:
            if _meet(read.claims(), write.claims()):
                raise NexVarError(_clash(read, write), where=write.path, fix="choose another name")


def check_writable(write: Write) -> None:
    """NexVarError unless the name can be one of a file and its folder is there and ours."""
    path = Path(write.path)
    if "\0" in str(path):
        raise NexVarError("the path holds a NUL byte", where=repr(str(path)), fix="give a file name")
    if len(os.fsencode(path.name)) > MAX_NAME:
        raise NexVarError(f"a name of {len(os.fsencode(path.name))} bytes", where=path, fix=f"at most {MAX_NAME}")
    if write.is_folder:
        _check_folder(path)
        return
    if path.is_dir():
        zarr = path.suffix == ".zarr"
        what, fix = ("it exists already", "remove it or") if zarr else ("is a directory", "give a file name, or")
        raise NexVarError(what, where=path, fix=f"{fix} choose another name")
    if not path.parent.is_dir():
        raise NexVarError("its folder does not exist", where=path, fix=f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise NexVarError("its folder is not writable", where=path, fix="choose another place")


def _check_standard_output() -> None:
    """NexVarError where it is closed: doors.py has then put the null device there, for reading alone."""
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import fcntl

        if fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise NexVarError("it is closed", where="standard output", fix="name a file with -o")


def _check_folder(path: Path) -> None:
    """It is there and ours, or can be made."""
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NexVarError(f"{nearest} is no folder", where=path, fix="choose another place")
    if not os.access(nearest, os.W_OK):
        raise NexVarError(f"{nearest} is not writable", where=path, fix="choose another place")


def _clash(read: Read, write: Write) -> str:
    if _meet([(Path(read.path), False)], [(Path(write.path), False)]):
        return "the output is an input"
    if any(_real(Path(read.path)) in _real(path).parents for path, _ in write.claims()):
        return f"the output lies in {read.path}, which is read"
    return f"the output would replace {read.path}, which is read"


def _meet(ours: Iterable[tuple[Path, bool]], theirs: Iterable[tuple[Path, bool]]) -> bool:
    """Whether any two paths are one, or one lies in the other's tree."""
    others = [(_real(path), tree, _identity(path)) for path, tree in theirs]
    for path, tree in ours:
        real, inode = _real(path), _identity(path)
        for other, other_tree, other_inode in others:
            if real == other or (inode is not None and inode == other_inode):
                return True
            if (tree and other.is_relative_to(real)) or (other_tree and real.is_relative_to(other)):
                return True
    return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except (OSError, ValueError):
        return None
    return (info.st_dev, info.st_ino) if info.st_ino else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
