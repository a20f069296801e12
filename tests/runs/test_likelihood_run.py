"""nexvar likelihood: tracks against one window at a time, formats, resuming, shards, circular contigs, bad input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from nexvar.errors import NexVarError
from nexvar.inference.core.sliding import Grid, Rule
from nexvar.inference.per_base import per_base
from nexvar.runs import likelihood_run, parts
from nexvar.runs.job import LikelihoodJob, LikelihoodOptions, SequenceFiles, Stopped
from nexvar.runs.likelihood_run import likelihood_file, merge
from tiny import tiny_loaded
from tiny_masked import tiny_masked
from toy_genome import random_bases, write_fasta

LOADED = tiny_loaded()
MASKED = tiny_masked("base")
GENOME = {"chr2": random_bases(300, seed=1), "chr10": random_bases(90, seed=2), "chrM": random_bases(130, seed=3)}
pybigtools = pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "in.fa", **GENOME)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(likelihood_run, "PART_BASES", 100)
    monkeypatch.setattr(likelihood_run, "PART_PASSES", 100)


def run(output, fasta, bed=None, model=LOADED, shard=None, stop=None, progress=None, **options):
    options = LikelihoodOptions(**{"window": 64, "overlap": 20, **options})
    files = SequenceFiles(fasta, bed)
    return likelihood_file(LikelihoodJob(files, output, model, shard, progress, stop, options=options))


def one_at_a_time(loaded, rule, text, circular, strand):
    """(log_probs_SL, entropies_SL) of a contig: for every base its window alone, read whole."""
    grid = Grid(0, len(text), circular, rule)
    values = []
    for p in range(len(text)):
        window = grid.window(grid.over(p, p + 1)[0])
        read = "".join(text[i % len(text)] for i in range(window.start, window.end))
        (result,) = per_base(loaded, [read], strand=strand)
        at = p - window.start
        values.append((result.log_probs_SL[:, at], result.entropies_SL[:, at]))
    return np.stack([v[0] for v in values], 1), np.stack([v[1] for v in values], 1)


@pytest.mark.parametrize("strand", ["forward", "reverse", "both"])
def test_a_causal_track_is_that_of_one_window_at_a_time(fasta, tmp_path, small_parts, strand):
    run(tmp_path / "out.parquet", fasta, strand=strand)
    table = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert list(table.drop_duplicates("chrom").chrom) == list(GENOME)
    for chrom, text in GENOME.items():
        rows = table[table.chrom == chrom]
        assert list(rows.pos) == list(range(len(text)))
        assert "".join(rows.base) == text
        log_probs, entropies = one_at_a_time(LOADED, Rule.of(64, 20, strand), text, chrom == "chrM", strand)
        for s, short in enumerate({"forward": ["fwd"], "reverse": ["rev"], "both": ["fwd", "rev"]}[strand]):
            np.testing.assert_allclose(rows[f"log_prob_{short}"], log_probs[s], atol=2e-6)
            np.testing.assert_allclose(rows[f"entropy_{short}"], entropies[s], atol=2e-6)
        with np.errstate(all="ignore"):
            mean = np.nanmean(np.where(np.isnan(log_probs).all(0), 0, log_probs), 0)
        known = ~np.isnan(log_probs).all(0)
        np.testing.assert_allclose(rows.log_prob[known], mean[known], atol=2e-6)
    assert (
        table.log_prob_fwd.isna().sum() if strand != "reverse" else table.log_prob_rev.isna().sum()
    ) == 2  # not chrM
    assert b"0-based" in pq.read_schema(tmp_path / "out.parquet").metadata[b"nexvar_coordinates"]


def test_a_masked_track_is_that_of_one_window_at_a_time(tmp_path, small_parts):
    text = random_bases(70, seed=8) + "NNNRY" + random_bases(30, seed=9)
    fasta = write_fasta(tmp_path / "in.fa", chr1=text)
    run(tmp_path / "out.parquet", fasta, model=MASKED, window=40, overlap=10, strand="forward")
    rows = pq.read_table(tmp_path / "out.parquet").to_pandas()
    read = text.replace("R", "N").replace("Y", "N")
    log_probs, entropies = one_at_a_time(MASKED, Rule.of(40, 10, "both"), read, False, "forward")
    np.testing.assert_allclose(rows.log_prob, log_probs[0], atol=2e-6)
    np.testing.assert_allclose(rows.entropy, entropies[0], atol=2e-6)
    assert rows.log_prob.isna().sum() == 5
    assert "".join(rows.base) == text


def test_both_strands_of_a_reversed_genome_are_mirrored_where_windows_are(fasta, tmp_path):
    """A strand read alone has the mirror image's windows."""
    from nexvar.genome.reference import reverse_complement

    turned = write_fasta(tmp_path / "turned.fa", **{name: reverse_complement(text) for name, text in GENOME.items()})
    bed = tmp_path / "linear.bed"
    bed.write_text("chr2\t0\t300\n")
    run(tmp_path / "fwd.parquet", fasta, bed, strand="forward")
    run(tmp_path / "rev.parquet", turned, bed, strand="reverse")
    forward = pq.read_table(tmp_path / "fwd.parquet")["log_prob_fwd"].to_numpy()
    reverse = pq.read_table(tmp_path / "rev.parquet")["log_prob_rev"].to_numpy()
    np.testing.assert_allclose(forward, reverse[::-1], atol=2e-6)


