"""Embedding a file: its records or the regions of a BED, in parts, resumable, sharded; merged into one table.

    FASTA [+ BED] ─ list of regions ─ parts of a few hundred ─ model -> OUT.parts/part-00012.parquet
                                                             ─ merge -> Parquet | npz | h5ad | Zarr

One row for each sequence (with ``pool="none"``: for each token), in the order of the input: name, chrom, start, end
(0-based half-open), with tokens also token_start and token_end, then a vector of float32 for each layer. The folder of
parts and its manifest are those of ``nexvar score`` (parts.py): the same command resumes, other inputs are refused.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from nexvar.errors import NexVarError
from nexvar.genome.bed import bed_rows
from nexvar.genome.reference import Fasta
from nexvar.inference import embed
from nexvar.inference.core.batching import default_batch_tokens
from nexvar.inference.core.sequences import clean
from nexvar.inference.embed import EmbedSettings
from nexvar.runs.embedding_table import ROW_GROUP, arrays_of, atomic, write_anndata, write_npz, write_parquet
from nexvar.runs.parts import (
    find_manifest,
    missing_parts,
    open_parts,
    part_path,
    remove_parts,
    write_part,
)
from nexvar.runs.partscorer import fingerprint
from nexvar.runs.table import check_output
from nexvar.weights.load import Loaded, load

ENDINGS = (".parquet", ".npz", ".h5ad", ".zarr")
PART_SEQUENCES, PART_BASES = 256, 1 << 20
PART_BASES_TOKENS = 1 << 15  # of pool "none", whose rows are as many as the tokens


@dataclass(frozen=True)
class Region:
    """What becomes one row: [start, end) of a contig, 0-based."""

    name: str
    contig: str
    start: int
    end: int


@dataclass
class EmbedSummary:
    """What a run did, in lines for people."""

    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return self.notes


def embed_file(
    outputs: str | Path | Sequence[str | Path],
    *,
    fasta: str | Path,
    bed: str | Path | None = None,
    model: str | Path | Loaded = "nexvar_mito",
    layer: str | Sequence[str] | None = None,
    pool: str = "mean",
    strand: str = "forward",
    batch_tokens: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    device_map: str | None = None,
    synonyms: str | Path | None = None,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> EmbedSummary:
    """Embeddings of every record of a FASTA, or of every region of a BED file, to one or more files.

    outputs: .parquet, .npz, .h5ad or .zarr (the last two need ``pip install 'nexvar[embed]'``). layer, pool, strand:
    see ``NexVar.embed``. shard: (i, n), 1-based: every n-th part only; ``merge`` then makes the outputs.
    IUPAC codes are read as N, and counted in the summary.
    """
    targets = [outputs] if isinstance(outputs, (str, Path)) else list(outputs)
    for path in targets:
        _check_target(path, [fasta, *([bed] if bed else [])])
    genome = Fasta(fasta, synonyms=synonyms)
    regions = _regions(genome, bed)
    loaded = (
        model
        if isinstance(model, Loaded)
        else load(model, device=device, dtype=dtype, quantize=quantize, device_map=device_map)
    )
    settings = embed.check(loaded, layer, pool, strand)
    if pool == "none":
        _same_rows(loaded, settings)
    _check_lengths(loaded, regions)
    digest, ambiguous = _digest(genome, regions)
    parts = _cut(regions, PART_BASES if pool != "none" else PART_BASES_TOKENS)
    folder = Path(f"{targets[0]}.parts")
    tokens = batch_tokens or default_batch_tokens(loaded)
    if (before := find_manifest(folder)) is not None and batch_tokens is None:
        tokens = before["options"].get("batch_tokens", tokens)  # the unfinished run's, which follows from its machine
    open_parts(folder, _manifest(loaded, settings, tokens, digest, len(parts), {"fasta": fasta, "bed": bed}))
    mine = [i for i in range(len(parts)) if shard is None or i % shard[1] == shard[0] - 1]
    todo = missing_parts(folder, mine)
    with tqdm(total=len(regions), unit="sequence", disable=not progress, delay=2) as bar:
        bar.update(sum(len(parts[i]) for i in mine if i not in todo))
        for i in todo:
            write_part(folder, i, _compute(loaded, genome, parts[i], settings, tokens))
            bar.update(len(parts[i]))
    card = loaded.card
    notes = [f"{ambiguous:,} IUPAC codes were read as N"] if ambiguous else []
    if card.species is not None:
        notes.append(f"{card.name} knows {card.species} only: embeddings of other DNA mean little")
    if shard is not None:
        left = len(missing_parts(folder, range(len(parts))))
        state = f"{left:,} of {len(parts):,} parts are missing" if left else "all parts are there"
        return EmbedSummary([f"shard {shard[0]}/{shard[1]} is done; {state}: merge when all shards are", *notes])
    return EmbedSummary([*merge(targets[0], targets).notes, *notes])


# -- input --------------------------------------------------------------------------------------------------------


def _regions(genome: Fasta, bed: str | Path | None) -> list[Region]:
    if bed is None:
        return [Region(name, name, *genome.span(name)) for name in genome.contigs]
    found = []
    for interval, fields in bed_rows(bed, genome):
        low, high = genome.span(interval.chrom, interval.start, interval.end)
        if not low <= interval.start < interval.end <= high:
            there = genome.extent(interval.chrom)
            raise NexVarError(f"{interval} is not all in the FASTA ({there})", where=bed, fix="cut the region")
        named = len(fields) > 3 and fields[3].strip() not in ("", ".")
        name = fields[3].strip() if named else f"{interval.chrom}:{interval.start}-{interval.end}"
        found.append(Region(name, interval.chrom, interval.start, interval.end))
    if not found:
        raise NexVarError("no regions in the file", where=bed, fix="BED has chrom, start and end, by tabs")
    return found


def _check_lengths(loaded: Loaded, regions: Sequence[Region]) -> None:
    longest = max(regions, key=lambda r: r.end - r.start)
    if longest.end - longest.start > loaded.card.context:
        raise NexVarError(
            f"{longest.end - longest.start:,} bases exceed the context of {loaded.card.name}, {loaded.card.context:,}",
            where=longest.name,
            fix="cut it into regions with --bed (`bedtools makewindows`), or use a model with a longer context",
        )


def _read(genome: Fasta, region: Region) -> tuple[str, int]:
    """The region's bases and how many IUPAC codes became N."""
    return re.subn("[^ACGTN]", "N", genome.fetch(region.contig, region.start, region.end))


