"""bigWig tracks and logos hold the scores of the table beside them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nexvar.errors import NexVarError
from nexvar.genome.bigwig import empty_bigwig
from nexvar.inference import scorers
from nexvar.inference.options import Options
from nexvar.runs import tracks
from nexvar.runs.writers import read_rows
from score_job import run_job
from tiny import tiny_loaded
from tiny_masked import tiny_masked
from toy_genome import other_bases, random_bases, vcf_line, write_fasta, write_vcf

GENOME = random_bases(3000, seed=4)
pybigtools = pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "ref.fa", chr1=GENOME, chr2=GENOME[::-1])


def saturate(fasta, outputs, region="chr1:1,001-1,120", loaded=None, **options):
    given = Options(window=64, strand="forward", **options)
    return run_job(None, fasta, outputs, model=loaded or tiny_loaded(), saturate=region, options=given)


def values(path, start=1000, end=1120):
    return pybigtools.open(str(path)).values("chr1", start, end, fillna=0)


def by_position(rows):
    """(N, 4): scores of A, C, G, T, 0 for the reference."""
    scores = np.zeros((len(rows) // 3, 4))
    for i, row in enumerate(rows):
        scores[i // 3, "ACGT".index(row.alt)] = row.llr
    return scores


def test_a_bigwig_is_the_largest_effect_at_each_base(fasta, tmp_path):
    saturate(fasta, [tmp_path / "out.parquet", tmp_path / "out.bw"])
    scores = by_position(list(read_rows(tmp_path / "out.parquet")))
    np.testing.assert_allclose(values(tmp_path / "out.bw"), np.abs(scores).max(1), rtol=1e-5)
    reader = pybigtools.open(str(tmp_path / "out.bw"))
    assert reader.chroms() == {"chr1": 3000}
    assert reader.info()["summary"]["basesCovered"] == 120


CAUSAL = [name for name in scorers.READOUTS if name not in scorers.MASKED]
MASKED = [name for name in scorers.READOUTS if name not in scorers.LIKELIHOOD]
PAIRS = [
    *((tiny_loaded, one, two) for one, two in itertools.permutations(CAUSAL, 2)),
    *((tiny_masked, one, two) for one, two in itertools.permutations(MASKED, 2) if {one, two} & set(scorers.MASKED)),
]


@pytest.mark.parametrize(
    ("windowing", "model", "first", "second"),
    [
        *(("centred", *pair) for pair in PAIRS),
        ("tiled", tiny_loaded, "site", "llr"),
        ("tiled", tiny_loaded, "cosine", "site"),
        ("tiled", tiny_masked, "l2", "cosine"),
    ],
)
def test_a_track_shows_one_readout_by_its_own_rule(tmp_path, model, first, second, windowing):
    """Whichever is named first, and as a run with it alone shows it; on a contig shorter than the window, too."""
    ratios = [name for name in (first, second) if name not in scorers.EMBEDDING]
    shown = "llr" if "llr" in ratios else (ratios or [first])[0]
    genome = write_fasta(tmp_path / "short.fa", chr1=GENOME[:40])
    paths = [tmp_path / f"out.{base}.bw" for base in "ACGT"]
    given = dict(region="chr1:11-16", loaded=model(), windowing=windowing)
    saturate(genome, [tmp_path / "both.tsv", tmp_path / "out.bw", *paths], readouts=(first, second), **given)
    saturate(genome, tmp_path / "alone.parquet", readouts=(shown,), **given)
    rows = list(read_rows(tmp_path / "alone.parquet"))
    columns = [shown.upper(), f"{shown.upper()}_TILED"]
    scores = [row.llr if row.llr is not None else next(row.extra[c] for c in columns if c in row.extra) for row in rows]
    alts = np.array(scores).reshape(-1, 3)
    assert rows[0].window_end - rows[0].window_start == 40
    where = np.array(["ACGT".index(row.alt) for row in rows]).reshape(-1, 3)
    of_bases, is_ref = np.zeros((6, 4)), np.ones((6, 4), dtype=bool)
    np.put_along_axis(of_bases, where, alts, 1)
    np.put_along_axis(is_ref, where, False, 1)
    if shown in scorers.EMBEDDING:
        heights = np.where(is_ref, alts.mean(1, keepdims=True), 0.0)
    else:
        p = np.exp(of_bases * (40 if shown in ("llr", "llr_acgt") else 1))
        p /= p.sum(1, keepdims=True)
        heights = p * (2 + (p * np.log2(p)).sum(1, keepdims=True))
    found = np.stack([values(path, 10, 16) for path in paths], 1)
    np.testing.assert_allclose(found, heights, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(values(tmp_path / "out.bw", 10, 16), np.abs(alts).max(1), rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize(("readout", "factor"), [("site", 1), ("llr", 64)])
def test_the_tracks_of_the_bases_are_the_heights_of_a_logo(fasta, tmp_path, readout, factor):
    paths = [tmp_path / f"out.{base}.bw" for base in "ACGT"]
    saturate(fasta, [tmp_path / "out.parquet", *paths], readouts=(readout,))
    ratios = by_position(list(read_rows(tmp_path / "out.parquet"))) * factor
    p = np.exp(ratios) / np.exp(ratios).sum(1, keepdims=True)
    bits = p * (2 + (p * np.log2(p)).sum(1, keepdims=True))
    np.testing.assert_allclose(np.stack([values(path) for path in paths], 1), bits, rtol=1e-4, atol=1e-6)


def test_distances_stand_at_the_reference_base(fasta, tmp_path):
    paths = [tmp_path / f"out.{base}.bw" for base in "ACGT"]
    table = tmp_path / "out.parquet"
    saturate(fasta, [table, *paths], loaded=tiny_masked(), readouts=("l2",))
    heights = np.stack([values(path) for path in paths], 1)
    mean = np.array([row.extra["L2"] for row in read_rows(table)]).reshape(-1, 3).mean(1)
    expected = np.zeros((120, 4))
    expected[np.arange(120), ["ACGT".index(base) for base in GENOME[1000:1120]]] = mean
    np.testing.assert_allclose(heights, expected, rtol=1e-5)


def test_a_logo_is_drawn(fasta, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    saturate(fasta, tmp_path / "out.png", readouts=("site",))
    pixels = image.imread(tmp_path / "out.png")[..., :3].reshape(-1, 3)
    for base in "ACGT":  # every letter is somewhere, in its colour
        colour = np.array([int(tracks.COLOURS[base][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(pixels - colour).max(1) < 0.01).sum() > 50


def test_sparse_variants_of_several_contigs_keep_their_places(fasta, tmp_path):
    out = tmp_path / "out.bw"
    lines = [
        vcf_line(g, p, other_bases(g[p])[0], c)
        for c, g in (("chr1", GENOME), ("chr2", GENOME[::-1]))
        for p in (99, 102)
    ]
    lines.insert(1, vcf_line(GENOME, 100, GENOME[100] + "TT"))  # an insertion has no place
    vcf = write_vcf(tmp_path / "in.vcf", lines)
    run_job(vcf, fasta, out, model=tiny_loaded(), options=Options(window=64))
    reader = pybigtools.open(str(out))
    for chrom in ("chr1", "chr2"):
        assert [(a, b) for a, b, _ in reader.records(chrom, 0, 103)] == [(99, 100), (102, 103)]


def test_what_cannot_be_drawn_is_one_line(fasta, tmp_path, monkeypatch):
    with pytest.raises(NexVarError, match="a logo of 2,500 positions"):
        saturate(fasta, tmp_path / "out.png", region="chr1:1-2500")
    monkeypatch.setattr(tracks, "find_spec", lambda name: None)
    with pytest.raises(NexVarError, match=r"pybigtools is not installed.*nexvar\[tracks\]"):
        saturate(fasta, tmp_path / "out.bw")


@pytest.mark.parametrize("records", [[], [vcf_line(GENOME, 100, GENOME[100] + "TT")]])
def test_without_an_snv_a_track_is_there_and_empty(fasta, tmp_path, records):
    vcf, outputs = (
        write_vcf(tmp_path / "in.vcf", records),
        [tmp_path / name for name in ("o.vcf", "o.bw", "o.A.bw", "o.png")],
    )
    run_job(vcf, fasta, outputs, model=tiny_loaded(), options=Options(window=64))
    assert all(path.stat().st_size for path in outputs)
    for path in outputs[1:3]:
        track = pybigtools.open(str(path))
        assert track.info()["summary"]["basesCovered"] == 0
        for chrom in track.chroms():
            assert list(track.records(chrom)) == []
    lengths = {"chr2": 300, "chr10": 5_000_000, "a": 1}
    path.write_bytes(empty_bigwig(lengths))
    assert pybigtools.open(str(path)).chroms() == lengths
