"""Names and options that outsiders use move on purpose only; ``python -m nexvar`` is ``nexvar``."""

from __future__ import annotations

import difflib
import subprocess
import sys

import interface


def test_public_names_and_options_are_those_of_the_snapshot():
    recorded, now = interface.SNAPSHOT.read_text(encoding="utf-8").splitlines(), interface.text().splitlines()
    changed = list(difflib.unified_diff(recorded, now, "tests/interface.txt", "now", lineterm="", n=0))
    assert not changed, "\n".join([*changed, "on purpose? python tests/interface.py rewrites the snapshot"])


def test_the_module_is_the_command():
    program = [sys.executable, "-c", "from nexvar.cli import main; main()"]
    module = [sys.executable, "-m", "nexvar"]

    def run(words):
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout.replace("python -m nexvar", "nexvar"), done.stderr

    assert run([*module, "protocols"]) == run([*program, "protocols"])
    code, _, error = run([*module, "score", "--bogus"])
    assert code == 2 and error.startswith("nexvar: ") and error.count("\n") == 1
    code, out, _ = run([*module, "score", "--help"])
    assert code == 0 and "--max-ref-mismatch" in out
