"""Attributions of a region, to files: ``nexvar attribute``.

    out.bw       what each base adds; out.A.bw (also C, G, T): what that base would add (hypothetical scores)
    out.png      a logo of what each base adds, above a heat map of the hypothetical scores; of a map, the map
    out.parquet  a row for each base: chrom, pos (0-based), base, value, A, C, G, T; of a map, for each pair
    out.npz      the same as arrays (no pickle); of a map, ``map`` (K, K)

What the model reads is a window around the region; the region is what is explained.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.files import disk_errors, replacing
from nexvar.genome.bed import parse_position, parse_region
from nexvar.genome.bigwig import write_bigwig
from nexvar.genome.reference import Fasta, Interval
from nexvar.inference import attribution
from nexvar.inference.attribution import METHODS, STRANDS, Attribution, Target, targets
from nexvar.inference.attribution.reading import read as tokenised
from nexvar.inference.score import make_circular
from nexvar.paths import Read, Write, check_apart
from nexvar.runs import tracks
from nexvar.runs.output import check_output
from nexvar.runs.sequence_run import species_note
from nexvar.weights.choice import ModelChoice, loaded_model
from nexvar.weights.load import Loaded

MAP = "dependency"
EVERY_METHOD = (*METHODS, MAP)
ENDINGS = (".bw", ".png", ".parquet", ".npz")
MAP_ENDINGS = ENDINGS[1:]
MOST_MAP = 4_096  # bases of a map: the odds of all its passes are held at once
MAP_TICKS = 100  # bases up to which each is written beside the map
TARGETS = "likelihood, base:3243, base:3243G, variant:3243A>G, track:NAME, track:NAME@SPECIES"


@dataclass(frozen=True)
class AttributeJob:
    """outputs: one or several files, by their endings. region: 1-based, inclusive; None: the only record of the FASTA.
    target: text (``TARGETS``; positions are 1-based, of the contig), or a ``Target`` of the sequence that is read.
    window: bases that the model reads, the region in their middle; None: the model's own, or the region. strand: of a
    map. baseline, steps, shuffles, seed: of integrated gradients."""

    fasta: str | Path
    outputs: Sequence[str | Path]
    model: ModelChoice | Loaded = ModelChoice()
    region: str | None = None
    method: str = "saliency"
    target: str | Target = "likelihood"
    window: int | None = None
    strand: str | None = None
    baseline: str | None = None
    steps: int = 50
    shuffles: int = 10
    seed: int = 0
    batch_tokens: int | None = None
    circular: tuple[str, ...] = ()
    synonyms: str | Path | None = None

    def __post_init__(self) -> None:
        attribution.check_method(self.method, EVERY_METHOD)
        if not self.outputs:
            raise NexVarError("no output", where="-o", fix="name a file")
        for value, where in ((self.window, "--window"), (self.batch_tokens, "--batch-tokens")):
            if value is not None:
                arguments.whole(value, where, 1)
        attribution.check_steps(self.steps, self.shuffles, self.seed)
        if self.strand is not None and self.method != MAP:
            what = f"method {self.method!r} reads the forward strand"
            raise NexVarError(what, where="--strand", fix=f"leave it out; it is of method {MAP!r}")
        if self.strand is not None:
            arguments.one_of(self.strand, "strand", STRANDS)
        if self.baseline is not None and self.method != "integrated":
            raise NexVarError(f"method {self.method!r} has no baseline", where="--baseline", fix="leave it out")
        if self.baseline is not None:
            arguments.one_of(self.baseline, "baseline", attribution.BASELINES)
        if self.method == MAP and self.target != "likelihood":
            raise NexVarError("a dependency map has no target", where="--target", fix="leave it out")
        for path in map(Path, self.outputs):
            check_output(path, endings=MAP_ENDINGS if self.method == MAP else ENDINGS)


@dataclass(frozen=True)
class _Place:
    """What is read and what is explained: text is [start, start + len(text)) of the contig, keep a part of it.

    length: of the contig, around which the text may go if it is ``circular``.
    """

    region: Interval
    length: int
    circular: bool
    start: int
    text: str

    def offset(self, digits: str) -> int:
        """Where in the text a 1-based position of the contig is; NexVarError for one that is not read."""
        offset = parse_position(digits, "--target") - self.start
        offset = offset % self.length if self.circular else offset
        if not 0 <= offset < len(self.text):
            what = f"position {digits} is not among the {len(self.text):,} bases that are read"
            raise NexVarError(what, where="--target", fix=f"inside of {self.read}, or a larger --window")
        return offset

    @property
    def read(self) -> str:
        """What is read, 1-based, for people."""
        ends = self.start, self.start + len(self.text) - 1
        first, last = (end % self.length + 1 if self.circular else end + 1 for end in ends)
        return f"{self.chrom}:{first:,}-{last:,}"

    @property
    def keep(self) -> tuple[int, int]:
        return self.region.start - self.start, self.region.end - self.start

    @property
    def positions_K(self) -> np.ndarray:
        return np.arange(self.region.start, self.region.end)

    @property
    def chrom(self) -> str:
        return tracks.chromosome(self.region.chrom)

    def columns(self) -> dict[str, Any]:
        start, end = self.keep
        return {"chrom": [self.chrom] * len(self.region), "pos": self.positions_K, "base": list(self.text[start:end])}


def attribute_file(job: AttributeJob) -> list[str]:
    """Do the job; lines for people. NexVarError for bad input, before the model is loaded where it can be known."""
    read = [job.fasta, *([job.synonyms] if job.synonyms else [])]
    check_apart(map(Read, read), map(Write, job.outputs))
    genome = Fasta(job.fasta, synonyms=job.synonyms)
    make_circular(genome, job.circular, ())
    region = _region(genome, job.region)
    for path in job.outputs if job.method != MAP else ():
        tracks.check_track(Path(path), len(region))
    if job.method == MAP and len(region) > MOST_MAP:
        what = f"a map of {len(region):,} by {len(region):,} bases"
        raise NexVarError(what, where=str(region), fix=f"a region of at most {MOST_MAP:,} bases")
    _check_bases(genome, region)
    loaded = loaded_model(job.model)
    place = _around(genome, region, job.window, loaded)
    if job.method == MAP:
        map_KK = attribution.dependency_map(
            loaded, place.text, keep=place.keep, strand=job.strand or "forward", batch_tokens=job.batch_tokens
        )
        about = {**_provenance(place, loaded), "strand": job.strand or "forward"}
        _write(job.outputs, lambda path, new: _write_map(path, new, place, map_KK, about))
        summary = f"{len(region):,} by {len(region):,} dependencies, the largest {map_KK.max():.3g} (log2 of odds)"
        return [summary, *_about(place, loaded)]
    target = job.target
    if isinstance(target, str):
        target = replace(_target(target, loaded, place), name=target)  # its positions are the contig's
    by_base = job.method == "ism" or tokenised(loaded, place.text).tokens_of_bases
    for path in map(Path, job.outputs if not by_base else ()):
        if path.suffix == ".bw" and _letter(path):
            what = f"{loaded.card.name} has no hypothetical scores with this method: other bases make other tokens"
            raise NexVarError(what, where=path, fix="--method ism, or a name without the base")
    found = attribution.attribute(
        loaded, place.text, method=job.method, target=target, keep=place.keep, baseline=job.baseline or "N",
        steps=job.steps, shuffles=job.shuffles, seed=job.seed, batch_tokens=job.batch_tokens,
    )  # fmt: skip
    _write(job.outputs, lambda path, new: _write_values(path, new, place, found, loaded))
    return [_sum(place, found), *_about(place, loaded)]


def _sum(place: _Place, found: Attribution) -> str:
    """What the bases of the region add, beside the target's value; of ism, which base matters most."""
    if found.method == "ism":
        k = int(found.values_K.argmax())
        what = f"changing {found.bases[k]} at {place.chrom}:{place.positions_K[k] + 1:,} takes the most"
        return f"{found.target}: {what}, {found.values_K[k]:.3g} on average"
    parts = [f"{found.target}: {len(found.values_K):,} bases add {found.values_K.sum(dtype=np.float64):.4g}"]
    if np.isfinite(found.value):
        parts.append(f"its value is {found.value:.4g}")
    if np.isfinite(found.baseline_value):
        parts.append(f"{found.baseline_value:.4g} of the baseline")
    return ", ".join(parts)


