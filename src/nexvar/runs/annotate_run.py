"""Elements along sequences: probabilities of every base, in sliding windows, in parts; merged into files.

    FASTA [+ BED] ─ segments ─ stretches without N ─ parts ─ windows (core/sliding.py) ─ model
                  -> OUT.parts/part-000012.parquet ─ merge -> bigWigs | BED | GFF3 | Parquet

    out.bw             a file for each element: out.exon.bw, out.intron.bw, …: its probability; also out.{element}.bw
    out.exon.bw        that of one element
    out.bed, out.gff3  segments: the stretches of each element at or above the threshold
    out.parquet        a row for each base: chrom, pos (0-based), and a column for each element

Bases without a value (N, stretches shorter than a block) have no row. The same command resumes, as of
``nexvar likelihood``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Fasta
from nexvar.inference import annotate
from nexvar.inference.annotate import Caller, Found
from nexvar.inference.core.batching import Tally, default_batch_tokens, reported
from nexvar.inference.core.sliding import Rule, Segment, Sliding
from nexvar.inference.score import make_circular
from nexvar.runs import arrow, sequence_run
from nexvar.runs import parts as on_disk
from nexvar.runs.embedding_table import write_parquet
from nexvar.runs.job import AnnotateJob, AnnotateOptions, Watch
from nexvar.runs.lock import locked
from nexvar.runs.output import check_output
from nexvar.runs.sequence_run import Summary, Weighed
from nexvar.weights.choice import loaded_model
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.load import Loaded

KIND = "elements"  # in the manifest
ENDINGS = (".bw", ".bed", ".gff3", ".parquet")
PART_BASES, MOST_PARTS = 1 << 17, 100_000
ROW_GROUP = 1 << 16
PLACE = "{element}"  # in the name of an output: a file for each
SCAN = 1 << 22  # bases in memory while the stretches of a contig are looked for
SEQUENCE_ONTOLOGY = {
    "protein_coding_gene": "protein_coding_gene", "lncRNA": "lncRNA_gene", "exon": "exon", "intron": "intron",
    "splice_donor": "five_prime_cis_splice_site", "splice_acceptor": "three_prime_cis_splice_site",
    "5UTR": "five_prime_UTR", "3UTR": "three_prime_UTR", "CTCF-bound": "CTCF_binding_site",
    "polyA_signal": "polyA_signal_sequence", "enhancer_Tissue_specific": "enhancer",
    "enhancer_Tissue_invariant": "enhancer", "promoter_Tissue_specific": "promoter",
    "promoter_Tissue_invariant": "promoter",
}  # fmt: skip


def annotate_file(job: AnnotateJob) -> Summary:
    """Do the job. NexVarError for bad input, ``job.Stopped`` where the job says so; then parts may be left."""
    job.check_paths()
    for path in job.targets:
        check_output(path, endings=ENDINGS)
    genome = Fasta(job.inputs.fasta, synonyms=job.inputs.synonyms)
    make_circular(genome, job.options.circular, ())
    asked = sequence_run.segments(genome, job.inputs.bed, job.options.region)
    loaded = loaded_model(job.model)
    rule = annotate.rule_for(loaded, job.options.window, job.options.overlap)
    annotate.check_species(loaded, job.options.species)
    for path in job.targets:
        for file in _files(Path(path), loaded.module.elements):
            check_output(file, job.inputs.files, ENDINGS)
    stretches = _stretches(loaded, genome, asked)
    if not stretches:
        raise annotate.too_short(loaded, job.inputs.fasta)
    sliding = Sliding(rule, _rings(genome, stretches))
    parts = sliding.parts(stretches, max(PART_BASES, sequence_run.bases(stretches) // MOST_PARTS))
    folder = Path(f"{job.targets[0]}.parts")
    with locked(folder, job.shard):
        tokens = job.options.batch_tokens or on_disk.unfinished_batch_tokens(folder) or default_batch_tokens(loaded)
        on_disk.open_parts(folder, _manifest(job, loaded, genome, asked, rule, tokens, len(parts)))

        def compute(i: int, watch: Watch) -> bytes:
            return compute_part(loaded, genome, sliding, parts[i], job.options, tokens, watch)

        sequence_run.compute_parts(job, folder, [sequence_run.bases(part) for part in parts], compute)
        summary = sequence_run.finish(job, folder, len(parts), _merge)
    summary.notes += sequence_run.species_note(loaded, "elements")
    return summary


def _manifest(
    job: AnnotateJob, loaded: Loaded, genome: Fasta, asked: list[Segment], rule: Rule, tokens: int, parts: int
) -> dict[str, Any]:
    wanted = job.options
    options = {
        "window": rule.window, "before": rule.before, "after": rule.after, "strand": wanted.strand,
        "species": wanted.species or "", "elements": list(loaded.module.elements), "batch_tokens": tokens,
        "threshold": wanted.threshold, "gap": wanted.gap, "min_length": wanted.min_length,
        "bases": sequence_run.bases(asked),
    }  # fmt: skip
    about = {
        "strand": wanted.strand, "window": rule.window, "overlap": str(rule.before),
        "threshold": str(wanted.threshold), "coordinates": "pos is 0-based",
    }  # fmt: skip
    return sequence_run.make_manifest(
        job,
        genome,
        asked,
        Weighed(loaded, fingerprint(loaded)),
        kind=KIND,
        options=options,
        parts=parts,
        provenance=about,
    )


# -- input --------------------------------------------------------------------------------------------------------


def _stretches(loaded: Loaded, genome: Fasta, asked: Sequence[Segment]) -> list[Segment]:
    """What is asked for of each stretch that the model can read; the stretch is what its windows lie on."""
    result: list[Segment] = []
    found: list[tuple[int, int]] = []
    key: tuple[str, int, int] | None = None
    for segment in asked:
        if key != (segment.contig, segment.low, segment.high):
            key = segment.contig, segment.low, segment.high
            found = _readable(loaded, genome, *key)
        for low, high in found:
            start, end = max(low, segment.start), min(high, segment.end)
            if start < end:
                result.append(Segment(segment.contig, start, end, low, high))
    return result


def _readable(loaded: Loaded, genome: Fasta, contig: str, low: int, high: int) -> list[tuple[int, int]]:
    """``annotate.readable`` of [low, high), a piece in memory at a time."""
    unit = loaded.module.element_unit
    if loaded.tokenizer.base_ids() is not None:
        return [(low, high)] if high - low >= unit else []
    runs: list[tuple[int, int]] = []
    for start in range(low, high, SCAN):
        for match in re.finditer("[ACGT]+", genome.fetch(contig, start, min(start + SCAN, high))):
            a, b = start + match.start(), start + match.end()
            if runs and runs[-1][1] == a:
                runs[-1] = runs[-1][0], b
            else:
                runs.append((a, b))
    return [(a, b) for a, b in runs if b - a >= unit]


def _rings(genome: Fasta, stretches: Sequence[Segment]) -> frozenset[str]:
    """Circular contigs that are read whole; one with an N is read as the lines between."""
    whole = {s.contig for s in stretches if (s.low, s.high) == genome.spans(s.contig)[0]}
    return frozenset(genome.circular & whole)


# -- one part -----------------------------------------------------------------------------------------------------


def compute_part(
    loaded: Loaded,
    genome: Fasta,
    sliding: Sliding,
    part: Sequence[Segment],
    options: AnnotateOptions,
    batch_tokens: int,
    progress: Callable[[int], None],
) -> bytes:
    """The rows of one part: a Parquet file."""
    windows = list(sliding.windows(part))
    read = (genome.fetch(contig, window.start, window.end) for contig, window, _ in windows)
    texts = [re.sub("[^ACGTN]", "N", text) for text in read]
    tally = Tally()
    with reported(tally, sequence_run.bases(part), progress):
        values = annotate.compute(
            loaded, texts, strand=options.strand, species=options.species, batch_tokens=batch_tokens, tally=tally
        )
    names, places, rows = [], [], []
    for (contig, window, ranges), probs in zip(windows, values, strict=True):
        for start, end in ranges:
            here = probs[start - window.start : end - window.start]
            known = ~np.isnan(here[:, 0])
            names += [contig] * int(known.sum())
            places.append(np.arange(start, end)[known])
            rows.append(here[known])
    probs_NE = np.concatenate(rows)
    columns = {"chrom": arrow.array(names, pa.string()), "pos": arrow.numbers(np.concatenate(places))}
    columns |= {name: arrow.numbers(probs_NE[:, e]) for e, name in enumerate(loaded.module.elements)}
    return arrow.parquet(pa.table(columns), compression="zstd", row_group_size=ROW_GROUP)


# -- output -------------------------------------------------------------------------------------------------------


def _files(path: Path, names: Sequence[str]) -> dict[Path, str]:
    """The files that an output stands for, and of a bigWig which element each shows ("" for the others)."""
    if path.suffix != ".bw":
        return {path: ""}
    short = {re.sub(r"[^\w.-]+", "_", name): name for name in names}
    before = next((s for s in short if path.stem.endswith(f".{s}") or path.stem == s), None)
    if before is not None:
        return {path: short[before]}
    pattern = path.name if PLACE in path.name else f"{path.stem}.{PLACE}.bw"
    return {path.with_name(pattern.replace(PLACE, s)): name for s, name in short.items()}


def merge(output: str | Path, targets: Sequence[str | Path] | None = None) -> Summary:
    """The outputs of a run whose parts are all there; no model is loaded. targets: other files, or several."""
    with locked(Path(f"{output}.parts"), make=False):
        return _merge(output, targets)


def _merge(output: str | Path, targets: Sequence[str | Path] | None) -> Summary:
    _, found = sequence_run.unfinished(output, "annotate", _wrong)
    names = found["options"]["elements"]
    files = {file: name for path in targets or [output] for file, name in _files(Path(path), names).items()}
    called = 0

    def check(path: Path, manifest: dict[str, Any]) -> None:
        check_output(path, endings=ENDINGS)

    def write(path: Path, temporary: Path, parts: list[Path], manifest: dict[str, Any]) -> int:
        nonlocal called
        if path.suffix == ".parquet":
            return write_parquet(parts, temporary, manifest, ROW_GROUP)
        if path.suffix == ".bw":
            write_bigwig(temporary, path, manifest["lengths"], _values(parts, files[path]))
        else:
            called = _write_segments(path, temporary, parts, manifest)
        return sum(pq.read_metadata(file).num_rows for file in parts)

    rows, manifest = sequence_run.merge_parts(output, "annotate", list(files), wrong=_wrong, check=check, write=write)
    options = manifest["options"]
    notes = [
        f"{rows:,} bases, {len(names)} elements, in windows of {options['window']:,} with an overlap of "
        f"{options['before']:,}"
    ]
    if left := options["bases"] - rows:
        why = "Ns, too few bases between two of them, or a contig's ends, of which the model tells nothing"
        notes.append(f"{left:,} bases have no value: {why}")
    if called:
        notes.append(f"{called:,} segments at or above {options['threshold']:g}")
    return Summary(notes)


def _wrong(manifest: dict[str, Any]) -> str | None:
    """What of a manifest is not as this run writes it."""
    options = manifest["options"]
    for name in ("window", "before", "gap", "min_length", "bases"):
        if type(options.get(name)) is not int:
            return f"options.{name}"
    elements, threshold = options.get("elements"), options.get("threshold")
    if not isinstance(elements, list) or not elements or not all(isinstance(name, str) for name in elements):
        return "options.elements"
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1 or min(options["gap"], options["min_length"]) < 0:
        return "options.threshold"
    return sequence_run.wrong_lengths(manifest)


def pieces(parts: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    """(contig, start, probabilities (N, E)) of bases that stand side by side, in order; one row group in memory."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(ROW_GROUP, columns=["chrom", "pos", *names]):
                chrom_N = np.asarray(batch.column("chrom").to_pylist(), dtype=object)
                pos_N = batch.column("pos").to_numpy()
                probs_NE = np.stack([batch.column(name).to_numpy() for name in names], axis=1)
                cuts = np.flatnonzero((pos_N[1:] != pos_N[:-1] + 1) | (chrom_N[1:] != chrom_N[:-1])) + 1
                for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), len(pos_N)], strict=True):
                    if a < b:
                        yield str(chrom_N[a]), int(pos_N[a]), probs_NE[a:b]


