"""How pages read: words and breaks (colons and semicolons) of each sentence of prose.

Tables, code, headings and comments are no prose; list items are. ``python tests/prose.py`` prints every page's share of
sentences that fit; ``python tests/prose.py docs/scoring.md`` those of a page that do not.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

MAX_WORDS, MAX_BREAKS = 25, 1
NOT_PROSE = re.compile(
    r"^```.*?^```$|<!-- models:.*?<!-- /models -->|<!--.*?-->|^\|.*?$|^#.*?$|^!\[.*?$", re.MULTILINE | re.DOTALL
)
SHORT = re.compile(r"\b(e\.g|i\.e|al|vs|Fig|No|approx)\.")


@dataclass(frozen=True)
class Sentence:
    """One sentence, its words and breaks."""

    text: str
    words: int
    breaks: int

    @property
    def fits(self) -> bool:
        return self.words <= MAX_WORDS and self.breaks <= MAX_BREAKS


def sentences(markdown: str) -> list[Sentence]:
    """Those of a page's prose, in order."""
    text = NOT_PROSE.sub("\n\n", markdown)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links: their words
    text = re.sub(r"`[^`]*`", "CODE", text)
    text = SHORT.sub(r"\1", text)
    found = []
    for paragraph in re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.MULTILINE):
        joined = " ".join(paragraph.replace("*", "").split())
        for part in re.split(r"(?<=[.?!])[\")]?\s+(?=[A-Z0-9\"(])", joined):
            if words := re.findall(r"[A-Za-z0-9][\w'’./%-]*", part):
                breaks = len(re.findall(r"[:;](?=\s|$)", part.rstrip(":")))
                found.append(Sentence(part, len(words), breaks))
    return found


def pages() -> list[Path]:
    """What is held to it: README and docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main(names: list[str]) -> None:
    for name in names:
        for sentence in sentences(Path(name).read_text()):
            if not sentence.fits:
                print(f"{sentence.words:3} words, {sentence.breaks} breaks: {sentence.text}")
    if not names:
        for page in pages():
            read = sentences(page.read_text())
            fit, breaks = (sum(kind) / len(read) for kind in zip(*((s.fits, s.breaks) for s in read), strict=True))
            print(f"{fit:6.0%} of {len(read):4}, {breaks:.2f} breaks  {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
