"""The parts of a run on disk: a folder with a manifest and one Parquet file for each finished part.

OUT.parts/manifest.json        what the rows depend on: contents of the input and of the genome, model, options
OUT.parts/part-000012.sha256   of the part, written before it
OUT.parts/part-000012.parquet  written under a temporary name, then renamed: there and whole, or not there

Scoring and embedding runs are resumed, cut into shards and merged by what stands here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nexvar import files
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.paths import Read
from nexvar.runs.lock import make_folder

Shard = tuple[int, int]  # (i, n), i from 1: every n-th part, from the i-th on
MAX_PARTS = 1_000_000  # as many as their names have digits for; a whole genome's SNVs make some ten thousand
MAX_TOKENS = 1 << 31  # of a batch
MAX_MANIFEST = 1 << 28  # bytes: it may list what a run was given
FREE = {"inputs", "provenance"}  # paths and the command line may differ: the contents are what counts
INPUTS = {"variants": (str, list, type(None))}  # of other types than a text or nothing
PROVENANCE = {"window": (int,), "extra": (dict,), "settings": (dict,)}
NEEDED = {"inputs": dict, "provenance": dict, "options": dict, "variants": str, "parts": int}  # of every manifest


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


def damaged_parts(folder: Path, indices: Sequence[int]) -> list[int]:
    """Those that are there and are not as they were written."""
    return [i for i in indices if os.path.lexists(part_path(folder, i)) and not _is_whole(part_path(folder, i))]


def _is_whole(path: Path) -> bool:
    digest = hashlib.sha256()
    try:
        with files.open_regular(path) as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return files.read_bytes(path.with_suffix(".sha256"), 100) == digest.hexdigest().encode()
    except (NexVarError, OSError):
        return False


def damaged(path: Path, manifest_command: object, why: str = "") -> NexVarError:
    """The error for a part that cannot be merged, with the command that mends it."""
    command = f"`{manifest_command}`" if isinstance(manifest_command, str) and manifest_command else "the same command"
    what = f"the part is damaged{f' ({why})' if why else ''}"
    return NexVarError(what, where=path, fix=f"{command} computes it again, and keeps the others")


def write_part(folder: Path, index: int, data: bytes) -> None:
    """One finished part."""
    fix = "make room; the same command resumes with the parts that are finished"
    path = part_path(folder, index)
    if path.is_dir() and not path.is_symlink():  # what is in the way is none of ours
        files.remove(path)
    files.write_bytes(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest().encode(), tidy=False, fix=fix)
    files.write_bytes(path, data, durable=True, tidy=False, fix=fix)


# -- shards


def of_shard(shard: Shard | None, parts: int) -> list[int]:
    """The indices of the parts that a run computes: all of them, or those of its shard."""
    return [i for i in range(parts) if shard is None or i % shard[1] == shard[0] - 1]


def shard_note(shard: Shard, folder: Path, parts: int) -> str:
    """What a person reads when a shard is done."""
    missing = len(missing_parts(folder, range(parts)))
    state = f"{missing:,} of {parts:,} parts are missing" if missing else "all parts are there"
    return f"shard {shard[0]}/{shard[1]} is done; {state}: merge when all shards are"


def finished_parts(folder: Path, parts: int, command: object = None) -> list[Path]:
    """The files of all parts, in order; NexVarError where one is missing or damaged. command: the one that mends it."""
    if missing := missing_parts(folder, range(parts)):
        raise NexVarError(
            f"{len(missing):,} of {parts:,} parts are missing, the first is {part_path(folder, missing[0]).name}",
            where=folder,
            fix="run the shards that have not finished",
        )
    for i in damaged_parts(folder, range(parts)):
        raise damaged(part_path(folder, i), command)
    return [part_path(folder, i) for i in range(parts)]


# -- manifests


def make_manifest(
    *, options: Any, parts: int, inputs: dict[str, Any], provenance: dict[str, Any], **depends_on: Any
) -> dict[str, Any]:
    """depends_on: whatever else the rows depend on; ``variants`` is the digest of what the rows are of."""
    written = {"nexvar": version("nexvar"), **depends_on, "options": options, "parts": parts}
    return {**json.loads(json.dumps(written)), "inputs": inputs, "provenance": provenance}


def open_parts(folder: Path, manifest: dict[str, Any]) -> None:
    """Make the folder and its manifest, or check that what is there is of the same job."""
    unfinished = find_manifest(folder)
    if unfinished is None:
        make_folder(folder)
        data = json.dumps(_each_text(manifest, _escaped), indent=1).encode()
        files.write_bytes(folder / "manifest.json", data, durable=True, fix="make room, and start again")
        return
    changed = {key: (unfinished.get(key), value) for key, value in manifest.items() if unfinished.get(key) != value}
    named = [_difference(key, *values) for key, values in changed.items() if key not in FREE]
    if named:
        raise NexVarError(
            f"an unfinished run is here, and since then changed: {', '.join(named)}",
            where=folder,
            fix="undo the change to resume, or delete the folder to start again",
        )


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every text of a JSON tree changed, but for the keys."""
    if isinstance(value, dict):
        return {key: _each_text(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    """A file name's bytes that are no UTF-8 (lone surrogates, which JSON must not hold) as \\xe9."""
    return re.sub("[\\\\\udc80-\udcff]", lambda m: "\\\\" if m[0] == "\\" else f"\\x{ord(m[0]) - 0xDC00:02x}", text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\\|x[89a-f][0-9a-f])", lambda m: "\\" if m[1] == "\\" else chr(0xDC00 + int(m[1][1:], 16)), text)


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
    if not os.path.lexists(path):
        if any(folder.glob("part-*.parquet")):
            raise NexVarError("parts without a manifest", where=folder, fix="delete it and start again")
        return None
    fix = f"delete {folder} and start again"
    try:
        content = files.parse_json(files.read_bytes(path, MAX_MANIFEST), path, MAX_MANIFEST)
        manifest = _each_text(content, _unescaped)
    except NexVarError as error:
        raise NexVarError(f"the manifest is damaged: {error.what}", where=path, fix=fix) from None
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(k), kind) for k, kind in NEEDED.items()):
        raise NexVarError("the manifest is damaged", where=path, fix=fix)
    if type(manifest["parts"]) is not int or not 0 <= manifest["parts"] <= MAX_PARTS:
        raise NexVarError(f"the manifest is damaged: {manifest['parts']!r} parts", where=path, fix=fix)
    if wrong := _wrong_texts(manifest):
        raise NexVarError(f"the manifest is damaged: {wrong}", where=path, fix=fix)
    return manifest


