"""What a model says of sequences: embeddings, likelihoods of every base, N filled in."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

from nexvar.errors import RESEARCH_ONLY, NexVarError
from nexvar.inference import embed as embedding
from nexvar.inference.fill import fill as _fill
from nexvar.inference.per_base import per_base
from nexvar.serve import limits
from nexvar.serve.service.provenance import Provenance, provenance
from nexvar.serve.service.score import finite, nested
from nexvar.weights.load import Loaded

Embeddings = dict[str, "Tensor | list[Tensor]"]  # layer -> (N, D), or with pool "none" (tokens, D) of each sequence


def embed(
    loaded: Loaded,
    sequences: Sequence[str],
    layer: str | Sequence[str] | None = None,
    pool: str = "mean",
    strand: str = "forward",
    *,
    most_values: int = limits.EMBED_BYTES // 4,
) -> tuple[Embeddings, Provenance]:
    """As ``NexVar.embed``, always by layer. NexVarError for more than ``most_values`` numbers."""
    settings = embedding.check(loaded, layer, pool, strand)
    rows = sum(map(len, sequences)) if pool == "none" else len(sequences)
    values = rows * len(settings.layers) * loaded.module.config.width
    if values > most_values:
        fix = "fewer or shorter sequences, fewer layers, or `nexvar embed`"
        raise NexVarError(f"about {values:,} numbers, {most_values:,} are allowed", where="sequences", fix=fix)
    made = embedding.embed(loaded, sequences, layer=list(settings.layers), pool=pool, strand=strand)
    return cast("Embeddings", made), provenance(
        loaded, "embedding", strand=strand, layer=", ".join(settings.layers), pool=pool
    )


def embed_values(
    loaded: Loaded,
    sequences: Sequence[str],
    layer: str | Sequence[str] | None = None,
    pool: str = "mean",
    strand: str = "forward",
) -> dict[str, Any]:
    """``embed`` as plain values; rows of tokens are too many for that."""
    if pool == "none":
        raise NexVarError("embeddings of every token are too many numbers for JSON", where="pool", fix='format "npz"')
    made, said = embed(loaded, sequences, layer, pool, strand, most_values=limits.EMBED_JSON_VALUES)
    values = {name: nested(np.asarray(rows)) for name, rows in made.items()}
    return {"embeddings": values, "provenance": said}


def embed_npz(
    loaded: Loaded,
    sequences: Sequence[str],
    layer: str | Sequence[str] | None = None,
    pool: str = "mean",
    strand: str = "forward",
) -> bytes:
    """``embed`` as an .npz of float32: ``LAYER`` (N, D), or of pool "none" ``LAYER/i`` (tokens, D); ``provenance``."""
    made, said = embed(loaded, sequences, layer, pool, strand)
    arrays: dict[str, np.ndarray] = {"provenance": np.array(json.dumps(said))}
    for name, rows in made.items():
        if isinstance(rows, Tensor):
            arrays[name] = rows.numpy()
        else:
            arrays |= {f"{name}/{i}": each.numpy() for i, each in enumerate(rows)}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # names of arrays, not of its options
    return file.getvalue()


def likelihood(loaded: Loaded, sequences: Sequence[str], strand: str = "forward") -> dict[str, Any]:
    """Log-probability and entropy of every base, as ``NexVar.likelihoods``."""
    bases = sum(map(len, sequences))
    if bases > limits.LIKELIHOOD_BASES:
        fix = f"at most {limits.LIKELIHOOD_BASES:,} at once, or `nexvar likelihood`"
        raise NexVarError(f"{bases:,} bases", where="sequences", fix=fix)
    made = per_base(loaded, sequences, strand=strand)
    return {
        "sequences": [
            {
                "strands": list(each.strands),
                "log_probs": nested(each.log_probs_SL),
                "entropies": nested(each.entropies_SL),
            }
            for each in made
        ],
        "notes": [RESEARCH_ONLY],
        "provenance": provenance(loaded, "log-probability of every base", strand=strand),
    }


def fill(
    loaded: Loaded, sequences: Sequence[str], steps: int | None = None, temperature: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """Every N replaced, as ``NexVar.fill``."""
    made = _fill(loaded, sequences, steps=steps, temperature=temperature, seed=seed)
    return {
        "filled": [
            {
                "sequence": each.sequence,
                "positions": each.positions,
                "probabilities": nested(each.probabilities),
                "log_probs": nested(each.log_probs),
                "score": finite(each.score),
            }
            for each in made
        ],
        "provenance": provenance(loaded, "fill", steps=steps, temperature=temperature, seed=seed),
    }
