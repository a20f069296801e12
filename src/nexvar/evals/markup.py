"""Tables as GitHub's Markdown and as HTML: shown as they are, whatever a name in them is made of."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from nexvar.errors import RESEARCH_ONLY

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #ccc;text-align:left}img{max-width:100%}"
)


def markdown(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    escaped = text.translate({ord(c): f"\\{c}" for c in "|`*<\\"}).replace("](", "]\\(")
    return " ".join(escaped.split())


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Its lines."""
    return [f"| {' | '.join(map(markdown, cells))} |" for cells in (head, ["---"] * len(head), *rows)]


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Its lines."""
    return ["<table>", _html("th", head), *(_html("td", row) for row in rows), "</table>"]


def html_page(title: str, body: Iterable[str]) -> str:
    """One file without scripts. body: lines of HTML."""
    named = html.escape(title)
    lines = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{named}</title><style>{STYLE}</style>']
    lines += [f"<h1>{named}</h1>", f"<p>{RESEARCH_ONLY}</p>", *body]
    return "\n".join([*lines, "</html>", ""])


def _html(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
