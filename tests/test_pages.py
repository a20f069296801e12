"""The pages: commands print what they show, paths and links exist, the map is true, tables agree with the cards."""

from __future__ import annotations

import importlib
import importlib.util
import pydoc
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
import yaml

import prose
import transcripts
from nexvar import cli
from nexvar.evals import demo
from nexvar.inference.core.likelihood import Member, count_tokens
from nexvar.ops.fir import block_filter
from places import ROOT

PACKAGE = ROOT / "src" / "nexvar"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def code_blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for match in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield page, match[1]


def documented(start: str) -> list[str]:
    """Lines of code blocks, and inline code, that begin with ``start``; comments dropped."""
    lines = [line for _, block in code_blocks("(?:bash|sh)?") for line in block.splitlines()]
    lines += [line.removeprefix("$ ") for _, block in code_blocks("console") for line in block.splitlines()]
    for page in PAGES:
        lines += re.findall(r"`([^`\n]+)`", page.read_text())
    return sorted({line.split("  #")[0].strip() for line in lines if line.startswith(start)})


@pytest.mark.parametrize("line", documented("nexvar "))
def test_documented_commands_exist_with_their_options(line: str) -> None:
    command: Any = typer.main.get_command(cli.app)
    words = line.split()[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if words and words != ["--help"] and (meant := getattr(command, "otherwise", None)):
        command = command.commands[meant]
    verbless = all(word.startswith("-") for word in words)  # only the program's own options, such as --version
    complete = not hasattr(command, "commands") or verbless
    assert complete, f"{line}: no such verb"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-") and word != "--help":
            assert word in known, f"{line}: no option {word}"


@pytest.mark.parametrize("line", documented("make "))
def test_documented_make_targets_exist(line: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in line.split()[1:] if re.fullmatch("[a-z-]+", word)]
    assert set(named) <= targets and named


@pytest.mark.parametrize("line", documented("python "))
def test_documented_scripts_and_modules_exist(line: str) -> None:
    words = line.split()
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None
    elif "<" not in words[1]:  # a placeholder
        assert (ROOT / words[1]).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_module_named_in_code_exists(page: Path) -> None:
    """`tests/…`, `src/…`, genome/vcf.py and so on are there (a placeholder: any that fits), as is `nexvar.a.b`."""
    text = page.read_text()
    for path in re.findall(r"`((?:attacks|benchmarks|docs|recipes|src|test|tests)/[^`\s]*)`", text):
        assert list(ROOT.glob(re.sub("<[^>]+>", "*", path))), path
    rooms = "|".join(path.name for path in PACKAGE.iterdir() if path.is_dir())
    for path in re.findall(rf"(?<![\w/])(?:nexvar/)?((?:{rooms})/[\w/<>]+\.(?:py|toml))", text):
        assert list(PACKAGE.glob(re.sub("<[^>]+>", "*", path))), path
    for name in re.findall(r"(?:`|^|\bfrom |\bimport )(nexvar(?:\.[A-Za-z_]\w*)+)", text, re.MULTILINE):
        assert pydoc.locate(name) is not None, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_resolves(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_the_map_names_every_folder_and_no_file_that_is_gone() -> None:
    """docs/architecture.md draws the tree of src/nexvar, in one page."""
    drawn = re.search(r"^```\nsrc/nexvar/\n(.*?)^```", (ROOT / "docs" / "architecture.md").read_text(), re.M | re.S)
    assert drawn
    folders = {path.parent.name for path in PACKAGE.rglob("__init__.py")} - {"nexvar"}
    assert folders <= set(re.findall(r"\b(\w+)/", drawn[1])), "a folder that the map does not name"
    files = {path.name for path in PACKAGE.rglob("*.py")}
    assert set(re.findall(r"\w+\.py", drawn[1])) <= files, "a file that the map names is not there: moved?"


def test_the_prefix_tree_of_the_map_has_the_token_counts_that_are_computed() -> None:
    length, leaves = 1000, (200, 500, 800)
    alternatives = [Member([0] * at + [1] + [0] * (length - at - 1)) for at in leaves]
    tally = count_tokens([[Member([0] * length), *alternatives]], batch_tokens=10_000)
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert f"{tally.computed:,}    instead of 4 x {length:,}" in text and tally.naive == 4 * length
    for at in leaves:
        members = " 2 x" if at == max(leaves) else ""  # the first window goes on from the last branch point
        assert re.search(rf"{members} {length - at} +from the trunk's cache at {at}\n", text)
    assert re.search(rf" trunk .* {max(leaves)} +once, from left to right\n", text)


def test_the_block_filter_of_the_map_has_the_blocks_that_are_drawn() -> None:
    blocks = block_filter(torch.ones(1, 128)).blocks_NGCC[:, 0]
    whole = torch.ones(64, 64)
    assert torch.equal(blocks, torch.stack([whole.triu(), whole, whole.tril(-1)])), "◥ i ≥ j, █ all, ◣ i < j"


def test_every_page_is_linked() -> None:
    linked = "".join((ROOT / page).read_text() for page in ("README.md", "docs/index.md", "docs/models.md"))
    for page in (ROOT / "docs").rglob("*.md"):
        assert f"{page.name})" in linked or page.name == "index.md", page


def test_every_benchmark_has_its_section() -> None:
    performance = (ROOT / "docs" / "performance.md").read_text()
    for script in (ROOT / "benchmarks").glob("[a-z]*.py"):
        assert f"python benchmarks/{script.name}" in performance, script.name


def test_the_model_tables_agree_with_the_cards() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "model_table.py"))
    for page, text in script["pages"]().items():
        assert page.read_text() == text, f"{page.name} differs from the cards: run `python docs/model_table.py`"


