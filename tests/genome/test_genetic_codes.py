"""Genetic codes: NCBI's, as Biopython has them."""

from __future__ import annotations

import pytest
from Bio.Data import CodonTable
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.genetic_codes import CODES, CODONS, genetic_code

THEIRS = CodonTable.unambiguous_dna_by_id


def test_every_code_of_ncbi_is_here():
    assert set(CODES) == set(THEIRS)


@pytest.mark.parametrize("number", THEIRS)
def test_a_code_is_that_of_ncbi(number):
    ours, theirs = genetic_code(number), THEIRS[number]
    assert ours.starts == set(theirs.start_codons)
    for codon, amino_acid in zip(CODONS, ours.amino_acids, strict=True):
        assert amino_acid == theirs.forward_table.get(codon, "*")
        assert (amino_acid == "*") <= (codon in theirs.stop_codons)


@settings(deadline=None, max_examples=50)
@given(st.text("ACGTacgt", max_size=40), st.sampled_from([1, 2, 11]))
def test_translation(dna, number):
    whole = dna[: len(dna) // 3 * 3]
    assert genetic_code(number).translate(dna) == str(Seq(whole).translate(table=number))


def test_what_is_not_a_base_gives_x():
    assert genetic_code(1).translate("ATGNNNUAAé--") == "MX*X"


def test_an_unknown_code_is_one_line():
    with pytest.raises(NexVarError, match="no genetic code 7"):
        genetic_code(7)
