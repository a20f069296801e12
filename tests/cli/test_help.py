"""Help texts arrive whole: every word of every docstring and option, whatever brackets or widths do to it."""

from __future__ import annotations

import inspect
import re

import pytest
import typer

import interface
from nexvar import cli
from nexvar.cli import _app

COMMANDS = dict(interface.commands())
VERBS = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]


def words(text: str) -> str:
    """The text without what line wrapping changes."""
    return re.sub(r"\s+", "", text)


def help_of(path: str, width: int, monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERMINAL_WIDTH", str(width))
    monkeypatch.setattr("sys.argv", [*path.split(), "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    return words(capsys.readouterr().out)


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("path", COMMANDS)
def test_every_help_text_is_shown_whole(path, width, monkeypatch, capsys):
    shown, command = help_of(path, width, monkeypatch, capsys), COMMANDS[path]
    assert words(command.help) in shown
    for parameter in command.params:
        assert words(getattr(parameter, "help", None) or "") in shown, parameter.name
    for name, inner in getattr(command, "commands", {}).items():
        assert name in shown
        assert words(inner.get_short_help_str(10_000)) in shown


@pytest.mark.parametrize("path", VERBS)
def test_the_help_is_the_docstring(path):
    """What a command's help holds is what its source says, so that nothing can be lost before it is shown either."""
    docstrings = {words(inspect.getdoc(f.callback)) for f in _registered(_app.app)}
    assert words(COMMANDS[path].help) in docstrings
    assert words(COMMANDS[path].help).startswith(words(COMMANDS[path].get_short_help_str(10_000)))


def _registered(group: typer.Typer):
    yield from group.registered_commands
    for inner in group.registered_groups:
        yield from _registered(inner.typer_instance)


def test_words_in_brackets_stay(monkeypatch, capsys):
    assert "([model]init)onlabelsortracks([task])" in help_of("nexvar finetune", 80, monkeypatch, capsys)
    assert "afine-tuningrunwitha[task]" in help_of("nexvar predict", 80, monkeypatch, capsys)


def test_markup_of_any_kind_is_text(monkeypatch, capsys):
    group = _app.new_group("Say [bold]it[/bold] *so*.")
    odd = "[red] [/] :smile: **x** `y` [[z]] \\[a]"

    def one(option: str = typer.Option("", help=odd)) -> None:
        """Does [x]; see [link=file:///]this[/link] and :warning:. More [y]."""

    def two() -> None:
        """Nothing."""

    for function in (one, two):
        _app.verb(group=group)(function)
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in (["--help"], ["one", "--help"]):
        group(arguments, standalone_mode=False)
    shown = words(capsys.readouterr().out)
    for text in ("Say [bold]it[/bold] *so*.", inspect.getdoc(one), odd):
        assert words(text) in shown
