"""The demo end to end, on small windows; and its map of the mitochondrial genome."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pyarrow.parquet as pq
import pysam
import pytest

from nexvar import cli
from nexvar.evals import demo, mito_figure, tables, variants


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], str]:
    """(folder, files, what was printed) of a demo on every pathogenic variant and the first 60 benign ones."""
    folder = tmp_path_factory.mktemp("demo")
    lines = demo.shipped("mtdna_labelled.vcf").read_text().splitlines(keepends=True)
    benign = 0
    with (folder / "some.vcf").open("w") as vcf:
        for line in lines:
            benign += "LABEL=0;" in line
            if "LABEL=0;" not in line or benign <= 60:
                vcf.write(line)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        files = demo.run(folder / "new", vcf=folder / "some.vcf", window=64)
    return folder / "new", files, printed.getvalue()


def test_every_labelled_variant_is_scored_into_every_format(out: tuple[Path, list[Path], str]) -> None:
    folder = out[0]
    with pysam.VariantFile(str(folder / "mtdna_scored.vcf.gz")) as vcf:
        records = list(vcf)
        assert "NEXVAR_LLR" in vcf.header.info
        middle = list(vcf.fetch("chrM", 3200, 3300))  # needs the tabix index
    assert len(records) == 131 and 0 < len(middle) < 131
    table = pq.read_table(folder / "mtdna_scored.parquet")
    assert table.num_rows == 131 and table["LLR"].null_count == 0
    lines = (folder / "mtdna_scored.tsv").read_text().splitlines()
    assert len(lines) == 132 and lines[0].startswith("#CHROM\tPOS")
    assert table["LLR"][0].as_py() == pytest.approx(records[0].info["NEXVAR_LLR"][0], rel=1e-5)


def test_it_prints_the_table_with_intervals_and_where_everything_is(out: tuple[Path, list[Path], str]) -> None:
    folder, files, printed = out
    assert "131 alleles in 131 records = 131 scored + 0 skipped" in printed
    report = variants.run(folder / "mtdna_scored.parquet", demo.shipped("mtdna_labelled.vcf"))
    assert str(report.rows[0].estimates["auroc"]) in printed  # value [low-high]
    assert "too few: class 1 has 2 members" in printed  # rRNA
    for path in files:
        assert str(path) in printed
    assert "not a diagnosis" in printed


def test_the_figure_is_a_large_picture(out: tuple[Path, list[Path], str]) -> None:
    from matplotlib import image

    height, width = image.imread(str(out[0] / "mtdna_scored.png")).shape[:2]
    assert (width, height) == (2400, 1350)


def test_the_map_agrees_with_the_regions_of_the_labelled_variants() -> None:
    table = tables.read_table(demo.shipped("mtdna_labelled.vcf"))
    for pos, region in zip(table["pos"], table["REGION"], strict=True):
        kinds = {
            kind
            for _, first, last, kind in mito_figure.GENES
            if (first <= pos <= last if first <= last else pos >= first or pos <= last)
        }
        assert region in kinds or (region == "intergenic" and not kinds), f"{pos}: {region}, but the map has {kinds}"


def test_without_matplotlib_all_but_the_figure_is_there(tmp_path, monkeypatch, capsys) -> None:
    lines = demo.shipped("mtdna_labelled.vcf").read_text().splitlines(keepends=True)
    picked = [line for line in lines if line.startswith("#")] + lines[-30::3]
    (tmp_path / "few.vcf").write_text("".join(picked))
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    files = demo.run(tmp_path / "out", vcf=tmp_path / "few.vcf", window=64)
    assert [path.suffix for path in files] == [".gz", ".tsv", ".parquet", ".tbi"] and all(p.exists() for p in files)
    assert "pip install 'nexvar[plots]'" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["nexvar", "demo", "-o", str(tmp_path), "--window", "1"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith("nexvar: --window")
