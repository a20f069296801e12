"""Everything a running server holds. Routes find it at ``request.app.state.server``."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexvar.serve.genomes import Genomes
from nexvar.serve.metrics import Metrics
from nexvar.serve.models import Models
from nexvar.serve.settings import Settings
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
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False

    @classmethod
    def open(cls, settings: Settings) -> Server:
        """Open what the settings name; NexVarError for the first thing that is wrong."""
        genomes = Genomes.open(settings)
        models = Models.open(settings.models, allow_load=settings.allow_load)
        return cls(settings, models, genomes, ModelThread(settings.queue))

    def close(self) -> None:
        self.thread.close()
