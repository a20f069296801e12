"""Writers: nothing lost, nothing changed but NEXVAR_*, complete or not there at all."""

from __future__ import annotations

import csv
import gzip
import io
import math
import resource
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malformed.case import gz
from nexvar.errors import NexVarError
from nexvar.genome.vcf import Record, read_vcf
from nexvar.genome.windows import Status
from nexvar.runs import writers
from nexvar.runs.output import check_output, open_writer
from nexvar.runs.rows import ScoredAllele
from nexvar.runs.writers import Provenance, read_rows
from places import TESTS
from rich_vcf import RICH

PROVENANCE = Provenance(
    model="nexvar_mito", revision="abc123", window=8192, strand="both", dtype="float32",
    command="nexvar score --vcf 'my file.vcf'\n-o x", extra={"COSINE": 'cosine distance of "last"'},
)  # fmt: skip
NAMES = ("out.vcf", "out.vcf.gz", "out.vcf.bgz", "out.tsv", "out.tsv.gz", "out.parquet")
KEPT = RICH.replace(b"DB;;", b"DB")  # an empty item of INFO is none
OURS = ("NEXVAR_LLR", "NEXVAR_LLR_FWD", "NEXVAR_LLR_REV", "NEXVAR_COSINE", "NEXVAR_STATUS")


def rows_of(index: int, record: Record) -> list[ScoredAllele]:
    rows = []
    for k, alt in enumerate(record.alts):
        row = ScoredAllele(
            index, record.line_no, k, record.chrom, record.pos0 + 1, record.id, record.ref, alt, Status.STAR
        )
        if alt.isalpha():
            row.status, row.llr, row.llr_fwd = Status.OK, -1.23456789e-4 * (index + k + 1), 0.0
            row.contig, row.rule, row.window_start, row.window_end, row.n_fraction = "chr1", "exact", 0, 8192, 0.0
            row.extra = {"COSINE": 1e-7}
        rows.append(row)
    return rows


def write_all(folder: Path, data: bytes = RICH, names=NAMES) -> list[ScoredAllele]:
    (folder / "in.vcf").write_bytes(data)
    reader = read_vcf(folder / "in.vcf")
    everything = []
    with ExitStack() as stack:
        writers = [stack.enter_context(open_writer(folder / name, reader, PROVENANCE)) for name in names]
        for index, record in enumerate(reader):
            rows = rows_of(index, record)
            everything += rows
            for writer in writers:
                writer.write(record, rows)
    return everything


def without_ours(data: bytes) -> bytes:
    """A written VCF with what NexVar added taken out again."""
    lines = []
    for line in data.split(b"\n"):
        if line.startswith((b"##INFO=<ID=NEXVAR_", b"##nexvar_command=")):
            continue
        columns = line.split(b"\t")
        if len(columns) > 7 and not line.startswith(b"#"):
            kept = [item for item in columns[7].split(b";") if not item.startswith(b"NEXVAR_")]
            columns[7] = b";".join(kept) or b"."
        lines.append(b"\t".join(columns))
    return b"\n".join(lines)


def test_the_vcf_is_the_input_and_our_keys(tmp_path):
    write_all(tmp_path)
    out = (tmp_path / "out.vcf").read_bytes()
    assert without_ours(out) == KEPT
    records = [line.split("\t") for line in out.decode().split("\n") if line and line[0] != "#"]
    assert all(tuple(i.split("=")[0] for i in r[7].split(";"))[-5:] == OURS for r in records if r[4] != ".")
    first, second, star = records[0][7], records[1][7], records[3][7]
    assert first.endswith(
        ";NEXVAR_LLR=-0.0001234568;NEXVAR_LLR_FWD=0;NEXVAR_LLR_REV=.;NEXVAR_COSINE=1e-07;NEXVAR_STATUS=OK"
    )
    assert second.startswith("NEXVAR_LLR=-0.0002469136,-0.0003703704,.;")  # INFO was "."; one value per ALT
    assert second.endswith(";NEXVAR_STATUS=OK,OK,STAR")
    assert star.startswith("SVTYPE=DEL;END=30;NEXVAR_LLR=.;")


def test_the_header_says_what_made_the_scores(tmp_path):
    write_all(tmp_path)
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        meta = file.header.info
        for key in OURS:
            assert meta[key].number == "A"
            assert meta[key].type == ("String" if key.endswith("STATUS") else "Float")
        for part in ("model=nexvar_mito", "revision=abc123", "window=8192", "strand=both", "dtype=float32"):
            assert part in meta["NEXVAR_LLR"].description
        assert 'cosine distance of \\"last\\"' in meta["NEXVAR_COSINE"].record.attrs[3][1]
        records = list(file)
    assert records[0].info["NEXVAR_LLR"][0] == pytest.approx(-1.23456789e-4, rel=1e-6)
    assert "##nexvar_command=nexvar score --vcf 'my file.vcf' -o x\n" in (tmp_path / "out.vcf").read_text()


