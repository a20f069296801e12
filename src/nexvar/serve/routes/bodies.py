"""What the dialects share: numbers that are numbers, and long answers that do not hold up the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Response
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool


def _a_number(value: object) -> object:
    if isinstance(value, (str, bool)):
        raise ValueError("a JSON number is needed")
    return value


Whole = Annotated[int, BeforeValidator(_a_number)]  # 100 and 100.0, neither "100" nor true
Real = Annotated[float, BeforeValidator(_a_number)]


async def answer(make: Callable[[], Mapping[str, Any]], headers: Mapping[str, str] | None = None) -> Response:
    """``make()`` as JSON, both in another thread: megabytes of numbers take seconds to write."""
    body = await run_in_threadpool(lambda: json.dumps(make(), allow_nan=False, separators=(",", ":")))
    return Response(body, media_type="application/json", headers=dict(headers or {}))
