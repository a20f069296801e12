"""Tracks along sequences: whatever the windows, both strands, by name; trained heads and NTv3's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.inference.core.sliding import Rule, Segment
from nexvar.inference.track_windows import Stretches, predict_tracks
from nexvar.inference.tracks import TrackPredictor, track_predictor
from nexvar.weights.load import load
from places import GOLDEN
from tiny import tiny_loaded
from tiny_track_run import SEES, tiny_tracked
from toy_genome import random_bases

RESOLUTIONS = (1, 3)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    return {r: tiny_tracked(tmp_path_factory.mktemp(f"tracks{r}"), r) for r in RESOLUTIONS}


@pytest.fixture(scope="module")
def ntv3():
    return load(GOLDEN / "ntv3_post_tiny", device="cpu", dtype="float32")


@given(
    resolution=st.sampled_from(RESOLUTIONS), length=st.integers(1, 400), window=st.integers(12, 40),
    more=st.integers(0, 6), blend=st.booleans(), strand=st.sampled_from(["forward", "reverse", "both"]),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_no_value_depends_on_the_windows(tracked, resolution, length, window, more, blend, strand):
    loaded, text = tracked[resolution], random_bases(length, seed=length)
    (whole,) = predict_tracks(loaded, [text], strand=strand, window=1200)
    (slid,) = predict_tracks(
        loaded, [text], strand=strand, window=3 * window, overlap=SEES + more, blend=blend, batch_tokens=200
    )
    assert whole.values_NK.shape == (-(-length // resolution), 3) and whole.values_NK.dtype == np.float32
    np.testing.assert_allclose(slid.values_NK, whole.values_NK, rtol=1e-4, atol=1e-5)


@given(bins=st.integers(1, 90), resolution=st.sampled_from(RESOLUTIONS), blend=st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_other_strand_has_the_tracks_of_the_other_strand(tracked, bins, resolution, blend):
    loaded, text = tracked[resolution], random_bases(bins * resolution, seed=bins)
    how = {"window": 60, "overlap": 12, "blend": blend}
    here, there = predict_tracks(loaded, [text, reverse_complement(text)], **how)
    np.testing.assert_allclose(here["plus"], there["minus"][::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(here["both"], there["both"][::-1], rtol=1e-4, atol=1e-5)
    (alone,) = predict_tracks(loaded, [text], ["minus"], **how)
    np.testing.assert_allclose(alone.values_NK[:, 0], here["minus"], rtol=1e-5)


@given(size=st.integers(30, 200), turn=st.integers(0, 199), blend=st.booleans())
@settings(deadline=None, max_examples=20)
def test_a_ring_has_no_ends(tracked, size, turn, blend):
    predictor = track_predictor(tracked[1])
    text = random_bases(size, seed=size)

    def values(ring):
        stretches = Stretches(predictor, Rule(60, 14, 14), frozenset(["ring"]), blend)
        part = [Segment("ring", 0, size, 0, size)]
        twice = ring * 3
        read = lambda _, start, end: twice[size + start : size + end]  # noqa: E731
        return stretches.values(part, read, strand="both", batch_tokens=1000)

    turned = text[turn % size :] + text[: turn % size]
    if size <= 40:  # its windows are shorter than their overlaps would ask
        return
    np.testing.assert_allclose(np.roll(values(text), -(turn % size), 0), values(turned), rtol=1e-4, atol=1e-5)


class OfWindows:
    """Each window's values are all its number of A's: whatever jumps is a seam."""

    names, partners, resolution, unit, window = ("a",), (0,), 1, 1, 64

    def margin(self, window):
        return 8

    def values(self, texts, columns):
        return np.array([np.full((len(text) - 16, 1), text.count("A"), np.float32) for text in texts])


def test_blending_leaves_no_seams(tracked):
    predictor = TrackPredictor(tracked[1], OfWindows(), None, (0,))
    text, step = random_bases(1000), 32

    def values(blend):
        stretches = Stretches(predictor, Rule(64, 16, 16), frozenset(), blend)
        part = [Segment("x", 0, 1000, 0, 1000)]
        return stretches.values(part, lambda _, a, b: text[a:b], strand="forward", batch_tokens=999)[:, 0]

    kept, blended = np.abs(np.diff(values(False))), np.abs(np.diff(values(True)))
    assert np.count_nonzero(kept) > 20 and kept.max() > 8
    assert blended.max() <= 2 / step * np.ptp(values(False)) + 1e-4


def test_ntv3s_tracks_are_those_of_its_forward(ntv3):
    """256 bases are the centre of a window of 684."""
    text, module = random_bases(256), ntv3.module
    with torch.no_grad():
        ids = torch.tensor([ntv3.tokenizer.encode("N" * 214 + text + "N" * 214).ids])
        extras = module(ids, species_ids_B=module.species_ids("mouse"), heads=True).extras
    (made,) = predict_tracks(
        ntv3, [text], ["mouse_track_2", "mouse_track_0"], species="mouse", strand="forward", window=1024
    )
    assert made.names == ("mouse_track_2", "mouse_track_0") and made.resolution == 1
    np.testing.assert_allclose(made.values_NK, extras["bigwig_tracks_logits"][0][:, [2, 0]], atol=1e-6)


def test_tokens_by_their_spans_give_the_same_values(tracked):
    """A token for each base is read without spans; NTv3's tokenizer has no special tokens to add."""
    by_spans = replace(tracked[3], card=replace(tracked[3].card, special_tokens=True))
    text = random_bases(100)
    (here,), (there,) = predict_tracks(tracked[3], [text]), predict_tracks(by_spans, [text])
    np.testing.assert_array_equal(here.values_NK, there.values_NK)