def _about(place: _Place, loaded: Loaded) -> list[str]:
    return [f"{len(place.text):,} bases are read, {place.read}", *species_note(loaded, "attributions")]


# -- what is read


def _region(genome: Fasta, region: str | None) -> Interval:
    if region is not None:
        return parse_region(region, genome)
    names = list(genome.contigs)
    if len(names) != 1:
        raise NexVarError(f"{len(names):,} records", where=genome.path, fix="--region NAME, or NAME:start-end")
    return parse_region(names[0], genome)


def _check_bases(genome: Fasta, region: Interval) -> None:
    bases = genome.fetch(region.chrom, region.start, region.end)
    if odd := re.search("[^ACGT]", bases):
        where = f"{tracks.chromosome(region.chrom)}:{region.start + odd.start() + 1:,}"
        raise NexVarError(f"{odd[0]} is no base that could be another one", where=where, fix="a region without it")


def _around(genome: Fasta, region: Interval, window: int | None, loaded: Loaded) -> _Place:
    """The window of the region: centred, shifted at the ends of a linear contig."""
    card = loaded.card
    if len(region) > card.context:
        what = f"{len(region):,} bases exceed the context of {card.name}, {card.context:,}"
        raise NexVarError(what, where=str(region), fix="a shorter region, or a model with a longer context")
    wanted = max(min(card.window, card.context), len(region)) if window is None else window
    if not len(region) <= wanted <= card.context:
        fix = f"from {len(region):,}, the region, to {card.context:,}, the context"
        raise NexVarError(f"a window of {wanted:,} bases", where="--window", fix=fix)
    low, high = genome.span(region.chrom, region.start, region.end)
    wanted, circular = min(wanted, high - low), region.chrom in genome.circular
    start = (region.start + region.end - wanted) // 2
    if not circular:
        start = min(max(start, low), high - wanted)
    text = genome.fetch(region.chrom, start, start + wanted)
    length = max(end for _, end in genome.spans(region.chrom))
    return _Place(region, length, circular, start, re.sub("[^ACGTN]", "N", text))