def _digest(genome: Fasta, regions: Sequence[Region]) -> tuple[str, int]:
    """sha256 of names, places and bases; and the number of IUPAC codes."""
    digest, ambiguous = hashlib.sha256(), 0
    for region in regions:
        text, replaced = _read(genome, region)
        digest.update(f"{region.name}\t{region.contig}\t{region.start}\t{text}\n".encode())
        ambiguous += replaced
    return digest.hexdigest(), ambiguous


def _cut(regions: Sequence[Region], most_bases: int) -> list[list[Region]]:
    """Consecutive regions, one at least; the plan depends on the input alone."""
    parts: list[list[Region]] = [[]]
    bases = 0
    for region in regions:
        length = region.end - region.start
        if parts[-1] and (len(parts[-1]) == PART_SEQUENCES or bases + length > most_bases):
            parts.append([])
            bases = 0
        parts[-1].append(region)
        bases += length
    return parts


def _manifest(
    loaded: Loaded,
    settings: EmbedSettings,
    batch_tokens: int,
    digest: str,
    parts: int,
    inputs: dict[str, str | Path | None],
) -> dict[str, Any]:
    card = loaded.card
    dtype = loaded.precision
    options = {**asdict(settings), "layers": list(settings.layers), "batch_tokens": batch_tokens}
    about = {"model": card.name, "revision": card.revision or "", "dtype": dtype, "pool": settings.pool}
    return {
        "kind": "embeddings",
        "nexvar": version("nexvar"),
        "variants": digest,  # parts.py's name for what the rows are of
        "model": f"{card.name} {card.revision} {fingerprint(loaded)}",
        "dtype": dtype,
        "device": loaded.device.type,
        "options": options,
        "parts": parts,
        "inputs": {key: None if path is None else str(Path(path).absolute()) for key, path in inputs.items()},
        "provenance": {**about, "strand": settings.strand},
    }


