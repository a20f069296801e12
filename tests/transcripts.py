"""Pages as sessions: what a reader would type, run in one fresh folder, beside the output that the page shows.

    ```console            lines after `$ ` are typed, what follows each is shown; `…` on a line: some are left out
    ```python             run in the same folder, in one Python for the whole page; its output is the ```text after it

``python tests/transcripts.py docs/tutorials/variants.md`` runs a page, and writes what came out where it
shows other output. A command that ends in ``&`` lasts until the page ends.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from nexvar import cli

BLOCK = re.compile(r"^```(console|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
BAR = re.compile(r"^.*\d%\|.*\n", re.MULTILINE)  # of progress, on a slow machine alone
SHELL = re.compile(r"[|<>&;$*(]")
PORT = "8000"  # a page's server; here it gets a free one


@dataclass
class Step:
    """Something typed, and the output that the page shows for it."""

    typed: str
    shown: str
    python: bool = False


@dataclass
class Session:
    """A reader at work in ``folder``."""

    folder: Path
    names: dict[str, object] = field(default_factory=dict)
    lasting: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: str = ""

    def run(self, step: Step) -> str:
        """What the step prints, standard error included."""
        typed = step.typed.replace(f":{PORT}", f":{self.port}")
        if step.python:
            return self._inside(lambda: exec(compile(typed, "page", "exec"), self.names))
        if typed.endswith(" &"):
            words = [sys.executable, "-m", *shlex.split(typed[:-2]), "--port", self.port]
            with (self.folder / "server.log").open("wb") as log:
                self.lasting.append(subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder))
            return ""
        if typed.startswith("nexvar ") and not SHELL.search(typed):
            return self._inside(lambda: self._command(shlex.split(typed, comments=True)))
        tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", typed],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PATH": tools},
        )
        return done.stdout.replace(f":{self.port}", f":{PORT}")

    def _command(self, words: list[str]) -> None:
        before, sys.argv = sys.argv, words
        try:
            cli.main()
        except SystemExit as end:
            if end.code:
                print(f"exit code {end.code}")
        finally:
            sys.argv = before

    def _inside(self, call: Callable[[], None]) -> str:
        """In this process, which has imported torch already."""
        before = Path.cwd()
        with tempfile.TemporaryFile() as raw:
            out = io.TextIOWrapper(raw, write_through=True)
            os.chdir(self.folder)
            try:
                with redirect_stdout(out), redirect_stderr(out):
                    call()
            finally:
                os.chdir(before)
            raw.seek(0)
            return BAR.sub("", raw.read().decode())


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    """A session whose lasting commands end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    reader = Session(folder, port=port)
    try:
        yield reader
    finally:
        for process in reader.lasting:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def steps(text: str) -> Iterator[Step]:
    """What a page asks its reader to type, in order."""
    for block in BLOCK.finditer(text):
        if block[1] == "python":
            yield Step(block[2], block[3] or "", python=True)
        else:
            for part in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
                typed, _, shown = part.partition("\n")
                yield Step(typed, shown)


def agrees(shown: str, said: str) -> bool:
    """Word for word, but for numbers, which differ between machines, and what `…` stands for."""
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else f"{re.escape(line)}\n" for line in _masked(shown))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _masked(said))) is not None


def _masked(text: str) -> list[str]:
    numbers = re.sub(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?", "0", text)
    return [" ".join(line.split()) for line in numbers.splitlines()]


def main(pages: list[str]) -> None:
    for page in map(Path, pages):
        text, at = page.read_text(), 0
        with tempfile.TemporaryDirectory() as folder, session(Path(folder)) as reader:
            for step in steps(text):
                said = reader.run(step)
                print(step.typed, said, sep="\n", flush=True)
                at = text.index(step.typed, at) + len(step.typed)
                if not agrees(step.shown, said):
                    text = text[:at] + text[at:].replace(*_change(step, said), 1)
        page.write_text(text)


def _change(step: Step, said: str) -> tuple[str, str]:
    """What stands after the step in the page, and what should."""
    if not step.python:
        return f"\n{step.shown}", f"\n{said}"
    return f"```\n\n```text\n{step.shown}```" if step.shown else "```\n", f"```\n\n```text\n{said}```"


if __name__ == "__main__":
    main(sys.argv[1:])
