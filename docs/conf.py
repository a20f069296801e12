"""Settings of the documentation site: `make docs` writes it to docs/_build. Pages stay Markdown as GitHub shows it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import nexvar

HERE = Path(__file__).parent
project = "NexVar"
version = release = nexvar.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
nb_execution_mode = "off"
autodoc_typehints = "none"  # docstrings say shapes and units, which types do not
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"NexVar {version}"
html_copy_source = False


def menu(pages: Iterable[str]) -> str:
    """Pages for the site's menu, which the page itself does not show."""
    return "\n".join(["", "```{toctree}", ":hidden:", *pages, "```", ""])


def adapt_page(app: Sphinx, page: str, text: list[str]) -> None:
    """A link out of docs/ becomes its words, or the notebook that `make notebooks` made; tables become the menu, since
    GitHub shows no toctree."""

    def inside(link: re.Match[str]) -> str:
        target = (HERE / f"{page}.md").parent / link[2]
        return link[0] if target.resolve().is_relative_to(HERE) else link[1]

    if page == "notebooks":
        listed = re.findall(r"\]\(\.\./notebooks/(\w+)\.py\)", text[0])
        made = [name for name in listed if (HERE / "notebooks" / f"{name}.ipynb").exists()]
        text[0] += menu(f"notebooks/{name}" for name in made)
        for name in made:
            text[0] = text[0].replace(f"../notebooks/{name}.py)", f"notebooks/{name}.ipynb)")
    text[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)#]+)[^)]*\)", inside, text[0])
    if page == "index":
        text[0] += menu(dict.fromkeys(re.findall(r"\]\(([\w/]+)\.md\)", text[0])))


def keep_lines(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A line of a docstring stays a line (an argument, a shape), but for examples, which are recognised as such."""
    example = False
    for place, line in enumerate(lines):
        example = line.startswith(">>>") or (example and line != "")
        lines[place] = line if example or not line else f"| {line}"


def setup(app: Sphinx) -> None:
    app.connect("source-read", adapt_page)
    app.connect("autodoc-process-docstring", keep_lines)