def _target(text: str, loaded: Loaded, place: _Place) -> Target:
    """What ``TARGETS`` lists."""
    if text == "likelihood":
        return targets.likelihood()
    if match := re.fullmatch(r"base:([0-9,]{1,20})([ACGT])?", text):
        return targets.base(place.offset(match[1]), match[2])
    if match := re.fullmatch(r"variant:([0-9,]{1,20})([ACGT])>([ACGT])", text):
        at = place.offset(match[1])
        if place.text[at] != match[2]:
            what = f"{text} but the genome has {place.text[at]} there"
            raise NexVarError(what, where="--target", fix="is this the right place, and the right assembly?")
        return targets.variant(at, match[3])
    if match := re.fullmatch(r"track:([^@]+)(?:@(.+))?", text):
        return targets.track(loaded, match[1], match[2])
    near = difflib.get_close_matches(text, ("likelihood", "base", "variant", "track", "output"), n=1, cutoff=0.4)
    fix = f"did you mean {near[0]}? {TARGETS}" if near else f"such as {TARGETS}"
    raise NexVarError(f"no target {text[:60]!r}", where="--target", fix=fix)


# -- what is written


def _write(outputs: Sequence[str | Path], write: Callable[[Path, Path], None]) -> None:
    for path in map(Path, outputs):
        with replacing(path) as new, disk_errors(path):
            write(path, new)


def _letter(path: Path) -> str | None:
    """The base whose hypothetical scores a bigWig of this name shows."""
    inner = path.suffixes[-2][1:] if len(path.suffixes) > 1 else ""
    return inner if inner in tuple("ACGT") else None


