"""Scoring a file: checked first, cut into parts, each part written atomically, merged at the end.

    VCF ─ survey (every line checked, REFs compared) ─ plan.py: parts of whole positions
        ─ each part: model -> OUT.parts/part-000012.parquet (partscorer.py, parts.py), here, in N processes, on Ray
        ─ merge: the input's records + the parts' rows -> VCF, TSV, Parquet; OUT.parts is removed

OUT.parts/manifest.json holds what the scores depend on (contents of the input and of the genome, model, options). The
same command again skips finished parts; other inputs are refused. The plan fixes the batches: a run that was killed
and resumed, or cut into shards, gives the same bytes.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nexvar.errors import NexVarError
from nexvar.genome.bed import Regions, parse_region, read_bed
from nexvar.genome.haplotypes import Haplotypes, check_sample
from nexvar.genome.reference import Fasta
from nexvar.genome.variants import VariantSource, open_variants
from nexvar.genome.variants import saturate as every_snv
from nexvar.inference.core.batching import Tally
from nexvar.inference.score import MITO_CONTIGS, Options, ScoreSettings, make_circular
from nexvar.runs.parts import (
    find_manifest,
    genome_digest,
    missing_parts,
    open_parts,
    part_path,
    parts_folder,
    remove_parts,
    write_part,
)
from nexvar.runs.partscorer import Executor, Identity, PartScorer, PartTask, Setup
from nexvar.runs.plan import Part, Survey, cut, records_of, survey
from nexvar.runs.rows import ScoreSummary
from nexvar.runs.table import Provenance, check_output, open_writer, read_rows
from nexvar.runs.tracks import check_track
from nexvar.weights import footprint, machine
from nexvar.weights.load import Loaded

BUILT_IN = "nexvar_mito"
ENGINES = ("local", "ray")
DEFAULTS = Options()
# Options of the command that say where and how fast, not what: the recorded command is the same without them.
_WHERE_OPTIONS = ("--shard", "--workers", "--engine", "--ray-address", "--cache", "--cache-gb")


@dataclass(frozen=True)
class Inputs:
    """The files of a run, checked. paths: absolute, for ``merge``."""

    reader: VariantSource
    fasta: Fasta
    regions: Regions | None
    survey: Survey
    paths: dict[str, Any]


def score_file(
    source: str | Path | Sequence[str] | None,
    fasta_path: str | Path,
    outputs: str | Path | Sequence[str | Path],
    *,
    model: str | Path | Loaded | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    device_map: str | None = None,
    options: Options = DEFAULTS,
    circular: Sequence[str] = (),
    synonyms: str | Path | None = None,
    regions: str | Path | None = None,
    saturate: str | None = None,
    haplotypes: bool = False,
    sample: str | None = None,
    command: str = "",
    shard: tuple[int, int] | None = None,
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    cache: str | Path | None = None,
    cache_gb: float = 10.0,
    progress: bool = True,
) -> ScoreSummary:
    """Variants + FASTA -> one or more of .vcf, .vcf.gz (indexed), .tsv, .parquet, in one pass over the model.

    source: VCF or BCF ("-": standard input), .tsv, .hgvs, or variants as text (``chr17:41197722T>A``).
    model: name, folder or an already loaded one; None is the built-in model, for mitochondrial variants only.
    quantize, device_map: as ``NexVar`` takes them. circular, synonyms: see ``genome.Fasta``. regions: a BED file;
    variants outside get a status instead of a score. saturate: in place of a source, every SNV of a region such as
    ``chr17:41,197,000-41,198,000`` (1-based, inclusive). haplotypes: in place of alleles, the haplotypes of a sample
    (by default the only one): what stands on one copy within half a window acts together. command: to be recorded.
    shard: (i, n), 1-based: only every n-th part; ``merge`` (or a run without shard) makes the outputs of all of them.
    workers: processes, each with the model: one per GPU, or on the CPU; default: this process alone. engine: "ray"
    makes them actors of the cluster at ray_address (default: one that is started here), as many as it has GPUs.
    cache: a folder where pooled embeddings are kept for other runs, up to cache_gb (embedding readouts).
    """
    targets = [outputs] if isinstance(outputs, (str, Path)) else list(outputs)
    for path in targets:
        check_output(path, inputs=(fasta_path, *([source] if isinstance(source, (str, Path)) else [])))
    folder = parts_folder(targets[0])
    if shard is not None and "-" in (str(source), str(targets[0])):
        raise NexVarError("standard input and output cannot be cut into shards", where="--shard", fix="use files")
    _check_engine(engine, workers, ray_address, model)
    if not 0 < cache_gb < 1e6:
        raise NexVarError(f"a cache of {cache_gb} GB", where="--cache-gb", fix="above 0")
    inputs = _read_inputs(source, fasta_path, options, circular, synonyms, regions, saturate)
    for path in targets:
        check_track(Path(path), inputs.survey.records[-1])
    if sample is not None and not haplotypes:
        raise NexVarError("a sample without --haplotype", where="--sample", fix="add --haplotype")
    if haplotypes:
        sample = check_sample(inputs.reader, sample)
    loaded = model if isinstance(model, Loaded) else None
    name = model.card.name if isinstance(model, Loaded) else model or _default_model(inputs.survey.contigs)
    setup = Setup(
        model=name,
        device=device,
        dtype=dtype,
        quantize=quantize,
        device_map=device_map,
        options=options,
        fasta=Path(fasta_path).absolute(),
        synonyms=None if synonyms is None else Path(synonyms).absolute(),
        circular=tuple(sorted(inputs.fasta.circular)),
        regions=inputs.regions,
        cache=None if cache is None else Path(cache).absolute(),
        cache_bytes=int(cache_gb * 1e9),
    )
    tally = Tally()
    with ExitStack() as stack:
        hashing = stack.enter_context(ThreadPoolExecutor(1)).submit(genome_digest, inputs.fasta, inputs.survey.contigs)
        computing = stack.enter_context(_open_engine(setup, engine, workers, ray_address, loaded, inputs.fasta))
        genome = hashing.result()  # seconds for a human genome, meanwhile the model was loaded
        if folder is None:  # standard output: nothing to resume from
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexvar-")))
        resolved = _as_before(computing.identity.resolved, options, folder)
        if sample is not None:
            inputs = _as_haplotypes(inputs, sample, resolved.window // 2)
        parts = cut(inputs.survey, inputs.reader, resolved.window, resolved.together)
        provenance = replace(computing.identity.provenance, command=_recorded(command))
        open_parts(folder, _manifest(inputs, genome, computing.identity, resolved, provenance, len(parts)))
        mine = [part for part in parts if shard is None or part.index % shard[1] == shard[0] - 1]
        _run(computing, inputs.reader, mine, resolved, folder, tally, progress=progress)
        if shard is not None:
            missing = len(missing_parts(folder, range(len(parts))))
            state = f"{missing:,} of {len(parts):,} parts are missing" if missing else "all parts are there"
            summary = ScoreSummary(notes=[f"shard {shard[0]}/{shard[1]} is done; {state}: merge when all shards are"])
        else:
            summary = _merge(folder, inputs.reader, provenance, len(parts), targets)
    summary.tally = tally
    summary.notes += [*inputs.survey.notes, *computing.notes]
    if not inputs.survey.sorted and shard is None:
        summary.notes += [f"{path} has no index: its variants are in the order of the list" for path in targets
                          if str(path).endswith((".vcf.gz", ".vcf.bgz"))]  # fmt: skip
    other = [name for name in inputs.survey.contigs if name not in MITO_CONTIGS]
    if computing.identity.species is not None and other:
        known = f"{provenance.model} knows {computing.identity.species} only"
        summary.notes.append(f"{known}: scores on {', '.join(other[:3])} mean little")
    return summary


def one_source(vcf: Path | None, variants: list[str] | None) -> Path | list[str]:
    """The one of the two ways to give variants that was used."""
    if vcf is not None and not variants:
        return vcf
    if variants and vcf is None:
        return variants
    what = "no variants" if vcf is None else "variants twice"
    raise NexVarError(what, where="--vcf", fix="give a file with --vcf, or variants such as 'chr17:41197722T>A'")


def parse_shard(text: str) -> tuple[int, int]:
    """ "3/8" -> (3, 8)."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise NexVarError(f"shard {text!r}", where="--shard", fix="i/n with i from 1 to n, such as 3/8")
    return int(first), int(last)


