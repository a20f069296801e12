"""Sequences on disk -> a memory-mapped store of bases -> batches that depend on nothing but (recipe, step).

    FASTA(.gz) | JSONL(.gz) | Parquet --build_store--> bases.u8 + index.json --Sampler.batch(step)--> Batch

The store keeps the bases as they are written (lower case = soft-masked), one byte each, records end to end; the
index holds each record's name, description, start and length, so no record boundary is ever lost. Sampling is
counter based: sample ``i`` of a run is a pure function of ``(seed, i)``. A resumed run therefore sees exactly the
batches that the uninterrupted one would have seen, and any step can be reached without replaying the others.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nexvar.errors import NexVarError
from nexvar.files import read_json
from nexvar.train.loss_weights import LossWeights

COMPLEMENT = np.arange(256, dtype=np.uint8)
for _base, _other in zip(b"ACGTRYKMBVDHacgtrykmbvdh", b"TGCAYRMKVBHDtgcayrmkvbhd", strict=True):
    COMPLEMENT[_base] = _other
UPPER = np.array([ord(chr(i).upper()) if i < 128 else i for i in range(256)], dtype=np.uint8)
IS_BASE = np.isin(np.arange(256), list(b"ACGT"))
_NUCLEOTIDES = np.isin(np.arange(256), list(b"ACGTUNRYKMSWBVDHacgtunrykmswbvdh-."))


@dataclass(frozen=True)
class CorpusRecord:
    """One sequence of the store; ``start`` and ``length`` in bases."""

    name: str
    description: str
    start: int
    length: int

    @property
    def genus(self) -> str:
        """The first word of the name: ``Pan_troglodytes`` -> ``Pan``."""
        return self.name.split("_")[0]

    def groups(self) -> set[str]:
        """Every clade this record belongs to: its genus and the names of ``lineage=A; B; C``."""
        lineage = self.description.split("lineage=", 1)[-1] if "lineage=" in self.description else ""
        return {self.genus, *(part.strip() for part in lineage.split(";") if part.strip())}


@dataclass
class Store:
    """Memory-mapped bases (total,) uint8 and the records in them; digest: of the bytes that it was built from."""

    bases: np.ndarray
    records: list[CorpusRecord]
    digest: str

    @classmethod
    def open(cls, folder: Path) -> Store:
        index = read_json(folder / "index.json", limit=1 << 30)  # millions of contigs
        try:
            records = [CorpusRecord(*row) for row in index["records"]]
        except (KeyError, TypeError):
            fix = "delete this folder; it is rebuilt from the sources"
            raise NexVarError("the index is damaged", where=folder, fix=fix) from None
        bases = np.memmap(folder / "bases.u8", dtype=np.uint8, mode="r")
        if len(bases) != sum(r.length for r in records):
            raise NexVarError(
                f"{len(bases)} bases, but the index says {sum(r.length for r in records)}",
                where=folder,
                fix="delete this folder; it is rebuilt from the sources",
            )
        return cls(bases, records, folder.name)

    @property
    def lengths(self) -> dict[str, int]:
        """CorpusRecord -> bases."""
        return {record.name: record.length for record in self.records}

    def sequence(self, record: CorpusRecord) -> np.ndarray:
        return self.bases[record.start : record.start + record.length]


def _open_text(path: Path) -> gzip.GzipFile | object:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read_sequences(path: Path) -> Iterator[tuple[str, str, str]]:
    """(name, description, sequence) of every record; the format follows the file's ending.

    JSONL and Parquet rows follow OpenGenome2's layout: the sequence under ``text`` or ``sequence``, the name under
    ``record`` or ``name`` or ``id`` (the row number if there is none).
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    try:
        if kind in ("fa", "fasta", "fna"):
            yield from _read_fasta(path)
        elif kind in ("jsonl", "json"):
            with _open_text(path) as lines:  # type: ignore[attr-defined]
                rows = (json.loads(line) for line in lines if line.strip())  # NaN beside a sequence does no harm
                yield from (_row(row, i, path) for i, row in enumerate(rows, 1))
        elif kind == "parquet":
            import pyarrow.parquet as pq

            rows = (row for part in pq.ParquetFile(path).iter_batches(1024) for row in part.to_pylist())
            yield from (_row(row, i, path) for i, row in enumerate(rows, 1))
        else:
            raise NexVarError(
                f"unknown format {kind!r}", where=path, fix="fasta, jsonl or parquet (fasta and jsonl may be .gz)"
            )
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise NexVarError(f"cannot be read: {error}", where=path) from error


