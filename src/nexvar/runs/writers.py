"""Writers of scored alleles: VCF, TSV, Parquet (and the reader of that Parquet). Files by name: output.py.

A VCF keeps its records and headers byte for byte, but for the NEXVAR_* keys, which are replaced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from nexvar.errors import NexVarError, printable
from nexvar.files import open_regular, spreadsheet_safe
from nexvar.genome.variants import VariantSource
from nexvar.genome.vcf import Record
from nexvar.genome.windows import Status
from nexvar.runs import arrow
from nexvar.runs.rows import ScoredAllele

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "NEXVAR_"
ROW_GROUP = 10_000


@dataclass(frozen=True)
class Provenance:
    """What made the scores; goes into INFO descriptions, the command line of the header and Parquet's metadata.

    extra: {name: description} of further float values per allele; each becomes ``NEXVAR_<name>``.
    settings: {name: value} of whatever else the scores depend on (protocol, windowing, pooling).
    """

    model: str
    revision: str = ""
    window: int = 0
    strand: str = ""
    dtype: str = ""
    readout: str = ""
    command: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def how(self) -> dict[str, str]:
        """{name: value} of model, revision, window, strand, dtype, readout and the settings, without what is empty."""
        values = {name: getattr(self, name) for name in ("model", "revision", "window", "strand", "dtype", "readout")}
        return {name: str(value) for name, value in {**values, **self.settings}.items() if value}

    def describe(self) -> str:
        """``model=…, revision=…, window=…``: ``how`` as text."""
        return ", ".join(f"{name}={value}" for name, value in self.how().items())

    def descriptions(self) -> dict[str, str]:
        """{value name: what it means}, without the prefix."""
        how = self.describe()
        return {
            "LLR": f"Score of the allele against REF, lower is less likely; {how}",
            "LLR_FWD": f"The score on the forward strand; {how}",
            "LLR_REV": f"The score on the reverse strand; {how}",
            **{name: f"{text}; {how}" for name, text in self.extra.items()},
        }


class Writer(Protocol):
    """What every writer does."""

    def write(self, record: Record, rows: Sequence[ScoredAllele]) -> None:
        """Add one record, with one row per ALT in order."""
        ...


class Sink(Protocol):
    """Where bytes go: a file, a compressed file, an HTTP response."""

    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None: ...


def _number(row: ScoredAllele, value: float | None, missing: str) -> str:
    if value is None:
        return missing
    if not math.isfinite(value):
        raise NexVarError(
            f"the score of {row.chrom}:{row.pos}{row.ref[:20]}>{row.alt[:20]} is {value}",
            where=f"line {row.line_no}",
            fix="the model's numbers overflow: try --dtype float32",
        )
    return f"{value:.7g}"


def _scores(row: ScoredAllele, names: Iterable[str]) -> list[float | None]:
    return [row.llr, row.llr_fwd, row.llr_rev, *(row.extra.get(name) for name in names)]


class VcfWriter:
    """The input's records with NEXVAR_* added to INFO, Number=A; see ``open_writer``.

    is_sorted: contigs stayed together and positions ascended, so that the file can have an index.
    """

    def __init__(self, sink: Sink, reader: VariantSource, provenance: Provenance) -> None:
        self.sink, self.extra = sink, tuple(provenance.extra)
        self.keys = [PREFIX + name for name in provenance.descriptions()]
        self.is_sorted = True
        self._last, self._contigs = ("", -1), set[str]()
        kept = (line for line in reader.header if not line.startswith((f"##INFO=<ID={PREFIX}", "##nexvar_command=")))
        new = [_info(name, "Float", text) for name, text in provenance.descriptions().items()]
        new.append(_info("STATUS", "String", f"What became of the allele: {', '.join(Status)}"))
        if provenance.command:
            new.append(f"##nexvar_command={printable(' '.join(provenance.command.split()))}")
        self.sink.write(reader.newline.join((*kept, *new, reader.column_line, "")).encode())

    def write(self, record: Record, rows: Sequence[ScoredAllele]) -> None:
        chrom, pos0 = self._last
        same = record.chrom == chrom
        self.is_sorted &= record.pos0 >= pos0 if same else record.chrom not in self._contigs
        self._last = record.chrom, record.pos0
        self._contigs.add(record.chrom)
        line = record.raw.removesuffix("\r")
        fields = line.split("\t", 8)
        kept = [item for item in fields[7].split(";") if item not in ("", ".") and not item.startswith(PREFIX)]
        added = self._added(rows) if record.alt != "." else []  # Number=A: no ALT has no values
        fields[7] = ";".join([*kept, *added]) or "."
        self.sink.write(("\t".join(fields) + record.raw[len(line) :] + "\n").encode())

    def _added(self, rows: Sequence[ScoredAllele]) -> list[str]:
        columns = zip(*(_scores(row, self.extra) for row in rows), strict=True)
        added = [
            f"{key}={','.join(_number(row, value, '.') for row, value in zip(rows, values, strict=True))}"
            for key, values in zip(self.keys, columns, strict=True)
        ]
        added.append(f"{PREFIX}STATUS={','.join(row.status for row in rows)}")
        return added

    def close(self) -> None:
        """Close the file."""
        self.sink.close()


def _info(name: str, kind: str, text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'##INFO=<ID={PREFIX}{name},Number=A,Type={kind},Description="{printable(" ".join(text.split()))}">'


# Column, attribute, Arrow type. Score columns follow STATUS.
_BEFORE = (
    ("CHROM", "chrom", "string"),
    ("POS", "pos", "int64"),
    ("ID", "id", "string"),
    ("REF", "ref", "string"),
    ("ALT", "alt", "string"),
    ("STATUS", "status", "string"),
)
_AFTER = (
    ("CONTIG", "contig", "string"),
    ("RULE", "rule", "string"),
    ("WINDOW_START", "window_start", "int64"),
    ("WINDOW_END", "window_end", "int64"),
    ("N_FRACTION", "n_fraction", "float64"),
    ("DETAIL", "detail", "string"),
    ("RECORD", "record", "int64"),
    ("ALLELE", "allele", "int64"),
    ("LINE", "line_no", "int64"),
)


class TsvWriter:
    """One line per allele, NA for what is missing; the first line names the columns (#CHROM POS ID REF ALT …).

    safe: text that a spreadsheet would take for a formula is marked as text; otherwise it is as it was given.
    """

    def __init__(self, sink: Sink, provenance: Provenance, *, safe: bool = False) -> None:
        self.sink, self.extra = sink, tuple(provenance.extra)
        self.text = spreadsheet_safe if safe else str
        names = [c[0] for c in _BEFORE] + list(provenance.descriptions()) + [c[0] for c in _AFTER]
        self.sink.write(("#" + "\t".join(names) + "\n").encode())

    def write(self, record: Record, rows: Sequence[ScoredAllele]) -> None:
        for row in rows:
            before = [str(self._cell(getattr(row, attribute))) for _, attribute, _ in _BEFORE]
            scores = [_number(row, value, "NA") for value in _scores(row, self.extra)]
            after = [_cell(self._cell(getattr(row, attribute))) for _, attribute, _ in _AFTER]
            self.sink.write(("\t".join(before + scores + after) + "\n").encode())

    def _cell(self, value: object) -> object:
        return self.text(str(value)) if isinstance(value, str) else value

    def close(self) -> None:
        """Close the file."""
        self.sink.close()


def _cell(value: object) -> str:
    if value is None or value == "":
        return "NA"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class ParquetWriter:
    """The TSV's columns, in row groups that are written as soon as they are full."""

    def __init__(self, target: Path | IO[bytes], provenance: Provenance) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.extra = tuple(provenance.extra)
        score_names = list(provenance.descriptions())
        fields = [pa.field(name, pa.type_for_alias(kind)) for name, _, kind in _BEFORE]
        fields += [pa.field(name, pa.float64()) for name in score_names]
        fields += [pa.field(name, pa.type_for_alias(kind)) for name, _, kind in _AFTER]
        metadata = {"nexvar": printable(provenance.describe()), "nexvar_command": printable(provenance.command)}
        self.schema: pa.Schema = pa.schema(fields, metadata=metadata)
        self.sink = target.open("wb") if isinstance(target, Path) else None  # Arrow takes no name that is not UTF-8
        self.file = pq.ParquetWriter(self.sink or target, self.schema, compression="zstd")
        self.columns: list[list[Any]] = [[] for _ in fields]

    def write(self, record: Record, rows: Sequence[ScoredAllele]) -> None:
        for row in rows:
            scores = _scores(row, self.extra)
            for value in scores:
                _number(row, value, "")
            before = [getattr(row, attribute) for _, attribute, _ in _BEFORE[:-1]]
            after = [getattr(row, attribute) for _, attribute, _ in _AFTER]
            for column, value in zip(self.columns, [*before, row.status.value, *scores, *after], strict=True):
                column.append(value)
        if len(self.columns[0]) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected as a row group."""
        import pyarrow as pa

        if self.columns[0]:
            arrays = [arrow.array(c, f.type) for c, f in zip(self.columns, self.schema, strict=True)]
            self.file.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
            self.columns = [[] for _ in self.columns]

    def close(self) -> None:
        """Write the rest and the footer."""
        try:
            self.flush()
            self.file.close()
        finally:
            if self.sink is not None:
                self.sink.close()


def read_rows(path: str | Path) -> Iterator[ScoredAllele]:
    """The rows of a Parquet file that ``ParquetWriter`` wrote, streamed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as stream, pq.ParquetFile(stream) as file:
            names = file.schema_arrow.names
            expected = {name for name, _, _ in (*_BEFORE, *_AFTER)} | {"LLR", "LLR_FWD", "LLR_REV"}
            if missing := sorted(expected - set(names)):
                raise NexVarError(f"column {missing[0]} is missing", where=path, fix="give a table of `nexvar score`")
            extra = [name for name in names if name not in expected]
            kinds = {name: kind for name, _, kind in (*_BEFORE, *_AFTER)}
            for each in file.schema_arrow:
                if each.type != pa.type_for_alias(kinds.get(each.name, "float64")):
                    raise NexVarError(f"column {each.name} is of type {each.type}", where=path, fix="write it again")
            attributes = [(name, attribute) for name, attribute, _ in (*_BEFORE, *_AFTER)]
            for batch in file.iter_batches(ROW_GROUP):
                for values in batch.to_pylist():
                    row = {attribute: values[name] for name, attribute in attributes}
                    row["status"] = Status(row["status"])
                    scores = {name.lower(): values[name] for name in ("LLR", "LLR_FWD", "LLR_REV")}
                    yield ScoredAllele(**row, **scores, extra={name: values[name] for name in extra})
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NexVarError(f"cannot be read as Parquet ({error})", where=path, fix="write it again") from None
