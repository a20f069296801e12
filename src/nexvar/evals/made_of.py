"""A result on disk that says of what it was made: a run that resumes keeps it, or refuses it by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexvar.errors import NexVarError
from nexvar.files import check_regular
from nexvar.runs import arrow

if TYPE_CHECKING:
    import pyarrow as pa

FACTS = b"nexvar.result"  # in the metadata of a Parquet file


def with_facts(table: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """The bytes of a Parquet file. facts: plain values of JSON."""
    return arrow.parquet(table.replace_schema_metadata({FACTS: json.dumps(facts).encode()}))


def read_facts(path: Path) -> dict[str, Any]:
    """NexVarError for a file that ``with_facts`` did not write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts: dict[str, Any] = dict(json.loads((pq.read_schema(check_regular(path)).metadata or {})[FACTS]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise NexVarError(f"no result of a benchmark ({type(error).__name__})", where=path, fix="delete it") from None
    return facts


def check_same(known: Mapping[str, Any], now: Mapping[str, Any], where: object, fix: str, what: str = "") -> None:
    """NexVarError, which begins with ``what``, for the first fact of ``now`` that is not the known one."""
    for name, value in now.items():
        if known.get(name) != value:
            was = f"{name} was {str(known.get(name))[:60]}, not {str(value)[:60]}"
            raise NexVarError(f"{what}{was}", where=where, fix=fix)
