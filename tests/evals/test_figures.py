"""The pictures: what they say, that nothing is cut, and that no text lies on another."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from nexvar.errors import NexVarError
from nexvar.evals import figures, metrics
from nexvar.evals.figures import Point
from nexvar.evals.figures.pareto import front_of

NAN = math.nan
LONG = "InstaDeepAI/nucleotide-transformer-v2-500m-multi-species"
MODELS = ["nexvar_mito", LONG, "a price of $5 and $6", "a\nline", "x" * 200, *(f"model {i}" for i in range(15))]
REGIONS = ["splice_proximal", "utr_5prime", "utr_3prime", "promoter", "enhancer", "deep_intronic", "intergenic"]
TASKS = ["demo_coding_vs_intergenomic_seqs", "H3K4me1", *(f"task number {i} of a long list" for i in range(10))]


def points(models: list[str], columns: list[str], series: tuple[str, ...] = ("",)) -> list[Point]:
    """Every tenth too few, every eleventh not there."""
    rng = np.random.default_rng(len(models) + len(columns))
    cells = []
    for i, (model, column, way) in enumerate((m, c, s) for m in models for c in columns for s in series):
        value, half = float(rng.uniform(0.35, 1)), float(rng.uniform(0.01, 0.1))
        if i % 10 == 9:
            cells.append(Point(model, column, NAN, n=(3, 41), series=way, note="too few: class 1 has 3 members"))
        elif i % 11 != 10:
            cells.append(Point(model, column, value, value - half, min(1, value + half), (1_200 + i, 1_234_567), way))
    return cells


def curves(models: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng, labels = np.random.default_rng(0), np.arange(60) % 3 == 0
    made = {model: (labels, rng.normal(size=60) + labels * rng.uniform(0, 3)) for model in models}
    return {**made, "tiny": (labels[:20], rng.normal(size=20))}


def sizes(models: list[str], spread: float) -> dict[str, int]:
    return {model: int(10 ** (6 + spread * i)) for i, model in enumerate(models)}


CASES: dict[str, Callable[[], Figure]] = {
    **{
        f"{make.__name__} {len(models)}x{len(columns)}": lambda make=make, models=models, columns=columns: make(
            points(models, columns), title="A title that is longer than a picture of one model on one task can be wide"
        )
        for make in (figures.heat_map, figures.forest, figures.region_bars)
        for models, columns in (
            (MODELS[:1], ["N3"]), (MODELS[1:2], REGIONS), (MODELS, ["N1", "N2", "N3"]), (MODELS[:4], TASKS)
        )
    },
    "dots 20x1": lambda: figures.dots(points(MODELS, ["N3"], ("zero-shot", "probe", "LoRA"))),
    "dots 1x1": lambda: figures.dots(points([LONG], ["N"], ("a way with a long name", "zero-shot", "w" * 70))),
    "heat_map, two series": lambda: figures.heat_map(points(MODELS[:3], ["N1"], ("zero-shot", "probe"))),
    "pareto 20": lambda: figures.pareto(points(MODELS, ["N3"]), sizes(MODELS, 0.2)),
    "pareto, in one place": lambda: figures.pareto(points(MODELS, ["N3"]), sizes(MODELS, 0.002)),
    "pareto 1": lambda: figures.pareto([Point(LONG, "N3", 0.7)], {LONG: 10**9}),
    "roc_curves 20": lambda: figures.roc_curves(curves(MODELS), title="ROC"),
    "roc_curves 1": lambda: figures.roc_curves(curves(MODELS[:1])),
    "roc_curves 30": lambda: figures.roc_curves(curves([f"m{i}" for i in range(30)])),
}  # fmt: skip


def texts(figure: Figure) -> list[Text]:
    """Those that are seen: no numbers of ticks beyond the axes."""
    figure.draw_without_rendering()
    beyond = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in beyond]


def said(figure: Figure) -> list[str]:
    return [t.get_text() for t in texts(figure)]


@pytest.mark.parametrize("case", CASES)
def test_no_text_is_cut_and_none_lies_on_another(case: str) -> None:
    figure = CASES[case]()
    found = [(t, t.get_window_extent()) for t in texts(figure)]
    page = figure.bbox
    for text, box in found:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1, text.get_text()
    straight = [(t, b) for t, b in found if t.get_rotation() in (0, 90)]
    for (t, a), (u, b) in combinations(straight, 2):
        shared = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(shared) <= figure.dpi / 72, (t.get_text(), u.get_text())
    slanted = [t for t, _ in found if t.get_rotation() == 45]
    apart = np.diff([t.get_transform().transform(t.get_position())[0] for t in slanted]) * math.sqrt(0.5)
    assert (apart > 10 / 72 * figure.dpi).all()  # lines of 10 points


def test_a_heat_map_says_every_value_or_why_there_is_none() -> None:
    cells = [
        Point("A", "N1", 0.7123),
        Point("A", "N2", NAN, note="too few: class 1 has 3 members"),
        Point("B", "N1", 0.3),
    ]
    figure = figures.heat_map(cells)
    assert {"A", "B", "N1", "N2", "0.712", "too few", "0.300", "–"} <= set(said(figure))
    bold = [t.get_text() for t in texts(figure) if t.get_fontweight() == "bold"]
    assert bold == ["0.712"]
    faces = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert faces[0] != faces[2] and faces[1] == faces[3]  # 0.3 is drawn in the colour of the lowest end, not left out


def test_colours_of_a_heat_map_go_from_dark_to_light() -> None:
    figure = figures.heat_map([Point(f"m{i}", "N1", 0.5 + i / 20) for i in range(11)])
    light = [np.dot(patch.get_facecolor()[:3], (0.299, 0.587, 0.114)) for patch in figure.axes[0].patches]
    assert (np.diff(light) > 0.02).all()


@pytest.mark.parametrize("draw", [figures.forest, figures.region_bars])
def test_rows_hold_value_interval_and_number(draw: Callable[..., Figure]) -> None:
    cells = [
        Point("A", "promoter", 0.7, 0.6, 0.8, (20, 1_300)),
        Point("B", "promoter", NAN, n=(4, 9), note="too few"),
        Point("C", "promoter", np.float64(0.4), n=np.int64(77)),
    ]
    figure = draw(cells, metric="AUPRC")
    words = {"promoter", "0.700 [0.600, 0.800]", "20 / 1,300", "too few", "4 / 9", "0.400", "77"}
    assert words | {"AUPRC (dashed: chance, 0.5)"} <= set(said(figure))
    ax = figure.axes[0]
    assert any(list(line.get_xdata()) == [0.6, 0.8] and list(line.get_ydata()) == [0, 0] for line in ax.lines)
    if draw is figures.region_bars:
        assert [v for bar in ax.patches for v in (bar.get_x(), bar.get_width())] == pytest.approx([0.5, 0.2, 0.5, -0.1])
    else:
        assert [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "s"] == [0.7, 0.4]


def test_the_longer_of_models_and_columns_makes_the_rows() -> None:
    one = figures.forest(points(["A"], REGIONS))
    many = figures.forest(points(MODELS[5:9], REGIONS[:3]))
    assert len(one.axes) == 1 and len(many.axes) == 3


def test_dots_of_one_model_are_joined() -> None:
    cells = [Point("A", "N3", 0.6, series="zero-shot"), Point("A", "N3", 0.8, series="probe"),
             Point("B", "N3", 0.7, series="probe"), Point("A", "N3", 0.9, series="LoRA")]  # fmt: skip
    figure = figures.dots(cells, ("zero-shot", "probe"))
    assert {"zero-shot", "probe", "0.600", "0.800", "0.700", "–"} <= set(said(figure)) and "LoRA" not in said(figure)
    joined = [list(line.get_xdata()) for line in figure.axes[-1].lines if len(line.get_xdata()) == 2]
    assert [0.6, 0.8] in joined and [0.7, 0.7] in joined


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_front_holds_exactly_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    front = front_of(pairs)
    for i, (size, value) in enumerate(pairs):
        beaten = any((s < size and v >= value) or (s <= size and v > value) for s, v in pairs)
        assert (i in front) is not beaten


def test_the_front_is_drawn_as_stairs() -> None:
    cells = [Point("A", "N3", 0.6), Point("B", "N3", 0.8), Point("C", "N3", 0.7), Point("D", "N3", NAN)]
    figure = figures.pareto(cells, {"A": 10**6, "B": 10**8, "C": 10**9})
    stairs = max(figure.axes[0].lines, key=lambda line: len(line.get_xdata()))
    corners = [tuple(map(float, corner)) for corner in stairs.get_xydata()]
    assert corners[:3] == [(1e6, 0.6), (1e8, 0.6), (1e8, 0.8)] and corners[3][1] == 0.8 and corners[3][0] > 1e9
    assert {"A", "B", "C"} <= set(said(figure)) and "D" not in said(figure)


def test_roc_curves_are_ranked_by_area() -> None:
    made = curves(["A", "B"])
    labels, scores = made["B"]
    made["B"] = labels, np.where(np.arange(60) < 6, NAN, labels + scores / 100)
    figure = figures.roc_curves(made)
    key = [text for text in said(figure) if "A  (" in text or "B  (" in text]
    assert key == ["1.000  B  (18 / 36)", f"{metrics.auroc(*made['A']):.3f}  A  (20 / 40)"]
    assert "tiny: too few, class 1 has 7 members" in said(figure)


def test_files_are_png_and_pdf_of_300_dots_an_inch(tmp_path) -> None:
    png, pdf = figures.save(figures.heat_map([Point("A", "N1", 0.7)]), tmp_path / "new" / "fig2.auroc")
    assert (png.name, pdf.name) == ("fig2.auroc.png", "fig2.auroc.pdf")
    wide = figures.heat_map([Point("A", "N1", 0.7)]).get_size_inches()[0]
    assert int.from_bytes(png.read_bytes()[16:20], "big") == pytest.approx(300 * wide, abs=1)
    assert pdf.read_bytes().startswith(b"%PDF")
    (tmp_path / "file").write_text("")
    with pytest.raises(NexVarError, match="cannot be written"):
        figures.save(figures.heat_map([Point("A", "N1", 0.7)]), tmp_path / "file" / "fig")


A = Point("A", "N1", 0.7)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: figures.heat_map([]), "nothing to draw"),
        (lambda: figures.forest([Point("A", "N1", NAN, note="too few")]), "nothing to draw"),
        (lambda: figures.heat_map([A, A]), "two values of one cell"),
        (lambda: figures.forest([("A", "N1", 0.7)]), "a tuple among them"),
        (lambda: figures.forest([Point("A", "N1", math.inf)]), "cannot be drawn"),
        (lambda: figures.forest([Point("A", "N1", 0.7, 0.9, 0.8)]), "cannot be drawn"),
        (lambda: figures.forest([Point("A", "N1", None)]), "None .* cannot be drawn"),
        (lambda: figures.forest([Point("A", "N1", 0.7, n=(3, "many"))]), "A, N1: n: n is 'many'"),
        (lambda: figures.roc_curves([A]), "nothing to draw"),
        (lambda: figures.heat_map([A], span=(1.0, 0.5)), "span"),
        (lambda: figures.dots([A], ["probe"]), "no points of 'probe'"),
        (lambda: figures.dots([Point("A", "N1", 0.7, series=str(i)) for i in range(6)]), "6 series"),
        (lambda: figures.pareto([A], {}), "no number of parameters"),
        (lambda: figures.pareto([A], {"A": 0}), "parameters of A is 0"),
        (lambda: figures.pareto([A, Point("A", "N2", 0.7)], {"A": 5}), "values of N1 and N2"),
        (lambda: figures.roc_curves({}), "nothing to draw"),
        (lambda: figures.roc_curves({"A": (np.zeros(30), np.zeros(29))}), "30,"),
        (lambda: figures.roc_curves({"A": (np.arange(30), np.zeros(30))}), "label 2"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(call: Callable[[], Figure], words: str) -> None:
    with pytest.raises(NexVarError, match=words) as refused:
        call()
    assert "\n" not in str(refused.value)
