"""scikit-learn's own checks, pipelines, grid searches and pickles with NexVar's estimators."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import nexvar.sklearn
from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.inference import embed
from nexvar.sklearn import Classifier, Embedder, Regressor
from places import GOLDEN

MODEL = GOLDEN / "hyenadna_tiny"


@pytest.fixture(scope="module")
def labelled() -> tuple[list[str], list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    rich = np.arange(80) % 2
    texts = [
        "".join(rng.choice(list("ACGT"), 30, p=[0.1, 0.4, 0.4, 0.1] if gc else [0.4, 0.1, 0.1, 0.4])) for gc in rich
    ]
    return texts, ["rich" if gc else "poor" for gc in rich], np.array([t.count("G") + t.count("C") for t in texts])


@pytest.mark.parametrize("kind", [Embedder, Classifier, Regressor])
def test_scikit_learns_own_checks(kind) -> None:
    """Those that can be asked of something that reads text: it says so when it leaves the others out."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_estimator(kind(MODEL))
    assert all("Can't test estimator" in str(w.message) or "SkipTest" in type(w.message).__name__ for w in told)


def test_embeddings_are_nexvars(labelled) -> None:
    texts = labelled[0][:5]
    found = Embedder(MODEL, pool="max").fit_transform(texts)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, NexVar(MODEL).embed(texts, pool="max").numpy())


def test_a_classifier_and_a_regressor_learn(labelled) -> None:
    texts, labels, counts = labelled
    assert cross_val_score(Classifier(MODEL), texts, labels, cv=4).mean() > 0.9
    model = Classifier(MODEL).fit(texts, labels)
    assert list(model.classes_) == ["poor", "rich"] and model.predict_proba(texts).shape == (80, 2)
    assert (model.predict(texts) == np.where(model.decision_function(texts) > 0, "rich", "poor")).all()
    assert Regressor(MODEL, alpha=0.1).fit(texts, counts).score(texts, counts) > 0.8


def test_a_pipeline_is_searched_with_one_model_and_a_cache(labelled, tmp_path: Path, monkeypatch) -> None:
    texts, labels, _ = labelled
    computed: list[str] = []
    inner = embed.vectors

    def counted(loaded, texts, *args, **named):
        computed.extend(texts)
        return inner(loaded, texts, *args, **named)

    monkeypatch.setattr(embed, "vectors", counted)
    nexvar.sklearn._loaded.cache_clear()
    pipeline = make_pipeline(Embedder(MODEL, cache=tmp_path / "kept"), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(texts, labels)
    assert search.best_score_ > 0.9
    assert sorted(computed) == sorted(set(texts))
    assert nexvar.sklearn._loaded.cache_info().misses == 1


def test_clones_and_pickles(labelled) -> None:
    texts, labels, _ = labelled
    model = Classifier(MODEL, C=0.5).fit(texts, labels)
    assert clone(model).get_params() == model.get_params()
    data = pickle.dumps(model)
    assert len(data) < 100_000  # without the weights
    np.testing.assert_array_equal(pickle.loads(data).predict_proba(texts), model.predict_proba(texts))


@pytest.mark.parametrize(
    ("X", "says"),
    [("ACGT", "one sequence"), ([1.0, 2.0], "sequence 0 is a float"), ([["ACGT", "AC"]], "an array of shape"),
     ([], "an array of shape"), (["ACGT", None], "sequence 1 is a NoneType"), (["MKVL"], "protein|not DNA|letter")],
)  # fmt: skip
def test_what_is_no_list_of_sequences_is_one_line(X, says: str) -> None:
    with pytest.raises(NexVarError, match=says):
        Embedder(MODEL).fit_transform(X)


def test_a_row_a_token_is_no_feature() -> None:
    with pytest.raises(NexVarError, match="pool 'none' gives a row a token"):
        Embedder(MODEL, pool="none").fit(["ACGT"])
