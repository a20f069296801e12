"""2,000 files with random damage, of every kind that is loaded: a success or one line, in bounded time and memory."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

SEED = 1
COUNTS = {"weights": 1000, "vocabularies": 400, "configs": 300, "cards": 150, "heads": 150}


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_without_damage_each_is_accepted(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "damaged", lambda content, *_, **__: content)
    monkeypatch.setattr(fuzzing, "twisted", lambda value, _: value)
    accepted = 0
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            fuzzing.KINDS[kind](folder, random.Random(number))
            accepted += 1
        except fuzzing.NexVarError as error:
            assert kind == "weights" and "part" in str(error)  # a part is left out on purpose, now and then
    assert accepted >= 8


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_with_damage_each_is_accepted_or_refused_in_one_line(kind: str) -> None:
    command = [sys.executable, fuzzing.__file__, kind, str(SEED), str(COUNTS[kind])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    assert sum(COUNTS.values()) == 2000
