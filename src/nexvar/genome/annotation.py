"""Genes, transcripts and their parts on a genome, from GFF3, GTF or BED12.

    annotation = read_annotation("gencode.gff3.gz", fasta)
    annotation.features("chr17", 43_044_294, 43_125_364)     what lies there, by start
    annotation.search("brca1")                                genes by symbol, ID or description
    annotation.transcripts("chr17", 43_044_294, 43_125_364)   exons, coding bases, UTRs of each
    annotation.spans("chr17", "five_prime_UTR")               (N, 2) of all of a kind

Coordinates are 0-based half-open. Contigs have the FASTA's names, and answer to all that the FASTA's answer to.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexvar.errors import NexVarError
from nexvar.genome.features import CODING, codes, read_features
from nexvar.genome.gff import PARTS
from nexvar.genome.reference import Fasta
from nexvar.genome.transcripts import Feature, Transcript, make_transcript

LANDMARKS = ("region", "chromosome", "contig", "supercontig", "scaffold", "plasmid")
_TEXTS = ("strand", "kind", "name", "type", "description", "tags", "aliases")


def read_annotation(path: str | Path, fasta: Fasta, *, cache: Path | None = None) -> Annotation:
    """The features of a GFF3, GTF or BED file (plain, gzip, bgzip, "-") that lie on contigs of ``fasta``.

    cache: a folder that keeps what was read, by the file's contents. NexVarError with file:line for what is not a
    feature, and for a file of another assembly.
    """
    table, lengths = read_features(path, cache)
    return Annotation(table, fasta, str(path), lengths)


class Annotation:
    """The features of one genome, sorted by contig, start and length (the longest first).

    notes: what a person should know of the file. circular: contigs that it calls rings, or the FASTA does.
    """

    def __init__(self, table: pa.Table, fasta: Fasta, name: str, lengths: dict[str, int]) -> None:
        self.fasta, self.name = fasta, name
        self.notes: list[str] = []
        rows, contig_N, start_N, end_N = self._placed(table, lengths)
        order = np.lexsort((rows, -end_N, start_N, contig_N))  # rows are in the order of the file's lines
        rows = rows[order]
        kinds, (kind_N,) = codes(table["kind"])
        words, (id_N, parent_N) = codes(table["id"], table["parent"])
        self._table = table.select(_TEXTS).take(rows).combine_chunks()
        self._phase_N = table["phase"].to_numpy()[rows]
        self._start_N, self._end_N, self._contig_N = start_N[order], end_N[order], contig_N[order]
        self._kinds, self._kind_N = kinds.to_pylist(), kind_N[rows]
        self._words, self._id_N, self._parent_N = words, id_N[rows], parent_N[rows]
        bounds = np.searchsorted(self._contig_N, np.arange(len(self.contigs) + 1))
        self._rows = {name: (int(bounds[i]), int(bounds[i + 1])) for i, name in enumerate(self.contigs)}
        self._reach_N = np.empty_like(self._end_N)  # the furthest end up to here, on the contig
        for low, high in self._rows.values():
            np.maximum.accumulate(self._end_N[low:high], out=self._reach_N[low:high])
        self._by_parent = np.argsort(self._parent_N, kind="stable")
        self._parents = self._parent_N[self._by_parent]
        self._by_id = np.argsort(self._id_N, kind="stable")
        self._ids = self._id_N[self._by_id]
        coding = [self._kind(kind) for kind in ("exon", *CODING)]
        owners = np.unique(self._parent_N[np.isin(self._kind_N, coding)])
        self._is_transcript_N = np.isin(self._id_N, owners) & (self._id_N >= 0)
        self._is_transcript_N |= (self._kind_N == self._kind("CDS")) & (self._parent_N < 0)
        named = self._named()
        self._index = _SearchIndex(
            named,
            self._parent_N[named] < 0,
            self._text(self._id_N[named]),
            self._table.select(["name", "description"]).take(named),
            table["aliases"].take(rows[named]),
        )

    def __len__(self) -> int:
        return len(self._start_N)

    # -- what was read, on the genome

    def _placed(self, table: pa.Table, lengths: dict[str, int]) -> tuple[np.ndarray, ...]:
        """The rows of the table on contigs of the FASTA, and of each the place among ``contigs``, start and end."""
        names, (name_N,) = codes(table["contig"])
        matches = [self.fasta.resolve(name) for name in names.to_pylist()]
        self._check_names(names.to_pylist(), lengths)
        self.contigs = list(dict.fromkeys(match.contig for match in matches if match))
        rank = {name: i for i, name in enumerate(self.contigs)}
        contig_N = np.array([rank[match.contig] if match else -1 for match in matches] or [0], dtype=np.int32)[name_N]
        flagged = {self.contigs[i] for i in np.unique(contig_N[table["circular"].to_numpy() & (contig_N >= 0)])}
        self.circular = {c for c in self.contigs if c in self.fasta.circular or c in flagged}
        if left := int((contig_N < 0).sum()):
            self.notes.append(f"{self.name}: {left:,} features on contigs that {self.fasta.path.name} does not have")
        start_N, end_N = (table[name].to_numpy().astype(np.int64) for name in ("start", "end"))
        return self._inside(table, contig_N, start_N, end_N)

    def _check_names(self, names: list[str], lengths: dict[str, int]) -> None:
        """NexVarError where the file is of another assembly."""
        known = [name for name in names if self.fasta.resolve(name)]
        if not known:
            why = next((why for name in names if (why := self.fasta.why_unknown(name))), "")
            what = f"none of its contigs ({', '.join(names[:3])}) is in {self.fasta.path.name}"
            raise NexVarError(f"{what}: {why}" if why else what, where=self.name, fix="is it of the same assembly?")
        for name, length in lengths.items():
            match = self.fasta.resolve(name)
            if match is None or self.fasta.is_slice(match.contig):
                continue
            if (has := self.fasta.contigs[match.contig]) != length:
                raise NexVarError(f"{name} has {length:,} bases in its header, {has:,} in {self.fasta.path.name}",
                                  where=self.name, fix="give the annotation of this assembly")  # fmt: skip

    def _inside(
        self, table: pa.Table, contig_N: np.ndarray, start_N: np.ndarray, end_N: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Features that cross the origin of a ring in two pieces; NexVarError for others beyond the end.

        The lines that GFF3 files have for the contigs themselves are no features of them.
        """
        last = np.array([self.fasta.spans(name)[-1][1] for name in self.contigs])
        kinds, (kind_N,) = codes(table["kind"])
        landmark = np.isin(kind_N, np.flatnonzero(np.isin(kinds.to_pylist(), LANDMARKS)))
        kept = (contig_N >= 0) & ~(landmark & (start_N == 0) & (end_N == last[contig_N]))
        wrapped = []
        for i, contig in enumerate(self.contigs):
            if self.fasta.is_slice(contig):
                spans = self.fasta.spans(contig)
                seen = np.any([(start_N < high) & (end_N > low) for low, high in spans], axis=0)
                kept &= (contig_N != i) | seen
                continue
            length = self.fasta.contigs[contig]
            beyond = np.flatnonzero((contig_N == i) & (end_N > length))
            if contig in self.circular and np.all(end_N[beyond] <= 2 * length):
                kept[beyond[start_N[beyond] >= length]] = False  # NOTE the second turn repeats the first
                beyond = beyond[start_N[beyond] < length]
                wrapped.append((beyond, end_N[beyond] - length))
                end_N[beyond] = length
            elif len(beyond):
                line, end = table["line_no"][int(beyond[0])], end_N[beyond[0]]
                raise NexVarError(f"it ends at {end:,}, {contig} has {length:,} bases", where=f"{self.name}:{line}",
                                  fix="give the annotation of this assembly")  # fmt: skip
        rows = np.concatenate([np.flatnonzero(kept), *(beyond for beyond, _ in wrapped)]).astype(np.int64)
        ends = np.concatenate([end_N[kept], *(end for _, end in wrapped)])
        starts = start_N[rows].copy()
        starts[int(kept.sum()) :] = 0
        return rows, contig_N[rows], starts, ends

    def _named(self) -> np.ndarray:
        """Rows that a search finds: all but parts of transcripts."""
        parts = [i for i, kind in enumerate(self._kinds) if kind in PARTS]
        part = np.isin(self._kind_N, parts) & ~self._is_transcript_N
        return np.flatnonzero(~part)

    def _kind(self, name: str) -> int:
        return self._kinds.index(name) if name in self._kinds else -2

    # -- questions

    def features(self, contig: str, start: int, end: int) -> list[Feature]:
        """What overlaps [start, end), by start; nothing for a contig that is not there."""
        return self._features(self._overlapping(contig, start, end))

    def count(self, contig: str, start: int, end: int) -> int:
        """How many features overlap [start, end)."""
        return len(self._overlapping(contig, start, end))

    def spans(self, contig: str, kind: str, tag: str = "") -> np.ndarray:
        """(N, 2) int64: start and end of every feature of a kind (exon, CDS, five_prime_UTR, gene, …), by start.

        tag: of those alone that carry it, or whose parent does (MANE_Select).
        """
        low, high = self._range(contig)
        rows = self._tagged(low + np.flatnonzero(self._kind_N[low:high] == self._kind(kind)), tag)
        return np.stack((self._start_N[rows], self._end_N[rows]), axis=1)

    def transcript_spans(self, contig: str, tag: str = "") -> tuple[np.ndarray, np.ndarray]:
        """((N, 2) int64 start and end of every transcript, by start; (N,) bool, whether it is on the minus strand)."""
        low, high = self._range(contig)
        rows = self._tagged(low + np.flatnonzero(self._is_transcript_N[low:high]), tag)
        minus = pc.equal(self._table["strand"].take(rows), "-").to_numpy().astype(bool)
        return np.stack((self._start_N[rows], self._end_N[rows]), axis=1), minus

    def find(self, id: str) -> list[Feature]:
        """The feature of an ID as the file has it; several where it lies in pieces, none where there is none."""
        return self._features(self._of_id(id))

    def transcript(self, id: str) -> Transcript:
        """One transcript (a gene, where its parts have no transcript) by its ID."""
        rows = self._of_id(id)
        if not len(rows):
            raise NexVarError(f"no feature {id[:60]!r}", where=self.name, fix="give an ID as the file has it")
        return self._transcript(int(rows[0]))

    def transcripts(self, contig: str, start: int, end: int) -> list[Transcript]:
        """The transcripts that overlap [start, end), by start: whatever has exons or coding bases of its own."""
        rows = self._overlapping(contig, start, end)
        chosen = rows[self._is_transcript_N[rows]]
        _, first = np.unique(np.where(self._id_N[chosen] < 0, -1 - chosen, self._id_N[chosen]), return_index=True)
        return [self._transcript(int(row)) for row in chosen[np.sort(first)]]

    def search(self, text: str, limit: int = 20) -> list[Feature]:
        """Features by symbol, ID or alias (whole, then as a beginning), then by any part of name or description.

        Upper and lower case are alike; genes come before transcripts, which only a whole name or ID finds.
        """
        return self._features(self._index.search(text, limit))

    def nearest(self, text: str, count: int = 3) -> list[str]:
        """The symbols most like ``text``: for whoever mistyped one."""
        return self._index.nearest(text, count)

    # -- rows

    def _range(self, contig: str) -> tuple[int, int]:
        match = self.fasta.resolve(contig)
        return self._rows.get(match.contig, (0, 0)) if match else (0, 0)

    def _overlapping(self, contig: str, start: int, end: int) -> np.ndarray:
        low, high = self._range(contig)
        first = low + np.searchsorted(self._reach_N[low:high], start, side="right")
        last = low + np.searchsorted(self._start_N[low:high], end, side="left")
        return first + np.flatnonzero(self._end_N[first:last] > start)

    def _tagged(self, rows: np.ndarray, tag: str) -> np.ndarray:
        """Those of the rows that carry a tag, or whose parent does; all for ""."""
        if not tag:
            return rows
        tags = pc.binary_join_element_wise("", self._table["tags"].cast(pa.string()), "", ",")
        carries_N = pc.match_substring(tags, f",{tag},").to_numpy()
        ids = self._id_N[carries_N & (self._id_N >= 0)]
        return rows[carries_N[rows] | np.isin(self._parent_N[rows], ids)]

    def _of_id(self, id: str) -> np.ndarray:
        code = pc.index(self._words, id).as_py()
        low, high = np.searchsorted(self._ids, [code, code + 1])
        return np.sort(self._by_id[low:high]) if code >= 0 and id else np.empty(0, dtype=np.int64)

    def _features(self, rows: np.ndarray) -> list[Feature]:
        texts = self._table.take(rows).to_pylist()
        ids, parents = (self._text(codes[rows]).to_pylist() for codes in (self._id_N, self._parent_N))
        return [
            Feature(
                contig=self.contigs[self._contig_N[row]],
                start=int(self._start_N[row]),
                end=int(self._end_N[row]),
                id=own,
                parent=parent,
                phase=None if self._phase_N[row] < 0 else int(self._phase_N[row]),
                **text,
            )
            for row, own, parent, text in zip(rows, ids, parents, texts, strict=True)
        ]

    def _text(self, codes_N: np.ndarray) -> pa.Array:
        """What ``codes`` turned into numbers."""
        return pc.fill_null(self._words.take(pa.array(codes_N, mask=codes_N < 0)), "")

    def _transcript(self, row: int) -> Transcript:
        code, contig = self._id_N[row], self._contig_N[row]
        low, high = np.searchsorted(self._parents, [code, code + 1]) if code >= 0 else (0, 0)
        rows = self._by_parent[low:high]
        rows = rows[self._contig_N[rows] == contig]
        if self._kind_N[row] == self._kind("CDS"):
            rows = np.append(self._of_id(self._words[code].as_py()) if code >= 0 else [], row if code < 0 else [])
        feature = self._features(np.array([row]))[0]
        ring = self.fasta.contigs[feature.contig] if feature.contig in self.circular else None
        return make_transcript(feature, self._features(rows.astype(np.int64)), ring)


