"""Where symbolic alleles end: END and SVLEN of INFO, one value for each ALT.

<DEL>        SVLEN=-20                  one event: END, or where it is missing POS + |SVLEN|; VCF 4.4: SVLEN first
<DEL>,<DUP>  SVLEN=5,20;END=520         one SVLEN for each ALT; END is that of the longest
A,<DEL>      SVLEN=-20                  before VCF 4.4 also one SVLEN for each symbolic ALT
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexvar.errors import NexVarError

_END = re.compile(r"(?:^|;)END=([^;]*)")
_SVLEN = re.compile(r"(?:^|;)SVLEN=([^;]*)")
_LENGTH = re.compile(r"[+-]?[0-9]{1,10}|\.")


def event_ends(pos1: int, alts: Sequence[str], info: str, where: str, *, by_length: bool) -> tuple[int | None, ...]:
    """The 0-based exclusive end of each ALT's event; None for an ALT that is no event, or whose end nothing tells.

    pos1: POS, 1-based: the base before the event. by_length: SVLEN counts where it contradicts END (VCF 4.4 and later).
    An END at or before POS says nothing. NexVarError for values that are no numbers.
    """
    symbolic = [alt[:1] == "<" for alt in alts]
    if not any(symbolic):
        return ()
    end = _end(pos1, info, where)
    lengths = _lengths(info, where)
    told = [pos1 + length if length else None for length in lengths]
    if not any(told):
        return tuple(end if event else None for event in symbolic)
    if len(told) == len(alts):
        own = told
    elif len(told) == sum(symbolic):
        order = iter(told)
        own = [next(order) if event else None for event in symbolic]
    else:  # too few or too many: whose they are is not known, unless they say what END says
        agreed = end if set(told) == {end} or sum(symbolic) == 1 else None
        return tuple(agreed if event else None for event in symbolic)
    if sum(symbolic) == 1:
        return tuple((one or end if by_length else end or one) if event else None
                     for one, event in zip(own, symbolic, strict=True))  # fmt: skip
    spare = end if end not in own else None  # END is then that of an allele whose SVLEN is missing
    return tuple((one or spare) if event else None for one, event in zip(own, symbolic, strict=True))


def _end(pos1: int, info: str, where: str) -> int | None:
    match = _END.search(info)
    if match is None:
        return None
    if not re.fullmatch(r"[0-9]{1,10}|\.", match[1]):
        raise NexVarError(f"END is {match[1][:40]!r}", where=where, fix="write the last position of the event")
    return int(match[1]) if match[1] != "." and int(match[1]) > pos1 else None


def _lengths(info: str, where: str) -> list[int]:
    """|SVLEN| of each value; 0 where it is missing."""
    match = _SVLEN.search(info)
    values = match[1].split(",") if match else []
    for value in values:
        if not _LENGTH.fullmatch(value):
            raise NexVarError(f"SVLEN is {value[:40]!r}", where=where, fix="write the length of the event")
    return [0 if value == "." else abs(int(value)) for value in values]
