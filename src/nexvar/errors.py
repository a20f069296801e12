"""The one error class a user meets: one line that says what, where and how to fix it."""

from __future__ import annotations

EXIT_BAD_INPUT = 2


class NexVarError(Exception):
    """Bad input or an impossible request, told in one line.

    what: what is wrong, with the offending value.
    where: ``file:line``, a file, an option or a tensor name.
    fix: what the user can do about it.

    ``str(error)`` is ``"where: what: fix"``; the command line prints it and exits with ``EXIT_BAD_INPUT``.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = ": ".join(str(part) for part in (where, what, fix) if part is not None)
        super().__init__(" ".join(line.split()))
