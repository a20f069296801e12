"""Elements of every base: windows, N, strands, and segments that do not depend on how probabilities come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nexvar import NexVar, NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.inference import annotate
from nexvar.inference.annotate import Caller, Found
from places import GOLDEN
from tiny import tiny_loaded
from toy_genome import random_bases

BASES = random_bases(500, seed=11)


@pytest.fixture(scope="module")
def model() -> NexVar:
    return NexVar(GOLDEN / "segment_nt_tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def ntv3() -> NexVar:
    return NexVar(GOLDEN / "ntv3_post_tiny", device="cpu", dtype="float32")


@torch.no_grad()
def by_hand(model: NexVar, text: str) -> np.ndarray:
    """(L, elements) of one window, from the module's own logits."""
    ids = torch.tensor([model.tokenizer.tokenize(text)])
    return model.model(ids).logits.softmax(-1)[0, :, :, 1].numpy()


def test_one_window_is_the_modules_softmax(model):
    (found,) = model.annotate([BASES[:96]], window=96)
    assert found.names == model.model.elements
    np.testing.assert_allclose(found.probs_LE, by_hand(model, BASES[:96]), atol=1e-6)
    np.testing.assert_array_equal(found["exon"], found.probs_LE[:, 2])


def test_long_sequences_are_windows_whose_centres_are_kept(model):
    """96 bases with 24 on each side: every base against the window that computes it; the last one ends at the end."""
    (found,) = model.annotate([BASES], window=96, overlap=24)
    expected = np.empty_like(found.probs_LE)
    starts = [0, 48, 96, 144, 192, 240, 288, 336, 384, len(BASES) - 96]
    for k, start in enumerate(starts):
        first = 0 if k == 0 else 24 + 48 * k
        expected[first:] = 0
        last = len(BASES) if k == len(starts) - 1 else 24 + 48 * (k + 1)
        expected[first:last] = by_hand(model, BASES[start : start + 96])[first - start : last - start]
    np.testing.assert_allclose(found.probs_LE, expected, atol=1e-5)


def test_batches_and_neighbours_change_nothing(model):
    together = model.annotate([BASES[:130], BASES, BASES[7:55]], window=72, batch_tokens=5)
    for text, found in zip([BASES[:130], BASES, BASES[7:55]], together, strict=True):
        (alone,) = model.annotate([text], window=72)
        np.testing.assert_allclose(found.probs_LE, alone.probs_LE, atol=1e-5)


def test_what_lies_between_ns_is_read_alone(model):
    """An N, and a stretch shorter than a block, have no value; nothing is shifted behind them."""
    text = BASES[:100] + "N" + BASES[100:120] + "NN" + BASES[200:230]
    (found,) = model.annotate([text], window=96)
    known = ~np.isnan(found.probs_LE).any(1)
    assert known.tolist() == [True] * 100 + [False] * 23 + [True] * 30
    np.testing.assert_array_equal(found.probs_LE[:100], model.annotate([BASES[:100]], window=96)[0].probs_LE)
    np.testing.assert_array_equal(found.probs_LE[123:], model.annotate([BASES[200:230]], window=96)[0].probs_LE)


def test_strands(model):
    text = BASES[:96]
    forward, reverse, both = (model.annotate([text], window=96, strand=s)[0].probs_LE for s in annotate.STRANDS)
    turned = model.annotate([reverse_complement(text)], window=96)[0].probs_LE[::-1]
    np.testing.assert_allclose(reverse, turned, atol=1e-6)
    np.testing.assert_allclose(both, (forward + reverse) / 2, atol=1e-6)


def test_ntv3_tells_the_middle_of_its_windows(ntv3):
    """The same verb: the outermost bases have no value, and the others those of the central part."""
    unit = ntv3.model.element_unit
    size = 64 * unit
    (found,) = ntv3.annotate([random_bases(size)], window=size)
    told = ntv3.model.told(size)
    first = (size - told) // 2
    known = ~np.isnan(found.probs_LE).any(1)
    assert known.tolist() == [False] * first + [True] * told + [False] * (size - told - first)
    ids = torch.tensor([ntv3.tokenizer.tokenize(random_bases(size))])
    with torch.no_grad():
        logits = ntv3.model(ids, heads=True).extras["bed_tracks_logits"]
    np.testing.assert_allclose(found.probs_LE[known], logits.softmax(-1)[0, :, :, 1].numpy(), atol=1e-6)
    with pytest.raises(NexVarError, match="tells the middle"):
        ntv3.annotate([BASES], window=size, overlap=1)
    with pytest.raises(NexVarError, match="no species"):
        ntv3.annotate([BASES], window=16 * unit, species="unicorn")