def _read_fasta(path: Path) -> Iterator[tuple[str, str, str]]:
    name, description, parts = "", "", list[str]()
    with _open_text(path) as lines:  # type: ignore[attr-defined]
        for number, line in enumerate(lines, 1):
            if line.startswith(">"):
                if parts:
                    yield name, description, "".join(parts)
                elif name:
                    raise NexVarError(f"record {name!r} is empty", where=f"{path}:{number}", fix="remove it")
                name, _, description = line[1:].strip().partition(" ")
                parts = []
            elif line.strip():
                if not name:
                    raise NexVarError("no '>' before the first sequence", where=f"{path}:{number}", fix="is it FASTA?")
                parts.append(line.strip())
    if parts:
        yield name, description, "".join(parts)


def _row(row: dict[str, object], number: int, path: Path) -> tuple[str, str, str]:
    text = next((row[key] for key in ("text", "sequence", "seq") if key in row), None)
    if not isinstance(text, str):
        raise NexVarError("no column 'text' or 'sequence'", where=f"{path}:{number}", fix=f"it has {', '.join(row)}")
    name = next((str(row[key]) for key in ("record", "name", "id") if key in row), str(number))
    return name, str(row.get("description", "")), text


def build_store(sources: Sequence[Path], folder: Path) -> Store:
    """The store of ``sources`` under ``folder``; reused if it was built from the same bytes."""
    digest = hashlib.sha256()
    for path in sources:
        if not path.is_file():
            raise NexVarError("no such file", where=path, fix="data.files of the recipe")
        with path.open("rb") as file:
            while piece := file.read(1 << 24):
                digest.update(piece)
    home = folder / digest.hexdigest()[:16]
    if (home / "index.json").is_file():
        return Store.open(home)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder))
    records, start = [], 0
    with (partial / "bases.u8").open("wb") as out:
        for path in sources:
            for name, description, text in read_sequences(path):
                bases = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)
                bad = ~_NUCLEOTIDES[bases]
                if bad.mean() > 0.01:
                    letter = chr(bases[int(bad.argmax())])
                    raise NexVarError(f"record {name!r} holds {letter!r}", where=path, fix="not DNA: a protein file?")
                out.write(bases.tobytes())
                records.append(CorpusRecord(name, description, start, len(bases)))
                start += len(bases)
    if not records:
        raise NexVarError(
            "no sequence in it", where=sources[0] if sources else "data.files", fix="a FASTA with records"
        )
    rows = [[r.name, r.description, r.start, r.length] for r in records]
    (partial / "index.json").write_text(json.dumps({"records": rows}), encoding="utf-8")
    try:
        partial.replace(home)
    except OSError:  # another process was faster; its store is the same
        return Store.open(home)
    return Store.open(home)


@dataclass(frozen=True)
class Split:
    train: list[CorpusRecord]
    held_out: list[CorpusRecord]
    excluded: list[CorpusRecord]


