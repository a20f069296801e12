"""What a server says when something is wrong: one line, a status, and always the same four fields."""

from __future__ import annotations

import math
import re
from typing import Any

from nexvar.doors import Fault, explain
from nexvar.errors import NexVarError, printable

BAD_INPUT, FAULT = 400, 500
GENOS = "/api/aigateway/genos/"  # the paths of its hosted API, whose client looks for other keys
_FIELDS = {"layer_names": "layer", "seqs": "sequences", "prompt_seqs": "prompts", "reduce_method": "reduce"}
_VARIANT = re.compile(r"variant:(\d+)\b.*")  # the number is from 1
_FOLDERS = re.compile(r"(?<![\w.:])/(?!api/)(?:[^\s/:]+/)+")  # of an absolute path: nobody outside needs to know them


class ServeError(NexVarError):
    """An error with a status of its own; any other NexVarError is bad input, 400."""

    status = BAD_INPUT

    @property
    def headers(self) -> dict[str, str]:
        return {}


class Unauthorized(ServeError):
    """No key, or a wrong one."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(ServeError):
    """Another site's page asks."""

    status = 403


class NotFound(ServeError):
    """No such model, genome, file or job."""

    status = 404


class TooSlow(ServeError):
    """A body that does not come."""

    status = 408


class Conflict(ServeError):
    """What is asked for does not go with the state of things: a model that is not loaded, a job that is not done."""

    status = 409


class TooLarge(ServeError):
    """A body above the cap of so many bytes. file: it is a file's."""

    status = 413

    def __init__(self, cap: int, *, file: bool = False) -> None:
        fix = (
            "compress it with bgzip, or start the server with more --max-upload"
            if file
            else "send less, or upload a file"
        )
        super().__init__(f"the body is larger than {cap:,} bytes", where="body", fix=fix)


class WrongType(ServeError):
    """A body of another content type."""

    status = 415


class Malformed(ServeError):
    """A body that is not the JSON of this path."""

    status = 422


class Cancelled(ServeError):
    """The client left, or somebody cancelled; nobody reads the answer, 499 stands in the log."""

    status = 499

    def __init__(self, what: str = "cancelled") -> None:
        super().__init__(what)


class NotAvailable(ServeError):
    """What this server's models or settings do not offer."""

    status = 501


class Busy(ServeError):
    """Too many wait already. retry_after: seconds until it is worth to ask again."""

    status = 503

    def __init__(self, what: str, *, retry_after: float, fix: str | None = None) -> None:
        self.retry_after = max(1, math.ceil(retry_after))
        super().__init__(what, fix=fix or f"ask again in {self.retry_after} s")

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class TimedOut(ServeError):
    """The request's time is over; its work was stopped."""

    status = 503


class OutOfMemory(ServeError):
    """The model's memory was not enough; it is free again."""

    status = 507


class Full(ServeError):
    """No room on the disk, or for this server on it."""

    status = 507


def status_of(error: BaseException) -> int:
    """The HTTP status of an error."""
    if isinstance(error, ServeError):
        return error.status
    return BAD_INPUT if isinstance(error, NexVarError) and not isinstance(error, Fault) else FAULT


def body_of(error: BaseException) -> dict[str, Any]:
    """``{"detail", "error", "where", "fix"}``: one line, and its parts. Of a fault no more than that."""
    if status_of(error) == FAULT:
        said = NexVarError("an error inside the server", where=None, fix="see the server's log")
    else:
        said = explain(error)
    said = _in_words_of_the_api(said)
    line, where, fix = (None if part is None else _outside(part, said) for part in (said, said.where, said.fix))
    return {"detail": line, "error": line, "where": where, "fix": fix}


def plain_body(line: str) -> dict[str, Any]:
    """The same of a line that has no parts."""
    return {"detail": line, "error": line, "where": None, "fix": None}


def in_shape(body: dict[str, Any], status: int, path: str) -> dict[str, Any]:
    """The body of an error as clients of this path read it: Genos' look for "messages"."""
    if not path.startswith(GENOS):
        return body
    return {**body, "result": {}, "status": str(status), "message": body["error"], "messages": body["error"]}


def headers_of(error: BaseException) -> dict[str, str]:
    return error.headers if isinstance(error, ServeError) else {}


def without_folders(text: str) -> str:
    """The text without this machine's folders: nobody outside needs to know them."""
    return _FOLDERS.sub("", text)


def _in_words_of_the_api(error: NexVarError) -> NexVarError:
    """``--left`` is the field ``left``, ``seqs[0]`` is ``sequences[0]``, ``variant:1`` is ``variants[0]``, ``region x``
    is x in the field ``region``."""
    where = str(error.where or "")
    name = where.partition("[")[0]
    if isinstance(error, ServeError):
        return error
    if where.startswith("region "):
        return NexVarError(f"{where[7:]}: {error.what}", where="region", fix=error.fix)
    if variant := _VARIANT.fullmatch(where):
        field = f"variants[{int(variant[1]) - 1}]"
    elif name in _FIELDS or name.startswith("--"):
        field = (_FIELDS.get(name) or name[2:].replace("-", "_")) + where[len(name) :]
    else:
        return error
    return NexVarError(error.what, where=field, fix=error.fix)


def _outside(text: object, error: NexVarError) -> str:
    """The text without this machine's folders, fit to print."""
    line = printable(" ".join(str(text).split()), 499)
    return line if isinstance(error, ServeError) else without_folders(line)
