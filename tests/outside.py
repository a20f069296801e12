"""Packages that a test installs: what pip does with one, without pip, a build backend or a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from places import ROOT, TESTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOY = TESTS / "toy_package"


def need(there: object, what: str) -> None:
    """Skip the test where what it needs is not installed; with CI set, fail."""
    if not there:
        assert not os.environ.get("CI"), f"with CI set {what} must be there"
        pytest.skip(f"{what} is not installed")


def install(project: Path, target: Path) -> Path:
    """The project's package and its metadata, made of its pyproject.toml, side by side in ``target``."""
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    for package in project.iterdir():
        if package.is_dir():
            shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    write_metadata(target, described["name"], described["entry-points"], described["version"])
    return target


def write_metadata(target: Path, name: str, groups: Mapping[str, Mapping[str, str]], version: str = "1.0") -> None:
    """``NAME-VERSION.dist-info``, as an installer writes it."""
    folder = target / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items()]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def python(*arguments: str, target: Path) -> subprocess.CompletedProcess[str]:
    """A fresh Python with what is installed in ``target``."""
    path = os.pathsep.join([str(target), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300)
