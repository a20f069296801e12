"""Arguments of a kind that was not asked for: each is as good as the right one, or refused in one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nexvar import NexVarError
from places import ROOT

GENOME = ROOT / "src" / "nexvar" / "data" / "chrM_rCRS.fa"
LABELLED = ROOT / "src" / "nexvar" / "data" / "mtdna_labelled.vcf"
SEQS = ["ACGTACGT", "GGAT"]


class Column(list):
    """As pandas' Series: one-dimensional, no Sequence."""

    ndim = 1


class Table(dict):
    columns = property(lambda self: list(self))


def values(*ready: Any) -> list[Any]:
    """Pytest parameters with short ids, so that workers agree on them."""
    return [pytest.param(value, id=f"{i}-{type(value).__name__}") for i, value in enumerate(ready)]


NO_LIST = [
    "ACGT",
    b"ACGT",
    None,
    5,
    2.5,
    True,
    {"a": "ACGT"},
    {"ACGT"},
    np.array(5),
    Path("x"),
    object(),
    Table(a=["A"]),
]
NO_SEQUENCES = [*NO_LIST, [b"ACGT"], [None], [5], [float("nan")], [["ACGT"]], [""]]
NO_SEQUENCES += [np.array([["ACGT"]]), np.array([1.5]), np.array(["ACGT", None], dtype=object), torch.tensor([1, 2])]
SEQUENCES = [tuple, np.array, iter, Column, lambda s: (one for one in s), lambda s: np.array(s, dtype=object)]
NO_WHOLE = [
    "5",
    b"5",
    2.5,
    float("nan"),
    float("inf"),
    -1,
    True,
    np.True_,
    [5],
    np.array([1, 2]),
    torch.tensor(5.5),
    1j,
    object(),
]
NO_NUMBER = ["0.5", b"1", None, float("nan"), float("inf"), -1.0, True, [1.0], 1j, object()]
NO_TEXT = [5, b"mean", ["mean"], True, "", float("nan"), object(), [None]]
NO_NAMES = [5, b"mean", True, "", float("nan"), object(), [None], [5], [["mean"]], {"a": 1}]
NO_FLAG = ["no", 5, 1.0, [1], object()]
NO_PATH = [5, b"x", ["x"], True, float("nan"), object(), ""]
NO_FLOATS = [
    "x",
    b"x",
    5,
    None,
    ["a"] * 40,
    [float("nan")] * 40,
    [float("inf")] * 40,
    [1j] * 40,
    [[1], [1, 2]],
    {},
    object(),
]
LABELS, SCORES = np.array([0, 1] * 20), np.random.default_rng(0).normal(size=40)


def run(result: Any) -> Any:
    """Iterators are read, as a user would."""
    return list(result) if isinstance(result, Iterator) else result


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(NexVarError) as error, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(call())
    assert "\n" not in str(error.value)
