"""What a stranger installs: the wheel and what is in it, the image's recipe, the conda recipe."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nexvar
from outside import need
from places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch"}
LARGEST = 12_000_000  # bytes of the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    need(importlib.util.find_spec("build") and importlib.util.find_spec("hatchling"), "build and hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    assert path.stat().st_size < LARGEST
    return zipfile.ZipFile(path)


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    listed = subprocess.run(["git", "ls-files", "-z", "src/nexvar"], cwd=ROOT, capture_output=True, check=True).stdout
    tracked = {Path(name).relative_to("src").as_posix() for name in listed.decode().split("\0") if name}
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in tracked if (ROOT / "src" / name).exists()} <= shipped
    assert not {name for name in shipped - tracked if not (ROOT / "src" / name).is_file() or name.endswith(".pyc")}
    for needed in ("py.typed", "data/chrM_rCRS.fa", "data/mtdna_labelled.vcf", "cards/nexvar_mito.toml",
                   "recipes/finetune-task.toml", "serve/web/index.html", "ops/matvec.c"):  # fmt: skip
        assert f"nexvar/{needed}" in shipped


def test_one_version_everywhere():
    texts = {name: (ROOT / name).read_text() for name in ("pyproject.toml", "CITATION.cff", "conda/recipe.yaml")}
    for name, text in texts.items():
        assert re.search(r'^\s*version[:=]? *=? *"?([\d.]+)"?$', text, re.MULTILINE)[1] == nexvar.__version__, name  # type: ignore[index]


def test_the_conda_recipe_asks_for_what_pyproject_asks_for():
    text = (ROOT / "conda" / "recipe.yaml").read_text()
    run = re.findall(r"^    - (\S+) >=([\d.]+)$", text, re.MULTILINE)
    wanted = [re.match(r"([\w-]+)>=([\d.]+)", line) for line in PROJECT["dependencies"]]
    assert set(run) == {(CONDA_NAMES.get(m[1], m[1]), m[2]) for m in wanted if m}
    assert PROJECT["scripts"]["nexvar"] in text


def test_the_conda_recipe_renders():
    need(importlib.util.find_spec("rattler_build"), "py-rattler-build")
    from rattler_build import Stage0Recipe, VariantConfig

    minimum = PROJECT["requires-python"].removeprefix(">=")
    (rendered,) = Stage0Recipe.from_file(str(ROOT / "conda" / "recipe.yaml")).render(
        VariantConfig({"python_min": [minimum]})
    )
    assert rendered


def test_the_image_is_not_root_says_when_it_is_ready_and_names_its_base():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text and "/v1/health/ready" in text
    assert "latest" not in text and not re.search(r"(KEY|TOKEN|SECRET)=", text)
    assert re.search(r'^ENTRYPOINT \["nexvar"\]$', text, re.MULTILINE)


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    need(hadolint, "hadolint")
    found = subprocess.run([str(hadolint), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