def test_compressed_ones_are_the_same_and_indexed(tmp_path):
    write_all(tmp_path)
    plain = (tmp_path / "out.vcf").read_bytes()
    for name in ("out.vcf.gz", "out.vcf.bgz"):
        data = (tmp_path / name).read_bytes()
        assert gzip.decompress(data) == plain
        assert data.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
        with pysam.TabixFile(str(tmp_path / name)) as index:
            assert len(list(index.fetch("chr1", 9, 10))) == 2
            assert len(list(index.fetch("HLA*01:01"))) == 1
    assert gzip.decompress((tmp_path / "out.tsv.gz").read_bytes()) == (tmp_path / "out.tsv").read_bytes()


def test_tables_have_one_row_per_allele(tmp_path):
    expected = write_all(tmp_path)
    assert list(read_rows(tmp_path / "out.parquet")) == [
        ScoredAllele(**{f: getattr(r, f) for f in r.__slots__ if f != "extra"}, extra=r.extra or {"COSINE": None})
        for r in expected
    ]
    with (tmp_path / "out.tsv").open() as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert lines[0][:10] == ["#CHROM", "POS", "ID", "REF", "ALT", "STATUS", "LLR", "LLR_FWD", "LLR_REV", "COSINE"]
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.names == ["CHROM", *lines[0][1:]]
    assert b"window=8192" in schema.metadata[b"nexvar"]
    assert len(lines) == 1 + len(expected)
    for line, row in zip(lines[1:], expected, strict=True):
        assert line[:6] == [row.chrom, str(row.pos), row.id, row.ref, row.alt, row.status.value]
        assert line[6] == ("NA" if row.llr is None else f"{row.llr:.7g}")


def test_annotating_twice_replaces(tmp_path):
    write_all(tmp_path, names=["out.vcf"])
    once = (tmp_path / "out.vcf").read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    write_all(again, once.replace(b"NEXVAR_STATUS=OK", b"NEXVAR_STATUS=EDGE;NEXVAR_OLD=5"), names=["out.vcf"])
    assert (again / "out.vcf").read_bytes() == once


def test_standard_output_is_a_vcf(tmp_path, capfdbinary):
    (tmp_path / "in.vcf").write_bytes(RICH)
    reader = read_vcf(tmp_path / "in.vcf")
    with open_writer("-", reader, PROVENANCE) as writer:
        for index, record in enumerate(reader):
            writer.write(record, rows_of(index, record))
    assert without_ours(capfdbinary.readouterr().out) == KEPT


@pytest.mark.parametrize("name", NAMES)
def test_after_an_error_there_is_nothing_or_the_old_file(name, tmp_path):
    (tmp_path / "in.vcf").write_bytes(RICH)
    reader = read_vcf(tmp_path / "in.vcf")
    old = tmp_path / name
    old.write_bytes(b"old")
    for stop in (KeyboardInterrupt, NexVarError("stop"), FileNotFoundError("somebody else's")):
        with pytest.raises(type(stop) if isinstance(stop, Exception) else stop), \
             open_writer(old, reader, PROVENANCE) as writer:  # fmt: skip
            record = next(iter(reader))
            writer.write(record, rows_of(0, record))
            raise stop
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in.vcf", name])
    assert old.read_bytes() == b"old"


def test_an_older_index_does_not_outlive_its_file(tmp_path):
    (tmp_path / "out.vcf.gz.csi").write_bytes(b"old")
    write_all(tmp_path, names=["out.vcf.gz"])
    assert not (tmp_path / "out.vcf.gz.csi").exists()
    assert (tmp_path / "out.vcf.gz.tbi").exists()


def test_chromosomes_beyond_tbi_get_a_csi(tmp_path):
    data = RICH.replace(b"length=1000,assembly", b"length=900000000,assembly").replace(b"chr1\t23", b"chr1\t800000000")
    write_all(tmp_path, data, names=["out.vcf.gz"])
    assert not (tmp_path / "out.vcf.gz.tbi").exists()
    with pysam.TabixFile(str(tmp_path / "out.vcf.gz"), index=str(tmp_path / "out.vcf.gz.csi")) as index:
        assert len(list(index.fetch("chr1", 799_999_999, 800_000_000))) == 1


