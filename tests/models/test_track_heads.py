"""Heads of tracks: what they are made of, that they are never negative, and that scaling has an exact inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nexvar.errors import NexVarError
from nexvar.inference.track_model import Tracks, scaled
from nexvar.models.track_heads import HEADS, Scaling, make
from tiny_tracks import track_facts, write_track_model


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("resolution", [1, 3])
def test_heads_give_a_value_for_every_bin_that_is_never_negative(name, resolution):
    torch.manual_seed(0)
    head = make(name, 32, 2, resolution).eval()
    for p in head.parameters():
        nn.init.normal_(p)
    values = head(torch.randn(3, 30, 32) * 5).detach()
    assert values.shape == (3, 30 // resolution, 2) and values.dtype == torch.float32
    assert float(values.min()) >= 0 and len(values.unique()) > 20


def test_genos_head_is_the_published_one():
    """1,024 -> 256 -> 64 -> 1; kernels, padding, dilation: Genos' Documents/README.md."""
    head = make("genos", 1024, 1, 1)
    layers = list(head.body.layers)
    convs = [m for m in layers if isinstance(m, nn.Conv1d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size[0], c.padding[0], c.dilation[0]) for c in convs]
    assert shapes == [(1024, 256, 3, 1, 1), (256, 64, 3, 2, 2), (64, 1, 1, 0, 1)]
    assert [type(m).__name__ for m in layers[1:4]] == ["BatchNorm", "GELU", "Dropout"]
    assert head.scale.shape == (1,) and layers[3].p == 0.1


def test_genos_head_sees_three_bases_on_either_side():
    torch.manual_seed(0)
    head = make("genos", 16, 1, 1).eval()
    hidden = torch.randn(1, 21, 16, requires_grad=True)
    head(hidden)[0, 10, 0].backward()
    seen = hidden.grad.abs().sum(-1)[0].nonzero().flatten().tolist()
    assert seen == list(range(7, 14))


def test_an_unknown_head_is_one_line():
    with pytest.raises(NexVarError, match=r"no head 'convnet'.*genos, linear, unet"):
        make("convnet", 16, 1, 1)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(1e-3, 1e3), st.sampled_from([1.0, 0.75]),
    st.sampled_from([1, 75, 128]), st.sampled_from([0.0, 10.0]),
)  # fmt: skip
def test_scaling_has_an_exact_inverse_both_ways(sums, mean, power, resolution, clip):
    scaling = Scaling((mean,), (power,), resolution, clip)
    sums_N1 = torch.tensor(sums, dtype=torch.float64)[:, None]
    torch.testing.assert_close(scaling.sums(scaling.scaled(sums_N1)), sums_N1, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scaling.scaled(scaling.sums(sums_N1)), sums_N1, rtol=1e-9, atol=1e-9)


def test_scaling_is_the_published_one():
    """AlphaGenome's: y / (m r), ^0.75 of RNA-seq, 2 sqrt(10 t) - 10 above 10; by hand."""
    scaling = Scaling((2.0, 2.0), (1.0, 0.75), 5)
    said = scaling.scaled(torch.tensor([[80.0, 80.0], [1000.0, 1000.0]], dtype=torch.float64))
    rna = 100**0.75
    expected = [[8.0, 8**0.75], [2 * 1000**0.5 - 10, 2 * (rna * 10) ** 0.5 - 10]]
    np.testing.assert_allclose(said, expected)


def test_a_folder_says_values_in_the_tracks_units(tmp_path):
    tracks = Tracks.load(write_track_model(tmp_path), "cpu")
    texts = ["ACGTTGCA" * 8, "N" * 10 + "ACGGT" * 10 + "ACGT"]
    values = tracks.values(texts)
    assert values.shape == (2, 16, 3) and (values >= 0).all()
    with torch.no_grad():
        sums = tracks.facts.scaling.sums(scaled(tracks.model, tracks.loaded, texts[1:]).double())
    np.testing.assert_allclose(values[1:], sums / 4, rtol=1e-4)
    flipped = tracks.facts.other_strand(values)
    assert (flipped[0, 0] == values[0, -1][[1, 0, 2]]).all() and (tracks.facts.other_strand(flipped) == values).all()


def test_a_damaged_folder_is_one_line(tmp_path):
    write_track_model(tmp_path)
    (tmp_path / "tracks.json").write_text((tmp_path / "tracks.json").read_text().replace('"genos"', '"linear"'))
    with pytest.raises(NexVarError, match="the head is of another model"):
        Tracks.load(tmp_path, "cpu")
    (tmp_path / "tracks.json").write_text((tmp_path / "tracks.json").read_text().replace('"minus",', ""))
    with pytest.raises(NexVarError, match="do not fit together"):
        Tracks.load(tmp_path, "cpu")
    (tmp_path / "tracks.json").unlink()
    with pytest.raises(NexVarError, match="no head of tracks"):
        Tracks.load(tmp_path, "cpu")
    assert track_facts().scaling.resolution == 4
