"""Which model, and how it lies in memory: what travels from a command line to the process that loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexvar.weights.load import Loaded, load

BUILT_IN = "nexvar_mito"


@dataclass(frozen=True)
class ModelChoice:
    """A model that is not loaded yet; plain values, which every process can be sent.

    source: a name, alias, hub repository or folder; None is the built-in model. The others: see ``load``.
    """

    source: str | Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str | None = None
    device_map: str | None = None

    def load(self) -> Loaded:
        """The model in memory; NexVarError as from ``load``."""
        return load(
            self.source or BUILT_IN,
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            device_map=self.device_map,
        )


def loaded_model(model: ModelChoice | Loaded) -> Loaded:
    """The model itself, loaded now unless it is already."""
    return model.load() if isinstance(model, ModelChoice) else model