def test_unsorted_records_have_no_index(tmp_path):
    head, records = RICH.split(b"\tse cond\n")
    lines = records.splitlines(keepends=True)
    (tmp_path / "in.vcf").write_bytes(head + b"\tse cond\n" + b"".join([lines[4], lines[0]]))
    reader = read_vcf(tmp_path / "in.vcf", require_sorted=False)
    with open_writer(tmp_path / "o.vcf.gz", reader, PROVENANCE) as writer:
        for index, record in enumerate(reader):
            writer.write(record, rows_of(index, record))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.vcf", "o.vcf.gz"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_a_number_is_an_error(name, value, tmp_path):
    (tmp_path / "in.vcf").write_bytes(RICH)
    reader = read_vcf(tmp_path / "in.vcf")
    record = next(iter(reader))
    rows = rows_of(0, record)
    rows[0].llr_rev = value
    with pytest.raises(NexVarError, match="chr1:10A>G is"), open_writer(tmp_path / name, reader, PROVENANCE) as writer:
        writer.write(record, rows)


def test_outputs_are_checked_before_the_work(tmp_path):
    (tmp_path / "in.vcf").write_bytes(RICH)
    (tmp_path / "folder.vcf").mkdir()
    for path, says in (
        (tmp_path / "x.docx", "no format"),
        (tmp_path / "x", "no format"),
        (tmp_path / "folder.vcf", "directory"),
        (tmp_path / "none" / "x.vcf", "does not exist"),
        (tmp_path / "in.vcf", "is an input"),
        (tmp_path / "folder.vcf" / ".." / "in.vcf", "is an input"),
    ):
        with pytest.raises(NexVarError, match=says):
            check_output(path, inputs=[tmp_path / "in.vcf", "-"])
    check_output("-")
    check_output(tmp_path / "new.parquet", inputs=[tmp_path / "in.vcf"])


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_leaves_nothing(name, tmp_path):
    """The file-size limit of a process stands for the disk's end."""
    script = textwrap.dedent(f"""
        import random, resource, sys
        sys.path[:0] = [{str(TESTS)!r}, {str(TESTS / "runs")!r}]
        from pathlib import Path
        from test_output import PROVENANCE, ScoredAllele, Status, open_writer, read_vcf
        from nexvar.errors import NexVarError
        reader = read_vcf({str(tmp_path / "in.vcf")!r})
        record = next(iter(reader))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            with open_writer({str(tmp_path / name)!r}, reader, PROVENANCE) as writer:
                for i in range(12_000):
                    bases = "".join(random.choices("ACGT", k=200))
                    row = ScoredAllele(i, 9, 0, "chr1", 5, bases, "A", "G", Status.OK, random.random())
                    writer.write(record, [row])
            print("no error")
        except NexVarError as error:
            print(error)
    """)
    assert resource.RLIMIT_FSIZE is not None
    (tmp_path / "in.vcf").write_bytes(RICH)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert f"{tmp_path / name}: cannot be written" in done.stdout, done
    assert done.stderr == ""
    assert [p.name for p in tmp_path.iterdir()] == ["in.vcf"]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"nothing", gz(b"x")])
def test_reading_what_is_not_our_parquet(data, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    with pytest.raises(NexVarError, match="Parquet|is empty"):
        list(read_rows(path))
    with pytest.raises(NexVarError, match="no such file"):
        list(read_rows(tmp_path / "none.parquet"))
    pq.write_table(table_of(), path)
    with pytest.raises(NexVarError, match="column"):
        list(read_rows(path))


def table_of():
    import pyarrow as pa

    return pa.table({"CHROM": ["chr1"], "POS": [5]})


def test_row_groups_are_written_as_they_fill(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "ROW_GROUP", 3)
    expected = write_all(tmp_path, names=["out.parquet"])
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 3
    assert [r.alt for r in read_rows(tmp_path / "out.parquet")] == [r.alt for r in expected]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_small_differences_survive_the_text(value):
    row = ScoredAllele(0, 1, 0, "c", 1, ".", "A", "C", Status.OK, value)
    assert float(writers._number(row, value, ".")) == pytest.approx(value, rel=1e-6)


def test_a_stream_of_bytes_is_enough(tmp_path):
    """The VCF writer needs only ``write``: an HTTP response can be one."""
    (tmp_path / "in.vcf").write_bytes(RICH)
    reader, sink = read_vcf(tmp_path / "in.vcf"), io.BytesIO()
    writer = writers.VcfWriter(sink, reader, PROVENANCE)
    for index, record in enumerate(reader):
        writer.write(record, rows_of(index, record))
    assert without_ours(sink.getvalue()) == KEPT
