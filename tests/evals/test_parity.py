"""``python -m nexvar.evals.parity``: it passes on what is right, and it can fail."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexvar.errors import NexVarError
from nexvar.evals import parity
from places import GOLDEN

FOLDERS = parity.golden_folders(GOLDEN)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_golden_folder_passes(folder: Path) -> None:
    result = parity.compare(folder)
    assert result.passed, "\n".join(parity.table([result]))
    assert result.cases and not math.isnan(result.logits)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The smallest golden folder, to be spoilt."""
    smallest = min(FOLDERS, key=lambda folder: (folder / "weights.safetensors").stat().st_size)
    return Path(shutil.copytree(smallest, tmp_path / smallest.name))


def spoil_a_logit(path: Path, change: float) -> None:
    tensors = load_file(path)
    name = next(name for name in tensors if "logits" in name.split(".") and "jax" not in name)
    tensors[name].view(-1)[0] += change
    save_file(tensors, path)


@pytest.mark.parametrize("change", [0.01, math.nan])
def test_a_wrong_logit_fails_with_exit_code_1(copied: Path, change: float, capsys: pytest.CaptureFixture[str]) -> None:
    parity.main([str(copied)])
    assert "pass" in capsys.readouterr().out
    spoil_a_logit(copied / "io.safetensors", change)
    with pytest.raises(SystemExit) as stopped:
        parity.main([str(copied)])
    assert stopped.value.code == 1 and "FAIL" in capsys.readouterr().out


def test_a_folder_that_holds_nothing_to_compare_does_not_pass(copied: Path) -> None:
    save_file({"something.else": torch.zeros(2)}, copied / "io.safetensors")
    assert not parity.compare(copied).passed


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parity.main([str(tmp_path / "nowhere")])
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith("nexvar: ")
    with pytest.raises(NexVarError):
        parity.compare(tmp_path)


def test_cases_are_found_by_prefix_and_by_suffix() -> None:
    x = torch.zeros(1)
    names = ("len033.input_ids", "len033.logits", "len033.block_02", "bf16.len033.logits",
             "input_ids.B1_L3", "logits.B1_L3", "hidden_states.0.B1_L3")  # fmt: skip
    cases = parity.split_cases(dict.fromkeys(names, x))
    assert {name: set(case) for name, case in cases.items()} == {
        "len033": {"input_ids", "logits", "block_02"},
        "B1_L3": {"input_ids", "logits", "hidden_states.0"},
    }