def test_ids_of_two_strands_are_partners(ntv3, monkeypatch):
    names = {"human": ["ENCSR1_M", "ENCSR1_P", "ENCSR2", "ENCSR3_P", "X_PM"], "mouse": ["a", "b", "c"]}
    config = ntv3.module.config
    monkeypatch.setitem(config.bigwigs_per_species, "human", names["human"])
    assert track_predictor(ntv3).heads.partners[:5] == (1, 0, 2, 3, 4)


def test_names_and_patterns(tracked, ntv3):
    assert track_predictor(tracked[1]).names == ("plus", "minus", "both")
    assert track_predictor(tracked[1], names=["both", "plus", "both"]).names == ("both", "plus")
    assert track_predictor(ntv3, names=["human_track_?"]).names == tuple(f"human_track_{i}" for i in range(5))
    assert track_predictor(ntv3, "mouse").names == tuple(f"mouse_track_{i}" for i in range(3))


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"tracks": ["human_trak_1"]}, "track: .*no track 'human_trak_1' of human.*did you mean human_track_1"),
        ({"species": "humn"}, "species: .*no species 'humn'.*did you mean human.*tracks of human, mouse, arabidopsis"),
        ({"species": "zebrafish"}, "no species 'zebrafish'.*tracks of human, mouse, arabidopsis"),
        ({"tracks": []}, "no track was named"),
        ({"window": 255}, "a window of 255 bases.*in steps of 4.*such as 256"),
        ({"window": 2_000_000}, "a window of 2,000,000 bases.*such as 1,048,576"),
        ({"window": 256, "overlap": 79}, "no values for the 80 bases at a window's ends.*80 or more"),
        ({"window": 256, "overlap": 128}, "128 of a window's 256 bases.*at most 127"),
        ({"strand": "-"}, "strand"),
        ({"blend": 1}, "blend"),
        ({"seqs": ["ACGU"]}, r"seqs\[0\].*'U' at position 4"),
        ({"seqs": "ACGT"}, "seqs"),
        ({"seqs": [""]}, r"seqs\[0\]"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(ntv3, asked, line):
    seqs = asked.pop("seqs", ["ACGT"])
    with pytest.raises(NexVarError, match=line):
        predict_tracks(ntv3, seqs, asked.pop("tracks", None), **asked)


def test_a_model_without_tracks_and_one_without_species(tracked):
    with pytest.raises(NexVarError, match="tiny predicts no tracks.*nexvar finetune.*ntv3"):
        predict_tracks(tiny_loaded(), ["ACGT"])
    with pytest.raises(NexVarError, match="knows no species"):
        predict_tracks(tracked[1], ["ACGT"], species="human")


def test_thousands_of_tracks_must_be_named(ntv3, monkeypatch):
    monkeypatch.setitem(ntv3.module.config.bigwigs_per_species, "human", [f"t{i}" for i in range(100)])
    with pytest.raises(NexVarError, match="100 tracks of human and none was named.*--list"):
        track_predictor(ntv3)
