"""The parts of a run on disk: a folder with a manifest and one Parquet file for each finished part.

    OUT.parts/manifest.json        what the scores depend on: contents of the input and of the genome, model, options
    OUT.parts/part-000012.parquet  written under a temporary name, then renamed: there and whole, or not there
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.genome import Fasta
from nexvar.load import Loaded
from nexvar.table import ParquetWriter, Provenance, ScoredAllele
from nexvar.vcf import Record


def parts_folder(output: str | Path) -> Path | None:
    """Where the parts of an output live until they are merged; None for standard output."""
    return None if str(output) == "-" else Path(f"{output}.parts")


def part_path(folder: Path, index: int) -> Path:
    """The file of one part."""
    return folder / f"part-{index:06}.parquet"


def open_parts(folder: Path, manifest: dict[str, Any]) -> None:
    """Make the folder and its manifest, or check that what is there is of the same job."""
    path = folder / "manifest.json"
    try:
        folder.mkdir(exist_ok=True)
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(manifest, indent=1))
            temporary.replace(path)
            return
    except OSError as error:
        raise NexVarError(f"cannot keep parts here ({error.strerror})", where=folder, fix="is the disk full?") from None
    found = read_manifest(folder)
    free = ("inputs", "provenance")  # paths and the command line may differ: the contents are what counts
    changed = [key for key in manifest if key not in free and found.get(key) != manifest[key]]
    if changed:
        key = changed[0]
        raise NexVarError(
            f"an unfinished run is here, and since then changed: {', '.join(changed)} "
            f"({str(found.get(key))[:60]} then, {str(manifest[key])[:60]} now)",
            where=folder,
            fix="undo the change to resume, or delete the folder to start again",
        )


def genome_digest(fasta: Fasta, contigs: Sequence[str]) -> str:
    """sha256 of the sequence of these contigs, by the variants' names."""
    genome = hashlib.sha256()
    for name in contigs:
        found = fasta.resolve(name)
        genome.update(f">{name} {found}\n".encode())
        if found is not None:
            low, high = fasta.span(found.contig)
            for start in range(low, high, 1 << 22):
                genome.update(fasta.fetch(found.contig, start, min(start + (1 << 22), high)).encode())
    return genome.hexdigest()


def fingerprint(loaded: Loaded) -> str:
    """A short hash of names, shapes and a sample of every weight: tells a local folder's retrained model apart."""
    digest = hashlib.sha256()
    for name, tensor in loaded.module.state_dict().items():
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]


class PartFile:
    """One part's Parquet file under a temporary name until ``finish``."""

    def __init__(self, folder: Path, index: int, provenance: Provenance) -> None:
        self.path = part_path(folder, index)
        self.temporary = self.path.with_suffix(".tmp")
        try:
            self.writer = ParquetWriter(self.temporary, provenance)
        except OSError as error:
            raise self._full(error) from None

    def write(self, record: Record, found: Sequence[ScoredAllele]) -> None:
        self.writer.write(record, found)

    def finish(self) -> None:
        try:
            self.writer.close()
            self.temporary.replace(self.path)
        except OSError as error:
            self.temporary.unlink(missing_ok=True)
            raise self._full(error) from None

    def _full(self, error: OSError) -> NexVarError:
        return NexVarError(
            f"cannot be written ({error.strerror or error})",
            where=self.path,
            fix="make room; the same command resumes with the parts that are finished",
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of parts; NexVarError if there is none or it is damaged."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except OSError:
        raise NexVarError("no unfinished run is here", where=folder, fix="give the -o of `nexvar score`") from None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not {"inputs", "provenance", "parts", "variants"} <= set(manifest):
        raise NexVarError("the manifest is damaged", where=path, fix=f"delete {folder} and start again")
    return manifest
