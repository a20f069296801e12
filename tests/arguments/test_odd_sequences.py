"""What every verb does with a row of sequences of another kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from odd_values import (
    NO_SEQUENCES,
    SEQS,
    SEQUENCES,
    refused,
    values,
)

VERBS: dict[str, Callable[..., Any]] = {
    "score_sequences": lambda m, s: m.score_sequences(s),
    "embed": lambda m, s: m.embed(s).tolist(),
    "generate": lambda m, s: m.generate(s, 2, seed=1).token_ids,
    "generate_stream": lambda m, s: list(m.generate_stream(s, 2, seed=1)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("bad", values(*NO_SEQUENCES))
def test_what_is_no_row_of_sequences_is_refused(model, verb, bad):
    refused(lambda: VERBS[verb](model, bad))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("make", values(*SEQUENCES))
def test_every_row_of_sequences_is_as_good_as_a_list(model, verb, make):
    assert VERBS[verb](model, make(SEQS)) == VERBS[verb](model, SEQS)


@pytest.mark.parametrize("bad", values(*NO_SEQUENCES))
def test_so_it_is_for_the_other_models(masked, transformer, predictor, bad):
    refused(lambda: masked.fill(bad))
    refused(lambda: transformer.attention_maps(bad, [0]))
    refused(lambda: predictor.predict(bad))


@pytest.mark.parametrize("make", values(*SEQUENCES))
def test_so_it_is_for_the_other_models_rows(masked, transformer, predictor, make):
    assert [f.sequence for f in masked.fill(make(["ACGNACGT"]))] == [f.sequence for f in masked.fill(["ACGNACGT"])]
    assert len(transformer.attention_maps(make(SEQS), [0])[0]) == 2
    assert predictor.predict(make(SEQS)) == predictor.predict(SEQS)


def test_pandas_columns(model):
    pandas = pytest.importorskip("pandas")
    for series in (pandas.Series(SEQS), pandas.Series(SEQS, index=[5, 7]), pandas.array(SEQS, dtype="string")):
        assert model.score_sequences(series) == model.score_sequences(SEQS)
    refused(lambda: model.score_sequences(pandas.DataFrame({"Sequence": SEQS})))
