"""Every hostile checkpoint of ``attacks/checkpoints.py`` is refused with one line, quickly, and executes nothing."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.weights.load import load
from places import ROOT

sys.path.append(str(ROOT / "attacks"))
attacks = importlib.import_module("checkpoints")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("attacks")
    attacks.write_all(directory, directory / "MARKER")
    return directory, directory / "MARKER"


def test_the_sound_folder_loads(tmp_path):
    attacks.write_sound(tmp_path)
    assert load(tmp_path, device="cpu").module.training is False


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_refused(hostile, name):
    directory, marker = hostile
    start = time.process_time()
    with pytest.raises(NexVarError) as caught:
        load(directory / name, device="cpu")
    line = str(caught.value)
    assert not marker.exists(), "something was executed"
    assert "\n" not in line and 20 < len(line) < 700, line
    assert name in line, "the line names the file"
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["reduce_system", "header_with_a_key_twice", "nan_weight"])
def test_on_the_command_line(hostile, name, monkeypatch, capsys):
    """One line on standard error, exit code 2."""
    import signal

    from nexvar import cli

    directory, marker = hostile
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    model = str(directory / name)
    monkeypatch.setattr("sys.argv", ["nexvar", "generate", "--prompt", "ACGT", "--model", model, "--device", "cpu"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == "" and not marker.exists()
    assert len(printed.err.strip().splitlines()) == 1 and printed.err.startswith("nexvar: ") and name in printed.err
