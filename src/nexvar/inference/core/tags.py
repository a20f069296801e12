"""Phylogenetic tags, ``|D__BACTERIA;P__…;C__…;O__…;F__…;G__…;S__…|``: prompts that NexVar / Evo 2 know from training.

The lineage comes from a local file: a folder with NCBI's names.dmp and nodes.dmp, or a table.
Sources: the generation notebook of ArcInstitute/evo2 (upper case); NVIDIA BioNeMo's preprocessing, which writes a rank
that is not known as "None".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.genome.textio import Lines

RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")
SYNONYMS = {"superkingdom": "domain", "acellular root": "domain"}  # NCBI's names, before and after 2025
UNKNOWN = "None"


def phylogenetic_tag(lineage: Mapping[str, str]) -> str:
    """The tag of {rank: name}, ranks as in ``RANKS``; those that are missing or empty are written as NONE."""
    unknown = set(lineage) - set(RANKS)
    if unknown or not any(lineage.values()):
        raise NexVarError(
            f"ranks {sorted(unknown)}" if unknown else "an empty lineage", where="lineage", fix=f"of {', '.join(RANKS)}"
        )
    names = {rank: " ".join((lineage.get(rank) or UNKNOWN).split()) for rank in RANKS}
    for rank, name in names.items():
        if set(name) & set("|;") or not (name.isascii() and name.isprintable()):
            raise NexVarError(f"{rank} {name!r}", where="lineage", fix="plain ASCII letters, without | and ;")
    return "|" + ";".join(f"{rank[0]}__{name}" for rank, name in names.items()).upper() + "|"


class Taxonomy:
    """Lineages of a local file; ``tag("Escherichia coli")``, or by taxonomy id.

    path: a folder with names.dmp and nodes.dmp (NCBI's taxdump); or a tab-separated table whose header names a column
    for each rank (``domain`` … ``species``; ``taxid`` and ``name`` may be there), or whose columns are a name and a
    GTDB lineage (``d__Bacteria;p__…;s__Escherichia coli``).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lineages: dict[str, dict[str, str]] = {}
        self._parents: dict[str, tuple[str, str]] = {}  # taxdump: id -> (parent's id, rank)
        self._names: dict[str, str] = {}  # taxdump: id -> scientific name
        self._ids: dict[str, str] = {}  # taxdump: any name, in lower case -> id
        if self.path.is_dir():
            self._read_taxdump()
        else:
            self._read_table()

    def tag(self, name: str | int) -> str:
        """The tag of a taxon by its name (in any case) or its taxonomy id; NexVarError with near names if unknown."""
        return phylogenetic_tag(self.lineage(name))

    def lineage(self, name: str | int) -> dict[str, str]:
        """{rank: name} of a taxon, without the ranks it does not have."""
        key = str(name).strip().lower()
        if self._parents:
            taxid = key if key in self._parents else self._ids.get(key)
            if taxid is not None:
                return self._climb(taxid)
        elif key in self._lineages:
            return self._lineages[key]
        import difflib

        near = difflib.get_close_matches(key, self._ids if self._parents else self._lineages, n=3)
        raise NexVarError(
            f"no taxon {name!r}", where=self.path, fix=f"did you mean {', '.join(near)}?" if near else None
        )

    def _climb(self, taxid: str) -> dict[str, str]:
        names, seen = {}, set()
        while taxid in self._parents and taxid not in seen:
            seen.add(taxid)
            parent, rank = self._parents[taxid]
            rank = SYNONYMS.get(rank, rank)
            if rank in RANKS:
                names[rank] = self._names.get(taxid, "")
            taxid = parent
        return {rank: names[rank] for rank in RANKS if names.get(rank)}

    def _read_taxdump(self) -> None:
        for where, (taxid, parent, rank, *_) in _dump_rows(self.path / "nodes.dmp", 3):
            if not taxid.isdecimal() or not parent.isdecimal():
                raise NexVarError(f"taxonomy ids {taxid[:20]!r}, {parent[:20]!r}", where=where, fix="is it NCBI's?")
            self._parents[taxid] = (parent, rank)
        for _, (taxid, name, _, kind, *_) in _dump_rows(self.path / "names.dmp", 4):
            self._ids.setdefault(name.lower(), taxid)
            if kind == "scientific name":
                self._names[taxid] = name
                self._ids[name.lower()] = taxid  # before synonyms, which may be another taxon's

    def _read_table(self) -> None:
        """Lineages by name and id: a table with titles, or lines of a name and a GTDB lineage."""
        lines = Lines(self.path)
        header: list[str] | None = None
        for number, line in lines:
            fields = [field.strip() for field in line.split("\t")]
            if not line.strip() or (line.startswith("#") and header is not None):
                continue
            if header is None:
                names = [SYNONYMS.get(field.lower().lstrip("#"), field.lower().lstrip("#")) for field in fields]
                header = names if set(names) & set(RANKS) else []
                if header:
                    continue
            where = f"{lines.name}:{number}"
            if header:
                if len(fields) != len(header):
                    raise NexVarError(f"{len(fields)} columns, the header has {len(header)}", where=where)
                row = dict(zip(header, fields, strict=True))
                lineage = {rank: row[rank] for rank in RANKS if row.get(rank)}
                keys = [row.get("taxid", ""), row.get("name", ""), *list(lineage.values())[-1:]]
            else:
                if len(fields) != 2:
                    raise NexVarError(f"{len(fields)} columns", where=where, fix="a name and a lineage, by one tab")
                lineage = _gtdb(fields[1], where)
                keys = [fields[0], *list(lineage.values())[-1:]]
            for key in keys:
                if key:
                    self._lineages.setdefault(key.lower(), lineage)
        if not self._lineages:
            raise NexVarError("no lineages in the table", where=lines.name, fix="see docs/generation.md")


def _gtdb(text: str, where: str) -> dict[str, str]:
    """{rank: name} of ``d__Bacteria;p__Pseudomonadota;…``."""
    letters = {rank[0]: rank for rank in RANKS}
    lineage = {}
    for part in text.split(";"):
        letter, marks, name = part.strip().partition("__")
        if not marks or letter.lower() not in letters:
            raise NexVarError(f"{part.strip()[:40]!r} in a lineage", where=where, fix="write d__…;p__…;…;s__…")
        if name:
            lineage[letters[letter.lower()]] = name
    return lineage


def _dump_rows(path: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
    """Rows of a taxdump file, whose fields end with ``\\t|``."""
    lines = Lines(path)
    for number, line in lines:
        fields = [field.strip() for field in line.rstrip().removesuffix("|").split("\t|")]
        if len(fields) < columns:
            raise NexVarError(f"{len(fields)} fields", where=f"{lines.name}:{number}", fix="is it NCBI's taxdump?")
        yield f"{lines.name}:{number}", fields