SESSIONS = [page for page in PAGES if "```console" in page.read_text()]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.name)
def test_what_a_reader_types_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    with transcripts.session(tmp_path) as reader:
        for step in transcripts.steps(page.read_text()):
            said = reader.run(step)
            assert transcripts.agrees(step.shown, said), f"{step.typed}\nprints\n{said}"


def test_other_output_is_found() -> None:
    assert transcripts.agrees("a  1.5\n…\nend 2\n", "a -0.3e-5\nb\nc\nend 7\n")
    assert not transcripts.agrees("a 1\nend 2\n", "a 1\nb\nend 2\n")
    assert not transcripts.agrees("status OK\n", "status EDGE\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_run_or_say_why_not(page: Path) -> None:
    """A block of commands that no session runs has its reason above it: <!-- not run: … -->."""
    text = page.read_text()
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if fence[1] in ("", "bash") and re.search(r"^(nexvar|curl) ", fence[2], re.MULTILINE):
            assert re.search(r"^<!-- not run: .+ -->\n$", text[: fence.start()].splitlines(keepends=True)[-1]), fence[2]


def test_the_forms_around_the_pages_are_sound() -> None:
    """CITATION.cff has what it must have; the form for a bug asks for `nexvar doctor`."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    forms = {
        form.stem: yaml.safe_load(form.read_text()) for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
    }
    assert all({"name", "description", "body"} <= set(form) for name, form in forms.items() if name != "config")
    assert "nexvar doctor" in str(forms["bug"]["body"])


LEAST = 0.9  # of a page's sentences have at most 25 words and one colon or semicolon


@pytest.mark.parametrize("page", prose.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    read = prose.sentences(page.read_text())
    long = [sentence.text for sentence in read if not sentence.fits]
    assert len(long) <= (1 - LEAST) * len(read), f"python tests/prose.py {page}: more than {1 - LEAST:.0%} are long"


def test_words_and_breaks_are_counted() -> None:
    text = "# Title: a; b; c\n\nOne idea: it is short. Two; of: them.\n\n- An item `a; b: c`\n- " + "word " * 26 + "\n"
    read = prose.sentences(text)
    assert [(sentence.words, sentence.breaks) for sentence in read] == [(5, 1), (3, 2), (3, 0), (26, 0)]
    assert [sentence.fits for sentence in read] == [True, False, True, False]


@pytest.mark.parametrize("page", prose.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_opens_with_a_sentence(page: Path) -> None:
    """Under its title: what it is for, before any table, list or code."""
    title, _, rest = page.read_text().partition("\n\n")
    assert title.startswith("# ") and re.match(r"[A-Z`*]", rest), rest[:80]


EXAMPLES = [
    pytest.param(p, b, id=f"{p.name}-{i}") for i, (p, b) in enumerate(code_blocks("python")) if p not in SESSIONS
]


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_python_examples_run_as_printed(
    page: Path, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = compile(block, str(page), "exec")
    if "import " not in block:
        return  # a fragment that shows a form; it parses
    monkeypatch.chdir(tmp_path)
    if "mito.vcf" in block:  # files of the user's
        lines = demo.shipped("mtdna_labelled.vcf").read_text().splitlines(keepends=True)
        head = [line for line in lines if line.startswith("#")]
        Path("mito.vcf").write_text("".join([*head, *lines[len(head) : len(head) + 3]]))
        shutil.copy(demo.shipped("chrM_rCRS.fa"), "chrM.fa")
    exec(code, {})
