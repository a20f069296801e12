"""``nexvar doctor`` and ``--version``: what is here, what is not, and whether the built-in model is right."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch

import nexvar
from nexvar import cli, doctor
from nexvar.oracles import Check


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["nexvar", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def healthy() -> dict[str, Check]:
    return {check.name: check for check in doctor.examine()}


def test_it_names_versions_and_finds_nothing_broken_here(healthy):
    assert healthy["nexvar"].detail.startswith(nexvar.__version__)
    assert torch.__version__ in healthy["torch"].detail
    assert "checks pass" in healthy["nexvar_mito"].detail
    assert not [check for check in healthy.values() if check.outcome == "FAIL"]


def test_every_extra_a_user_may_want_has_its_line(healthy):
    provided = set(importlib.metadata.metadata("nexvar").get_all("Provides-Extra") or ())
    assert {f"extra {name}" for name in provided - doctor.NO_VERBS} <= set(healthy)
    for check in healthy.values():
        if check.name.startswith("extra ") and check.outcome == "missing":
            assert f"pip install 'nexvar[{check.name.removeprefix('extra ')}]'" in check.detail


def test_no_key_and_no_home_folder_is_shown(monkeypatch):
    monkeypatch.setenv("NEXVAR_API_KEY", "hush")
    monkeypatch.setenv("HF_TOKEN", "hush")
    monkeypatch.setenv("NEXVAR_CACHE", str(Path.home() / "kept"))
    shown = doctor._environment()
    assert "NEXVAR_API_KEY (set)" in shown and "HF_TOKEN (set)" in shown and "NEXVAR_CACHE=~/kept" in shown
    assert "hush" not in shown


@pytest.mark.parametrize(("variable", "value", "named"), [
    ("NEXVAR_CPU_MATMUL", "fast", "bfloat16"),
    ("NEXVAR_CACHE", "/proc/none", "cache"),
])  # fmt: skip
def test_what_does_not_work_is_named_and_the_exit_code_is_1(variable, value, named, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(doctor, "_built_in", lambda: Check("nexvar_mito", "ok", ""))
    doctor.arithmetic.cpu_products.cache_clear()
    assert run(monkeypatch, "doctor") == 1
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")][0].split()[
        1
    ] == f"{named}:"
    doctor.arithmetic.cpu_products.cache_clear()


def test_wrong_numbers_of_the_built_in_model_are_a_failure(monkeypatch):
    monkeypatch.setattr(doctor, "verify", lambda *_, **__: iter([Check("loss", "FAIL", "1.2, recorded 0.9")]))
    assert doctor._built_in().outcome == "FAIL" and "recorded 0.9" in doctor._built_in().detail


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"nexvar {nexvar.__version__}\n"
