"""The genomes of a server, by the ids the operator gave them. No request ever names a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.inference.score import make_circular
from nexvar.serve.errors import NotFound
from nexvar.serve.settings import Settings

BUILT_IN = "chrM"  # the human mitochondrial genome (rCRS) of the package


@dataclass(frozen=True)
class Genome:
    """A reference and what is known of it. tracks: name -> file."""

    id: str
    fasta: Fasta
    tracks: dict[str, Path] = field(default_factory=dict)


class Genomes:
    """Genomes by id; the first is the default."""

    def __init__(self, genomes: Iterable[Genome]) -> None:
        self.by_id = {genome.id: genome for genome in genomes}

    @classmethod
    def open(cls, settings: Settings) -> Genomes:
        """Those of the settings, checked, and the built-in one."""
        paths = dict(settings.genomes)
        paths.setdefault(BUILT_IN, Path(str(resources.files("nexvar") / "data" / "chrM_rCRS.fa")))
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
    return Genome(id_, fasta, {name: file for (of, name), file in settings.tracks.items() if of == id_})
