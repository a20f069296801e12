"""`make bench`: every script is one of its benchmarks or says why not, regressions show, the page is the record."""

from __future__ import annotations

import importlib
import json
import re
import sys
from types import ModuleType

import pytest
import torch

from places import ROOT

SCRIPTS = sorted((ROOT / "benchmarks").glob("[a-z]*.py"))


@pytest.fixture
def script(monkeypatch):
    """Imports a script of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if "benchmarks" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def bench(script) -> ModuleType:
    return script("bench")


def test_every_script_is_run_or_said_why_not(bench) -> None:
    for path in SCRIPTS:
        text = path.read_text()
        is_one = "\ndef rows(full" in text and re.search(r"\n +report\(__doc__, rows", text) is not None
        assert is_one != (path.stem in bench.LEFT_OUT), path.name
    assert set(bench.LEFT_OUT) <= {path.stem for path in SCRIPTS}


def test_the_page_shows_the_recorded_values(bench) -> None:
    recorded = json.loads(bench.RECORDED.read_text())
    assert bench.page(recorded) == bench.PAGE.read_text(), "run `python benchmarks/bench.py --record NOTE`"
    assert set(recorded["rows"]) <= {path.stem for path in SCRIPTS} - set(bench.LEFT_OUT)


def test_what_grew_beyond_the_noise_is_told(bench) -> None:
    row = bench.Row("a forward", "the naive way", 3.0, 10.0)
    assert not bench.Line("x", row, None).grew and bench.Line("x", row, None).cells()[-1] == "new"
    assert not bench.Line("x", row, 0.26).grew and bench.Line("x", row, 0.26).cells()[-1] == "+15%"
    slower = bench.Line("x", row, 0.2)
    assert slower.grew and "0.3, recorded 0.2 (CPU-s)" in slower.told()


def test_a_broken_script_is_one_line_and_the_others_are_kept(bench, monkeypatch, tmp_path, capfd) -> None:
    (tmp_path / "_measure.py").write_text((ROOT / "benchmarks" / "_measure.py").read_text())
    (tmp_path / "fine.py").write_text(
        '"""Page."""\nfrom _measure import Row, report\n\ndef rows(full):\n    yield Row("a", "b", 1.0, 2.0)\n\n'
        "report(__doc__, rows)\n"
    )
    (tmp_path / "broken.py").write_text("raise ValueError('no such layer')\n")
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "RECORDED", tmp_path / "recorded.json")
    monkeypatch.setattr(bench, "machine", lambda: {"cores": 2})
    bench.RECORDED.write_text('{"machine": {}, "note": "-", "rows": {"fine": [["a", "b", 1.0, 4.0, "CPU-s"]]}}')
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    assert bench.main() == 1
    out = capfd.readouterr().out
    assert "FAILED: broken: ValueError: no such layer\n" in out
    assert "MORE: fine, a, against b: 0.5, recorded 0.25 (CPU-s)" in out


def test_what_only_a_gpu_can_tell_runs_on_a_cpu_in_small_shapes(script) -> None:
    gpu = script("gpu")
    sizes = gpu.SMALL._replace(length=64, prompt=16, tokens=2, variants=1, longest=128)
    page = gpu.measure(torch.device("cpu"), sizes)
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Forward", "## Decoding", "## Scoring, windows of the forward's length", "## Peak memory of a forward",
    ]  # fmt: skip
    cells = [[c.strip() for c in line.split("|")] for line in page.splitlines() if line.startswith("| tiny")]
    assert len(cells) == 2 * (1 + 2 + 1 + 2)
    assert all(re.fullmatch(r"[\d.,e+-]+|the same|as ever|static steps.*", c) for row in cells for c in row[3:-1]), page
    assert not any("differ" in c for row in cells for c in row)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_nothing_is_measured_and_that_is_said(script, monkeypatch, capsys) -> None:
    gpu = script("gpu")
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    assert capsys.readouterr() == (
        "",
        "no CUDA device here, so nothing is measured; --tiny --device cpu runs the same code\n",
    )
