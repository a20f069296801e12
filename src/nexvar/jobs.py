"""Scoring a file: checked first, cut into parts, each part written atomically, merged at the end.

    VCF ─ scan (every line checked, REFs compared) ─ plan: parts of whole positions
        ─ each part: model -> OUT.parts/part-00012.parquet (temporary name, then rename)
        ─ merge: the input's records + the parts' rows -> VCF, TSV, Parquet; OUT.parts is removed

OUT.parts/manifest.json holds what the scores depend on (contents of the input and of the genome, model, options). The
same command again skips finished parts; other inputs are refused. The plan fixes the batches: a run that was killed
and resumed, or cut into shards, gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nexvar import machine, scorers
from nexvar.engine import Tally
from nexvar.errors import NexVarError
from nexvar.genome import Fasta
from nexvar.load import Loaded, load
from nexvar.parts import PartFile, fingerprint, genome_digest, open_parts, part_path, parts_folder, read_manifest
from nexvar.plan import Survey, find_parts
from nexvar.score import MITO_CONTIGS, Options, Resolved, Summary, columns_of, make_circular, rows, score_alleles
from nexvar.table import Provenance, check_output, open_writer, read_rows
from nexvar.variants import Regions, VariantSource, open_variants, parse_region, read_bed
from nexvar.variants import saturate as every_snv
from nexvar.vcf import Record

BUILT_IN = "nexvar_mito"
DEFAULTS = Options()


@dataclass(frozen=True)
class Job:
    """A checked request: everything that can be wrong with files and options has been found."""

    reader: VariantSource
    fasta: Fasta
    loaded: Loaded
    options: Resolved
    provenance: Provenance
    survey: Survey
    regions: Regions | None
    inputs: dict[str, str | None]  # absolute paths, for ``merge``


def score_file(
    source: str | Path | None,
    fasta_path: str | Path,
    outputs: str | Path | Sequence[str | Path],
    *,
    model: str | Path | Loaded | None = None,
    device: str = "auto",
    dtype: str = "auto",
    options: Options = DEFAULTS,
    circular: Sequence[str] = (),
    synonyms: str | Path | None = None,
    regions: str | Path | None = None,
    saturate: str | None = None,
    command: str = "",
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> Summary:
    """Variants + FASTA -> one or more of .vcf, .vcf.gz (indexed), .tsv, .parquet, in one pass over the model.

    source: VCF or BCF ("-": standard input), .tsv, .hgvs. model: name, folder or an already loaded one; None is the
    built-in model, for mitochondrial variants only. circular, synonyms: see ``genome.Fasta``. regions: a BED file;
    variants outside get a status instead of a score. saturate: in place of a source, every SNV of a region such as
    ``chr17:41,197,000-41,198,000`` (1-based, inclusive).
    shard: (i, n), 1-based: only every n-th part; ``merge`` (or a run without shard) makes the outputs of all of them.
    """
    targets = [outputs] if isinstance(outputs, (str, Path)) else list(outputs)
    for path in targets:
        check_output(path, inputs=(fasta_path, *([source] if source is not None else [])))
    folder = parts_folder(targets[0])
    if shard is not None and "-" in (str(source), str(targets[0])):
        raise NexVarError("standard input and output cannot be cut into shards", where="--shard", fix="use files")
    job = prepare(source, fasta_path, model, device, dtype, options, circular, synonyms, regions, saturate, command)
    tally = Tally()
    with ExitStack() as stack:
        if folder is None:  # standard output: nothing to resume from
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexvar-")))
        open_parts(folder, _manifest(job))
        mine = [i for i in range(len(job.survey.parts)) if shard is None or i % shard[1] == shard[0] - 1]
        run_parts(job, folder, mine, tally, progress=progress)
        if shard is not None:
            missing = sum(not part_path(folder, i).exists() for i in range(len(job.survey.parts)))
            state = f"{missing:,} of {len(job.survey.parts):,} parts are missing" if missing else "all parts are there"
            summary = Summary(notes=[f"shard {shard[0]}/{shard[1]} is done; {state}: merge when all shards are"])
        else:
            summary = _merge(folder, job.reader, job.provenance, len(job.survey.parts), targets)
    summary.tally = tally
    card, other = job.loaded.card, [name for name in job.survey.contigs if name not in MITO_CONTIGS]
    if card.species is not None and other:
        summary.notes.append(f"{card.name} knows {card.species} only: scores on {', '.join(other[:3])} mean little")
    return summary


def parse_shard(text: str) -> tuple[int, int]:
    """"3/8" -> (3, 8)."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise NexVarError(f"shard {text!r}", where="--shard", fix="i/n with i from 1 to n, such as 3/8")
    return int(first), int(last)


def prepare(
    source: str | Path | None,
    fasta_path: str | Path,
    model: str | Path | Loaded | None,
    device: str,
    dtype: str,
    options: Options,
    circular: Sequence[str] = (),
    synonyms: str | Path | None = None,
    regions: str | Path | None = None,
    saturate: str | None = None,
    command: str = "",
) -> Job:
    """Check the files, then load the model, then cut the work into parts."""
    fasta = Fasta(fasta_path, synonyms=synonyms)
    reader = _open_source(source, saturate, fasta)
    make_circular(fasta, circular, reader.circular)
    wanted = read_bed(regions, fasta) if regions is not None else None
    survey = find_parts(reader, fasta, options.max_ref_mismatch)
    name = model or _default_model(survey.contigs)
    loaded = name if isinstance(name, Loaded) else load(name, device=device, dtype=dtype)
    resolved = options.resolve(loaded)
    card = loaded.card
    provenance = Provenance(
        model=card.name,
        revision=card.revision or ("built in" if card.weights else "main" if card.repo else "local folder"),
        window=resolved.window,
        strand=resolved.strand,
        dtype=str(loaded.dtype).removeprefix("torch."),
        readout=", ".join(resolved.how.readouts),
        command=command,
        extra=_extra_columns(resolved.how.readouts),
    )
    paths = {"variants": source, "fasta": fasta_path, "synonyms": synonyms}
    inputs = {key: None if path is None else str(Path(path).absolute()) for key, path in paths.items()}
    inputs["saturate"] = saturate
    return Job(reader, fasta, loaded, resolved, provenance, survey, wanted, inputs)


