"""docs/serving.md: every block with curl commands is run, against a server on this machine."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess

import pytest

from nexvar.weights.load import load
from places import ROOT
from served import listening, make_server

PAGE = (ROOT / "docs" / "serving.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = [text for kind, text in BLOCKS if kind in ("", "bash", "sh") and "curl " in text]
BEFORE = """
curl() { command curl --fail-with-body "$@"; }
jq() { python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'; }
"""
VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchrM\t3243\t.\tA\tG\t.\t.\t.\n"


@pytest.fixture(scope="module")
def address():
    with listening(make_server([load("nexvar_mito", device="cpu")])) as address:
        yield address


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("script", SCRIPTS)
def test_documented_requests_are_answered(address, tmp_path, script):
    (tmp_path / "cohort.vcf.gz").write_bytes(gzip.compress(VCF.encode()))
    words = ["bash", "-euo", "pipefail", "-c", BEFORE + script.replace("localhost:8000", address)]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=100)
    assert ran.returncode == 0 and ran.stdout, (ran.stdout[-500:], ran.stderr[-500:])


def test_the_client_of_thirty_lines_works(address, capsys):
    (code,) = [text for kind, text in BLOCKS if kind == "python" and "class Client" in text]
    (used,) = [text for kind, text in BLOCKS if kind == "py"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 31
    names: dict = {}
    exec((code + used).replace("localhost:8000", address), names)
    scored, tokens = capsys.readouterr().out.splitlines()
    assert scored.startswith("chrM 3243 A G OK -") and len(tokens) == 20
    with pytest.raises(RuntimeError, match="is not a variant"):
        names["client"].ask("score", {"variants": ["x"]})
