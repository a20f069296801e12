"""The genomes of a server, by the ids the operator gave them. No request ever names a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from nexvar.errors import NexVarError, note
from nexvar.files import disk_errors
from nexvar.genome.annotation import Annotation, read_annotation
from nexvar.genome.known import KnownVariants
from nexvar.genome.reference import Fasta
from nexvar.genome.signals import Signal
from nexvar.inference.score import make_circular
from nexvar.serve.errors import NotFound
from nexvar.serve.settings import Settings

BIG = 20_000_000  # bytes
BUILT_IN = "chrM"  # the human mitochondrial genome (rCRS) of the package


@dataclass(frozen=True)
class Genome:
    """A reference and what is known of it. tracks: by their names."""

    id: str
    fasta: Fasta
    genes: Annotation | None = None
    known: KnownVariants | None = None
    tracks: dict[str, Signal] = field(default_factory=dict)


class Genomes:
    """Genomes by id; the first is the default."""

    def __init__(self, genomes: Iterable[Genome]) -> None:
        self.by_id = {genome.id: genome for genome in genomes}

    @classmethod
    def open(cls, settings: Settings) -> Genomes:
        """Those of the settings, checked, and the built-in one."""
        paths = dict(settings.genomes)
        paths.setdefault(BUILT_IN, _shipped("chrM_rCRS.fa"))
        for option, ids in (
            ("--genes", settings.genes),
            ("--known", settings.known),
            ("--track", [id_ for id_, _ in settings.tracks]),
        ):
            for id_ in ids:
                if id_ not in paths:
                    raise NexVarError(f"no genome {id_!r}", where=option, fix=f"add --genome {id_}=FILE")
        return cls(_open(id_, path, settings) for id_, path in paths.items())

    def get(self, id_: str | None) -> Genome:
        """The genome called so, None: the default; NotFound."""
        if id_ is None:
            return next(iter(self.by_id.values()))
        if id_ not in self.by_id:
            raise NotFound(f"no genome {id_[:60]!r}", where="genome", fix=f"one of {', '.join(self.by_id)}")
        return self.by_id[id_]


def _open(id_: str, path: Path, settings: Settings) -> Genome:
    fasta = Fasta(path)
    make_circular(fasta, [name for name in settings.circular if fasta.resolve(name)], ())
    genes, known = settings.genes.get(id_), settings.known.get(id_)
    tracks = {name: file for (of, name), file in settings.tracks.items() if of == id_}
    cache = None
    if genes or known or tracks:
        cache = settings.data_dir / "genomes"
        with disk_errors(cache, fix="choose another --data-dir"):
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path == _shipped("chrM_rCRS.fa"):
        genes, known = genes or _shipped("chrM.gff3"), known or _shipped("mtdna_labelled.vcf")
    annotation = None if genes is None else read_annotation(_announced(genes), fasta, cache=cache)
    variants = None if known is None else KnownVariants(_announced(known), fasta, cache=cache)
    signals = {name: Signal(_announced(file), fasta, cache=cache) for name, file in tracks.items()}
    for text in (*(annotation.notes if annotation else ()), *(variants.notes if variants else ())):
        note(text)
    return Genome(id_, fasta, annotation, variants, signals)


def _announced(path: Path) -> Path:
    """The path, once it is said that a big file may take a while."""
    if path.is_file() and path.stat().st_size > BIG:
        note(f"reading {path.name}: the first time it may take a minute")
    return path


def _shipped(name: str) -> Path:
    return Path(str(resources.files("nexvar") / "data" / name))
