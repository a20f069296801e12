"""Embedding a file: its records or the regions of a BED, in parts, resumable, sharded; merged into one table.

    FASTA [+ BED] ─ list of regions ─ parts of a few hundred ─ model -> OUT.parts/part-00012.parquet
                                                             ─ merge -> Parquet | npz | h5ad | Zarr

One row for each sequence (with ``pool="none"``: for each token), in the order of the input: name, chrom, start, end
(0-based half-open), with tokens also token_start and token_end, then a vector of float32 for each layer. The folder of
parts and its manifest are those of ``nexvar score`` (parts.py): the same command resumes, other inputs are refused.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.inference import embed
from nexvar.inference.core.batching import default_batch_tokens
from nexvar.inference.core.sequences import clean
from nexvar.inference.embed import EmbedSettings
from nexvar.runs import arrow, sequence_run
from nexvar.runs import parts as on_disk
from nexvar.runs.embedding_table import ROW_GROUP, arrays_of, write_anndata, write_npz, write_parquet
from nexvar.runs.job import EmbedJob, Watch
from nexvar.runs.lock import locked
from nexvar.runs.output import check_output
from nexvar.runs.sequence_run import Summary
from nexvar.weights.choice import loaded_model
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.load import Loaded

KIND = "embeddings"  # in the manifest, which scoring runs have too
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


@dataclass(frozen=True)
class Plan:
    """What is computed: parts of the regions, with every choice made. ambiguous: IUPAC codes that are read as N."""

    folder: Path
    parts: list[list[Region]]
    settings: EmbedSettings
    batch_tokens: int
    ambiguous: int


def embed_file(job: EmbedJob) -> Summary:
    """Do the job. NexVarError for bad input, ``job.Stopped`` where the job says so; then parts may be left.

    IUPAC codes are read as N, and counted in the summary.
    """
    job.check_paths()
    for path in job.targets:
        _check_target(path)
    genome = Fasta(job.inputs.fasta, synonyms=job.inputs.synonyms)
    regions = _regions(genome, job.inputs.bed)
    loaded = loaded_model(job.model)
    folder = Path(f"{job.targets[0]}.parts")
    with locked(folder, job.shard):
        plan = _plan(job, loaded, genome, regions)

        def compute(i: int, watch: Watch) -> bytes:
            return compute_part(loaded, genome, plan.parts[i], plan.settings, plan.batch_tokens)

        sequence_run.compute_parts(job, folder, [len(part) for part in plan.parts], compute)
        summary = sequence_run.finish(job, folder, len(plan.parts), _merge)
    if plan.ambiguous:
        summary.notes.append(f"{plan.ambiguous:,} IUPAC codes were read as N")
    summary.notes += sequence_run.species_note(loaded, "embeddings")
    return summary


def _plan(job: EmbedJob, loaded: Loaded, genome: Fasta, regions: list[Region]) -> Plan:
    """The parts, and the folder that is either new or of an unfinished run of the same job."""
    wanted = job.options
    settings = embed.check(loaded, wanted.layer, wanted.pool, wanted.strand)
    if settings.pool == "none":
        _same_rows(loaded, settings)
    _check_lengths(loaded, regions)
    digest, ambiguous = _digest(genome, regions)
    parts = _cut(regions, PART_BASES if settings.pool != "none" else PART_BASES_TOKENS)
    folder = Path(f"{job.targets[0]}.parts")
    tokens = wanted.batch_tokens or on_disk.unfinished_batch_tokens(folder) or default_batch_tokens(loaded)
    card = loaded.card
    manifest = on_disk.make_manifest(
        kind=KIND,
        variants=digest,  # the manifest's name for what the rows are of
        model=f"{card.name} {card.revision} {fingerprint(loaded)}",
        dtype=loaded.precision,
        device=loaded.device.type,
        options={**asdict(settings), "batch_tokens": tokens},
        parts=len(parts),
        inputs=job.inputs.paths,
        provenance={
            "model": card.name, "revision": card.revision or "", "dtype": loaded.precision,
            "pool": settings.pool, "strand": settings.strand,
        },
    )  # fmt: skip
    on_disk.open_parts(folder, manifest)
    return Plan(folder, parts, settings, tokens, ambiguous)


# -- input --------------------------------------------------------------------------------------------------------


def _regions(genome: Fasta, bed: str | Path | None) -> list[Region]:
    if bed is None:
        return [Region(name, name, *genome.span(name)) for name in genome.contigs]
    regions = []
    for interval, fields in sequence_run.bed_regions(genome, bed):
        named = len(fields) > 3 and fields[3].strip() not in ("", ".")
        name = fields[3].strip() if named else f"{interval.chrom}:{interval.start}-{interval.end}"
        regions.append(Region(name, interval.chrom, interval.start, interval.end))
    return regions


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


def compute_part(
    loaded: Loaded, genome: Fasta, regions: Sequence[Region], settings: EmbedSettings, batch_tokens: int
) -> bytes:
    """The rows of one part: a Parquet file."""
    texts = [clean(loaded, _read(genome, region)[0], region.name) for region in regions]
    vectors = embed.vectors(loaded, texts, settings, batch_tokens)
    columns: dict[str, pa.Array] = {}
    repeats = [1] * len(regions)
    if settings.pool == "none":
        direction = "reverse" if settings.strand == "reverse" else "forward"
        tokens = [embed.spans(loaded, text, settings.layers[0], direction) for text in texts]
        repeats = [len(spans) for spans in tokens]
        for column, side in (("token_start", 0), ("token_end", 1)):
            values = [r.start + span[side] for r, spans in zip(regions, tokens, strict=True) for span in spans]
            columns[column] = arrow.array(values, pa.int64())
    for name in ("end", "start", "contig", "name"):
        values = [getattr(r, name) for r, n in zip(regions, repeats, strict=True) for _ in range(n)]
        kind = pa.int64() if name in ("start", "end") else pa.string()
        columns = {name.replace("contig", "chrom"): arrow.array(values, kind), **columns}
    for layer in settings.layers:
        stack = torch.stack if settings.pool != "none" else torch.cat
        values_ND = stack([each[layer] for each in vectors]).numpy()
        columns[layer] = pa.FixedSizeListArray.from_arrays(arrow.numbers(values_ND.reshape(-1)), values_ND.shape[1])
    return arrow.parquet(pa.table(columns), compression="zstd", row_group_size=ROW_GROUP)


def _same_rows(loaded: Loaded, settings: EmbedSettings) -> None:
    strides = {loaded.module.tap_stride.get(layer, 1) for layer in settings.layers}
    if len(strides) > 1:
        raise NexVarError("layers of different resolutions have different rows", where="--layer", fix="one at a time")


# -- output -------------------------------------------------------------------------------------------------------


def _check_target(path: str | Path) -> None:
    path = Path(path)
    check_output(path, endings=ENDINGS)
    needed = {".h5ad": ["anndata"], ".zarr": ["anndata", "zarr"]}.get(path.suffix, [])
    for package in needed:
        if find_spec(package) is None:
            raise NexVarError(f"{package} is not installed", where=path, fix="pip install 'nexvar[embed]'")


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> Summary:
    """The outputs of a run whose parts are all there; no model is loaded. targets: other files, or several."""
    with locked(Path(f"{output}.parts"), make=False):
        return _merge(output, targets)


def _merge(output: str | Path, targets: Sequence[str | Path] | None) -> Summary:
    rows, manifest = sequence_run.merge_parts(
        output, "embed", targets, wrong=_wrong, check=lambda path, _: _check_target(path), write=_write_table
    )
    unit = "tokens" if manifest["options"].get("pool") == "none" else "sequences"
    return Summary([f"{rows:,} {unit} embedded: {', '.join(manifest['options']['layers'])}"])


def _wrong(manifest: dict[str, Any]) -> str | None:
    layers = manifest["options"].get("layers")
    sound = isinstance(layers, list) and layers and all(isinstance(layer, str) for layer in layers)
    return None if sound else "layers"


def _write_table(path: Path, temporary: Path, files: list[Path], manifest: dict[str, Any]) -> int:
    """All rows, in the format of ``path``, to ``temporary``; how many they are."""
    if path.suffix == ".parquet":
        return write_parquet(files, temporary, manifest)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as work:
        names, arrays = arrays_of(files, Path(work))
        write = write_npz if path.suffix == ".npz" else write_anndata
        write(temporary, names, arrays, manifest)
        return len(names["name"])
