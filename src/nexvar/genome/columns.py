"""Rows of tab-separated tables by the names of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nexvar.errors import NexVarError
from nexvar.genome.textio import Lines

Titles = list[str]  # of a table, as ``titles_of`` gives them


def is_comment(line: str) -> bool:
    """Whether a line of a table says nothing: blank, ``## …``, or # and no tab (#version 2.4)."""
    return not line.strip() or line.startswith("##") or (line.startswith("#") and "\t" not in line)


def first_row(lines: Lines) -> tuple[int, list[str]]:
    """(line number, fields) of the first line that is no comment; (0, [""]) where there is none."""
    for number, line in lines:
        if not is_comment(line):
            return number, line.split("\t")
    return 0, [""]


def titles_of(fields: Sequence[str]) -> Titles:
    """Column titles in one spelling: lower case, no # or quotes, _ for blanks."""
    return [clean(field).lstrip("#").strip().lower().replace(" ", "_") for field in fields]


def clean(field: str) -> str:
    """A cell without blanks and quotes around it."""
    field = field.strip()
    return field[1:-1].strip() if len(field) > 1 and field[0] == field[-1] == '"' else field


def remedy(line: str, columns: int, otherwise: str) -> str:
    """What to do about a line of too few columns: other separators than tabs are the commonest reason."""
    if len(line.split()) >= columns:
        return "separate columns by tabs, not blanks"
    return "separate columns by tabs, not commas" if line.count(",") >= columns - 1 else otherwise


def table_rows(lines: Lines, after: int, columns: Mapping[str, int]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, {name: cell}) of the rows behind line ``after``; NexVarError for a row that is too short."""
    last = max(columns.values())
    for number, line in lines:
        if number <= after or is_comment(line):
            continue
        fields = line.split("\t")
        if len(fields) <= last:
            raise NexVarError(f"{len(fields)} columns", where=f"{lines.name}:{number}",
                              fix=remedy(line, 4, "every row needs all columns"))  # fmt: skip
        yield number, {name: clean(fields[index]) for name, index in columns.items()}


def find_columns(titles: Titles, wanted: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """{name: index} of those of ``wanted`` {name: spellings} that are among the titles."""
    places = {name: next((titles.index(s) for s in spellings if s in titles), -1) for name, spellings in wanted.items()}
    return {name: index for name, index in places.items() if index >= 0}


def columns_of_format(
    titles: Titles, needed: Mapping[str, Sequence[str]], optional: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """``find_columns`` of a format that is told by its titles; {} where one that it needs is not among them."""
    places = find_columns(titles, needed)
    return places | find_columns(titles, optional) if len(places) == len(needed) else {}
