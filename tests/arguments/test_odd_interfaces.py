"""The same of the functions that nexvar.compat offers."""

from __future__ import annotations

import numpy as np
import pytest

from nexvar.compat import helical
from nexvar.compat.evo2 import Evo2
from nexvar.compat.noncoding import GenomicModel
from odd_values import (
    NO_SEQUENCES,
    refused,
    values,
)
from places import GOLDEN


@pytest.mark.parametrize("bad", values(*NO_SEQUENCES))
def test_sequences_of_evo2(bad):
    model = Evo2("evo2_7b", local_path=GOLDEN / "sh2_a", device="cpu")
    refused(lambda: model.generate(bad, 2))


@pytest.mark.parametrize(
    "bad", values(b"A", None, 5, True, {"a": "b"}, [b"A"], [None], [5], [""], np.array([["A"]]), "", object())
)
def test_sequences_of_helical(bad):
    model = helical.Evo2(helical.Evo2Config(str(GOLDEN / "sh2_a"), device="cpu"))
    refused(lambda: model.process_data(bad))
    refused(lambda: model.get_embeddings(bad))
    refused(lambda: model.get_embeddings(model.process_data(["ACGT"]), ["blocks.0"]))
    for none in (5, "x", {}):
        refused(lambda none=none: helical.Evo2(none))
        refused(lambda none=none: GenomicModel(none))


@pytest.mark.parametrize(
    ("option", "bad"),
    [("embeddings_layers_to_save", bad) for bad in ("1", 1, [0], [99], [1.5], [True], None)]
    + [("attention_maps_to_save", bad) for bad in ("1", 1, [1], [(0, 1)], [(99, 1)], [("1", 1)], [(1,)])]
    + [("max_positions", bad) for bad in (None, 0, -1, 2.5, True, "8")]
    + [("model_name", bad) for bad in (None, 5, b"x", "")],
    ids=str,
)
def test_options_of_the_jax_package(option, bad):
    pytest.importorskip("jax")
    from nexvar.compat.nucleotide_transformer import get_pretrained_model

    refused(lambda: get_pretrained_model(**{"model_name": str(GOLDEN / "nt_v2_tiny"), option: bad}))
