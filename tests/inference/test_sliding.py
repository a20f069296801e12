"""Sliding windows: every base in one window, with enough before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.inference.core.sliding import Grid, Rule, Segment, Sliding


@st.composite
def grids(draw):
    direction = draw(st.sampled_from(["forward", "reverse", "both"]))
    window = draw(st.integers(2, 40))
    most = (window - 1) // (2 if direction == "both" else 1)
    rule = Rule.of(window, draw(st.integers(0, most)), direction)
    low = draw(st.integers(0, 30))
    circular = draw(st.booleans())
    low = 0 if circular else low
    return Grid(low, low + draw(st.integers(1, 150)), circular, rule), rule


@given(grids())
def test_every_base_is_computed_once_with_the_overlap_before_it_but_at_ends(made):
    grid, rule = made
    size = grid.high - grid.low
    windows = [grid.window(k) for k in range(grid.count)]
    assert [(w.first, w.last) for w in windows] == [
        (a, b) for a, b in zip([grid.low, *[w.last for w in windows[:-1]]], [w.last for w in windows], strict=True)
    ]
    assert windows[-1].last == grid.high
    for k, w in enumerate(windows):
        assert w.start <= w.first < w.last <= w.end
        assert w.end - w.start == min(rule.window, size)
        assert all(k in grid.over(p, p + 1) and len(grid.over(p, p + 1)) == 1 for p in range(w.first, w.last))
        before, after = w.first - w.start, w.end - w.last
        if grid.circular:
            assert before >= min(rule.before, size // 4)
            assert after >= min(rule.after, size // 4)
        else:
            assert grid.low <= w.start
            assert w.end <= grid.high
            assert before >= rule.before or w.start == grid.low
            assert after >= rule.after or w.end == grid.high


@given(grids(), st.data())
def test_parts_cover_the_segments_once_and_use_the_windows_of_the_whole_contig(made, data):
    grid, rule = made
    start = data.draw(st.integers(grid.low, grid.high - 1))
    segment = Segment("c", start, data.draw(st.integers(start + 1, grid.high)), grid.low, grid.high)
    sliding = Sliding(rule, frozenset("c" if grid.circular else ()))
    whole = {p: grid.window(grid.over(p, p + 1)[0]) for p in range(segment.start, segment.end)}
    parts = sliding.parts([segment], data.draw(st.integers(1, 200)))
    assert all(parts)
    done = [(p, w) for part in parts for _, w, ranges in sliding.windows(part) for a, b in ranges for p in range(a, b)]
    assert done == list(whole.items())
    windows = [w for part in parts for _, w, _ in sliding.windows(part)]
    assert len(windows) == len(set(windows))  # a long segment is cut where a window's work ends


@pytest.mark.parametrize(("overlap", "direction", "most"), [(5, "both", 4), (10, "forward", 9), (12, "reverse", 9)])
def test_too_much_overlap_says_how_much_is_possible(overlap, direction, most):
    with pytest.raises(NexVarError, match=f"--overlap.*at most {most}"):
        Rule.of(10, overlap, direction)


@given(st.integers(1, 9), st.integers(2, 6), st.integers(0, 40), st.integers(1, 120), st.booleans())
def test_windows_of_whole_blocks(unit, blocks, overlap, more, circular):
    """Every window is a multiple of the unit inside of the contig, and every base is computed in one of them."""
    unit += 1
    rule = Rule.of(unit * blocks, min(overlap, (unit * blocks - 1) // 2), "both", unit)
    high = unit + more
    grid = Grid(0, high, circular, rule)
    done = []
    for k in range(grid.count):
        w = grid.window(k)
        assert (w.end - w.start) % unit == 0
        assert 0 < w.end - w.start <= min(rule.window, high)
        assert w.start <= w.first < w.last <= w.end
        assert circular or 0 <= w.start < w.end <= high
        done += range(w.first, w.last)
    assert done == list(range(high))
