"""A page in a real browser, before a server in a process of its own; what goes wrong there is kept."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOCAL = re.compile(r"(http://127\.0\.0\.1:\d+/|data:|blob:|about:)")
MASKED = "ntv3_post_tiny"  # random weights
MILLISECONDS = 30_000  # until something must have come


@dataclass
class Served:
    """A server of its own process, which may be killed and started again on the same port and data."""

    folder: Path
    options: list[str]
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "nexvar", "serve", "--port", str(self.port), "--data-dir", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, *self.options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        assert found, "the server did not start"
        self.port = int(found[1])

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.communicate()
            self.process = None


@dataclass
class Watched:
    """A page whose every request, error and violation is kept. allowed: what a test provokes on purpose."""

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def open(self, fragment: str = "") -> Any:
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/{fragment}")
        return self.page

    def unexpected(self) -> list[str]:
        return [each for each in self.problems if not any(re.search(pattern, each) for pattern in self.allowed)]


def watching(chromium: Any, address: str, **options: Any) -> Iterator[Watched]:
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **options})
    context.set_default_timeout(MILLISECONDS)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error('policy', e.violatedDirective, e.blockedURI))"
    )
    page = context.new_page()
    watched = Watched(page, address)
    note = watched.problems.append
    page.on("request", lambda request: None if LOCAL.match(request.url) else note(f"request to {request.url}"))
    page.on("console", lambda message: note(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: note(f"page error: {error}"))
    yield watched
    found = watched.unexpected()
    context.close()
    assert not found, found


HOSTILE = "<img/src=x/onerror=document.title='hacked'>"


def hostile(folder: Path) -> list[str]:
    """Options for a genome whose gene, known variant and second contig have names that are HTML."""
    sequence = "ACGTTGCAAC" * 60
    (folder / "evil.fa").write_text(f">evil\n{sequence}\n>{HOSTILE}\n{sequence}\n")
    name = HOSTILE.replace("=", "%3D")
    gene = f"evil\t.\tgene\t11\t220\t.\t-\t.\tID=g1;Name={name};gene_biotype=protein_coding\n"
    (folder / "evil.gff3").write_text(f"##gff-version 3\n{gene}")
    header = '##fileformat=VCFv4.3\n##contig=<ID=evil>\n##INFO=<ID=CLNSIG,Number=.,Type=String,Description="x">\n'
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    record = f"evil\t21\t{HOSTILE}\tA\tC\t.\t.\tCLNSIG={name}\n"
    (folder / "evil.vcf").write_text(header + columns + record)
    files = {"--genome": "evil.fa", "--genes": "evil.gff3", "--known": "evil.vcf"}
    return [word for option, name in files.items() for word in (option, f"evil={folder / name}")]