def test_regions_are_merged_sorted_and_have_the_values_of_the_whole(fasta, tmp_path, small_parts):
    bed = tmp_path / "regions.bed"
    bed.write_text("chrM\t120\t130\nchr2\t200\t230\nchr2\t10\t15\nchr2\t17\t30\nchr2\t25\t60\nchr2\t205\t210\n")
    run(tmp_path / "whole.parquet", fasta)
    summary = run(tmp_path / "out.parquet", fasta, bed)
    table = pq.read_table(tmp_path / "out.parquet").to_pandas()
    places = [("chr2", p) for p in (*range(10, 15), *range(17, 60), *range(200, 230))]
    assert list(zip(table.chrom, table.pos, strict=True)) == places + [("chrM", p) for p in range(120, 130)]
    whole = pq.read_table(tmp_path / "whole.parquet").to_pandas().merge(table[["chrom", "pos"]])
    np.testing.assert_allclose(table.log_prob, whole.log_prob, atol=2e-6)
    assert summary.lines()[0] == "88 bases, in windows of 64 with an overlap of 20"


def test_bigwig_tracks_hold_the_columns_of_the_table(fasta, tmp_path, small_parts):
    columns = {"x.bw": "log_prob", "x.fwd.bw": "log_prob_fwd", "x.rev.bw": "log_prob_rev", "x.entropy.bw": "entropy"}
    run([tmp_path / "x.parquet", *(tmp_path / name for name in columns)], fasta)
    table = pq.read_table(tmp_path / "x.parquet").to_pandas()
    for name, column in columns.items():
        track = pybigtools.open(str(tmp_path / name))
        assert track.chroms() == {name: len(text) for name, text in GENOME.items()}
        for chrom in GENOME:
            values = track.values(chrom, fillna=None)
            np.testing.assert_allclose(values, table[table.chrom == chrom][column], atol=1e-6)
    assert not (tmp_path / "x.parquet.parts").exists()


def test_a_slice_of_a_chromosome_has_the_chromosomes_coordinates(tmp_path):
    text = random_bases(80, seed=4)
    fasta = write_fasta(tmp_path / "in.fa", **{"chr7:1001-1080": text, "chr7:1061-1110": text[60:] + "ACGTA" * 6})
    run([tmp_path / "x.parquet", tmp_path / "x.bw"], fasta)
    table = pq.read_table(tmp_path / "x.parquet").to_pandas()
    assert list(table.pos) == list(range(1000, 1110))
    assert set(table.chrom) == {"chr7"}
    assert pybigtools.open(str(tmp_path / "x.bw")).chroms() == {"chr7": 1110}


@pytest.mark.parametrize("ending", [".parquet", ".bw"])
@pytest.mark.parametrize("model", [LOADED, MASKED], ids=["causal", "masked"])
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path, fasta, small_parts, model, ending):
    run(tmp_path / f"whole{ending}", fasta, model=model)
    seen = []
    out = tmp_path / f"out{ending}"
    with pytest.raises(Stopped, match="of 520 were done"):
        run(out, fasta, model=model, progress=lambda *n: seen.append(n), stop=lambda: seen[-1][0] > 250)
    assert not out.exists()
    with pytest.raises(NexVarError, match="strand"):
        run(out, fasta, model=model, strand="forward")
    resumed = []
    run(out, fasta, model=model, progress=lambda *n: resumed.append(n))
    assert resumed[0][0] >= 150
    assert resumed[-1] == (520, 520)
    assert [done for done, _ in resumed] == sorted(done for done, _ in resumed)
    assert out.read_bytes() == (tmp_path / f"whole{ending}").read_bytes()


def test_shards_and_their_merge_give_the_same_bytes(tmp_path, fasta, small_parts):
    run(tmp_path / "whole.parquet", fasta)
    out = tmp_path / "out.parquet"
    run(out, fasta, shard=(1, 2))
    with pytest.raises(NexVarError, match="missing"):
        merge(out)
    assert "merge" in run(out, fasta, shard=(2, 2)).lines()[0]
    assert parts.unfinished_kind(out) == likelihood_run.KIND
    command = [sys.executable, "-m", "nexvar", "merge", str(out), "-o", str(out), "-o", str(tmp_path / "x.entropy.bw")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "x.entropy.bw").exists()


