"""A job: what is computed, of what, by which model, where, and how it reports. Built once, handed on whole.

    job = ScoreJob(
        InputFiles("ref.fa", "in.vcf"), "out.vcf.gz",
        model=ModelChoice("nexvar_7b", device="cuda"), options=Options(window=8192), placement=Placement(workers=4),
        progress=lambda done, total: print(done, "of", total), stop=event.is_set,
    )
    summary = score_file(job)                       # score_run.py; EmbedJob: embed_run.py;
                                                    # LikelihoodJob: likelihood_run.py; AnnotateJob: annotate_run.py

The command line, Python, worker processes, a cluster and a server all start from it. What can be wrong with values
alone is found when the object is made, what is wrong with files when the job is run; both are a NexVarError.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.annotate import THRESHOLD, Caller
from nexvar.inference.options import Options
from nexvar.inference.per_base import STRANDS
from nexvar.paths import Read, Write, check_apart
from nexvar.runs.executor import Executor
from nexvar.runs.parts import Shard, parts_folder
from nexvar.weights.choice import ModelChoice
from nexvar.weights.load import Loaded

ENGINES = ("local", "ray")
# Options of the command that say where and how fast, not what: the recorded command is the same without them.
_WHERE_OPTIONS = ("--shard", "--workers", "--engine", "--ray-address", "--cache", "--cache-gb")

Progress = Callable[[int, int], None]  # called with how many alleles (sequences) are done, and of how many
Stop = Callable[[], bool]  # asked again and again whether the run should end
Outputs = str | Path | Sequence[str | Path]


class Stopped(NexVarError):
    """A job whose ``stop`` said True. Finished parts are kept: the same job goes on from there."""


@dataclass(frozen=True)
class InputFiles:
    """Variants and their genome.

    fasta: the reference. variants: VCF or BCF ("-": standard input), .tsv, .hgvs, or variants as text
    (``chr17:41197722T>A``). saturate: in their place, every SNV of a region such as ``chr17:41,197,000-41,198,000``
    (1-based, inclusive). synonyms, circular: see ``genome.Fasta``. regions: a BED file; variants outside get a status
    instead of a score. haplotypes: in place of alleles, the haplotypes of ``sample`` (by default the only one): what
    stands on one copy within half a window acts together.
    """

    fasta: str | Path
    variants: str | Path | Sequence[str] | None = None
    saturate: str | None = None
    synonyms: str | Path | None = None
    circular: tuple[str, ...] = ()
    regions: str | Path | None = None
    haplotypes: bool = False
    sample: str | None = None

    def __post_init__(self) -> None:
        if (self.variants is None) == (self.saturate is None):
            raise NexVarError("give variants or a region to saturate, one of them")
        if self.sample is not None and not self.haplotypes:
            raise NexVarError("a sample without --haplotype", where="--sample", fix="add --haplotype")

    @property
    def files(self) -> list[str | Path]:
        """Those that an output must not replace."""
        given = (self.fasta, self.variants, self.synonyms, self.regions)
        return [path for path in given if isinstance(path, (str, Path))]

    @property
    def paths(self) -> dict[str, str | list[str] | None]:
        """For ``merge``, in another process: absolute paths, and what is no path as it is."""
        variants = self.variants
        if variants is not None and not isinstance(variants, (str, Path)):
            kept: str | list[str] | None = list(variants)
        else:
            kept = _absolute(variants)
        paths = {"fasta": _absolute(self.fasta), "synonyms": _absolute(self.synonyms)}
        regions = _absolute(self.regions)
        return {"variants": kept, **paths, "saturate": self.saturate, "regions": regions}


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


@dataclass(frozen=True)
class Placement:
    """Where a job is computed; none of it changes a score.

    shard: (i, n), 1-based: only every n-th part; ``merge`` (or a run without shard) makes the outputs of all of them.
    workers: processes, each with the model: one per GPU, or on the CPU; default: this process alone. engine: "ray"
    makes them actors of the cluster at ray_address (default: one that is started here), as many as it has GPUs.
    cache: a folder where pooled embeddings are kept for other runs, up to cache_gb (embedding readouts).
    """

    shard: Shard | None = None
    workers: int | None = None
    engine: str = "local"
    ray_address: str | None = None
    cache: str | Path | None = None
    cache_gb: float = 10.0

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise NexVarError(f"no engine {self.engine!r}", where="--engine", fix=f"one of {', '.join(ENGINES)}")
        if self.workers is not None and self.workers < 1:
            raise NexVarError(f"{self.workers} workers", where="--workers", fix="1 or more")
        if self.ray_address is not None and self.engine != "ray":
            raise NexVarError("an address without --engine ray", where="--ray-address", fix="add --engine ray")
        if not 0 < self.cache_gb < 1e6:
            raise NexVarError(f"a cache of {self.cache_gb} GB", where="--cache-gb", fix="above 0")
        if self.shard is not None:
            check_shard(self.shard)

    @property
    def here(self) -> bool:
        """Whether this process computes."""
        return self.engine == "local" and (self.workers or 1) == 1


@dataclass(frozen=True)
class ScoreJob:
    """Variants + genome -> one or more of .vcf, .vcf.gz (indexed), .tsv, .parquet, .bw, .png, in one pass.

    outputs: one or several ("-" is a VCF on standard output); none for ``dry_run`` alone. model: without a source, the
    built-in model, for mitochondrial variants only; an already loaded model stays in this process. command: to be
    recorded in the outputs.
    spreadsheet_safe: in a TSV, text that begins like a formula gets a ' before it. calibration: a file of
    ``nexvar calibrate``, which adds PROBABILITY and EVIDENCE.

    progress(done, total): alleles; called at the start, then after every batch. stop(): asked as often; True ends the
    run with ``Stopped``; it is asked while files are read and written, too. Both are called in the thread that runs the
    job. executor: where parts are computed, already
    open, in place of what ``placement`` says; it keeps its model for the next job (executor.py).
    """

    inputs: InputFiles
    outputs: Outputs
    model: ModelChoice | Loaded = ModelChoice()
    options: Options = Options()
    placement: Placement = Placement()
    command: str = ""
    spreadsheet_safe: bool = False
    calibration: str | Path | None = None
    progress: Progress | None = field(default=None, compare=False)
    stop: Stop | None = field(default=None, compare=False)
    executor: Executor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        piped = "-" in (str(self.inputs.variants), *map(str, self.targets[:1]))
        if self.placement.shard is not None and piped:
            raise NexVarError("standard input and output cannot be cut into shards", where="--shard", fix="use files")
        if isinstance(self.model, Loaded) and not self.placement.here:
            raise NexVarError("a loaded model stays in its process", where="model", fix="give its name or folder")

    @property
    def targets(self) -> list[str | Path]:
        return _listed(self.outputs)

    def check_paths(self) -> None:
        """NexVarError where an output would replace what is read; see paths.py."""
        cache = self.placement.cache
        kept = [] if cache is None else [Write(cache, tree=True)]
        also = [] if self.calibration is None else [self.calibration]
        check_apart(_reads([*self.inputs.files, *also], self.model), [*_writes(self.targets), *kept])

    def ask(self) -> None:
        """``Stopped`` if the job says so: between the records of a long file."""
        if self.stop is not None and self.stop():
            raise Stopped("stopped, while its files were read or written", where=self.targets[0], fix=_kept(self))

    @property
    def folder(self) -> Path | None:
        """Where its parts are kept; None for standard output."""
        return parts_folder(self.targets[0])


@dataclass(frozen=True)
class SequenceFiles:
    """A FASTA whose records are meant, or the regions of a BED file (0-based, half-open) on it.

    synonyms: see ``genome.Fasta``.
    """

    fasta: str | Path
    bed: str | Path | None = None
    synonyms: str | Path | None = None

    @property
    def files(self) -> list[str | Path]:
        """Those that an output must not replace."""
        return [path for path in (self.fasta, self.bed, self.synonyms) if path is not None]

    @property
    def paths(self) -> dict[str, str | None]:
        return {"fasta": _absolute(self.fasta), "bed": _absolute(self.bed), "synonyms": _absolute(self.synonyms)}


@dataclass(frozen=True)
class EmbedOptions:
    """What is kept of each sequence; see ``NexVar.embed``. batch_tokens: tokens in one forward (by device)."""

    layer: str | Sequence[str] | None = None
    pool: str = "mean"
    strand: str = "forward"
    batch_tokens: int | None = None


@dataclass(frozen=True)
class LikelihoodOptions:
    """How a track is computed; window, overlap: see inference/core/sliding.py; None: the model's own, a quarter of it.

    strand: "both" (each kept, and the mean), "forward" or "reverse". circular: contigs whose windows wrap around,
    beside mitochondria. batch_tokens: tokens in one forward (by device).
    """

    window: int | None = None
    overlap: int | None = None
    strand: str = "both"
    circular: tuple[str, ...] = ()
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        arguments.wholes(self, window=2, overlap=0, batch_tokens=1)
        arguments.one_of(self.strand, "--strand", STRANDS)


@dataclass(frozen=True)
class AnnotateOptions:
    """How elements are computed and called; see inference/annotate.py.

    window, overlap: None: the model's own, a quarter of it. strand: "forward", "reverse" or "both" (the mean).
    species: of models that ask for one. threshold, gap, min_length: of segments, see ``annotate.Caller``.
    region: ``chr17:41,197,000-41,198,000`` (1-based, inclusive), instead of a BED file. circular: as of a likelihood.
    """

    window: int | None = None
    overlap: int | None = None
    strand: str = "forward"
    species: str | None = None
    threshold: float = THRESHOLD
    gap: int = 0
    min_length: int = 1
    region: str | None = None
    circular: tuple[str, ...] = ()
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        arguments.wholes(self, window=1, overlap=0, batch_tokens=1)
        arguments.one_of(self.strand, "--strand", STRANDS)
        self.caller(())

    def caller(self, names: Sequence[str]) -> Caller:
        """What makes segments of probabilities; NexVarError for a threshold or a length that cannot be."""
        return Caller(names, self.threshold, gap=self.gap, min_length=self.min_length)


@dataclass(frozen=True)
class SequenceJob:
    """What jobs of sequences, ``SequenceFiles``, have in common.

    shard: (i, n), 1-based: every n-th part only; ``merge`` then makes the outputs. progress(done, total): sequences or
    bases; called at the start, then again and again. stop(): asked as often; True ends the run with ``Stopped``.
    """

    inputs: SequenceFiles
    outputs: Outputs
    model: ModelChoice | Loaded = ModelChoice()
    shard: Shard | None = None
    progress: Progress | None = field(default=None, compare=False)
    stop: Stop | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _targets(self.outputs)
        if self.shard is not None:
            check_shard(self.shard)

    @property
    def targets(self) -> list[str | Path]:
        return _targets(self.outputs)

    def check_paths(self) -> None:
        """NexVarError where an output would replace what is read; see paths.py."""
        check_apart(_reads(self.inputs.files, self.model), _writes(self.targets))


@dataclass(frozen=True)
class EmbedJob(SequenceJob):
    """Embeddings of every record of a FASTA, or of every region of a BED file, to one or more files.

    outputs: .parquet, .npz, .h5ad or .zarr (the last two need ``pip install 'nexvar[embed]'``).
    """

    options: EmbedOptions = EmbedOptions()


@dataclass(frozen=True)
class LikelihoodJob(SequenceJob):
    """Log-likelihood and entropy of every base of a FASTA, or of the regions of a BED file, to one or more files.

    outputs: .parquet, .bw (which track: the ending before it, runs/likelihood_run.py).
    """

    options: LikelihoodOptions = LikelihoodOptions()


@dataclass(frozen=True)
class AnnotateJob(SequenceJob):
    """Probabilities of the elements at every base of a FASTA, of the regions of a BED file or of one region.

    outputs: .bw (one for each element, or of the element before the ending), .bed, .gff3 (segments), .parquet.
    """

    options: AnnotateOptions = AnnotateOptions()


def _listed(outputs: Outputs) -> list[str | Path]:
    return [outputs] if isinstance(outputs, (str, Path)) else list(outputs)


def _targets(outputs: Outputs) -> list[str | Path]:
    targets = _listed(outputs)
    if not targets:
        raise NexVarError("no output", where="-o", fix="name a file")
    return targets


def _reads(files: Sequence[str | Path], model: ModelChoice | Loaded) -> list[Read]:
    folder = [model.source] if isinstance(model, ModelChoice) and model.source is not None else []
    return [Read(path) for path in (*files, *folder)]


def _writes(targets: Sequence[str | Path]) -> list[Write]:
    return [Write(path, parts=i == 0) for i, path in enumerate(targets)]


def _kept(job: ScoreJob | SequenceJob) -> str | None:
    return None if parts_folder(job.targets[0]) is None else "finished parts are kept: the same job resumes"


class Watch:
    """What a run tells its job while it computes, how far it is; and what it asks, whether to stop."""

    def __init__(self, job: ScoreJob | SequenceJob, done: int, total: int) -> None:
        self.job, self.done, self.total = job, done, total
        self(0)

    def __call__(self, more: int) -> None:
        """So many more are done (below 0: a worker died in the middle of a part). ``Stopped`` if the job says so."""
        self.done += more
        if self.job.progress is not None:
            self.job.progress(self.done, self.total)
        if self.job.stop is not None and self.job.stop():
            what = f"stopped, {self.done:,} of {self.total:,} were done"
            raise Stopped(what, where=self.job.targets[0], fix=_kept(self.job))


# -- what people type


def one_source(vcf: Path | None, variants: list[str] | None) -> Path | list[str]:
    """The one of the two ways to give variants that was used."""
    if vcf is not None and not variants:
        return vcf
    if variants and vcf is None:
        return variants
    what = "no variants" if vcf is None else "variants twice"
    raise NexVarError(what, where="--vcf", fix="give a file with --vcf, or variants such as 'chr17:41197722T>A'")


def parse_shard(text: str) -> Shard:
    """ "3/8" -> (3, 8)."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and len(text) < 40):
        raise _bad_shard(text)
    return check_shard((int(first), int(last)))


def check_shard(shard: Shard) -> Shard:
    """NexVarError unless it is (i, n) with i from 1 to n."""
    if not 1 <= shard[0] <= shard[1]:
        raise _bad_shard(f"{shard[0]}/{shard[1]}")
    return shard


def _bad_shard(text: str) -> NexVarError:
    return NexVarError(f"shard {text[:40]!r}", where="--shard", fix="i/n with i from 1 to n, such as 3/8")


def recorded(command: str) -> str:
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
