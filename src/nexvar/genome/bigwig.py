"""bigWig files: written by pybigtools and read back; and one without a value, which that library does not write.

A whole genome cut by chromosome has such tracks. Format: Kent et al. 2010, Bioinformatics 26:2204, supplement; all
numbers little-endian.

    header (64) · summary (40) · contigs, one leaf of a B+ tree · number of data sections, 0 · R-tree with an empty leaf
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from nexvar.errors import NexVarError

BIGWIG, CONTIG_TREE, INDEX = 0x888FFC26, 0x78CA8C91, 0x2468ACE0  # magic numbers
MOST_CONTIGS = 0xFFFF  # of one leaf


def write_bigwig(
    target: Path, name: Path, lengths: dict[str, int], values: Iterable[tuple[str, int, int, float]]
) -> int:
    """Sorted (contig, start, end, value), 0-based half-open, as a bigWig that was read back; how many bases it covers.

    They are read as they come and not kept. Without any, the track is there and empty. name: the file the user asked
    for. NexVarError where not all of them are in the file.
    """
    import pybigtools

    first = next(values := iter(values), None)
    if first is None:
        target.write_bytes(empty_bigwig(lengths))
        return 0
    given = 0

    def counted() -> Iterator[tuple[str, int, int, float]]:
        nonlocal given
        for value in chain([first], values):
            given += value[2] - value[1]
            yield value

    rows = counted()
    try:
        pybigtools.open(str(target), "w").write(lengths, rows)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # NOTE: the library's own, which is no Exception
            raise
    for _ in rows:  # what it did not read, after an error
        pass
    try:  # NOTE: the library prints its errors instead of raising them
        covered = pybigtools.open(str(target)).info()["summary"]["basesCovered"]
    except pybigtools.BBIReadError:
        covered = 0
    if covered != given:
        fix = "is the disk full? are the records sorted?"
        raise NexVarError(f"{covered:,} of {given:,} positions are in the bigWig", where=name, fix=fix)
    return given


def empty_bigwig(lengths: dict[str, int]) -> bytes:
    """The file. lengths: in bases, of every contig that browsers shall know; those beyond 65,535 are left out."""
    names = sorted(lengths, key=str.encode)[:MOST_CONTIGS]
    width = max((len(name.encode()) for name in names), default=1)
    leaf = struct.pack("<BxH", 1, len(names))
    for number, name in enumerate(names):
        leaf += name.encode().ljust(width, b"\0") + struct.pack("<II", number, lengths[name])
    contigs = struct.pack("<IIIIQQ", CONTIG_TREE, max(len(names), 1), width, 8, len(names), 0) + leaf
    summary = struct.pack("<Qdddd", 0, 0.0, 0.0, 0.0, 0.0)
    sections = struct.pack("<Q", 0)
    index = struct.pack("<IIQIIIIQII", INDEX, 256, 0, 0, 0, 0, 0, 0, 512, 0) + struct.pack("<BxH", 1, 0)
    at_summary = 64
    at_contigs = at_summary + len(summary)
    at_data = at_contigs + len(contigs)
    at_index = at_data + len(sections)
    offsets = (at_contigs, at_data, at_index)
    return (
        struct.pack("<IHHQQQHHQQIQ", BIGWIG, 4, 0, *offsets, 0, 0, 0, at_summary, 0, 0)
        + summary
        + contigs
        + sections
        + index
    )