def _open_source(source: str | Path | None, saturate: str | None, fasta: Fasta) -> VariantSource:
    if (source is None) == (saturate is None):
        raise NexVarError("give variants or a region to saturate, one of them")
    if saturate is not None:
        return every_snv(fasta, parse_region(saturate, fasta))
    assert source is not None
    return open_variants(source, fasta)


def _extra_columns(readouts: Sequence[str]) -> dict[str, str]:
    strands = ("mean over strands", "forward strand", "reverse strand")
    return {
        column: f"{scorers.DESCRIPTIONS[name]} ({which})"
        for name in readouts
        for column, which in zip(columns_of(name, readouts), strands, strict=True)
        if not column.startswith("LLR")
    }


def _default_model(contigs: Sequence[str]) -> str:
    """The built-in model where it knows something; elsewhere an error that names what fits this machine."""
    other = [name for name in contigs if name not in MITO_CONTIGS]
    if not other:
        return BUILT_IN
    fitting = [
        f"{card.name} ({machine.human_bytes(machine.weight_bytes(card))}, {card.licence})"
        for card in reversed(machine.fitting("causal"))
        if card.fp8 != "hopper"
    ]
    raise NexVarError(
        f"the built-in model knows mitochondria only, and the variants are on {other[0]}",
        where="--model",
        fix=f"choose one that fits this machine: {'; '.join(fitting) or 'none does; use a larger one'}",
    )


def _manifest(job: Job) -> dict[str, Any]:
    """What the rows depend on, and what ``merge`` needs."""
    return {
        "nexvar": version("nexvar"),
        "variants": job.survey.digest,
        "genome": genome_digest(job.fasta, job.survey.contigs),
        "circular": sorted(job.fasta.circular),
        "model": f"{job.provenance.model} {job.provenance.revision} {fingerprint(job.loaded)}",
        "dtype": job.provenance.dtype,
        "device": job.loaded.device.type,
        "regions": job.regions.digest() if job.regions else None,
        "options": json.loads(json.dumps(asdict(job.options))),
        "parts": len(job.survey.parts),
        "inputs": job.inputs,
        "provenance": asdict(job.provenance),
    }


def run_parts(job: Job, folder: Path, indices: Sequence[int], tally: Tally, *, progress: bool) -> None:
    """Compute the parts that are not there yet."""
    todo = [i for i in indices if not part_path(folder, i).exists()]
    done = sum(job.survey.parts[i].alleles for i in indices) - sum(job.survey.parts[i].alleles for i in todo)
    if not todo:
        return
    total = sum(job.survey.parts[i].alleles for i in indices)
    with tqdm(total=total, initial=done, unit="allele", disable=not progress, delay=2) as bar:
        for i, records in _records_of(job, todo):
            writer = PartFile(folder, i, job.provenance)
            items = ((record, record.variant) for record in records)
            scored = score_alleles(job.loaded, items, job.fasta, job.options, tally, job.regions)
            for index, (record, scores) in enumerate(scored, start=job.survey.parts[i].first):
                writer.write(record, rows(index, record, scores, job.options.how.readouts))
                bar.update(len(scores))
            writer.finish()


def _records_of(job: Job, indices: Sequence[int]) -> Iterator[tuple[int, list[Record]]]:
    """The records of these parts (ascending), in one pass over the input."""
    records, position = iter(job.reader), 0
    for i in indices:
        part = job.survey.parts[i]
        chosen = list(islice(records, part.first - position, part.first - position + part.records))
        position = part.first + part.records
        yield i, chosen


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> Summary:
    """The outputs of a run whose shards are all done, from ``OUTPUT.parts`` alone; no model is loaded.

    targets: other files than ``output``, or several.
    """
    folder = Path(f"{output}.parts")
    manifest = read_manifest(folder)
    wanted = list(targets or [output])
    for path in wanted:
        check_output(path)
    inputs = manifest["inputs"]
    fasta = Fasta(inputs["fasta"], synonyms=inputs["synonyms"])
    reader = _open_source(inputs["variants"], inputs["saturate"], fasta)
    if find_parts(reader, fasta, 1.0).digest != manifest["variants"]:
        raise NexVarError("the variants changed since they were scored", where=inputs["variants"], fix="score again")
    return _merge(folder, reader, Provenance(**manifest["provenance"]), manifest["parts"], wanted)


def _merge(
    folder: Path, reader: VariantSource, provenance: Provenance, parts: int, targets: Sequence[str | Path]
) -> Summary:
    missing = [i for i in range(parts) if not part_path(folder, i).exists()]
    if missing:
        raise NexVarError(
            f"{len(missing):,} of {parts:,} parts are missing, the first is {part_path(folder, missing[0]).name}",
            where=folder,
            fix="run the shards that have not finished",
        )
    summary = Summary()
    all_rows = (row for i in range(parts) for row in read_rows(part_path(folder, i)))
    with ExitStack() as stack:
        writers = [stack.enter_context(open_writer(path, reader, provenance)) for path in targets]
        for record in reader:
            found = list(islice(all_rows, len(record.alts)))
            summary.records += 1
            for row in found:
                summary.add(row)
            for writer in writers:
                writer.write(record, found)
    shutil.rmtree(folder)
    return summary
