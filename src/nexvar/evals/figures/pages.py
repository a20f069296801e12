"""Pages measured in inches, so that they can be as large as their text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.evals.plots import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 0.25
DPI, MOST_PIXELS = 300, 80e6
TITLE, HEADING, NAME, NUMBER = 15, 11, 10, 8.5  # points
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#1f2933",
    "#e69f00",
    "#56b4e9",
)  # Okabe & Ito 2008, ink for black


def page(width: float, height: float, title: str = "") -> tuple[Figure, float]:
    """(figure, inches that the title takes at the top); as wide as its title at least, ``height`` without it."""
    taken = MARGIN + (0.45 if title else 0.0)
    wide = max(width, 2 * MARGIN + widest([title], TITLE, "bold"))
    figure = new_figure(wide, height + taken)
    figure.set_dpi(DPI)  # text is as wide as it will be in the file
    figure.text(MARGIN / wide, 1 - MARGIN / (height + taken), title, fontsize=TITLE, color=INK, fontweight="bold",
                va="top", parse_math=False)  # fmt: skip
    return figure, taken


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes by inches from the left and the top of the page."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def write(ax: Axes, x: float, y: float, text: str, **style: Any) -> Any:
    """Text at data coordinates, or those of ``transform``; a dollar sign is a dollar sign."""
    return ax.text(x, y, text, parse_math=False, **{"fontsize": NAME, "color": INK, "va": "center", **style})


def widest(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Inches that the widest of some texts takes."""
    figure = new_figure(1, 1)
    figure.set_dpi(DPI)
    from matplotlib.font_manager import FontProperties

    font, renderer = FontProperties(size=size, weight=weight), figure.canvas.get_renderer()  # type: ignore[attr-defined]
    return max((renderer.get_text_width_height_descent(t, font, False)[0] for t in texts), default=0.0) / figure.dpi


def save(figure: Figure, path: str | Path) -> list[Path]:
    """``path``.png and ``path``.pdf in a folder that is made if need be; 300 dots an inch, fewer where they were more
    than 80 million."""
    base = arguments.path(path, "path")
    written = [base.with_name(f"{base.name}.{ending}") for ending in ("png", "pdf")]
    wide, high = figure.get_size_inches()
    dpi = min(DPI, int(math.sqrt(MOST_PIXELS / (wide * high))))
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(written[0], dpi=dpi)
        figure.savefig(written[1], metadata={"CreationDate": None})  # the same picture, the same bytes
    except OSError as error:
        raise NexVarError(f"cannot be written ({error.strerror or error})", where=base, fix="choose a folder with "
                          "room that is yours") from None  # fmt: skip
    return written