def _write_values(path: Path, new: Path, place: _Place, found: Attribution, loaded: Loaded) -> None:
    hypothetical_K4 = found.hypothetical_K4
    if path.suffix == ".bw":
        letter = _letter(path)
        shown_K = found.values_K
        if letter is not None and hypothetical_K4 is not None:
            shown_K = hypothetical_K4[:, "ACGT".index(letter)]
        rows = ((place.chrom, int(p), int(p) + 1, float(v)) for p, v in zip(place.positions_K, shown_K, strict=True))
        write_bigwig(new, path, {place.chrom: place.length}, rows)
    elif path.suffix == ".png":
        shown_K4 = hypothetical_K4
        if shown_K4 is not None and found.method == "ism":
            shown_K4 = np.where(found.heights_K4 != 0, np.nan, shown_K4)  # the base that is there
        lines = [
            tracks.Line(place.chrom, place.positions_K[at : at + tracks.ROW], found.heights_K4[at : at + tracks.ROW],
                        None if shown_K4 is None else shown_K4[at : at + tracks.ROW])
            for at in range(0, len(found.values_K), tracks.ROW)
        ]  # fmt: skip
        tracks.draw_logo(new, lines, found.method, "change" if found.method == "ism" else "in its place")
    else:
        columns = {**place.columns(), "value": found.values_K}
        if hypothetical_K4 is not None:
            columns |= {base: hypothetical_K4[:, b] for b, base in enumerate("ACGT")}
        about = {**_provenance(place, loaded), "method": found.method, "target": found.target,
                 "target_value": found.value, "baseline_value": found.baseline_value}  # fmt: skip
        _write_table(path, new, columns, about)


def _write_map(path: Path, new: Path, place: _Place, map_KK: np.ndarray, about: dict[str, object]) -> None:
    about = {**about, "method": MAP, "unit": "log2 of an odds ratio"}
    if path.suffix == ".png":
        draw_map(new, place.chrom, place.positions_K, place.columns()["base"], map_KK)
    elif path.suffix == ".npz":
        _write_table(path, new, {**place.columns(), "map": map_KK}, about)
    else:
        positions_K = place.positions_K
        pairs = {"changed": np.repeat(positions_K, len(positions_K)), "pos": np.tile(positions_K, len(positions_K))}
        columns = {"chrom": [place.chrom] * map_KK.size, **pairs, "dependency": map_KK.ravel()}
        _write_table(path, new, columns, about)


def _provenance(place: _Place, loaded: Loaded) -> dict[str, object]:
    card = loaded.card
    return {"model": card.name, "revision": card.revision or "", "dtype": loaded.precision, "strand": "forward",
            "window": len(place.text), "window_start": place.start, "coordinates": "pos is 0-based"}  # fmt: skip


def _write_table(path: Path, new: Path, columns: dict[str, Any], about: dict[str, object]) -> None:
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {name: np.asarray(values) for name, values in columns.items()}
        arrays["nexvar"] = np.array([f"{key}={value}" for key, value in about.items()])
        with new.open("wb") as file:
            np.savez(file, **arrays)
        return
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata({f"nexvar_{k}": str(v) for k, v in about.items()}), new)


def draw_map(target: Path, chrom: str, positions_K: np.ndarray, bases: Sequence[str], map_KK: np.ndarray) -> None:
    """A PNG of a dependency map; each base is written beside a small one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    K = len(positions_K)
    size = min(max(3.5, K * 0.12), 10.0)
    figure = Figure(figsize=(size + 1.2, size), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    highest = float(np.quantile(map_KK, 0.995)) or float(map_KK.max()) or 1.0
    image = ax.imshow(map_KK, cmap="magma_r", vmin=0, vmax=highest, interpolation="nearest")
    step = 1 if K <= MAP_TICKS else 10 ** int(np.ceil(np.log10(K / 10)))
    ticks = np.arange(K) if step == 1 else np.flatnonzero((positions_K + 1) % step == 0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, list(bases) if step == 1 else [f"{positions_K[t] + 1:,}" for t in ticks], fontsize=6)
    ax.tick_params(length=2)
    ax.set_xlabel("base that is looked at", fontsize=8)
    ax.set_ylabel("base that is changed", fontsize=8)
    ax.set_title(f"{chrom}:{positions_K[0] + 1:,}–{positions_K[-1] + 1:,}", loc="left", fontsize=9)
    bar = figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02, extend="max" if map_KK.max() > highest else "neither")
    bar.set_label("dependency, log2 of the odds ratio", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.savefig(target, dpi=150, format="png")
