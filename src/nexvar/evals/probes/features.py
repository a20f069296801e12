"""What a linear model reads of a sequence: embeddings of a model's layers, k-mers, composition and length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nexvar.errors import NexVarError
from nexvar.inference.core.embedding_cache import EmbeddingCache, identity
from nexvar.inference.embed import embed
from nexvar.models import block_taps
from nexvar.train.init import fresh
from nexvar.train.labels import Rows
from nexvar.weights.load import Loaded

LONGEST = 5  # of the k-mers that are counted
CODES = np.full(256, -1, dtype=np.int64)
for _i, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    for _letter in _letters:
        CODES[ord(_letter)] = _i

Features = dict[str, np.ndarray]  # name of a candidate (a layer) -> (N, D) float32


def of_rows(rows: Rows, make: Callable[[Sequence[str]], Features], pair: str) -> Features:
    """The features of every row's sequence; of a pair, both side by side, or the second's minus the first's."""
    first = make(rows.texts)
    if not pair or not rows.alternatives:
        return first
    is_pair = np.array([bool(text) for text in rows.alternatives])
    if pair == "concatenate" and not is_pair.all():
        raise NexVarError("a row without a second sequence", where="alternative", fix='pair = "difference"')
    second = make([other or text for text, other in zip(rows.texts, rows.alternatives, strict=True)])
    if pair == "concatenate":
        return {name: np.concatenate([first[name], second[name]], 1) for name in first}
    return {name: np.where(is_pair[:, None], second[name] - first[name], first[name]) for name in first}


def of_model(
    loaded: Loaded, texts: Sequence[str], pool: str, layers: Sequence[str], cache: str | Path | None
) -> Features:
    """Pooled embeddings of each layer; of all blocks and the last hidden state where none is named."""
    chosen = list(layers) or list(dict.fromkeys([*block_taps(loaded.module.tap_names), loaded.module.last_hidden]))
    kept = None if cache is None else EmbeddingCache(cache, identity(loaded))
    made = embed(loaded, texts, layer=chosen, pool=pool, cache=kept)
    assert isinstance(made, dict)
    return {name: np.asarray(vectors, dtype=np.float32) for name, vectors in made.items()}


def with_random_weights(loaded: Loaded, seed: int) -> Loaded:
    """A model of the same shape that has learned nothing; no layer is silent, as one may be where training starts."""
    module = fresh(loaded.card.architecture, loaded.module.config, seed)
    module.init_weights(torch.Generator().manual_seed(seed))
    return replace(loaded, module=module.to(loaded.device, loaded.dtype).eval())


def kmers(texts: Sequence[str]) -> np.ndarray:
    """(N, 1364) float32: how often each word of 1 to 5 bases stands in a sequence, per base; words with N count not."""
    sizes = [4**k for k in range(1, LONGEST + 1)]
    table = np.zeros((len(texts), sum(sizes)), dtype=np.float32)
    for row, text in zip(table, texts, strict=True):
        codes = codes_of(text)
        at = 0
        for k, size in enumerate(sizes, 1):
            words = words_of(codes, k)
            row[at : at + size] = np.bincount(words, minlength=size) / max(len(codes), 1)
            at += size
    return table


def positions(texts: Sequence[str]) -> np.ndarray:
    """(N, 4 L) float32: which base stands where, in sequences of one length."""
    codes = np.stack([codes_of(text) for text in texts])
    return (codes[:, :, None] == np.arange(4)).reshape(len(texts), -1).astype(np.float32)


def composition(texts: Sequence[str]) -> np.ndarray:
    """(N, 3) float32: the share of G and C, its square, and the logarithm of the length."""
    codes = [codes_of(text) for text in texts]
    gc = np.array([np.isin(c, (1, 2)).mean() if len(c) else 0.0 for c in codes])
    return np.stack([gc, gc**2, np.log([max(len(c), 1) for c in codes])], 1).astype(np.float32)


def codes_of(text: str) -> np.ndarray:
    """(L,) int64: 0 to 3 for A, C, G, T; -1 for other letters."""
    return CODES[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]


def words_of(codes: np.ndarray, k: int) -> np.ndarray:
    """The number of each word of ``k`` bases, from left to right, base 4; words with another letter are left out."""
    if len(codes) < k:
        return np.zeros(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, k)
    return (windows @ (4 ** np.arange(k - 1, -1, -1)))[(windows >= 0).all(1)]
