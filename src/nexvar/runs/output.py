"""The outputs of a scoring run: checked before the work, opened by their endings, there and whole or not there.

with open_writer("out.vcf.gz", reader, provenance) as writer:
    writer.write(record, rows)          # one row per ALT of the record, in order; every record, in order
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nexvar.errors import NexVarError
from nexvar.files import disk_errors, replacing
from nexvar.genome.bytesource import BgzfWriter
from nexvar.genome.variants import VariantSource
from nexvar.genome.vcf import Record, can_name
from nexvar.paths import Read, Write, check_apart
from nexvar.runs import tracks
from nexvar.runs.rows import ScoredAllele, score_readout
from nexvar.runs.writers import ParquetWriter, Provenance, Sink, TsvWriter, VcfWriter, Writer

ENDINGS = (".vcf", ".vcf.gz", ".vcf.bgz", ".tsv", ".tsv.gz", ".parquet", *tracks.ENDINGS)
COMPRESSED_VCF = (".vcf.gz", ".vcf.bgz")
INDEXES = (".tbi", ".csi")


def check_output(
    path: str | Path, inputs: Iterable[str | Path] = (), endings: tuple[str, ...] = (*ENDINGS, "-")
) -> None:
    """NexVarError unless ``path`` can be written and is none of the ``inputs``: call it before the long work."""
    if str(path) == "-" and "-" in endings:
        return
    path = Path(path)
    check_apart([Read(other) for other in inputs], [Write(path)])
    if not path.name.endswith(endings):
        raise NexVarError(f"no format for the ending of {path.name!r}", where=path, fix=f"use {', '.join(endings)}")
    tracks.check_track(path)


def check_contig_names(path: str | Path, contigs: Iterable[str]) -> None:
    """NexVarError where ``path`` is a VCF and could not name one of the contigs: nobody could read it."""
    if str(path) == "-" or Path(path).name.endswith((".vcf", *COMPRESSED_VCF)):
        for contig in contigs:
            if not can_name(contig):
                raise NexVarError(f"VCF allows no contig named {contig[:60]!r}", where=path,
                                  fix="write a .tsv or .parquet, or rename it in the FASTA and the list")  # fmt: skip


@contextmanager
def open_writer(
    path: str | Path, reader: VariantSource, provenance: Provenance, *, spreadsheet_safe: bool = False
) -> Iterator[Writer]:
    """The writer for ``path`` by its ending ("-": VCF on standard output). Nothing is left behind after an error.

    spreadsheet_safe: of a TSV, see ``TsvWriter``.
    """
    check_output(path)
    if str(path) == "-":
        yield VcfWriter(sys.stdout.buffer, reader, provenance)
        sys.stdout.flush()
        return
    path = Path(path)
    indexed = path.name.endswith(COMPRESSED_VCF)
    with replacing(path, INDEXES if indexed else ()) as temporary:
        writer: VcfWriter | TsvWriter | ParquetWriter | tracks.TrackWriter
        with disk_errors(path):
            if path.suffix in tracks.ENDINGS:
                lengths, readout = tracks.contig_lengths(reader.header), score_readout(provenance.readout.split(", "))
                writer = tracks.TrackWriter(temporary, path, lengths, readout)
            elif path.name.endswith(".parquet"):
                writer = ParquetWriter(temporary, provenance)
            elif ".tsv" in path.suffixes:
                writer = TsvWriter(_open_sink(temporary), provenance, safe=spreadsheet_safe)
            else:
                writer = VcfWriter(_open_sink(temporary), reader, provenance)
        try:
            yield _Guarded(writer, path)
        except BaseException:
            with suppress(OSError, ValueError):  # the file goes away, whether it can be finished or not
                writer.close()
            raise
        with disk_errors(path):
            writer.close()
        if indexed and isinstance(writer, VcfWriter) and writer.is_sorted:
            _index(temporary, path)


@dataclass
class _Guarded:
    """A writer whose disk errors name the file the user asked for."""

    writer: Writer
    path: Path

    def write(self, record: Record, rows: Sequence[ScoredAllele]) -> None:
        with disk_errors(self.path):
            self.writer.write(record, rows)


def _open_sink(path: Path) -> Sink:
    if path.suffix in (".vcf", ".tsv"):
        return path.open("wb", buffering=1 << 16)
    return BgzfWriter(path)


def _index(temporary: Path, path: Path) -> None:
    """A .tbi, or a .csi where a record ends beyond the 2^29 bases of a .tbi: htslib knows what ends a record."""
    import pysam

    verbosity = pysam.set_verbosity(0)
    try:
        for csi in (False, True):
            with suppress(OSError):
                pysam.tabix_index(str(temporary), preset="vcf", force=True, csi=csi)
                return
        raise NexVarError("its index cannot be written", where=path, fix="is the disk full?")
    finally:
        pysam.set_verbosity(verbosity)
