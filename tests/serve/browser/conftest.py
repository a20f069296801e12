"""One server for a test run, one browser for a module. Nothing may leave this machine, nothing may go wrong unseen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import MASKED, Served, Watched, hostile, watching
from places import GOLDEN

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def executable() -> str:
    """The browser's path; skips where there is none, but not with CI set."""
    if not os.environ.get("CI"):
        pytest.importorskip("playwright")
        pytest.importorskip("fastapi")
        if BROWSER is None:
            pytest.skip("Chromium is not installed")
    assert BROWSER, "with CI set Chromium must be there"
    return BROWSER


@pytest.fixture(scope="module")
def chromium(executable: str) -> Iterator[Any]:
    """The browser. It ends with its module: while it lives, an event loop runs in this thread, and no other test could
    start its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(executable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server that the tests share: the built-in model and genome with a track, a masked model that predicts tracks,
    and a genome with hostile names."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "signal.bedgraph").write_text("chrM\t14400\t14480\t2\nchrM\t14480\t14560\t5\n")
    options = ["--track", f"chrM:signal={folder / 'signal.bedgraph'}", "--model", "nexvar_mito"]
    server = Served(folder / "data", [*options, "--model", str(GOLDEN / MASKED), *hostile(folder)])
    server.start()
    yield server
    server.kill()


@pytest.fixture
def watched(chromium: Any, served: Served) -> Iterator[Watched]:
    yield from watching(chromium, served.address)