def _values(parts: Sequence[Path], name: str) -> Iterator[tuple[str, int, int, float]]:
    for contig, start, probs_N1 in pieces(parts, [name]):
        for i, value in enumerate(probs_N1[:, 0].tolist(), start):
            yield contig, i, i + 1, value


def _found(parts: Sequence[Path], caller: Caller) -> Iterator[Found]:
    for contig, start, probs_NE in pieces(parts, caller.names):
        yield from caller.add(contig, start, probs_NE)
    yield from caller.end()


def _write_segments(path: Path, temporary: Path, parts: Sequence[Path], manifest: dict[str, Any]) -> int:
    """Segments as BED or GFF3; how many they are."""
    options = manifest["options"]
    caller = Caller(options["elements"], options["threshold"], gap=options["gap"], min_length=options["min_length"])
    about = {key: value for key, value in manifest["provenance"].items() if key != "coordinates"}  # GFF3's are its own
    count = 0
    with temporary.open("w", encoding="utf-8") as file:
        if path.suffix == ".gff3":
            file.write("##gff-version 3\n")
            file.writelines(f"#!nexvar-{key} {value}\n" for key, value in about.items())
        for count, one in enumerate(_found(parts, caller), 1):
            file.write(_gff3(one, count) if path.suffix == ".gff3" else _bed(one))
    return count


def _bed(one: Found) -> str:
    """BED6; the score is the mean probability of 0 to 1000."""
    score = min(1000, round(1000 * one.mean))
    return f"{one.contig}\t{one.start}\t{one.end}\t{one.element}\t{score}\t.\n"


def _gff3(one: Found, number: int) -> str:
    """Types of the Sequence Ontology where it has one; the model's own word is the attribute ``element``."""
    kind = SEQUENCE_ONTOLOGY.get(one.element, _escaped(one.element))
    about = f"ID={number};element={_escaped(one.element)};peak={one.peak:.4f}"
    return f"{_escaped(one.contig)}\tnexvar\t{kind}\t{one.start + 1}\t{one.end}\t{one.mean:.4f}\t.\t.\t{about}\n"


def _escaped(text: str) -> str:
    return quote(text, safe=" .:^*$@!+_?-|")
