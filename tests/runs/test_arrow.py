"""Columns of parts: what ``pa.array`` makes, without its import of pandas."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.runs import arrow
from places import ROOT

COLUMNS = st.one_of(
    st.tuples(st.just(pa.string()), st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])))),
    st.tuples(st.just(pa.int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1))),
    st.tuples(st.just(pa.float64()), st.lists(st.none() | st.floats(allow_nan=False))),
)


@given(COLUMNS)
def test_a_column_is_what_arrow_makes_of_its_values(column) -> None:
    kind, values = column
    made = arrow.array(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


@given(st.lists(st.floats(width=32, allow_nan=False)), st.data())
def test_numbers_are_null_where_they_are_not_present(values, data) -> None:
    present = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    made = arrow.numbers(np.array(values, dtype=np.float32), np.array(present, dtype=bool))
    made.validate(full=True)
    expected = [value if there else None for value, there in zip(values, present, strict=True)]
    assert made.equals(pa.array(expected, pa.float32()))
    assert arrow.numbers(np.array([1.0, np.nan])).null_count == 0


@pytest.mark.skipif(find_spec("pandas") is None, reason="pandas is not installed")
def test_scoring_does_not_import_pandas(tmp_path) -> None:
    fasta, out = ROOT / "src" / "nexvar" / "data" / "chrM_rCRS.fa", tmp_path / "out.tsv"
    argv = ["nexvar", "score", "chrM:3243A>G", "--fasta", str(fasta), "-o", str(out)]
    code = f"import sys; sys.argv = {argv}; from nexvar.cli.commands import command; command()"
    code += "; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, out.is_file()) == ("False\n", True)
