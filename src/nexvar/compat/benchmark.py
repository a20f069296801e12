"""The interface of the non-coding variant benchmarks: ``load()``, ``get_embedding``, ``score_variant``.

    model = GenomicModel({"name": "nexvar_mito", "max_length": 512}).load()
    model.get_embedding(seq)            (D,) float32: mean of the last hidden state over the sequence's own tokens
    model.score_variant(ref, alt)       higher = more likely pathogenic

The score is theirs: causal models, log p(ref) - log p(alt), summed; encoders, 1 - cosine of the two embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.readout import distance
from nexvar.nexvar import NexVar


class GenomicModel:
    """config: ``name`` (what ``NexVar`` takes), optionally ``max_length`` (bases; longer input is cut to its middle),
    ``device``, ``dtype`` and ``type`` ("encoder" or "causal": checked against the model)."""

    def __init__(self, config: dict[str, Any]) -> None:
        if not isinstance(config, Mapping):
            what = f"config is {arguments.described(config)}"
            raise NexVarError(what, where="config", fix='such as {"name": "nexvar_mito"}')
        if "name" not in config:
            raise NexVarError("no name of a model", where="config", fix='such as {"name": "nexvar_mito"}')
        self.config, self.model_name = config, str(config["name"])
        self.model: NexVar | None = None

    def load(self) -> GenomicModel:
        """Load the checkpoint; the object itself comes back."""
        options = {key: self.config[key] for key in ("device", "dtype") if key in self.config}
        model = NexVar(self.config["name"], **options)
        kind = "causal" if model.card.objective == "causal" else "encoder"
        if self.config.get("type", kind) != kind:
            raise NexVarError(f"{model.card.name} is {kind}, not {self.config['type']}", where="config type")
        self.model = model
        self.model_type = kind
        longest = arguments.whole(self.config.get("max_length", model.card.context), "config max_length", 1)
        self.max_length = min(longest, model.card.context)
        return self

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self._loaded().model.parameters())

    def get_embedding(self, seq: str) -> np.ndarray:
        """(D,) float32."""
        pooled_D: np.ndarray = self._loaded().embed([self._cut(seq)])[0].numpy()
        return pooled_D

    def score_variant(self, ref_seq: str, alt_seq: str) -> float:
        """See above; 0.0 for equal sequences. Both are cut to the same middle where they are too long."""
        model, ref, alt = self._loaded(), self._cut(ref_seq), self._cut(alt_seq)
        if self.model_type == "causal":
            ref_ll, alt_ll = model.score_sequences([ref, alt], reduce_method="sum")
            return ref_ll - alt_ll
        ref_D, alt_D = model.embed([ref, alt])
        return float(distance(ref_D[None], alt_D[None], "cosine")[0])

    def _loaded(self) -> NexVar:
        if self.model is None:
            raise NexVarError("the model is not loaded", where=self.model_name, fix="call load() first")
        return self.model

    def _cut(self, seq: str) -> str:
        arguments.text(seq, "seq", "give a string of bases")
        extra = max(0, len(seq) - self.max_length)
        return seq[extra // 2 : extra // 2 + self.max_length]
