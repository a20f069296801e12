"""A user's own wrapper in the benchmark: what it gives is taken, and what it does wrong is counted or said."""

from __future__ import annotations

import numpy as np
import pytest

from nexvar.errors import NexVarError
from nexvar.evals.noncoding import wrapped
from nexvar.genome.reference import Fasta
from nexvar.genome.windows import Windows, allele_windows


class Wrapper:
    """Letters counted; a T in the middle is more than it can take."""

    model_name, num_parameters = "letters", 4

    def load(self):
        return self

    def score_variant(self, ref_seq, alt_seq):
        if alt_seq[4] == "T":
            raise ValueError("no T, please")
        return float(ord(alt_seq[4]) - ord(ref_seq[4]))

    def score_variants_batch(self, ref_seqs, alt_seqs):
        return [self.score_variant(*pair) for pair in zip(ref_seqs, alt_seqs, strict=True)]

    def get_embeddings_batch(self, sequences):
        return [[text.count(base) for base in "ACGT"] for text in sequences]


@pytest.fixture(scope="module")
def windows(tmp_path_factory) -> list[Windows]:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(">c\nACGTAACCGGTTACGT\n")
    fasta = Fasta(path)
    return [allele_windows(fasta, "c", 8, "G", alt, 8) for alt in "ACT"]


def test_one_variant_that_fails_costs_no_other(windows: list[Windows]) -> None:
    found, note = wrapped.scores(Wrapper(), windows)
    np.testing.assert_array_equal(found, [ord("A") - ord("G"), ord("C") - ord("G"), np.nan])
    assert note == "1 variants without a score (ValueError: no T, please)"
    assert wrapped.scores(Wrapper(), windows[:2])[1] == ""


def test_embeddings_are_those_of_each_window(windows: list[Windows]) -> None:
    ref_ND, alt_ND = wrapped.embeddings(Wrapper(), windows)
    np.testing.assert_array_equal(ref_ND, [[w.ref_seq.count(b) for b in "ACGT"] for w in windows])
    np.testing.assert_array_equal(alt_ND - ref_ND, [[1, 0, -1, 0], [0, 1, -1, 0], [0, 0, -1, 1]])


def of(**members: object) -> Wrapper:
    return type("Odd", (Wrapper,), members)()


def fails(*_: object) -> None:
    raise RuntimeError("broken\nin two lines")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: wrapped.load(of(load=fails)), "letters: RuntimeError: broken in two lines"),
        (lambda w: wrapped.scores(of(score_variant=fails), w), "letters: RuntimeError"),
        (lambda w: wrapped.scores(of(score_variants_batch=lambda *_: [1.0]), w), r"shape \(1,\)"),
        (lambda w: wrapped.scores(of(score_variants_batch=lambda *_: [np.inf] * 3), w), "no score is a finite number"),
        (lambda w: wrapped.embeddings(of(get_embeddings_batch=fails), w), "RuntimeError"),
        (lambda w: wrapped.embeddings(of(get_embeddings_batch=lambda *_: [1.0]), w), r"shape \(1,\)"),
        (lambda w: wrapped.embeddings(of(get_embeddings_batch=lambda s, t: [[np.nan]] * len(t)), w), "no finite"),
        (lambda w: wrapped.embeddings(of(get_embeddings_batch=lambda *_: [["x"]]), w), "ValueError"),
        (lambda w: wrapped.embeddings(of(get_embeddings_batch=lambda s, t: [[]] * len(t)), w), r"shape \(\d+, 0\)"),
    ],
)
def test_a_wrapper_that_fails_is_one_line(windows: list[Windows], call, words: str) -> None:
    with pytest.raises(NexVarError, match=words) as refused:
        call(windows)
    assert "\n" not in str(refused.value)


def test_a_number_of_parameters_that_is_none_costs_no_score() -> None:
    odd = (property(fails), None, "many")
    assert [wrapped.parameters(of(num_parameters=n)) for n in odd] == [0, 0, 0] and wrapped.parameters(Wrapper()) == 4


def test_other_code_and_another_config_are_another_wrapper() -> None:
    digests = {wrapped.digest(of(config=c)) for c in ({"max_length": 1}, {"max_length": 2})}
    assert len(digests) == 2 and wrapped.digest(of(config={"max_length": 1})) in digests
