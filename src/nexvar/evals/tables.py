"""Tables of variants for evaluation: VCF, BCF, TSV or Parquet as columns, and how two of them meet.

The four key columns are called chrom, pos, ref, alt whatever the file calls them; missing values are None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.files import check_regular
from nexvar.genome.textio import Lines
from nexvar.genome.vcf import read_vcf

KEY = ("chrom", "pos", "ref", "alt")
MISSING = frozenset({"", ".", "NA", "NaN", "nan", "None"})
Key = tuple[str, int, str, str]
Table = dict[str, list[Any]]


def read_table(path: str | Path) -> Table:
    """Columns of a VCF (fixed columns and INFO, a row per ALT), a TSV with a header, or a Parquet file.

    The four key columns come back as chrom, pos, ref, alt (where the file has them); missing values as None.
    """
    name = str(arguments.path(path, "table"))
    if name.endswith(".parquet"):
        return _read_parquet(name)
    if name.endswith(".bcf"):
        return _read_vcf(name)
    lines = Lines(name)
    first = next((line for _, line in lines), "")
    return _read_vcf(name) if first.startswith("##fileformat=VCF") else _read_tsv(lines)


def _canonical(names: Iterable[str]) -> list[str]:
    lowered = [(name, name.lower().lstrip("#")) for name in names]
    return [low if low in KEY else name.lstrip("#") for name, low in lowered]


def _read_parquet(path: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = pq.read_table(check_regular(path))
    except (OSError, pa.ArrowException) as error:
        raise NexVarError(f"not readable as Parquet ({error})", where=path, fix="check the file") from None
    columns = ([None if value != value else value for value in column.to_pylist()] for column in data.columns)
    return dict(zip(_canonical(data.column_names), columns, strict=True))


def _read_tsv(lines: Lines) -> Table:
    rows = ((number, line.split("\t")) for number, line in lines if not line.startswith("##"))
    number, header = next(rows, (1, [""]))
    if len(header) < 2:
        raise NexVarError("no tab-separated header", where=f"{lines.name}:{number}", fix="name the columns in line 1")
    names = _canonical(header)
    columns: list[list[Any]] = [[] for _ in names]
    for number, fields in rows:
        if len(fields) != len(names):
            raise NexVarError(
                f"{len(fields)} columns", where=f"{lines.name}:{number}", fix=f"the header has {len(names)}"
            )
        for column, field in zip(columns, fields, strict=True):
            column.append(None if field in MISSING else field)
    return dict(zip(names, columns, strict=True))


def _read_vcf(path: str) -> Table:
    reader = read_vcf(path, require_sorted=False)
    matches = (re.match(r"##INFO=<ID=([^,>]+),Number=A[,>]", line) for line in reader.header)
    by_allele = {match[1] for match in matches if match}
    keys: list[Key] = []
    infos: list[dict[str, str]] = []
    for record in reader:
        items = dict(item.partition("=")[::2] for item in record.info.split(";") if item != ".")
        for i, alt in enumerate(record.alts):
            keys.append((record.chrom, record.pos0 + 1, record.ref, alt))
            infos.append({key: _allele(value, i) if key in by_allele else value for key, value in items.items()})
    columns: Table = {name: [key[i] for key in keys] for i, name in enumerate(KEY)}
    for key in dict.fromkeys(key for info in infos for key in info):
        columns[key] = [None if info.get(key, "") in MISSING else info[key] for info in infos]
    return columns


def _allele(values: str, index: int) -> str:
    return dict(enumerate(values.split(","))).get(index, "")


def column(columns: Table, name: str, where: object) -> list[Any]:
    for known in (name, f"NEXVAR_{name}"):  # what a table calls LLR, a VCF calls NEXVAR_LLR
        if known in columns:
            return columns[known]
    have = ", ".join(columns) or "nothing"
    raise NexVarError(f"no column or INFO key {name!r}", where=where, fix=f"it has {have}")


def zero_or_one(value: Any) -> int | None:
    """A label as text, number or truth value; None for another one. Parquet has 1.0 where a column has empty cells."""
    return {"0": 0, "0.0": 0, "False": 0, "1": 1, "1.0": 1, "True": 1}.get(str(value))


def numbers(values: list[Any], name: str, where: object) -> np.ndarray:
    """float64, NaN for None."""
    try:
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError) as error:
        raise NexVarError(f"{name} is not a number ({error})", where=where, fix="name another column") from None


def _keys(columns: Table, where: object) -> list[Key]:
    chrom, pos, ref, alt = (column(columns, name, where) for name in KEY)
    try:
        positions = [int(p) for p in pos]
    except (TypeError, ValueError) as error:
        raise NexVarError(
            f"a position is not a number ({error})", where=where, fix="POS is a 1-based integer"
        ) from None
    return [
        (_short(str(c)), p, str(r).upper(), str(a).upper())
        for c, p, r, a in zip(chrom, positions, ref, alt, strict=True)
    ]


def _short(chrom: str) -> str:
    """chr17 and 17, chrM and MT are the same."""
    short = chrom.removeprefix("chr")
    return "M" if short == "MT" else short


def some(values: Iterable[Any]) -> str:
    seen = list(dict.fromkeys(str(v) for v in values))
    return ", ".join(seen[:6]) + (" …" if len(seen) > 6 else "")


def labels_of(table: Table, label: str, positive: str | None, where: object) -> np.ndarray:
    """(N,) float64: 1 where the label is ``positive``, else 0, NaN where there is none; without it, the numbers."""
    truth = column(table, label, where)
    if positive is None:
        return numbers(truth, label, where)
    if positive not in truth:
        raise NexVarError(f"no {label} is {positive!r}", where=where, fix=f"it has {some(truth)}")
    return np.array([np.nan if value is None else float(value == positive) for value in truth])


def joined(
    source: Table,
    name: str,
    where: object,
    target: Table,
    target_where: object,
    *,
    same_file: bool,
) -> np.ndarray:
    """Column ``name`` of ``source`` for each row of ``target``, NaN where there is none."""
    values = numbers(column(source, name, where), name, where)
    if same_file:
        return values
    by_key: dict[Key, float] = {}
    for key, value in zip(_keys(source, where), values, strict=True):
        if by_key.setdefault(key, value) != value and not np.isnan(value):
            if not np.isnan(by_key[key]):
                chrom, pos, ref, alt = key
                raise NexVarError(
                    f"{chrom}:{pos}{ref}>{alt} has two values of {name}", where=where, fix="keep one of them"
                )
            by_key[key] = value
    return np.array([by_key.get(key, np.nan) for key in _keys(target, target_where)])