@pytest.mark.parametrize(("bases", "window"), [(150, 256), (511, 1024), (515, 128), (600, 72)])
def test_between_the_windows_of_ntv3_nothing_is_missing(ntv3, bases, window):
    (found,) = ntv3.annotate([random_bases(bases)], window=window)
    known = np.flatnonzero(~np.isnan(found.probs_LE).any(1))
    assert len(known) and known.tolist() == list(range(known[0], known[-1] + 1))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((["ACGT"], {}), r"seqs\[0\]: no 24 bases in a row without N"),
        ((["ACGTN" * 40], {}), "no 24 bases in a row"),
        ((["ACGU" * 10], {}), "write T for U"),
        (([BASES], {"window": 100}), "a multiple of 24, such as 96"),
        (([BASES], {"window": 12}), "blocks of 24"),
        (([BASES], {"window": 49_992 + 24}), "the context of segment_nt_tiny is 49,992"),
        (([BASES], {"window": 96, "overlap": 48}), "at most 47"),
        (([BASES], {"strand": "left"}), "strand"),
        (([BASES], {"species": "human"}), "takes no species"),
    ],
)
def test_bad_input_is_one_line(model, given, said):
    seqs, options = given
    with pytest.raises(NexVarError, match=said) as error:
        model.annotate(seqs, **options)
    assert "\n" not in str(error.value)


def test_a_model_without_elements_says_so():
    with pytest.raises(NexVarError, match="no element head.*segment_nt"):
        annotate.annotate(tiny_loaded(), [BASES])


def naive(probs_NE: np.ndarray, threshold: float, gap: int, least: int) -> set[tuple[int, int, int]]:
    found = set()
    for e in range(probs_NE.shape[1]):
        above = [i for i, p in enumerate(probs_NE[:, e]) if p >= threshold]
        runs: list[list[int]] = []
        for i in above:
            if runs and i - runs[-1][1] <= gap:
                runs[-1][1] = i + 1
            else:
                runs.append([i, i + 1])
        found |= {(a, b, e) for a, b in runs if b - a >= least}
    return found


PAIRS = st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.9, float("nan")]), min_size=2, max_size=2)


@given(
    st.lists(PAIRS, min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=4), st.integers(0, 3), st.integers(1, 4),
)  # fmt: skip
def test_segments_do_not_depend_on_the_pieces(rows, cuts, gap, least):
    probs = np.array(rows, dtype=np.float32)
    caller = Caller(("a", "b"), 0.5, gap=gap, min_length=least)
    found: list[Found] = []
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, end in zip(edges, edges[1:], strict=False):
        found += caller.add("chr1", 100 + start, probs[start:end])
    found += caller.end()
    assert [one.start for one in found] == sorted(one.start for one in found)
    assert {(f.start - 100, f.end - 100, "ab".index(f.element)) for f in found} == naive(probs, 0.5, gap, least)
    for one in found:
        values = probs[one.start - 100 : one.end - 100, "ab".index(one.element)]
        inside = values[values >= 0.5]
        assert one.mean == pytest.approx(float(inside.mean()), rel=1e-6)
        assert one.peak == float(inside.max())


def test_contigs_do_not_run_into_each_other():
    caller = Caller(("a",), 0.5, gap=10)
    ones = np.ones((5, 1), dtype=np.float32)
    found = [*caller.add("chr1", 0, ones), *caller.add("chr2", 5, ones), *caller.end()]
    assert [(f.contig, f.start, f.end) for f in found] == [("chr1", 0, 5), ("chr2", 5, 10)]


@pytest.mark.parametrize("options", [{"threshold": 1.01}, {"threshold": -0.1}, {"gap": -1}, {"min_length": 0}])
def test_a_threshold_or_length_that_cannot_be_is_one_line(model, options):
    with pytest.raises(NexVarError, match="--" + next(iter(options)).replace("_", "-")):
        model.annotate([BASES[:96]], window=96)[0].segments(**options)