def _wrong_texts(manifest: dict[str, Any]) -> str | None:
    """What of ``inputs`` and ``provenance`` is no text (or list, number or table of texts) where it must be one."""
    for table, known in (("inputs", INPUTS), ("provenance", PROVENANCE)):
        for key, value in manifest[table].items():
            kinds = known.get(key, (str, type(None)))
            items = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []
            if not isinstance(value, kinds) or isinstance(value, bool) or not all(isinstance(t, str) for t in items):
                return f"{table}.{key[:40]}"
    return None


def inputs_of(manifest: dict[str, Any]) -> list[Read]:
    """The files that the run has read, as far as they are files."""
    given = (manifest["inputs"].get(name) for name in ("fasta", "variants", "bed", "synonyms", "regions", "annotation"))
    return [Read(path) for path in given if isinstance(path, str)]


def unfinished_run(output: str | Path, verb: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the manifest of the run of ``nexvar VERB`` that is to be merged into ``output``."""
    folder = Path(f"{output}.parts")
    manifest = find_manifest(folder)
    if manifest is None:
        raise NexVarError("no unfinished run is here", where=folder, fix=f"give the -o of `nexvar {verb}`")
    return folder, manifest


def unfinished_kind(output: str | Path) -> str | None:
    """Which kind of run has its parts beside ``output``, by its manifest; None: no run, or one that scores variants."""
    manifest = find_manifest(Path(f"{output}.parts"))
    kind = None if manifest is None else manifest.get("kind")
    return kind if isinstance(kind, str) else None


def unfinished_batch_tokens(folder: Path) -> int | None:
    """The batch size of the unfinished run, if there is one.

    It fixes the bytes and follows from the memory that was free, so a resumed run keeps it.
    """
    manifest = find_manifest(folder)
    if manifest is None:
        return None
    options = manifest["options"]
    inner = options.get("readout", options)
    tokens = inner.get("batch_tokens") if isinstance(inner, dict) else None
    return tokens if type(tokens) is int and 0 < tokens < MAX_TOKENS else None


def remove_parts(folder: Path) -> None:
    """Delete a merged run. Renamed first: a kill in the middle must not leave parts that the next run would trust."""
    gone = files.temporary_name(folder)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def genome_digest(fasta: Fasta, contigs: Sequence[str]) -> str:
    """sha256 of the sequence of these contigs, by the variants' names."""
    genome = hashlib.sha256()
    for name in contigs:
        match = fasta.resolve(name)
        genome.update(f">{name} {match}\n".encode())
        if match is not None:
            for piece in fasta.pieces(match.contig):
                genome.update(piece)
    return genome.hexdigest()