def _recorded(command: str) -> str:
    """The command line without what does not change a score, so that 1 and 4 shards give the same bytes."""
    kept: list[str] = []
    try:
        words = iter(shlex.split(command))
    except ValueError:
        return command
    for word in words:
        if word in _WHERE_OPTIONS:
            next(words, None)
        elif not word.startswith(tuple(f"{name}=" for name in _WHERE_OPTIONS)):
            kept.append(word)
    return shlex.join(kept)


def _check_engine(engine: str, workers: int | None, ray_address: str | None, model: object) -> None:
    if engine not in ENGINES:
        raise NexVarError(f"no engine {engine!r}", where="--engine", fix=f"one of {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise NexVarError(f"{workers} workers", where="--workers", fix="1 or more")
    if ray_address is not None and engine != "ray":
        raise NexVarError("an address without --engine ray", where="--ray-address", fix="add --engine ray")
    if isinstance(model, Loaded) and ((workers or 1) > 1 or engine != "local"):
        raise NexVarError("a loaded model stays in its process", where="model", fix="give its name or folder")


@contextmanager
def _open_engine(
    setup: Setup, engine: str, workers: int | None, ray_address: str | None, loaded: Loaded | None, fasta: Fasta
) -> Iterator[Executor]:
    if engine == "ray":
        from nexvar.runs.ray_executor import RayExecutor

        with RayExecutor(setup, workers, ray_address) as cluster:
            yield cluster
    elif workers is not None and workers > 1:
        from nexvar.runs.workers import Workers

        with Workers(setup, workers) as processes:
            yield processes
    else:
        yield PartScorer(setup, loaded, fasta)


def _read_inputs(
    source: str | Path | Sequence[str] | None,
    fasta_path: str | Path,
    options: Options,
    circular: Sequence[str],
    synonyms: str | Path | None,
    regions: str | Path | None,
    saturate: str | None,
) -> Inputs:
    """Everything that can be wrong with the files is found here, before a model is loaded."""
    fasta = Fasta(fasta_path, synonyms=synonyms)
    reader = _open_source(source, saturate, fasta)
    make_circular(fasta, circular, reader.circular)
    wanted = read_bed(regions, fasta) if regions is not None else None
    paths = {"variants": source, "fasta": fasta_path, "synonyms": synonyms}
    kept = {key: str(Path(p).absolute()) if isinstance(p, (str, Path)) else p for key, p in paths.items()}
    found = survey(reader, fasta, options.max_ref_mismatch)
    return Inputs(reader, fasta, wanted, found, {**kept, "saturate": saturate})


def _as_haplotypes(inputs: Inputs, sample: str, reach: int) -> Inputs:
    """The same files with the haplotypes of one sample as the records."""
    reader = Haplotypes(inputs.reader, inputs.fasta, sample, reach)
    paths = {**inputs.paths, "sample": sample, "reach": str(reach)}
    found = replace(survey(reader, inputs.fasta, 1.0), notes=inputs.survey.notes)
    return replace(inputs, reader=reader, survey=found, paths=paths)


def _open_source(source: str | Path | Sequence[str] | None, saturate: str | None, fasta: Fasta) -> VariantSource:
    if (source is None) == (saturate is None):
        raise NexVarError("give variants or a region to saturate, one of them")
    if saturate is not None:
        return every_snv(fasta, parse_region(saturate, fasta))
    assert source is not None
    return open_variants(source, fasta)


def _default_model(contigs: Sequence[str]) -> str:
    """The built-in model where it knows something; elsewhere an error that names what fits this machine."""
    other = [name for name in contigs if name not in MITO_CONTIGS]
    if not other:
        return BUILT_IN
    fitting = [
        f"{card.name} ({machine.human_bytes(machine.weight_bytes(card))}, {card.licence})"
        for card in footprint.as_they_are("causal")
    ]
    raise NexVarError(
        f"the built-in model knows mitochondria only, and the variants are on {other[0]}",
        where="--model",
        fix=f"choose one that fits this machine: {'; '.join(fitting) or 'none does; use a larger one'}",
    )


def _as_before(resolved: ScoreSettings, options: Options, folder: Path) -> ScoreSettings:
    """The batch size of the unfinished run, where the user names none: it follows from memory, which may differ."""
    found = find_manifest(folder)
    if found is None or options.batch_tokens is not None:
        return resolved
    return replace(
        resolved, readout=replace(resolved.readout, batch_tokens=found["options"]["readout"]["batch_tokens"])
    )


def _manifest(
    inputs: Inputs, genome: str, identity: Identity, resolved: ScoreSettings, provenance: Provenance, parts: int
) -> dict[str, Any]:
    """What the rows depend on, and what ``merge`` needs."""
    return {
        "nexvar": version("nexvar"),
        "variants": inputs.survey.digest,
        "genome": genome,
        "circular": sorted(inputs.fasta.circular),
        "model": f"{provenance.model} {provenance.revision} {identity.fingerprint}",
        "dtype": provenance.dtype,
        "device": identity.device,
        "regions": inputs.regions.digest() if inputs.regions else None,
        "options": json.loads(json.dumps(asdict(resolved))),
        "parts": parts,
        "inputs": inputs.paths,
        "provenance": asdict(provenance),
    }


def _run(
    computing: Executor,
    reader: VariantSource,
    parts: Sequence[Part],
    resolved: ScoreSettings,
    folder: Path,
    tally: Tally,
    *,
    progress: bool,
) -> None:
    """Compute the parts that are not there yet."""
    missing = set(missing_parts(folder, [part.index for part in parts]))
    todo = [part for part in parts if part.index in missing]
    if not todo:
        return
    total = sum(part.alleles for part in parts)
    done = total - sum(part.alleles for part in todo)
    with tqdm(total=total, initial=done, unit="allele", disable=not progress, delay=2) as bar:
        tasks = (PartTask(part, records, resolved) for part, records in records_of(reader, todo))
        for found in computing.run(tasks, bar.update):
            write_part(folder, found.index, found.data)
            tally.computed += found.computed
            tally.naive += found.naive


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> ScoreSummary:
    """The outputs of a run whose shards are all done, from ``OUTPUT.parts`` alone; no model is loaded.

    targets: other files than ``output``, or several.
    """
    folder = Path(f"{output}.parts")
    manifest = find_manifest(folder)
    if manifest is None:
        raise NexVarError("no unfinished run is here", where=folder, fix="give the -o of `nexvar score`")
    wanted = list(targets or [output])
    for path in wanted:
        check_output(path)
    paths = manifest["inputs"]
    fasta = Fasta(paths["fasta"], synonyms=paths["synonyms"])
    reader = _open_source(paths["variants"], paths["saturate"], fasta)
    if paths.get("sample") is not None:
        reader = Haplotypes(reader, fasta, paths["sample"], int(paths["reach"]))
    if survey(reader, fasta, 1.0).digest != manifest["variants"]:
        raise NexVarError("the variants changed since they were scored", where=paths["variants"], fix="score again")
    return _merge(folder, reader, Provenance(**manifest["provenance"]), manifest["parts"], wanted)


def _merge(
    folder: Path, reader: VariantSource, provenance: Provenance, parts: int, targets: Sequence[str | Path]
) -> ScoreSummary:
    if missing := missing_parts(folder, range(parts)):
        raise NexVarError(
            f"{len(missing):,} of {parts:,} parts are missing, the first is {part_path(folder, missing[0]).name}",
            where=folder,
            fix="run the shards that have not finished",
        )
    summary = ScoreSummary()
    all_rows = (row for i in range(parts) for row in read_rows(part_path(folder, i)))
    with ExitStack() as stack:
        writers = [stack.enter_context(open_writer(path, reader, provenance)) for path in targets]
        for record in reader:
            found = list(islice(all_rows, len(record.alts)))
            if [row.alt for row in found] != list(record.alts) or found[0].line_no != record.line_no:
                raise _misfit(folder, record.line_no)
            summary.records += 1
            for row in found:
                summary.add(row)
            for writer in writers:
                writer.write(record, found)
        if next(all_rows, None) is not None:
            raise _misfit(folder, record.line_no)
    remove_parts(folder)
    return summary


def _misfit(folder: Path, line_no: int) -> NexVarError:
    return NexVarError(f"the parts are not those of line {line_no:,}", where=folder, fix="delete it and start again")