class _SearchIndex:
    """Lower-case texts of the rows that a search finds, searched whole by Arrow: 80,000 genes in some milliseconds.

    Of each its name, ID, ID without prefix and version, and aliases, each between tabs. top: it has no parent.
    """

    def __init__(
        self, rows: np.ndarray, top: np.ndarray, ids: pa.Array, texts: pa.Table, aliases: pa.ChunkedArray
    ) -> None:
        bare = pc.replace_substring_regex(ids, r"^(?:gene|transcript):|\.[0-9]+$", "")
        keys = pc.utf8_lower(pc.binary_join_element_wise("", texts["name"], ids, bare, aliases, "", "\t"))
        self._genes, self._others = rows[top], rows[~top]
        self._gene_keys, self._other_keys = keys.filter(pa.array(top)), keys.filter(pa.array(~top))
        self._descriptions = pc.utf8_lower(texts["description"].filter(pa.array(top)))
        self._names = dict(zip(rows.tolist(), texts["name"].to_pylist(), strict=True))
        self._symbols: dict[str, str] | None = None

    def search(self, text: str, limit: int) -> np.ndarray:
        wanted = text.strip().lower()
        if not wanted or "\t" in wanted:
            return np.empty(0, dtype=np.int64)
        found = self._matching(self._gene_keys, f"\t{wanted}\t", self._genes)
        found = found or self._matching(self._other_keys, f"\t{wanted}\t", self._others)
        found |= self._matching(self._gene_keys, f"\t{wanted}", self._genes)
        if len(found) < limit:
            found |= self._matching(self._gene_keys, wanted, self._genes)
            found |= self._matching(self._descriptions, wanted, self._genes)
        return np.array(list(found)[:limit], dtype=np.int64)

    def _matching(self, texts: pa.ChunkedArray, wanted: str, rows: np.ndarray) -> dict[int, None]:
        """The rows whose text holds ``wanted``, short names first."""
        places = rows[pc.match_substring(texts, wanted).to_numpy()]
        return dict.fromkeys(sorted(places.tolist(), key=lambda row: (len(self._names[row]), self._names[row], row)))

    def nearest(self, text: str, count: int) -> list[str]:
        if self._symbols is None:
            names = (self._names[row] for row in self._genes.tolist())
            self._symbols = {name.lower(): name for name in names if name}
        wanted = text.strip().lower()[:40]
        alike = [name for name in self._symbols if abs(len(name) - len(wanted)) <= 2]
        return [self._symbols[name] for name in difflib.get_close_matches(wanted, alike, count)]