def split(
    records: Sequence[CorpusRecord],
    *,
    by: str,
    count: int,
    seed: int,
    exclude: Sequence[str] = (),
    names: Sequence[str] = (),
) -> Split:
    """Hold out whole groups until at least ``count`` records are held out; ``exclude`` drops clades from everything.

    names: hold out these records (species, chromosomes) instead of drawn ones.

    by: "genus" or "record" (species, chromosome). The order of the groups is a hash of (seed, group): it does not
    depend on the order of the file, and adding a record moves no other one between the sets.
    """
    if by not in ("genus", "record"):
        raise NexVarError(f"unknown hold-out {by!r}", where="data.holdout_by", fix='"genus" or "record"')
    excluded = [r for r in records if r.groups() & set(exclude)]
    kept = [r for r in records if not r.groups() & set(exclude)]
    if missing := set(names) - {r.name for r in records}:
        raise NexVarError(f"no record {sorted(missing)[0]!r}", where="data.holdout_names")
    groups: dict[str, list[CorpusRecord]] = {}
    for record in kept:
        groups.setdefault(record.genus if by == "genus" else record.name, []).append(record)
    order = sorted(groups, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest())
    held = [r for r in kept if r.name in set(names)]
    for group in order:
        if names or len(held) >= count:
            break
        held += groups[group]
    chosen = {r.name for r in held}
    train = [r for r in kept if r.name not in chosen]
    if not train:
        raise NexVarError(f"holding out {count} records leaves none to train on", where="data.holdout", fix="fewer")
    return Split(train, held, excluded)


@dataclass
class Sampler:
    """Random windows: a record by weight, a strand, a start; ``window(i)`` is a pure function of (seed, i).

    length: bases per window. Circular records wrap around their origin; a linear record shorter than the window is
    followed by others, each pair separated by ``separator`` (packing), so that no base of padding is ever computed.
    weights: clade -> factor, the largest that applies; a record's probability is its length times that factor.
    A base counts soft_mask_weight (if it is lower case) times what loss_weights says of it.
    """

    store: Store
    records: list[CorpusRecord]
    length: int
    seed: int
    circular: bool = False
    reverse_complement: float = 0.5
    weights: dict[str, float] = field(default_factory=dict)
    soft_mask_weight: float = 1.0
    loss_weights: LossWeights | None = None
    separator: int = 0

    def __post_init__(self) -> None:
        factors = [max([self.weights[g] for g in r.groups() if g in self.weights], default=1.0) for r in self.records]
        mass = np.array([r.length for r in self.records]) * np.array(factors)
        self._cumulative = np.cumsum(mass / mass.sum())

    def window(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Letters (length,) uint8 and loss weights (length,) float32 of sample ``i``."""
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, i]))
        pieces, counts, have = list[np.ndarray](), list[np.ndarray](), 0
        while have < self.length:
            record = self.records[int(np.searchsorted(self._cumulative, rng.random()))]
            bases = self.store.sequence(record)
            if self.circular:
                start = int(rng.integers(record.length))
                where = np.arange(start, start + self.length) % record.length
            else:
                start = int(rng.integers(max(record.length - self.length, 0) + 1))
                where = np.arange(start, min(start + self.length, record.length))
            piece = bases[where]
            count = self.loss_weights.of(record.name, where) if self.loss_weights else np.ones(len(piece), np.float32)
            if rng.random() < self.reverse_complement:
                piece, count = COMPLEMENT[piece[::-1]], count[::-1]
            if have:
                pieces.append(np.array([self.separator], dtype=np.uint8))
                counts.append(np.zeros(1, dtype=np.float32))
            pieces.append(piece)
            counts.append(count)
            have += len(piece) + (len(pieces) > 1)
        raw = np.concatenate(pieces)[: self.length]
        text = UPPER[raw]
        weight = IS_BASE[text] * np.concatenate(counts)[: self.length]
        if self.soft_mask_weight != 1.0:
            weight[raw != text] *= self.soft_mask_weight
        return text, weight

    def windows(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples ``first .. first + count``: letters (count, length) uint8, upper case, and their loss weights."""
        rows = [self.window(i) for i in range(first, first + count)]
        return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
