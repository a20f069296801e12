"""Everything a running server holds. Routes find it at ``request.app.state.server``."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexvar.inference.core.tags import Taxonomy
from nexvar.serve.genomes import Genomes
from nexvar.serve.jobs import Jobs
from nexvar.serve.judges import Judges
from nexvar.serve.metrics import Metrics
from nexvar.serve.models import Models
from nexvar.serve.settings import Settings
from nexvar.serve.store import Store
from nexvar.serve.worker import ModelThread


@dataclass
class Server:
    """models and genomes are open when it is made; the thread runs; ``close`` ends what runs.

    draining: SIGTERM came, ``ready`` says no.
    """

    settings: Settings
    models: Models
    genomes: Genomes
    thread: ModelThread
    store: Store
    taxonomy: Taxonomy | None = None
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False

    def __post_init__(self) -> None:
        calibration = self.settings.calibration
        self.judges = None if calibration is None else Judges.open(calibration, self.models, self.genomes)
        self.jobs = Jobs(self.store, self.thread, self.models, self.genomes, self.settings, self.metrics)

    @classmethod
    def open(cls, settings: Settings) -> Server:
        """Open what the settings name; NexVarError for the first thing that is wrong."""
        store = Store(settings.data_dir, max_bytes=settings.data_gb * 1e9)
        genomes = Genomes.open(settings)
        models = Models.open(settings.models, allow_load=settings.allow_load)
        taxonomy = None if settings.taxonomy is None else Taxonomy(settings.taxonomy)
        return cls(settings, models, genomes, ModelThread(settings.queue), store, taxonomy)

    def close(self) -> None:
        self.jobs.close()
        self.thread.close()
        self.store.close()
