"""The notebooks' form. `make notebooks` executes them, with their own checks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def cells(path: Path) -> list[tuple[bool, str]]:
    """(is it Markdown, its text) of each cell."""
    _, *parts = re.split(r"^# %%(?: \[(markdown)\])?\n", path.read_text(), flags=re.MULTILINE)
    return [(kind == "markdown", text) for kind, text in zip(parts[::2], parts[1::2], strict=True)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_its_setting_and_ends_with_checks(path: Path) -> None:
    (first_is_text, opening), *_ = cells(path)
    code = [text for is_text, text in cells(path) if not is_text]
    assert first_is_text and opening.startswith("# # ") and "not a diagnosis" in opening
    assert "| full |" in opening and "| fast (`NEXVAR_FAST=1`) |" in opening, "model, memory, time of both settings"
    assert 'FAST = os.environ.get("NEXVAR_FAST")' in code[0]
    checks = [node for node in ast.walk(ast.parse(code[-1])) if isinstance(node, ast.Assert)]
    assert len(checks) >= 3, "the last cell checks"
    for text in code:
        ast.parse(text)


def test_the_page_lists_every_notebook_and_no_other() -> None:
    listed = re.findall(r"\]\(\.\./notebooks/(\w+)\.py\)", (ROOT / "docs" / "notebooks.md").read_text())
    assert sorted(listed) == [path.stem for path in NOTEBOOKS]
