"""No verb writes over what it reads, whatever the names say; and every verb says what it reads and writes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from nexvar import cli
from nexvar.cli import _app
from nexvar.cli.options import Merges, Reads, Writes

VERBS: dict[str, Any] = {}


def _walk(group: typer.Typer, words: str) -> None:
    for command in group.registered_commands:
        VERBS[f"{words}{command.name}"] = command.callback
    for inner in group.registered_groups:
        if inner.typer_instance.registered_callback is not None:
            VERBS[f"{words}{inner.name}"] = inner.typer_instance.registered_callback.callback
        _walk(inner.typer_instance, f"{words}{inner.typer_instance.info.name or inner.name} ")


cli.app  # noqa: B018  imports the verbs
_walk(_app.app, "")

Marks = tuple[Any, ...]
NO_PATHS = {("export", "push_to_hub"), ("export", "format")}  # whose help speaks of folders


def parameters(verb: str) -> list[tuple[str, Any, Any, Marks]]:
    """(name, type, what typer knows of it, marks) of every option and argument."""
    rows = []
    for name, annotation in VERBS[verb].__annotations__.items():
        if annotation is typer.Context:
            continue
        metadata = getattr(annotation, "__metadata__", ())
        about = next((m for m in metadata if hasattr(m, "param_decls")), None)
        kind = getattr(annotation, "__origin__", annotation)
        rows.append((name, kind, about, tuple(m for m in metadata if hasattr(m, "of"))))
    return rows


def words_for(name: str, about: Any, path: object) -> list[str]:
    if type(about).__name__ == "ArgumentInfo":
        return [str(path)]
    declared = [d for d in about.param_decls if d.startswith("--")]
    return [declared[0] if declared else "--" + name.replace("_", "-"), str(path)]


PAIRS = [
    (verb, reads[0], writes[0])
    for verb in VERBS
    for reads in parameters(verb)
    for writes in parameters(verb)
    if any(isinstance(m, Reads) for m in reads[3]) and any(isinstance(m, Writes) for m in writes[3])
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_of_every_path_what_becomes_of_it(verb):
    """A new option that names a file or a folder must say whether it is read or written."""
    for name, kind, about, marks in parameters(verb):
        text = getattr(about, "help", None) or ""
        named = "Path" in str(kind) or (
            "str" in str(kind) and re.search(r"\b(file|folder|FILE|\.fa|path)\b", text) and "instead of" not in text
        )
        named = named and (verb, name) not in NO_PATHS
        assert not named or len(marks) == 1, f"{verb}: {name} is a path: mark it Reads() or Writes(), see options.py"


def test_there_is_something_to_hold_apart():
    assert {"score", "saturate", "embed", "generate", "fill", "predict", "eval variants"} <= {v for v, _, _ in PAIRS}
    assert len(PAIRS) > 25
    assert [type(m) for _, _, _, marks in parameters("merge") for m in marks] == [Merges, Writes, Reads]


def command(verb: str, folder: Path, **given: object) -> list[str]:
    """A command line of the verb: what it must have, each path a file of its own, but for what is given."""
    words, arguments = [], []
    for name, kind, about, marks in parameters(verb):
        default = VERBS[verb].__signature__.parameters[name].default
        if name not in given and default is not default.__class__ and default is not _Empty:
            continue
        if name in given:
            path = given[name]
        elif any(isinstance(m, Writes) for m in marks):
            path = folder / f"{name}.written"
        elif marks or "Path" in str(kind):
            path = folder / f"{name}.read"
            path.write_text(name)
        else:
            path = "1"
        (arguments if type(about).__name__ == "ArgumentInfo" else words).extend(words_for(name, about, path))
    return [*verb.split(), *words, *arguments]


_Empty = __import__("inspect").Parameter.empty


def refused(words, monkeypatch, capfd) -> str:
    monkeypatch.setattr(sys, "argv", ["nexvar", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capfd.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1, said
    return said


def links(path: Path) -> dict[str, Path]:
    """Other names of a file or folder."""
    names = {"the same": path, "dotted": path.parent / "." / path.name, "around": path.parent / "d" / ".." / path.name}
    (path.parent / "d").mkdir(exist_ok=True)
    names["symlink"] = path.parent / f"soft-{path.name}"
    names["symlink"].symlink_to(path)
    if path.is_file():
        names["hard link"] = path.parent / f"hard-{path.name}"
        os.link(path, names["hard link"])
    above = path.parent.parent / "above"
    above.symlink_to(path.parent)
    names["linked folder"] = above / path.name
    return names


@pytest.mark.parametrize(("verb", "read", "written"), PAIRS, ids=lambda v: str(v))
def test_an_output_that_is_an_input_is_refused(verb, read, written, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "here"
    folder.mkdir()
    mark = next(m for n, _, _, marks in parameters(verb) if n == written for m in marks)
    marks_read = [m for n, _, _, marks in parameters(verb) if n == read for m in marks]
    column, named = (any(getattr(m, how, False) for m in marks_read) for how in ("column", "named"))
    name = mark.names[0] if mark.names else "x.vcf"
    path = folder / name
    path.write_text("precious")
    for how, other in links(path).items():
        target = other.parent if mark.names else other
        if mark.names and how in ("symlink", "hard link"):
            continue
        if mark.tree:
            target = other.parent
        given = {read: f"{path}:LLR" if column else f"id={path}" if named else path, written: target}
        said = refused(command(verb, tmp_path, **given), monkeypatch, capfd)
        assert re.search("is an input|would replace|lies in|lies where", said), (how, said)
        assert path.read_text() == "precious" and not Path(f"{path}.parts").exists()


@pytest.mark.parametrize(("verb", "read", "written"), [p for p in PAIRS if p[1] in ("model", "taxonomy")])
def test_nothing_is_written_into_a_folder_that_is_read(verb, read, written, tmp_path, monkeypatch, capfd):
    inside = tmp_path / "model" / "sub"
    inside.mkdir(parents=True)
    given = {read: tmp_path / "model", written: inside / "out.tsv"}
    said = refused(command(verb, tmp_path, **given), monkeypatch, capfd)
    assert re.search(r"lies in|is no folder|would replace", said), said


OUTPUTS = [(v, n) for v in VERBS for n, _, _, marks in parameters(v) for m in marks if isinstance(m, Writes)]
FILES = [
    (v, n)
    for v, n in OUTPUTS
    if not any(getattr(m, "names", ()) or getattr(m, "tree", 0) for k, _, _, ms in parameters(v) if k == n for m in ms)
]


@pytest.mark.parametrize(("verb", "written"), FILES)
def test_a_place_that_cannot_be_is_found_before_anything_is_computed(verb, written, tmp_path, monkeypatch, capfd):
    """The inputs are nonsense: nobody has looked at them yet."""
    for path, words in (
        (tmp_path / "none" / "out.vcf", "its folder does not exist"),
        (tmp_path / ("y" * 245 + ".vcf"), "a name of 249 bytes"),
        (tmp_path / ("é" * 120 + ".vcf"), "a name of 244 bytes"),
        (tmp_path, "is a directory"),
        (Path("~nosuchuser/out.vcf"), "its folder does not exist"),
    ):
        assert words in refused(command(verb, tmp_path, **{written: path}), monkeypatch, capfd)


@pytest.mark.parametrize("verb", ["score", "saturate", "embed", "merge"])
def test_the_same_output_twice_has_its_own_words(verb, tmp_path, monkeypatch, capfd):
    name = "also" if verb == "merge" else "output"
    monkeypatch.chdir(tmp_path)
    words = command(verb, tmp_path, **{name: "out.parquet"})
    said = refused([*words, "-o", tmp_path / "out.parquet"], monkeypatch, capfd)
    assert "the same output twice" in said
    said = refused([*words, "-o", "out.parquet.parts/x.parquet"], monkeypatch, capfd)
    assert "its folder does not exist" in said or "lies where" in said
