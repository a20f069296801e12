"""A user's own wrapper of a model: scores and embeddings of windows, whatever its code does.

Any object with these members will do; ``nexvar.compat.noncoding.GenomicModelBase`` has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nexvar.errors import NexVarError
from nexvar.genome.windows import Windows

HERE = Path(__file__).resolve().parents[2]  # of NexVar's own code, which changes with each release
_AT_ONCE = 512  # sequences whose embeddings are kept together


class Wrapped(Protocol):
    """model_name: how it is called. Scores: higher = more likely pathogenic."""

    model_name: str

    def load(self) -> Any: ...
    def score_variant(self, ref_seq: str, alt_seq: str) -> float: ...
    def score_variants_batch(self, ref_seqs: Sequence[str], alt_seqs: Sequence[str]) -> np.ndarray: ...
    def get_embeddings_batch(self, sequences: Sequence[str]) -> np.ndarray: ...
    @property
    def num_parameters(self) -> int: ...


def load(model: Wrapped) -> None:
    """NexVarError where its code fails."""
    try:
        model.load()
    except Exception as error:
        raise _failed(model, error) from error


def parameters(model: Wrapped) -> int:
    """How many it says; 0 where it does not."""
    try:
        return int(model.num_parameters)
    except Exception:
        return 0


def digest(model: Wrapped) -> str:
    """Of the files of its own code, and of its config: what it says depends on them."""
    codes = (getattr(member, "__code__", None) for cls in type(model).__mro__ for member in vars(cls).values())
    files = {Path(code.co_filename) for code in codes if code is not None}
    found = hashlib.sha256(repr(getattr(model, "config", None)).encode())
    for path in sorted(path for path in files if path.is_file() and HERE not in path.parents):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def scores(model: Wrapped, windows: Sequence[Windows]) -> tuple[np.ndarray, str]:
    """((N,) float64, NaN where it fails on a variant or gives no number; a note of how many, or nothing).

    NexVarError where it fails on all. A batch that fails is asked again, one variant at a time.
    """
    refs, alts = [w.ref_seq for w in windows], [w.alt_seq for w in windows]
    first: Exception | None = None
    try:
        found_N = np.asarray(model.score_variants_batch(refs, alts), dtype=np.float64)
        if found_N.shape != (len(windows),):
            what = f"score_variants_batch gives the shape {found_N.shape}"
            raise NexVarError(what, where=model.model_name, fix=f"({len(windows)},): one score a variant")
    except NexVarError:
        raise
    except Exception as error:
        first, found_N = error, np.full(len(windows), np.nan)
        for i, (ref, alt) in enumerate(zip(refs, alts, strict=True)):
            try:
                found_N[i] = model.score_variant(ref, alt)
            except Exception as error:
                first = error
    found_N[~np.isfinite(found_N)] = np.nan
    missing = int(np.isnan(found_N).sum())
    if missing == len(windows):
        raise _failed(model, first or ValueError("no score is a finite number"))
    why = f" ({type(first).__name__}: {first})" if first is not None and missing else ""
    return found_N, f"{missing:,} variants without a score{why}" if missing else ""


def embeddings(model: Wrapped, windows: Sequence[Windows]) -> tuple[np.ndarray, np.ndarray]:
    """((N, D), (N, D)) float32: of the reference and the alternative windows, each sequence once; zeros where there is
    none. NexVarError where it fails, or gives anything but finite rows of one width."""
    texts = list(dict.fromkeys(text for w in windows for text in (w.ref_seq, w.alt_seq) if text))
    rows: dict[str, np.ndarray] = {"": np.empty(0)}
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        try:
            made = np.asarray(model.get_embeddings_batch(some), dtype=np.float32)
        except Exception as error:
            raise _failed(model, error) from error
        if made.ndim != 2 or len(made) != len(some) or not made.size or not np.isfinite(made).all():
            what = f"get_embeddings_batch gives the shape {made.shape}, or what is no finite number"
            raise NexVarError(what, where=model.model_name, fix=f"({len(some)}, D): a row for each sequence")
        rows.update(zip(some, made, strict=True))
    if len(widths := {row.shape for text, row in rows.items() if text}) > 1:
        raise NexVarError(f"embeddings of {len(widths)} widths", where=model.model_name, fix="one width for all")
    rows[""] = np.zeros_like(made[0])
    ref_ND, alt_ND = (np.stack([rows[text] for text in side])
                      for side in ([w.ref_seq for w in windows], [w.alt_seq for w in windows]))  # fmt: skip
    return ref_ND, alt_ND


def _failed(model: Wrapped, error: Exception) -> NexVarError:
    if isinstance(error, NexVarError):
        return error
    return NexVarError(f"{type(error).__name__}: {error}", where=model.model_name)
