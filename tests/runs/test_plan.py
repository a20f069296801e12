"""Parts of a run, and the same cuts while variants stream by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.genome.reference import Fasta, Variant
from nexvar.genome.variants import VariantList
from nexvar.runs import plan
from toy_genome import other_bases, random_bases, write_fasta

GENOME = random_bases(400)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory) -> Fasta:
    return Fasta(write_fasta(tmp_path_factory.mktemp("genome") / "g.fa", chr1=GENOME))


@given(
    positions=st.lists(st.tuples(st.integers(0, 399), st.integers(1, 3)), min_size=1, max_size=120),
    together=st.sampled_from([1, 7, 50]),
    window=st.sampled_from([16, plan.PART_TOKENS // 20]),
)
def test_a_stream_is_cut_where_a_run_is(fasta, positions, together, window):
    positions.sort()
    variants = [Variant("chr1", at, GENOME[at], tuple(other_bases(GENOME[at])[:alts])) for at, alts in positions]
    reader = VariantList("list", fasta, lambda: enumerate(variants, 1))
    parts = plan.cut(plan.survey(reader, fasta, 1.0), reader, window, together)
    streamed = list(plan.pieces(reader, window, together))
    assert [len(piece) for piece in streamed] == [part.records for part in parts]
    assert [record for piece in streamed for record in piece] == list(reader)
