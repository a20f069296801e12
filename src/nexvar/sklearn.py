"""NexVar as scikit-learn's estimators: sequences in, embeddings or predictions out; `pip install 'nexvar[sklearn]'`.

    make_pipeline(Embedder("nexvar_mito", cache="embeddings"), StandardScaler(), LogisticRegression())
    Classifier("nexvar_mito").fit(sequences, labels).predict(["ACGT…"])

An X is a list, or an array of one dimension, of DNA as text. Models are loaded at ``fit`` and shared by clones of an
estimator, so that a grid search loads one. With ``cache``, a folder, embeddings are kept for other fits and runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nexvar.errors import NexVarError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise NexVarError("scikit-learn is not installed", fix="pip install 'nexvar[sklearn]'") from error

from nexvar.inference.core.embedding_cache import EmbeddingCache, identity
from nexvar.inference.embed import embed
from nexvar.weights.load import Loaded, load


@lru_cache(maxsize=1)
def _loaded(model: str | Path, device: str) -> Loaded:
    return load(model, device=device)


class _OfModel(BaseEstimator):
    """What all of them have: a model, how it embeds, and sequences for an X."""

    def __init__(
        self,
        model: str | Path = "nexvar_mito",
        layer: str | None = None,
        pool: str = "mean",
        strand: str = "forward",
        cache: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.layer = layer
        self.pool = pool
        self.strand = strand
        self.cache = cache
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        return tags


def _texts(X: Any) -> list[str]:
    """The sequences of an X; NexVarError for anything else."""
    if isinstance(X, str) or not hasattr(X, "__len__"):
        raise NexVarError("one sequence", where="X", fix="a list of sequences")
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not len(values):
        raise NexVarError(f"an array of shape {values.shape}", where="X", fix="a list of sequences")
    odd = next((i for i, text in enumerate(values) if not isinstance(text, str)), None)
    if odd is not None:
        raise NexVarError(f"sequence {odd} is a {type(values[odd]).__name__}", where="X", fix="DNA as text")
    return [str(text) for text in values]


class Embedder(TransformerMixin, _OfModel):
    """Sequences -> pooled embeddings, (N, width) float32; nothing is learned.

    model: a name or a folder, as of ``NexVar``. layer, pool, strand: as of ``NexVar.embed``. cache: a folder.
    """

    def fit(self, X: Sequence[str], y: Any = None) -> Embedder:
        """Load the model. X: only looked at."""
        _texts(X)
        if self.pool == "none":
            raise NexVarError("pool 'none' gives a row a token", where="pool", fix="'mean', 'max', 'last' or 'cls'")
        self.loaded_ = _loaded(self.model, self.device)
        return self

    def transform(self, X: Sequence[str]) -> np.ndarray:
        """(N, width) float32."""
        check_is_fitted(self, "loaded_")
        cache = None if self.cache is None else EmbeddingCache(self.cache, identity(self.loaded_))
        made = embed(self.loaded_, _texts(X), layer=self.layer, pool=self.pool, strand=self.strand, cache=cache)
        assert isinstance(made, Tensor)  # one layer, pooled
        vectors: np.ndarray = made.numpy()
        self.n_features_out_ = vectors.shape[1]
        return vectors

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``embedding0`` …; known after a ``transform``."""
        check_is_fitted(self, "n_features_out_")
        return np.array([f"embedding{i}" for i in range(self.n_features_out_)], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        """Without the model, which ``fit`` or unpickling finds again."""
        return {name: value for name, value in super().__getstate__().items() if name != "loaded_"} | {
            "_fitted": hasattr(self, "loaded_")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        fitted = state.pop("_fitted", False)
        super().__setstate__(state)
        if fitted:
            self.loaded_ = _loaded(self.model, self.device)


class _OnEmbeddings(_OfModel):
    """A linear model of standardised embeddings; the parameters are the Embedder's, and the strength of the penalty."""

    pipeline_: Pipeline

    def _embedder(self) -> Embedder:
        return Embedder(self.model, self.layer, self.pool, self.strand, self.cache, self.device)

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """(N,): labels or numbers."""
        check_is_fitted(self, "pipeline_")
        made: np.ndarray = self.pipeline_.predict(_texts(X))
        return made


class Classifier(ClassifierMixin, _OnEmbeddings):
    """Logistic regression on the embeddings of a frozen model. C: as of scikit-learn's LogisticRegression."""

    def __init__(
        self,
        model: str | Path = "nexvar_mito",
        layer: str | None = None,
        pool: str = "mean",
        strand: str = "forward",
        cache: str | Path | None = None,
        device: str = "auto",
        C: float = 1.0,
        class_weight: Any = None,
    ) -> None:
        super().__init__(model, layer, pool, strand, cache, device)
        self.C = C
        self.class_weight = class_weight

    def fit(self, X: Sequence[str], y: Any) -> Classifier:
        """X: N sequences. y: (N,) labels of two or more classes."""
        linear = LogisticRegression(C=self.C, class_weight=self.class_weight, max_iter=1000)
        self.pipeline_ = make_pipeline(self._embedder(), StandardScaler(), linear).fit(_texts(X), y)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """(N, classes), in the order of ``classes_``."""
        check_is_fitted(self, "pipeline_")
        made: np.ndarray = self.pipeline_.predict_proba(_texts(X))
        return made

    def decision_function(self, X: Sequence[str]) -> np.ndarray:
        """(N,) of two classes, (N, classes) of more."""
        check_is_fitted(self, "pipeline_")
        made: np.ndarray = self.pipeline_.decision_function(_texts(X))
        return made


class Regressor(RegressorMixin, _OnEmbeddings):
    """Ridge regression on the embeddings of a frozen model. alpha: as of scikit-learn's Ridge."""

    def __init__(
        self,
        model: str | Path = "nexvar_mito",
        layer: str | None = None,
        pool: str = "mean",
        strand: str = "forward",
        cache: str | Path | None = None,
        device: str = "auto",
        alpha: float = 1.0,
    ) -> None:
        super().__init__(model, layer, pool, strand, cache, device)
        self.alpha = alpha

    def fit(self, X: Sequence[str], y: Any) -> Regressor:
        """X: N sequences. y: (N,) numbers."""
        linear = Ridge(alpha=self.alpha)
        self.pipeline_ = make_pipeline(self._embedder(), StandardScaler(), linear).fit(_texts(X), y)
        return self
