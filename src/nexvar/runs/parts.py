"""The parts of a run on disk: a folder with a manifest and one Parquet file for each finished part.

OUT.parts/manifest.json        what the scores depend on: contents of the input and of the genome, model, options
OUT.parts/part-000012.parquet  written under a temporary name, then renamed: there and whole, or not there
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta

NEEDED = {"inputs", "provenance", "parts", "variants", "options"}  # keys without which a manifest is none
FREE = {"inputs", "provenance"}  # paths and the command line may differ: the contents are what counts


def parts_folder(output: str | Path) -> Path | None:
    """Where the parts of an output live until they are merged; None for standard output."""
    return None if str(output) == "-" else Path(f"{output}.parts")


def part_path(folder: Path, index: int) -> Path:
    """The file of one part."""
    return folder / f"part-{index:06}.parquet"


def missing_parts(folder: Path, indices: Sequence[int]) -> list[int]:
    """Those that are not finished."""
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError:
        there = set()
    return [i for i in indices if part_path(folder, i).name not in there]


def write_part(folder: Path, index: int, data: bytes) -> None:
    """One finished part: on disk before it has its name, so that not even a power cut leaves half of one."""
    _write(part_path(folder, index), data, fix="make room; the same command resumes with the parts that are finished")


def _write(path: Path, data: bytes, *, fix: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise NexVarError(f"cannot be written ({error.strerror or error})", where=path, fix=fix) from None


def open_parts(folder: Path, manifest: dict[str, Any]) -> None:
    """Make the folder and its manifest, or check that what is there is of the same job."""
    found = find_manifest(folder)
    if found is None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            what = f"cannot keep parts here ({error.strerror})"
            raise NexVarError(what, where=folder, fix="is the disk full?") from None
        _write(folder / "manifest.json", json.dumps(manifest, indent=1).encode(), fix="make room, and start again")
        return
    changed = {key: (found.get(key), value) for key, value in manifest.items() if found.get(key) != value}
    named = [_difference(key, *values) for key, values in changed.items() if key not in FREE]
    if named:
        raise NexVarError(
            f"an unfinished run is here, and since then changed: {', '.join(named)}",
            where=folder,
            fix="undo the change to resume, or delete the folder to start again",
        )


def _difference(key: str, then: Any, now: Any) -> str:
    """What changed, for people: both values, and of options the single one; hashes say nothing."""
    if isinstance(then, dict) and isinstance(now, dict):
        inner = [_difference(k, then.get(k), now.get(k)) for k in {**then, **now} if then.get(k) != now.get(k)]
        return f"{key}: {', '.join(inner)}"
    if key in ("variants", "genome", "regions"):
        return key
    return f"{key} ({str(then)[:60]} then, {str(now)[:60]} now)"


def find_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an unfinished run; None if there is none; NexVarError if it is damaged."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        if any(folder.glob("part-*.parquet")):
            raise NexVarError("parts without a manifest", where=folder, fix="delete it and start again") from None
        return None
    except OSError as error:
        raise NexVarError(f"cannot be read ({error.strerror})", where=path, fix="check its rights") from None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not set(manifest) >= NEEDED:
        raise NexVarError("the manifest is damaged", where=path, fix=f"delete {folder} and start again")
    return manifest


def remove_parts(folder: Path) -> None:
    """Delete a merged run. Renamed first: a kill in the middle must not leave parts that the next run would trust."""
    gone = folder.with_name(f".{folder.name}.merged")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def genome_digest(fasta: Fasta, contigs: Sequence[str]) -> str:
    """sha256 of the sequence of these contigs, by the variants' names."""
    genome = hashlib.sha256()
    for name in contigs:
        found = fasta.resolve(name)
        genome.update(f">{name} {found}\n".encode())
        if found is not None:
            for piece in fasta.pieces(found.contig):
                genome.update(piece)
    return genome.hexdigest()
