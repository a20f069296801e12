"""nexvar tracks: files against predictions in Python, resuming, shards, regions, pictures, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from nexvar.cli.commands import app
from nexvar.errors import NexVarError
from nexvar.inference.track_windows import predict_tracks
from nexvar.runs import tracks_run
from nexvar.runs.job import Stopped
from nexvar.runs.tracks_run import TrackFiles, TrackJob, TrackOptions, merge, tracks_file
from places import GOLDEN
from tiny import tiny_loaded
from tiny_track_run import tiny_tracked
from tiny_tracks import write_track_model
from toy_genome import random_bases, write_fasta

GENOME = {"chr2": random_bases(700, seed=1), "chr10": random_bases(90, seed=2), "chrM": random_bases(131, seed=3)}
NAMES = ["plus", "minus", "both"]
HOW = {"window": 60, "overlap": 12}
pybigtools = pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_tracked(tmp_path_factory.mktemp("model"), 3)


@pytest.fixture
def fasta(tmp_path, monkeypatch):
    monkeypatch.setattr(tracks_run, "PART_BASES", 150)
    return write_fasta(tmp_path / "in.fa", **GENOME)


def run(model, output, fasta, shard=None, stop=None, progress=None, **given):
    files = {name: given.pop(name) for name in ("bed", "region", "annotation") if name in given}
    options = TrackOptions(**{**HOW, **given})
    return tracks_file(TrackJob(TrackFiles(fasta, **files), output, model, shard, progress, stop, options=options))


def test_every_file_holds_what_python_predicts(model, fasta, tmp_path):
    summary = run(model, [tmp_path / "x.parquet", tmp_path / "x.{track}.bw"], fasta)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["chrom", "start", "end", *NAMES]
    frame = table.to_pandas()
    for chrom in ("chr2", "chr10"):
        (made,) = predict_tracks(model, [GENOME[chrom]], **HOW)
        rows = frame[frame.chrom == chrom]
        assert list(rows.start) == list(range(0, len(GENOME[chrom]), 3)) and rows.end.iloc[-1] == len(GENOME[chrom])
        np.testing.assert_allclose(rows[NAMES], made.values_NK, rtol=1e-5)
    for name in NAMES:
        track = pybigtools.open(str(tmp_path / f"x.{name}.bw"))
        assert track.chroms() == {chrom: len(text) for chrom, text in GENOME.items()}
        for chrom, text in GENOME.items():
            values = np.repeat(frame[frame.chrom == chrom][name], 3)[: len(text)]
            np.testing.assert_allclose(track.values(chrom, fillna=None), values, rtol=1e-5)
    assert not list(tmp_path.glob("*.parts"))
    assert (
        summary.lines()[0] == "3 tracks: 308 values each, one a bin of 3 bases, in windows of 60 with an overlap of 12"
    )


def test_mitochondria_are_rings(model, fasta, tmp_path):
    turned = write_fasta(tmp_path / "turned.fa", chrM=GENOME["chrM"][60:] + GENOME["chrM"][:60])
    bed = tmp_path / "m.bed"
    bed.write_text("chrM\t0\t131\n")
    run(model, tmp_path / "a.parquet", fasta, bed=bed)
    run(model, tmp_path / "b.parquet", turned)
    here, there = (pq.read_table(tmp_path / f"{name}.parquet")["plus"].to_numpy() for name in "ab")
    np.testing.assert_allclose(here[25:40], there[5:20], rtol=1e-4)  # bins of the origin; 131 is no multiple of 3


@pytest.mark.parametrize("blend", [False, True])
def test_regions_have_the_values_of_the_whole_in_whole_bins(model, fasta, tmp_path, blend):
    bed = tmp_path / "regions.bed"
    bed.write_text("chr10\t80\t90\nchr2\t200\t230\nchr2\t10\t15\nchr2\t16\t30\nchr2\t25\t61\nchr2\t205\t210\n")
    run(model, tmp_path / "whole.parquet", fasta, blend=blend)
    run(model, tmp_path / "some.parquet", fasta, bed=bed, blend=blend)
    some = pq.read_table(tmp_path / "some.parquet").to_pandas()
    places = [("chr2", p) for p in (*range(9, 63, 3), *range(198, 231, 3))] + [("chr10", p) for p in range(78, 90, 3)]
    assert list(zip(some.chrom, some.start, strict=True)) == places
    whole = pq.read_table(tmp_path / "whole.parquet").to_pandas().merge(some[["chrom", "start"]])
    np.testing.assert_allclose(some[NAMES], whole[NAMES], rtol=1e-5)


@pytest.mark.parametrize("ending", [".parquet", ".{track}.bw"])
def test_a_stopped_run_and_shards_give_the_same_bytes(model, fasta, tmp_path, ending):
    def files(name):
        return [path.read_bytes() for path in sorted(tmp_path.glob(f"{name}.*")) if path.is_file()]

    run(model, tmp_path / f"whole{ending}", fasta)
    seen = []
    with pytest.raises(Stopped, match="of 921 were done"):
        run(
            model,
            tmp_path / f"out{ending}",
            fasta,
            progress=lambda done, _: seen.append(done),
            stop=lambda: seen[-1] > 300,
        )
    run(model, tmp_path / f"out{ending}", fasta)
    for i in (1, 2):
        run(model, tmp_path / f"cut{ending}", fasta, shard=(i, 2))
    merge(tmp_path / f"cut{ending}")
    assert files("whole") == files("out") == files("cut") and files("whole")


def test_other_options_are_refused_and_what_was_computed_stays(model, fasta, tmp_path):
    out = tmp_path / "x.{track}.bw"
    run(model, out, fasta, shard=(1, 2))
    there = sorted((tmp_path / "x.{track}.bw.parts").glob("part-*"))
    for changed in ({"tracks": ("both",)}, {"overlap": 15}, {"strand": "forward"}, {"blend": True}):
        with pytest.raises(NexVarError, match=f"changed: options: .*{next(iter(changed))}"):
            run(model, out, fasta, shard=(2, 2), **changed)
    other = replace(model, folder=tiny_tracked(tmp_path / "other", 3).folder)
    (other.folder / "tracks.json").write_text((other.folder / "tracks.json").read_text().replace("2.0", "4.0"))
    with pytest.raises(NexVarError, match="changed: model"):
        run(other, out, fasta, shard=(2, 2))
    assert sorted((tmp_path / "x.{track}.bw.parts").glob("part-*")) == there != []
    run(model, out, fasta)
    assert len(list(tmp_path.glob("x.*.bw"))) == 3


def test_a_picture_of_a_region_and_its_genes(model, fasta, tmp_path):
    image = pytest.importorskip("matplotlib.image", reason="pip install 'nexvar[tracks]'")
    genes = tmp_path / "genes.gff3"
    fields = ["chr2", ".", "mRNA", "120", "260", ".", "+", ".", "ID=t1;Name=ABC1"]
    parts = [["chr2", ".", "CDS", a, b, ".", "+", "0", "ID=c;Parent=t1"] for a, b in (("120", "160"), ("220", "260"))]
    genes.write_text("##gff-version 3\n" + "".join("\t".join(row) + "\n" for row in (fields, *parts)))
    region = {"region": "chr2:101-400", "tracks": ("plus", "minus")}
    run(model, tmp_path / "bare.png", fasta, **region)
    run(model, [tmp_path / "x.{track}.bw", tmp_path / "genes.png"], fasta, annotation=genes, **region)
    bare, drawn = (image.imread(tmp_path / name)[..., :3] for name in ("bare.png", "genes.png"))

    def pixels(picture, colour):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return int((np.abs(picture - wanted).max(-1) < 0.01).sum())

    for colour in ("#2f5d8a", "#c0392b"):  # plus, minus
        assert pixels(bare, colour) > 5000 and pixels(drawn, colour) > 5000
    assert pixels(drawn, "#444444") > pixels(bare, "#444444") + 1000
    assert drawn.shape[0] > bare.shape[0] and (tmp_path / "x.minus.bw").exists()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"annotation": "genes.gff3"}, "--annotation: no picture that shows genes: -o x.png, or leave it out"),
        ({"tracks": ("pluss",)}, "no track 'pluss'.*did you mean plus"),
        ({"species": "human"}, "knows no species"),
        ({"region": "chr2:690-701"}, "outside of the contig"),
        ({"region": "chrX:1-9"}, "chrX"),
        ({"window": 61}, "a window of 61 bases.*in steps of 3.*such as 60"),
        ({"overlap": 30}, "30 of a window's 60 bases.*at most 27"),
        ({"output": "x.bw"}, r"3 tracks, and a bigWig holds one.*x\.\{track\}\.bw"),
        ({"output": "x.png"}, "3 regions, and a picture shows one.*--region"),
        ({"output": "x.tsv"}, "no format for the ending"),
        ({"output": "none/x.parquet"}, "its folder does not exist"),
        ({"bed": "chr2\t1\t800\n"}, r"in\.bed:1.*beyond the end"),
        ({"bed": "2L\t1\t80\n"}, r"in\.bed:1.*is not in.*same assembly"),
        ({"bed": "chr2\t1\t80\n", "region": "chr2"}, "regions twice|give --bed or --region"),
        ({"strand": "plus"}, "--strand"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(model, fasta, tmp_path, given, line):
    bed = tmp_path / "in.bed"
    if "bed" in given:
        bed.write_text(given["bed"])
        given = {**given, "bed": bed}
    given = dict(given)
    output = tmp_path / given.pop("output", "x.parquet")
    with pytest.raises(NexVarError, match=line):
        run(model, output, fasta, **given)
    assert {path.name for path in tmp_path.iterdir()} <= {"in.fa", "in.fa.fai", "in.bed"}


def test_a_model_without_tracks_is_one_line(fasta, tmp_path):
    with pytest.raises(NexVarError, match="tiny predicts no tracks.*finetune"):
        run(tiny_loaded(), tmp_path / "x.parquet", fasta)


def test_file_names_are_those_of_tracks_made_safe(tmp_path):
    made = tracks_run.files_of(tmp_path / "{track}.bw", ["EFO:0002784 total RNA-seq (+)", "a/b"])
    assert [path.name for path in made] == ["EFO_0002784_total_RNA-seq_(+).bw", "a_b.bw"]
    with pytest.raises(NexVarError, match="25 tracks, and a picture shows at most 24"):
        tracks_run.files_of(tmp_path / "x.png", [f"t{i}" for i in range(25)])
    with pytest.raises(NexVarError, match="a track called 'start'"):
        tracks_run.files_of(tmp_path / "x.parquet", ["end of it", "start"])
    with pytest.raises(NexVarError, match="the same file name"):
        tracks_run.files_of(tmp_path / "{track}.bw", ["a/b", "a:b"])


def nexvar(capsys, *words):
    """What the command says on standard output."""
    app(["tracks", *map(str, words)], standalone_mode=False)
    return capsys.readouterr().out


def test_the_command(fasta, tmp_path, capsys):
    folder = write_track_model(tmp_path / "model")
    assert nexvar(capsys, "--model", folder, "--list") == "plus\nminus\nboth\n"
    listed = nexvar(capsys, "--model", GOLDEN / "ntv3_post_tiny", "--list").splitlines()
    assert listed[0] == "human human_track_0" and len(listed) == 12
    only = nexvar(capsys, "--model", GOLDEN / "ntv3_post_tiny", "--list", "--species", "mouse").splitlines()
    assert only == [f"mouse mouse_track_{i}" for i in range(3)]
    nexvar(capsys, "--model", folder, "--fasta", fasta, "--track", "both", "-o", tmp_path / "x.bw", "--device", "cpu")
    assert pybigtools.open(str(tmp_path / "x.bw")).chroms() == {chrom: len(text) for chrom, text in GENOME.items()}
    variants = tmp_path / "v.txt"
    variants.write_text(f"chr2:300{GENOME['chr2'][299]}>{'A' if GENOME['chr2'][299] != 'A' else 'C'}\n")
    words = ("--model", folder, "--fasta", fasta, "--variants", variants, "-o", tmp_path / "out.tsv")
    nexvar(capsys, *words)
    assert "both_MAX" in (tmp_path / "out.tsv").read_text()
    for wrong, line in (
        (["--region", "chr2"], "a region beside variants"),
        (["--over", "gene"], "no genes to sum over"),
    ):
        with pytest.raises(NexVarError, match=line):
            nexvar(capsys, *words, *wrong)
    with pytest.raises(NexVarError, match="of no variants"):
        nexvar(capsys, "--model", folder, "--fasta", fasta, "-o", tmp_path / "y.bw", "--over", "gene")
