"""The checks of nexvar.arguments: a value, or one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar import NexVarError, arguments

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
    st.sets(st.integers()),
)
CHECKS: dict[str, Callable[[Any], Any]] = {
    "a_list": lambda v: arguments.a_list(v, "x"),
    "whole": lambda v: arguments.whole(v, "x", 0, 100),
    "number": lambda v: arguments.number(v, "x", "0 to 1", 0, 1),
    "text": lambda v: arguments.text(v, "x"),
    "one_of": lambda v: arguments.one_of(v, "x", ("a", "b")),
    "flag": lambda v: arguments.flag(v, "x"),
    "path": lambda v: arguments.path(v, "x"),
    "pairs": lambda v: arguments.pairs(v, "x"),
}


@pytest.mark.parametrize("check", CHECKS)
@given(value=anything)
def test_a_check_gives_the_value_or_one_line(check, value):
    try:
        found = CHECKS[check](value)
    except NexVarError as error:
        assert "\n" not in str(error) and "x" in str(error)
    else:
        assert found == (Path(value) if check == "path" else value)
