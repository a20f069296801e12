"""``nexvar recipes``: what comes with the package is listed, and copied, never over somebody's file."""

from __future__ import annotations

import pytest

from nexvar import cli, recipes


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["nexvar", "recipes", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_all_are_listed_with_what_they_are(monkeypatch, capsys):
    assert run(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.all_recipes())
    assert all(len(line.split()) > 4 and not line.endswith("al") for line in lines)


@pytest.mark.parametrize("name", recipes.all_recipes())
def test_a_copy_is_the_recipe_and_nothing_is_overwritten(name, tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine.toml"
    assert run(monkeypatch, name, "-o", str(mine)) == 0
    assert mine.read_bytes() == recipes.get(name).read_bytes()
    mine.write_text("edited")
    assert run(monkeypatch, name, "-o", str(mine)) == 2 and mine.read_text() == "edited"
    assert "is there already" in capsys.readouterr().err


def test_an_unknown_name_is_answered_with_those_that_there_are(monkeypatch, capsys):
    assert run(monkeypatch, "nope") == 2
    assert "hyenadna-tiny" in capsys.readouterr().err