def _compute(
    loaded: Loaded, genome: Fasta, regions: Sequence[Region], settings: EmbedSettings, batch_tokens: int
) -> bytes:
    """One part: a Parquet file."""
    texts = [clean(loaded, _read(genome, region)[0], region.name) for region in regions]
    found = embed.vectors(loaded, texts, settings, batch_tokens)
    columns: dict[str, pa.Array] = {}
    repeats = [1] * len(regions)
    if settings.pool == "none":
        direction = "reverse" if settings.strand == "reverse" else "forward"
        tokens = [embed.spans(loaded, text, settings.layers[0], direction) for text in texts]
        repeats = [len(spans) for spans in tokens]
        for column, side in (("token_start", 0), ("token_end", 1)):
            values = [r.start + span[side] for r, spans in zip(regions, tokens, strict=True) for span in spans]
            columns[column] = pa.array(values, pa.int64())
    for name in ("end", "start", "contig", "name"):
        values = [getattr(r, name) for r, n in zip(regions, repeats, strict=True) for _ in range(n)]
        kind = pa.int64() if name in ("start", "end") else pa.string()
        columns = {name.replace("contig", "chrom"): pa.array(values, kind), **columns}
    for layer in settings.layers:
        stack = torch.stack if settings.pool != "none" else torch.cat
        values_ND = stack([each[layer] for each in found]).numpy()
        columns[layer] = pa.FixedSizeListArray.from_arrays(values_ND.reshape(-1), values_ND.shape[1])
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", row_group_size=ROW_GROUP)
    return buffer.getvalue()


def _same_rows(loaded: Loaded, settings: EmbedSettings) -> None:
    strides = {loaded.module.tap_stride.get(layer, 1) for layer in settings.layers}
    if len(strides) > 1:
        raise NexVarError("layers of different resolutions have different rows", where="--layer", fix="one at a time")


# -- output -------------------------------------------------------------------------------------------------------


def _check_target(path: str | Path, inputs: Sequence[str | Path]) -> None:
    path = Path(path)
    if path.suffix == ".zarr" and path.is_dir():
        raise NexVarError("it exists already", where=path, fix="remove it or choose another name")
    check_output(path, inputs, ENDINGS)
    needed = {".h5ad": ["anndata"], ".zarr": ["anndata", "zarr"]}.get(path.suffix, [])
    for package in needed:
        if find_spec(package) is None:
            raise NexVarError(f"{package} is not installed", where=path, fix="pip install 'nexvar[embed]'")


def is_unfinished(output: str | Path) -> bool:
    """Whether the parts beside ``output`` are those of an embedding run."""
    manifest = find_manifest(Path(f"{output}.parts"))
    return manifest is not None and manifest.get("kind") == "embeddings"


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> EmbedSummary:
    """The outputs of a run whose parts are all there; no model is loaded. targets: other files, or several."""
    folder = Path(f"{output}.parts")
    manifest = find_manifest(folder)
    if manifest is None:
        raise NexVarError("no unfinished run is here", where=folder, fix="give the -o of `nexvar embed`")
    count = manifest["parts"]
    if missing := missing_parts(folder, range(count)):
        raise NexVarError(
            f"{len(missing):,} of {count:,} parts are missing, the first is {part_path(folder, missing[0]).name}",
            where=folder,
            fix="run the shards that have not finished",
        )
    files = [part_path(folder, i) for i in range(count)]
    rows = 0
    for path in map(Path, targets or [output]):
        _check_target(path, [])
        with atomic(path) as temporary:
            if path.suffix == ".parquet":
                rows = write_parquet(files, temporary, manifest)
            else:
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as work:
                    names, arrays = arrays_of(files, Path(work))
                    rows = len(names["name"])
                    write = write_npz if path.suffix == ".npz" else write_anndata
                    write(temporary, names, arrays, manifest)
    remove_parts(folder)
    unit = "tokens" if manifest["options"]["pool"] == "none" else "sequences"
    return EmbedSummary([f"{rows:,} {unit} embedded: {', '.join(manifest['options']['layers'])}"])
