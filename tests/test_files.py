"""The door for people's files: what is opened, what JSON may hold, how a file is written, what a message may show."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nexvar import files
from nexvar.errors import MAX_MESSAGE, NexVarError, printable

# ---------------------------------------------------------------------------------------------- what people read

ANY_TEXT = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;owned\x07b", "a\\x1b]0;owned\\x07b"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc\0", "a\\x0d\\x0ab\\x09c\\x00"),
        ("\u2028\ufeff\U000e0041", "\\u2028\\ufeff\\U000e0041"),
        (os.fsdecode(b"caf\xe9.vcf"), "caf\\xe9.vcf"),
        ("é 你 … ACGT", "é 你 … ACGT"),
    ],
)
def test_what_could_command_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(NexVarError(f"<{text}>", where="x")).isprintable()


@given(ANY_TEXT, ANY_TEXT | st.none(), ANY_TEXT | st.none())
def test_a_message_is_one_printable_line_of_bounded_length(what: str, where: str | None, fix: str | None) -> None:
    for times in (1, 900):
        error = NexVarError(what * times, where=where and where * times, fix=fix and fix * times)
        assert str(error).isprintable() and len(str(error)) <= MAX_MESSAGE < 500
        str(error).encode()


def test_a_long_message_keeps_place_and_remedy() -> None:
    line = str(NexVarError("begin" + "x" * 100_000 + "end", where="/data/in.vcf:17", fix="cut it"))
    assert line.startswith("/data/in.vcf:17: begin") and line.endswith("end: cut it") and "…" in line


# ------------------------------------------------------------------------------------------------ what is opened


def test_pipes_devices_folders_and_missing_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "pipe_by_link").symlink_to("pipe")
    (tmp_path / "empty").touch()
    for path, says in [
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "pipe_by_link", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (tmp_path, "is a directory"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "loop", "cannot be read"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / ("x" * 300), "cannot be read"),
        ("nul\0byte", "NUL byte"),
    ]:
        with pytest.raises(NexVarError, match=says):
            files.open_regular(path)
    assert files.open_regular(tmp_path / "empty", empty_ok=True).read() == b""
    with pytest.raises(NexVarError, match="more than 3 bytes"):
        (tmp_path / "four").write_bytes(b"1234")
        files.read_bytes(tmp_path / "four", limit=3)
    with pytest.raises(NexVarError, match="not UTF-8"):
        (tmp_path / "latin").write_bytes(b"\xe9")
        files.read_text(tmp_path / "latin")


def test_links_may_stay_in_their_folder_or_lead_into_the_hubs_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    for folder in (snapshot, blobs, tmp_path / "plain"):
        folder.mkdir(parents=True)
    (blobs / "1").write_text("x")
    (tmp_path / "outside").write_text("x")
    (tmp_path / "plain" / "real").write_text("x")
    for link, target in [
        (snapshot / "config.json", "../../blobs/1"),
        (tmp_path / "plain" / "name", "real"),
    ]:
        link.symlink_to(target)
        assert files.check_inside(link) == link
    for link, target in [
        (snapshot / "tokenizer.json", "../../../outside"),
        (tmp_path / "plain" / "out", "../outside"),
        (tmp_path / "plain" / "blob", "../models--x/blobs/1"),
        (tmp_path / "plain" / "chain", "out"),
        (tmp_path / "plain" / "dangling", "/nowhere/at/all"),
    ]:
        link.symlink_to(target)
        with pytest.raises(NexVarError, match="link"):
            files.check_inside(link)


# ------------------------------------------------------------------------------------------------------------ JSON

LATE_TWICE = "{" + ",".join(f'"{i}":0' for i in range(200_000)) + ',"199999":1}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LATE_TWICE, "'199999' occurs twice"),
        ("[" * 100_000 + "]" * 100_000, "levels deep"),
        ("[" * 70 + "]" * 70, "levels deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "levels deep"),
        ("[1e999]", "too large"),
        ("[-1e999]", "too large"),
        ("[NaN]", "no number"),
        ("[-Infinity]", "no number"),
        ("1" * 50_000, "50000 digits"),
        ('["\\ud800"]', "surrogates"),
        ('{"\\udfff": 1}', "surrogates"),
        ("[1", "not readable"),
        ("", "not readable"),
        (b"\xff\xfe", "utf-8"),
        (b'"' + b"x" * files.MAX_JSON + b'"', "bytes"),
    ],
    ids=range(15),
)
def test_json_is_bounded_and_read_in_linear_time(text: str | bytes, says: str) -> None:
    before = time.process_time()
    with pytest.raises(NexVarError, match=says) as caught:
        files.parse_json(text, "config.json")
    assert "config.json" in str(caught.value) and time.process_time() - before < 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_every_sound_value_comes_back(value: object) -> None:
    assert files.parse_json(json.dumps(value), "x") == value
    assert files.parse_json(json.dumps(value, ensure_ascii=False).encode(), "x") == value


def test_a_file_must_hold_a_table(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(NexVarError, match="not a JSON table"):
        files.read_json(tmp_path / "x.json")


# --------------------------------------------------------------------------------------------------------- writing


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_file_is_there_and_whole_or_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), files.write_atomically(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(NexVarError, match="out.tsv: cannot be written"), files.write_atomically(target) as temporary:
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old" and names(tmp_path) == {"out.tsv"}
    with files.write_atomically(target, durable=True) as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.suffix == ".tsv"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and names(tmp_path) == {"out.tsv"}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    with pytest.raises(NexVarError, match="cannot be written"), files.write_atomically(tmp_path / "no" / "x"):
        pass


def test_temporary_names_cannot_be_guessed_and_what_lies_there_is_not_followed(tmp_path: Path, monkeypatch) -> None:
    names = {files.temporary_name(tmp_path / "out") for _ in range(100)}
    assert len(names) == 100
    victim = tmp_path / "victim"
    victim.write_text("precious")
    laid = tmp_path / ".laid"
    laid.symlink_to(victim)
    monkeypatch.setattr(files, "temporary_name", lambda path: laid)
    with pytest.raises(NexVarError, match="cannot be written"), files.write_atomically(tmp_path / "out") as temporary:
        temporary.write_text("x")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "a b\n'\".vcf.gz", "-", os.fsdecode(b"caf\xe9")])
def test_any_name_that_the_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    files.write_bytes(tmp_path / name, b"1")
    assert names(tmp_path) == {name}


def test_leftovers_of_dead_runs_vanish_and_never_stop_one(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=lambda: None)
    process.start()
    process.join()
    mine = files.temporary_name(tmp_path / "out").name
    dead = mine.replace(f"-{os.getpid()}-", f"-{process.pid}-")
    absurd = mine.replace(f"-{os.getpid()}-", f"-{10**30}-")
    elsewhere = dead.replace(".nexvar-", ".nexvar-0")
    for name in (mine, absurd, elsewhere, ".12345.out", ".nexvar-notes"):
        (tmp_path / name).write_text("x")
    (tmp_path / dead / "inner").mkdir(parents=True)
    (tmp_path / dead.replace("out", "link")).symlink_to("/etc")
    files.write_bytes(tmp_path / "out", b"1")
    assert names(tmp_path) == {"out", mine, elsewhere, ".12345.out", ".nexvar-notes"}
    assert Path("/etc").is_dir()


def test_every_line_of_the_command_line_goes_through_one_door(capfd) -> None:
    from nexvar.cli._app import echo

    echo("name \x1b]0;owned\x07 \u202e\nsecond\x9b line", err=True)
    assert capfd.readouterr().err == "name \\x1b]0;owned\\x07 \\u202e\nsecond\\x9b line\n"
    sources = (Path(files.__file__).parent / "cli").glob("*.py")
    assert sum(source.read_text().count("typer.echo(") for source in sources) == 1


@pytest.mark.parametrize("name", ["scores", "benchmark", "labels", "task", "head", "recipe"])
def test_a_pipe_is_refused_wherever_a_file_is_opened(tmp_path: Path, name: str) -> None:
    from nexvar.evals.tables import read_table
    from nexvar.runs.writers import read_rows
    from nexvar.train import labels, predict, recipe

    pipe, opened = {
        "scores": ("x.parquet", lambda path: list(read_rows(path))),
        "benchmark": ("x.parquet", lambda path: read_table(path)),
        "labels": ("x.tsv", lambda path: list(labels.table_rows(path))),
        "task": ("pipe.json", predict.Facts.read),
        "head": ("head.safetensors", predict.read_head),
        "recipe": ("recipe.toml", recipe.read),
    }[name]
    os.mkfifo(tmp_path / pipe)
    with pytest.raises(NexVarError, match="not a regular file"):
        opened(tmp_path / pipe)
