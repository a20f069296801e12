"""The one error class a user meets: one line that says what, where and how to fix it; and text made fit to print.

Names, headers and values come from strangers' files. Whatever of them a person reads, in a terminal, a log, a header or
a page, goes through ``printable``: it cannot move a cursor, set a title, or turn the order of letters around.
"""

from __future__ import annotations

import sys

EXIT_BAD_INPUT = 2
MAX_MESSAGE = 499  # characters of one message
RESEARCH_ONLY = "Scores are research output, not a diagnosis."


def printable(text: object, limit: int | None = None) -> str:
    """``text`` with every control, format, separator and unassigned character written as an escape.

    These are C0 and C1, line separators, bidirectional overrides, invisible characters and lone surrogates (bytes of a
    file name that are no UTF-8). The newline and the tab, too: give a text of several lines line by line.
    limit: characters at most; what is longer loses its middle.
    """
    line = str(text)
    if limit is not None and len(line) > limit:  # first: nobody reads, or pays for, the escapes of a gigabyte
        line = shortened(line, limit)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else _escape(ord(c)) for c in line)
    return line if limit is None else shortened(line, limit)


def shortened(text: str, limit: int) -> str:
    """``text``, its middle replaced by "…" where it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) * 2 // 5
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def note(text: str) -> None:
    """One line on standard error about something that stops nothing."""
    print(f"nexvar: note: {printable(' '.join(text.split()), MAX_MESSAGE)}", file=sys.stderr)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as Python keeps it in file names
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class NexVarError(Exception):
    """Bad input or an impossible request, told in one line.

    what: what is wrong, with the offending value.
    where: ``file:line``, a file, an option or a tensor name.
    fix: what the user can do about it.

    ``str(error)`` is ``"where: what: fix"``, printable and at most ``MAX_MESSAGE`` characters, whatever the parts are
    made of; the command line prints it and exits with ``EXIT_BAD_INPUT``.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        parts = {"where": where, "what": what, "fix": fix}
        texts = {name: str(part) for name, part in parts.items() if part is not None}
        if sum(map(len, texts.values())) > MAX_MESSAGE:  # place and remedy stay, what was said between them is cut
            texts = {
                name: text if name == "what" else shortened(text, MAX_MESSAGE // 4) for name, text in texts.items()
            }
            room = MAX_MESSAGE - sum(len(text) + 2 for name, text in texts.items() if name != "what")
            texts["what"] = shortened(texts["what"], room)
        super().__init__(printable(" ".join(": ".join(texts.values()).split()), MAX_MESSAGE))