def test_another_genome_is_refused_when_resuming(tmp_path, fasta, small_parts):
    run(tmp_path / "out.parquet", fasta, shard=(1, 2))
    text = GENOME["chr2"]
    write_fasta(fasta, **{**GENOME, "chr2": ("A" if text[0] != "A" else "C") + text[1:]})
    with pytest.raises(NexVarError, match="since then changed: genome"):
        run(tmp_path / "out.parquet", fasta)


def test_one_kind_of_run_does_not_go_on_with_the_parts_of_another(tmp_path, fasta, small_parts):
    from nexvar.runs.embed_run import embed_file
    from nexvar.runs.job import EmbedJob

    run(tmp_path / "out.parquet", fasta, shard=(1, 2))
    with pytest.raises(NexVarError, match="kind"):
        embed_file(EmbedJob(SequenceFiles(fasta), tmp_path / "out.parquet", LOADED))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": 9000}, "context of tiny is 8,192"),
        ({"overlap": 32}, "--overlap: 32 of a window's 64 bases, on both sides"),
        ({"overlap": 64, "strand": "forward"}, "at most 63"),
        ({"overlap": 32, "strand": "forward", "model": MASKED}, "at most 31"),
        ({"overlap": -1}, "--overlap"),
        ({"window": 1}, "--window"),
        ({"window": True}, "--window"),
        ({"strand": "down"}, "--strand: no strand 'down'"),
        ({"circular": ("chr9",)}, "circular contig 'chr9' is not in the FASTA"),
        ({"output": "out.txt"}, "no format for the ending"),
        ({"output": "out.vcf"}, "use .parquet, .bw"),
        ({"output": "out.rev.bw", "strand": "forward"}, "--strand both or reverse"),
        ({"output": "no/out.bw"}, "folder does not exist"),
        ({"output": "in.fa"}, "the output is an input"),
        ({"bed": ""}, "empty"),
        ({"bed": "#nothing\n"}, "no regions in the file"),
        ({"bed": "chr2\t10\t301\n"}, "beyond the end (300)"),
        ({"bed": "chr2\t10\t10\n"}, "is empty"),
        ({"bed": "chr9\t10\t20\n"}, "contig 'chr9'"),
        ({"bed": "chr2 10 20\n"}, "separate columns by tabs"),
        ({"shard": (3, 2)}, "--shard"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(fasta, tmp_path, options, says):
    options = dict(options)
    output = tmp_path / options.pop("output", "out.parquet")
    if "bed" in options:
        text, options["bed"] = options["bed"], tmp_path / "regions.bed"
        options["bed"].write_text(text)
    with pytest.raises(NexVarError) as error:
        run(output, fasta, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out*"))


def test_a_track_without_any_value_is_there_and_empty(tmp_path):
    fasta = write_fasta(tmp_path / "in.fa", chr1="N" * 90)
    run(tmp_path / "out.bw", fasta)
    track = pybigtools.open(str(tmp_path / "out.bw"))
    assert track.chroms() == {"chr1": 90}
    assert track.info()["summary"]["basesCovered"] == 0


def test_the_command(tmp_path, fasta):
    command = [sys.executable, "-m", "nexvar", "likelihood", "--fasta", str(fasta), "-o", str(tmp_path / "x.bw")]
    wrong = subprocess.run([*command, "--window", "64", "--overlap", "40"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "--overlap" in wrong.stderr
    done = subprocess.run([*command, "--window", "64"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "520 bases, in windows of 64 with an overlap of 16" in done.stderr
    assert "mitochondria only" in done.stderr


def test_a_damaged_part_is_computed_again_and_a_damaged_manifest_is_one_line(tmp_path, fasta, small_parts):
    run(tmp_path / "whole.parquet", fasta)
    out = tmp_path / "out.parquet"
    run(out, fasta, shard=(1, 1))
    part = parts.part_path(tmp_path / "out.parquet.parts", 2)
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(NexVarError, match="damaged"):
        merge(out)
    run(out, fasta, shard=(1, 1))
    manifest = tmp_path / "out.parquet.parts" / "manifest.json"
    text = manifest.read_text()
    for sound, odd in (('"strand": "both"', '"strand": 5'), ('"chr2": 300', '"chr2": "x"'), ('"before": 20', '"b": 1')):
        assert sound in text
        manifest.write_text(text.replace(sound, odd))
        with pytest.raises(NexVarError, match="manifest is damaged"):
            merge(out)
    manifest.write_text(text)
    merge(out)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
