"""From files to windows: stores, splits, sampling, and what every base weighs."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nexvar.errors import NexVarError
from nexvar.train import data
from nexvar.train.loop import pretrain
from nexvar.train.loss_weights import LossWeights
from tiny_run import genomes, losses, recipe_file


def test_fasta_gz_jsonl_and_parquet_give_the_same_store(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [("a", "ACGTnnacgt"), ("b", "GGGTTA")]
    with gzip.open(tmp_path / "x.fa.gz", "wt") as f:
        f.write(">a first one\nACGTnn\nacgt\n>b\nGGGTTA\n")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"record": n, "text": s}) + "\n" for n, s in rows))
    pq.write_table(pa.table({"record": [n for n, _ in rows], "text": [s for _, s in rows]}), tmp_path / "x.parquet")
    for name in ("x.fa.gz", "x.jsonl", "x.parquet"):
        store = data.build_store([tmp_path / name], tmp_path / "store")
        assert [(r.name, store.sequence(r).tobytes().decode()) for r in store.records] == rows
        again = data.build_store([tmp_path / name], tmp_path / "store")
        assert isinstance(again.bases, np.memmap) and np.array_equal(again.bases, store.bases)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("protein.fa", ">p\nMKVLAAGIPLLEFQW\n", "protein"),
        ("empty.fa", "", "no sequence"),
        ("hollow.fa", ">a\n>b\nACGT\n", "hollow.fa:2: record 'a' is empty"),
        ("bare.fa", "ACGT\n", "bare.fa:1"),
        ("x.jsonl", '{"name": "a"}\n', "x.jsonl:1"),
        ("broken.jsonl", '{"text": "AC', "cannot be read"),
        ("x.txt", "ACGT", "unknown format"),
        ("cut.fa.gz", gzip.compress(b">a\n" + b"ACGT" * 500, mtime=0)[:-12], "cannot be read"),
    ],
)
def test_bad_data_is_one_line(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NexVarError) as error:
        data.build_store([path], tmp_path / "store")
    assert says in str(error.value) and "\n" not in str(error.value) and name in str(error.value)
    with pytest.raises(NexVarError, match="no such file"):
        data.build_store([tmp_path / "absent.fa"], tmp_path / "store")


def test_holdout_takes_whole_genera_and_exclude_drops_clades(tmp_path: Path, fasta: Path) -> None:
    store = data.build_store([fasta], tmp_path / "store")
    parts = data.split(store.records, by="genus", count=3, seed=5, exclude=["Genus1"])
    held, train = {r.genus for r in parts.held_out}, {r.genus for r in parts.train}
    assert len(parts.held_out) == 4 and not held & train
    assert {r.genus for r in parts.excluded} == {"Genus1"} and "Genus1" not in held | train
    shuffled = data.split(store.records[::-1], by="genus", count=3, seed=5, exclude=["Genus1"])
    assert {r.name for r in shuffled.held_out} == {r.name for r in parts.held_out}
    named = data.split(store.records, by="record", count=0, seed=0, names=["Genus2_species4"])
    assert [r.name for r in named.held_out] == ["Genus2_species4"]
    with pytest.raises(NexVarError, match="leaves none"):
        data.split(store.records, by="genus", count=99, seed=0)


def sampler(tmp_path: Path, text: str, **options: object) -> data.Sampler:
    path = tmp_path / "s.fa"
    path.write_text(text)
    store = data.build_store([path], tmp_path / "store")
    return data.Sampler(store, store.records, **options)  # type: ignore[arg-type]


def test_windows_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    s = sampler(tmp_path, ">a\nACGTTGCAAC\n", length=25, seed=3, circular=True)
    many, one = s.windows(10, 5)[0], s.windows(13, 1)[0]
    assert np.array_equal(many[3], one[0])
    other = sampler(tmp_path, ">a\nACGTTGCAAC\n", length=25, seed=4, circular=True)
    assert not np.array_equal(other.windows(10, 5)[0], many)


def test_circular_windows_wrap_and_both_strands_come(tmp_path: Path) -> None:
    genome = "ACCGTTAG"
    s = sampler(tmp_path, f">a\n{genome}\n", length=12, seed=0, circular=True)
    forward = {(genome * 3)[i : i + 12] for i in range(8)}
    reverse = {"CTAACGGT"[i:] + "CTAACGGT" * 2 for i in range(8)}
    seen = Counter(row.tobytes().decode() for row in s.windows(0, 200)[0])
    strands = Counter("forward" if w in forward else "reverse" for w in seen.elements())
    assert set(seen) == forward | {w[:12] for w in reverse}
    assert 70 < strands["forward"] < 130


def test_short_records_are_packed_with_a_separator_and_no_base_is_lost(tmp_path: Path) -> None:
    s = sampler(tmp_path, ">a\nAAAA\n>b\nCCCCCC\n", length=40, seed=0, reverse_complement=0.0)
    text, weight = s.window(0)
    pieces = text.tobytes().split(b"\0")
    assert set(pieces[:-1]) == {b"AAAA", b"CCCCCC"} and pieces[-1] in b"AAAA\0CCCCCC"
    assert np.array_equal(weight == 0, text == 0)


def test_soft_masked_bases_weigh_less_and_n_nothing(tmp_path: Path) -> None:
    s = sampler(tmp_path, ">a\nACgtNn\n", length=6, seed=0, reverse_complement=0.0, soft_mask_weight=0.1)
    text, weight = s.window(0)
    assert text.tobytes() == b"ACGTNN"
    np.testing.assert_allclose(weight, [1, 1, 0.1, 0.1, 0, 0])


def weights_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "weights.bed"
    path.write_text(text)
    return path


def test_regions_of_a_bed_file_weigh_what_it_says_on_either_strand(tmp_path: Path) -> None:
    text = ">a\nACGTACGTAN\n>b\nGGGGGGGGGG\n"
    records = sampler(tmp_path, text, length=10, seed=0).records
    bed = "# regions\na\t2\t6\tx\t3\na\t4\t10\ty\t0.5\nother\t0\t9\tz\t7\n"
    weights = LossWeights.read(weights_file(tmp_path, bed), {r.name: r.length for r in records})
    expected = np.array([1, 1, 3, 3, 0.5, 0.5, 0.5, 0.5, 0.5, 0])  # the later region holds, N never counts
    seen = set()
    for circular in (False, True):
        for strand in (0.0, 1.0):
            s = sampler(
                tmp_path, text, length=10, seed=3, circular=circular, reverse_complement=strand, loss_weights=weights
            )
            for i in range(20):
                letters, weight = s.window(i)
                if b"G" * 10 in letters.tobytes() or b"C" * 10 in letters.tobytes():
                    assert (weight == 1).all()
                    continue
                shift = -letters.tobytes().find(b"N") - 1 if strand == 0 else -letters.tobytes().find(b"N")
                want = np.roll(expected if strand == 0 else expected[::-1], -shift)
                np.testing.assert_array_equal(weight, want)
                seen.add((circular, strand))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "line, says",
    [
        ("a\t2\t6", "weights.bed:2: 'a\\t2\\t6'"),
        ("a\t2\tsix\tx\t3", "weights.bed:2: 'a\\t2\\tsix"),
        ("a\t6\t2\tx\t3", "weights.bed:2: 6 to 2 of 10 bases"),
        ("a\t0\t11\tx\t3", "weights.bed:2: 0 to 11 of 10 bases"),
        ("a\t0\t5\tx\t-1", "weights.bed:2: weight -1"),
        ("a\t0\t5\tx\tnan", "weights.bed:2: weight nan"),
        ("chr1\t0\t5\tx\t1", "weights.bed: no region of any record"),
    ],
)
def test_a_line_that_is_no_weighted_region_is_one_line(tmp_path: Path, line: str, says: str) -> None:
    records = sampler(tmp_path, ">a\nACGTACGTAN\n", length=10, seed=0).records
    with pytest.raises(NexVarError) as caught:
        LossWeights.read(weights_file(tmp_path, "# regions\n" + line + "\n"), {r.name: r.length for r in records})
    assert says in str(caught.value)


def test_a_recipe_with_loss_weights_trains_by_them(tmp_path: Path, fasta: Path) -> None:
    def first_losses(out: str, regions: str) -> list[float]:
        bed = tmp_path / f"{out}.bed"
        bed.write_text("".join(f"{name}\t{regions}\n" for name, _ in genomes()))
        changes = {"circular = true": f'circular = true\nloss_weights = "{bed}"', "steps = 12": "steps = 6"}
        return list(losses(pretrain(recipe_file(tmp_path, fasta, out, **changes)).parent).values())

    plain = losses(pretrain(recipe_file(tmp_path, fasta, "plain", **{"steps = 12": "steps = 6"})).parent)
    assert first_losses("twice", "0\t160\tall\t2") == pytest.approx(list(plain.values()), rel=1e-5)
    assert first_losses("half", "0\t80\tleft\t0") != pytest.approx(list(plain.values()), rel=1e-3)


def test_clade_weights_set_the_share_of_windows(tmp_path: Path) -> None:
    text = ">Pan_a lineage=Mammalia; Primates\nAAAA\n>Mus_a lineage=Mammalia\nCCCC\n>Danio_a lineage=Pisces\nGGGG\n"
    s = sampler(tmp_path, text, length=4, seed=1, reverse_complement=0.0, weights={"Primates": 4.0, "Mammalia": 2.0})
    seen = Counter(chr(row[0]) for row in s.windows(0, 1400)[0])
    for letter, expected in (("A", 800), ("C", 400), ("G", 200)):
        assert abs(seen[letter] - expected) < 60
