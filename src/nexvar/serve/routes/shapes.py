"""What bodies and answers of /api/v1 have in common. Unknown fields, "1" for 1 and NaN are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nexvar.serve import limits

Name = Annotated[str, Field(min_length=1, max_length=200)]
Sequence_ = Annotated[str, Field(min_length=1, max_length=4_000_000)]
Sequences = Annotated[list[Sequence_], Field(min_length=1, max_length=limits.SEQUENCES)]
Number = float | None


class Body(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class OfModel(Body):
    """model: a loaded one's name or alias; default: the server's first that can do this."""

    model: Name | None = None


class Provenance(BaseModel):
    """How the numbers of an answer were made. settings: whatever else they depend on."""

    model: str
    revision: str
    window: int | None
    strand: str | None
    dtype: str
    readout: str
    device: str
    nexvar: str
    settings: dict[str, Any]


class Region(BaseModel):
    """[start, end) of a contig, 0-based half-open."""

    contig: str
    start: int
    end: int
