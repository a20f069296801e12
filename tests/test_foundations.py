"""What every module rests on: quick start-up, public names, one version, arrows between modules, no network."""

from __future__ import annotations

import ast
import graphlib
import importlib
import importlib.util
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

import nexvar
from places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    """pytest imports them by it, and refuses two of one name in different folders."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("start", "seconds"),
    [("import nexvar", 0.5), ("import nexvar.cli; nexvar.cli.app(['--help'], standalone_mode=False)", 1.0)],
)
def test_starting_does_not_import_torch_and_is_quick(start: str, seconds: float) -> None:
    heavy = "{'torch', 'numpy', 'pysam', 'pyarrow', 'matplotlib'}"
    assert python(f"import sys\n{start}\nprint('loaded:', {heavy} & set(sys.modules))").endswith("loaded: set()\n")
    assert min(cpu_seconds(start) for _ in range(3)) - cpu_seconds("pass") < seconds


def cpu_seconds(code: str) -> float:
    """CPU time of a fresh Python, which a busy machine changes little (the goals are 0.15 and 0.3 s of wall time)."""
    before = os.times()
    python(code)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def test_every_public_name_is_there() -> None:
    for name in nexvar.__all__:
        assert getattr(nexvar, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nexvar'"):
        nexvar.Nexvar  # noqa: B018


def test_tests_cannot_reach_the_network() -> None:
    for call in (lambda: socket.create_connection(("192.0.2.1", 80)), lambda: socket.getaddrinfo("example.org", 80)):
        with pytest.raises(OSError, match="without a network"):
            call()


def test_one_version_everywhere() -> None:
    assert f'version = "{nexvar.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {nexvar.__version__}\n" in (ROOT / "CITATION.cff").read_text()


# --- arrows ---

PACKAGE = ROOT / "src" / "nexvar"


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file, of a package and all below it."""
    files = package.rglob("*.py")
    return {".".join(f.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports_of(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ``known`` that one names in any import: at its top, in a function, for type checkers only."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = ".".join([*home[: len(home) + 1 - node.level], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            named |= {each if (each := f"{base}.{alias.name}") in known else base for alias in node.names}
    return named & known.keys() - {name}


def circle(package: Path) -> list[str]:
    """One circle of imports, its first module again at its end; empty if there is none."""
    known = modules(package)
    try:
        list(graphlib.TopologicalSorter({n: imports_of(n, p, known) for n, p in known.items()}).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circle(PACKAGE) == []


@pytest.mark.parametrize(
    "back",
    [
        "from toy.inner.a import X",
        "from toy.inner import a",
        "from ..inner import a",
        "import toy.inner.a as a",
        "def f():\n    from .a import X",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import X",
    ],
)
def test_a_circle_is_seen_however_it_is_written(tmp_path: Path, back: str) -> None:
    package = tmp_path / "toy"
    (package / "inner").mkdir(parents=True)
    for empty in (package / "__init__.py", package / "inner" / "__init__.py", package / "inner" / "b.py"):
        empty.write_text("")
    (package / "inner" / "a.py").write_text("from toy.inner import b\n")
    assert circle(package) == []
    (package / "inner" / "b.py").write_text(back + "\n")
    assert set(circle(package)) == {"toy.inner.a", "toy.inner.b"}


def test_the_layers_are_few_and_have_no_exception() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert contract["type"] == "layers" and len(contract["layers"]) <= 14
    assert set(contract) == {"name", "type", "layers"}, "ignore_imports and containers are exceptions"
    layered = {module.strip() for layer in contract["layers"] for module in layer.split("|")}
    tops = {".".join(name.split(".")[:2]) for name in modules(PACKAGE)} - {"nexvar", "nexvar.__main__"}
    assert layered == tops, "every module at the top stands in one layer"


SCRIPTS = [p for folder in ("attacks", "benchmarks", "docs", "recipes", "test") for p in (ROOT / folder).glob("*.py")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_scripts_that_no_test_runs_name_what_exists(script: Path) -> None:
    """Every name that a script takes from nexvar, or from a module of it, is there."""
    tree, taken = ast.parse(script.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nexvar":
            for alias in node.names:
                taken[alias.asname or alias.name] = attribute_or_module(str(node.module), alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = taken.get(node.value.id)
            if isinstance(module, types.ModuleType):
                assert hasattr(module, node.attr), f"{script.name}:{node.lineno}: {node.value.id}.{node.attr}"


def attribute_or_module(module: str, name: str) -> object:
    home = importlib.import_module(module)
    return getattr(home, name) if hasattr(home, name) else importlib.import_module(f"{module}.{name}")
