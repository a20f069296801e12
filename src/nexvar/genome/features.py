"""Features of an annotation file as columns: read once, untranslated regions told apart, kept on disk.

    GFF3, GTF, BED -> rows -> columns -> UTRs -> Parquet in ``cache``, by the contents of the file

A GTF of GENCODE calls both ends of a transcript UTR, RefSeq's files name neither: here each exon's part before the
first or behind the last coding base is a five_prime_UTR or three_prime_UTR, in every format; the stop codon is coding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexvar.errors import NexVarError
from nexvar.files import write_atomically
from nexvar.genome.bed12 import bed_features
from nexvar.genome.columns import remedy
from nexvar.genome.gff import UTRS, FeatureRow, gff3_rows, gtf_rows, is_gtf, looks_like_gff
from nexvar.genome.textio import Lines

VERSION = "1"  # of the columns: another one makes the file be read again
CODING = ("CDS", "stop_codon")
_TYPES = {int: pa.int32(), str: pa.string(), bool: pa.bool_()}
_SHORT = {"contig", "strand", "kind", "type", "tags"}  # few different texts
SCHEMA = pa.schema(
    [
        pa.field(name, pa.dictionary(pa.int32(), pa.string()) if name in _SHORT else _TYPES[kind])
        for name, kind in zip(
            FeatureRow._fields, (int, str, int, int, str, str, int, *[str] * 7, bool), strict=True
        )
    ]
)  # fmt: skip
_CHUNK = 1 << 13


def read_features(path: str | Path, cache: Path | None = None) -> tuple[pa.Table, dict[str, int]]:
    """(columns as in ``SCHEMA``, in the file's order; {contig: length} where the file says so).

    cache: a folder that keeps the columns: the next time they are read in a second.
    """
    lines = Lines(path)
    lengths = _sequence_regions(lines)
    kept = None if cache is None else cache / f"features-{_digest(lines)}-{VERSION}.parquet"
    if kept is not None and kept.exists():
        try:
            table = pq.read_table(kept)
            if table.schema.equals(SCHEMA):
                return table, lengths
        except (OSError, pa.ArrowException):
            pass  # damaged: it is made again
    table = with_utrs(_columns(_rows(lines)))
    if not table.num_rows:
        raise NexVarError("no features in the file", where=f"{lines.name}:1", fix="give a GFF3, GTF or BED file")
    if kept is not None:
        with write_atomically(kept) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    return table, lengths


def _digest(lines: Lines) -> str:
    digest = hashlib.sha256()
    with lines.path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _rows(lines: Lines) -> Iterator[FeatureRow]:
    """The rows by the reader that the first line with content calls for."""
    for number, line in lines:
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        if len(fields) == 9 and not looks_like_bed(fields):
            return gtf_rows(lines) if is_gtf(fields[8]) else gff3_rows(lines)
        if looks_like_bed(fields):
            return bed_features(lines)
        raise NexVarError("this is not GFF3, GTF or BED", where=f"{lines.name}:{number}",
                          fix=remedy(line, 3, "give a file of features"))  # fmt: skip
    return iter(())


def looks_like_bed(fields: list[str]) -> bool:
    """Whether these fields are of a line of BED."""
    return len(fields) >= 3 and fields[1].isdigit() and fields[2].isdigit() and not looks_like_gff(fields)


def _sequence_regions(lines: Lines) -> dict[str, int]:
    """{contig: length} of the ``##sequence-region`` lines at the top that begin at 1."""
    lengths: dict[str, int] = {}
    for _, line in lines:
        if not line.startswith("#"):
            break
        words = line.split()
        if words[0] == "##sequence-region" and re.fullmatch("1 [0-9]{1,12}", " ".join(words[2:])):
            lengths[words[1]] = int(words[3])
    return lengths


def _columns(rows: Iterator[FeatureRow]) -> pa.Table:
    batches: list[pa.Table] = []
    chunk: list[FeatureRow] = []

    def flush() -> None:
        if chunk:
            batches.append(pa.table([pa.array(c, f.type) for c, f in zip(zip(*chunk), SCHEMA)], SCHEMA))  # noqa: B905
            chunk.clear()

    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            flush()
    flush()
    return pa.concat_tables(batches).unify_dictionaries() if batches else SCHEMA.empty_table()


def codes(*columns: pa.ChunkedArray) -> tuple[pa.StringArray, list[np.ndarray]]:
    """The different texts of columns, and each column as (N,) int32 places among them; "" is -1."""
    joined = pa.chunked_array([chunk for c in columns for chunk in c.chunks], columns[0].type)
    encoded = joined.unify_dictionaries() if pa.types.is_dictionary(joined.type) else pc.dictionary_encode(joined)
    encoded = encoded.combine_chunks()
    encoded = encoded if isinstance(encoded, pa.DictionaryArray) else encoded.chunk(0)
    texts = encoded.dictionary
    places = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    if (nothing := pc.index(texts, "").as_py()) >= 0:
        places[places == nothing] = -1
    return texts, np.split(places, np.cumsum([len(c) for c in columns])[:-1])


def with_utrs(table: pa.Table) -> pa.Table:
    """The table with UTRs as exons and coding bases imply them, in place of what the file calls so.

    Parents without exons, or without coding bases, keep what the file says.
    """
    kinds, (kind_N,) = codes(table["kind"])
    code = {name: i for i, name in enumerate(kinds.to_pylist())}
    start_N, end_N = (table[name].to_numpy() for name in ("start", "end"))
    owner_N = _owners(table)
    low_P = np.full(int(owner_N.max(initial=0)) + 1, np.iinfo(np.int32).max)  # of each parent's coding bases
    high_P, has_exons_P = np.full(len(low_P), -1), np.zeros(len(low_P), dtype=bool)
    coding = np.isin(kind_N, [code[name] for name in CODING if name in code]) & (owner_N >= 0)
    np.minimum.at(low_P, owner_N[coding], start_N[coding])
    np.maximum.at(high_P, owner_N[coding], end_N[coding])
    exons = (kind_N == code.get("exon", -2)) & (owner_N >= 0)
    has_exons_P[owner_N[exons]] = True
    known_N = (owner_N >= 0) & (has_exons_P & (high_P >= 0))[owner_N]

    rows = np.flatnonzero(exons & known_N)
    owner, start, end = owner_N[rows], start_N[rows], end_N[rows]
    minus = table["strand"].take(rows).to_numpy(zero_copy_only=False) == "-"
    before = _as_utrs(table, rows, start, np.minimum(end, low_P[owner]), minus)
    behind = _as_utrs(table, rows, np.maximum(start, high_P[owner]), end, ~minus)
    of_file = np.isin(kind_N, [code[name] for name in UTRS if name in code])
    kept = table.filter(pa.array(~(of_file & known_N)))
    return pa.concat_tables([kept, before, behind]).unify_dictionaries()


def _owners(table: pa.Table) -> np.ndarray:
    """(N,) a number for each parent on each contig, -1 for rows without one: PAR genes are on X and on Y."""
    _, (contig_N,) = codes(table["contig"])
    _, (parent_N,) = codes(table["parent"])
    owner_N = np.full(len(parent_N), -1)
    there = parent_N >= 0
    pair_N = parent_N[there].astype(np.int64) * (int(contig_N.max(initial=0)) + 1) + contig_N[there]
    owner_N[there] = np.unique(pair_N, return_inverse=True)[1]
    return owner_N


def _as_utrs(table: pa.Table, rows: np.ndarray, start: np.ndarray, end: np.ndarray, three: np.ndarray) -> pa.Table:
    """Those of the rows (exons) with bases left between ``start`` and ``end``, as UTRs; three: the three_prime_UTRs."""
    left = start < end
    made = table.take(rows[left])
    kind = np.where(three[left], "three_prime_UTR", "five_prime_UTR").tolist()
    for name, values in (("start", start[left]), ("end", end[left]), ("kind", pa.array(kind, pa.string()))):
        column = pa.array(values).cast(SCHEMA.field(name).type)
        made = made.set_column(SCHEMA.get_field_index(name), name, column)
    return made
