"""The page's pure functions, under Node; its statistics against NexVar's own, and its words against the docs."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nexvar.evals.statistics import delong_interval
from places import ROOT

HERE = Path(__file__).parent
WEB = ROOT / "src/nexvar/serve/web"


@pytest.fixture(scope="module")
def node():
    found = shutil.which("node")
    if found is None and not os.environ.get("CI"):
        pytest.skip("Node is not installed")
    assert found, "with CI set Node must be there"
    return found


def test_pure_functions(node):
    tests = sorted(map(str, (HERE / "web").glob("*.test.mjs")))
    run = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=120)
    assert len(tests) >= 3
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auroc_and_its_interval_are_those_of_the_evaluation(node, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 3 == 0
    scores = np.round(rng.normal(size=60) + labels, 1)  # with ties
    script = f"""import {{ auroc }} from {json.dumps((WEB / "stats.js").as_uri())};
    console.log(JSON.stringify(auroc({scores[labels].tolist()}, {scores[~labels].tolist()})));"""
    run = subprocess.run([node, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    mine, expected = json.loads(run.stdout), delong_interval(labels, scores)
    assert [mine["value"], mine["low"], mine["high"]] == pytest.approx([expected.value, expected.low, expected.high])


def test_the_page_says_of_misuse_what_the_docs_say():
    docs = " ".join((ROOT / "docs/generation.md").read_text().split())
    page = (WEB / "generate.js").read_text()
    words = "".join(re.findall(r"'(Do not use any of this[^']*)'\s*\+ '([^']*)'", page)[0])
    for sentence in re.split(r"(?<=\.) ", words):
        assert sentence in docs
