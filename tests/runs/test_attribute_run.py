"""Attributions of regions, in files: the numbers of Python at the right places; one line for what cannot be."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from nexvar import NexVarError
from nexvar.inference import attribution
from nexvar.inference.attribution import targets
from nexvar.runs.attribute_run import AttributeJob, attribute_file
from nexvar.train import Predictor
from nexvar.weights.load import Loaded, load
from places import GOLDEN
from tiny_tracks import write_track_model
from toy_genome import other_bases, random_bases, write_fasta

pybigtools = pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")
pytest.importorskip("matplotlib", reason="pip install 'nexvar[tracks]'")

GENOME = random_bases(600, seed=9)
REGION = "chr1:301-340"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load("nexvar_mito", device="cpu")


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "ref.fa", chr1=GENOME[:450] + "N" + GENOME[451:], chr2=GENOME[:100])


def run(fasta, loaded, *outputs, **options):
    return attribute_file(AttributeJob(fasta, outputs, loaded, **{"region": REGION, "window": 100, **options}))


def test_every_output_has_the_numbers_of_python(fasta, loaded, tmp_path):
    names = ("x.bw", "x.T.bw", "x.npz", "x.parquet", "x.png")
    lines = run(fasta, loaded, *(tmp_path / name for name in names))
    found = attribution.attribute(loaded, GENOME[270:370], keep=(30, 70))  # 100 bases around 300 .. 340
    assert lines[1] == "100 bases are read, chr1:271-370"
    bigwig = pybigtools.open(str(tmp_path / "x.bw"))
    assert bigwig.chroms() == {"chr1": 600}
    np.testing.assert_allclose(bigwig.values("chr1", 300, 340, fillna=None), found.values_K, rtol=1e-4, atol=1e-6)
    of_t = pybigtools.open(str(tmp_path / "x.T.bw")).values("chr1", 300, 340, fillna=None)
    np.testing.assert_allclose(of_t, found.hypothetical_K4[:, 3], rtol=1e-4, atol=1e-6)
    arrays = np.load(tmp_path / "x.npz")
    table = pq.read_table(tmp_path / "x.parquet")
    for columns in (arrays, {name: table[name].to_numpy() for name in table.column_names}):
        assert columns["pos"].tolist() == list(range(300, 340)) and "".join(columns["base"]) == GENOME[300:340]
        np.testing.assert_allclose(columns["value"], found.values_K, rtol=1e-5)
        np.testing.assert_allclose(columns["A"], found.hypothetical_K4[:, 0], rtol=1e-5)
    assert table.schema.metadata[b"nexvar_method"] == b"saliency"
    assert "model=nexvar_mito" in arrays["nexvar"].tolist()
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_targets_are_places_of_the_contig(fasta, loaded, tmp_path):
    alt = other_bases(GENOME[319])[0]
    run(fasta, loaded, tmp_path / "v.npz", target=f"variant:320{GENOME[319]}>{alt}")
    wanted = attribution.attribute(loaded, GENOME[270:370], target=targets.variant(49, alt), keep=(30, 70))
    np.testing.assert_allclose(np.load(tmp_path / "v.npz")["value"], wanted.values_K, rtol=1e-4, atol=1e-6)
    (line, *_) = run(fasta, loaded, tmp_path / "b.npz", target="base:320", method="ism")
    assert "base:320: changing" in line


def test_a_region_at_the_origin_of_a_circle_is_read_around_it(tmp_path, loaded):
    fasta = write_fasta(tmp_path / "c.fa", c=GENOME)
    options = dict(region="c:1-10", circular=("c",), target="base:5")
    lines = run(fasta, loaded, tmp_path / "o.npz", **options)
    text = GENOME[-45:] + GENOME[:55]
    wanted = attribution.attribute(loaded, text, target=targets.base(49), keep=(45, 55))
    np.testing.assert_allclose(np.load(tmp_path / "o.npz")["value"], wanted.values_K, rtol=1e-4, atol=1e-6)
    assert lines[1] == "100 bases are read, c:556-55"


def test_a_map_is_drawn_and_written(fasta, loaded, tmp_path):
    run(fasta, loaded, *(tmp_path / f"m{e}" for e in (".png", ".npz", ".parquet")), method="dependency", strand="both")
    wanted = attribution.dependency_map(loaded, GENOME[270:370], keep=(30, 70), strand="both")
    np.testing.assert_allclose(np.load(tmp_path / "m.npz")["map"], wanted, rtol=1e-4)
    table = pq.read_table(tmp_path / "m.parquet").to_pydict()
    assert (table["changed"][41], table["pos"][41]) == (301, 301) and len(table["pos"]) == 1600
    assert table["dependency"][42] == pytest.approx(wanted[1, 2])
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    """A random head of two classes on a golden model."""
    folder = tmp_path_factory.mktemp("head") / "m"
    shutil.copytree(GOLDEN / "hyenadna_tiny", folder, ignore=shutil.ignore_patterns("io*"))
    width = load(folder, device="cpu").module.config.width
    weight = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
    save_file({"weight": weight, "bias": torch.zeros(2)}, folder / "head.safetensors")
    facts = {"kind": "classification", "per": "sequence", "pool": "mean", "names": ["no", "promoter"]}
    (folder / "task.json").write_text(json.dumps({**facts, "centre": [], "scale": []}))
    return Predictor(folder, device="cpu")


@pytest.mark.parametrize("method", ["saliency", "ism"])
def test_a_heads_output_is_explained(predictor, method):
    text = GENOME[:60]
    found = attribution.attribute(predictor.loaded, text, method=method, target=predictor.target("promoter"))
    both = [attribution.attribute(predictor.loaded, text, target=predictor.target(n)).value for n in ("no", "promoter")]
    (said,) = predictor.predict([text])
    assert float(torch.tensor(both).softmax(0)[1]) == pytest.approx(said["promoter"], rel=1e-4)
    assert found.value == pytest.approx(both[1], rel=1e-5) and found.values_K.any()


def test_an_unknown_output_of_a_head_names_the_nearest(predictor):
    with pytest.raises(NexVarError, match="no output 'promotor'.*did you mean promoter"):
        predictor.target("promotor")
    with pytest.raises(NexVarError, match="2 outputs.*one of no, promoter"):
        predictor.target()


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        ("x.bw", dict(method="dependency"), r"no format for the ending of 'x.bw'.*\.png"),
        ("x.vcf", {}, "no format for the ending of 'x.vcf'"),
        ("x.png", dict(method="dependancy"), "did you mean 'dependency'"),
        ("x.npz", dict(target="bass:320"), "no target 'bass:320'.*did you mean base"),
        ("x.npz", dict(target="base:100"), "position 100 is not among the 100 bases .*chr1:271-370"),
        ("x.npz", dict(target="base:0"), "position '0'"),
        ("x.npz", dict(target=f"variant:320{other_bases(GENOME[319])[0]}>{GENOME[319]}"), "but the genome has"),
        ("x.npz", dict(target="track:DNASE"), "predicts no tracks"),
        ("x.npz", dict(region="chr1:440-460"), "chr1:451: N is no base"),
        ("x.npz", dict(region="chr9:1-5"), "no contig 'chr9'"),
        ("x.npz", dict(region=None), "2 records.*--region"),
        ("x.npz", dict(window=20), "window of 20 bases.*from 40"),
        ("x.npz", dict(window=100_000), "window of 100,000 bases"),
        ("x.npz", dict(strand="both"), "reads the forward strand"),
        ("x.npz", dict(baseline="zeros"), "method 'saliency' has no baseline"),
        ("x.npz", dict(method="integrated", baseline="zero"), "no baseline 'zero'"),
        ("x.npz", dict(method="dependency", target="base:320"), "a dependency map has no target"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(fasta, loaded, tmp_path, output, options, said):
    with pytest.raises(NexVarError, match=said):
        run(fasta, loaded, tmp_path / output, **options)
    assert not (tmp_path / output).exists()


def test_a_region_beyond_the_context_is_one_line(tmp_path):
    loaded = load(GOLDEN / "nt_v2_tiny", device="cpu")
    fasta = write_fasta(tmp_path / "long.fa", c=random_bases(loaded.card.context + 1, seed=1))
    with pytest.raises(NexVarError, match="bases exceed the context of nt_v2_tiny"):
        attribute_file(AttributeJob(fasta, [tmp_path / "x.npz"], loaded))


def test_columns_of_other_bases_need_tokens_of_bases(tmp_path):
    loaded = load(GOLDEN / "dnabert2_tiny", device="cpu")
    fasta = write_fasta(tmp_path / "one.fa", c=GENOME[:60])
    job = AttributeJob(fasta, [tmp_path / "x.bw", tmp_path / "x.A.bw"], loaded)
    with pytest.raises(NexVarError, match="no hypothetical scores.*--method ism"):
        attribute_file(job)
    attribute_file(AttributeJob(fasta, [tmp_path / "x.png"], loaded, region="c:11-30"))
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch_tokens": 0}, "--batch-tokens"),
        ({"method": "integrated", "steps": 0}, "steps is 0"),
        ({"method": "integrated", "shuffles": 0, "baseline": "shuffled"}, "shuffles is 0"),
        ({"method": "integrated", "baseline": "n"}, "no baseline 'n'"),
    ],
)
def test_numbers_that_cannot_be_are_told_before_the_model_is_loaded(tmp_path, given, said):
    with pytest.raises(NexVarError, match=said):
        AttributeJob(tmp_path / "ref.fa", [tmp_path / "x.bw"], **given)


def test_tracks_of_a_trained_head_are_not_said_to_be_missing(fasta, tmp_path):
    head = load(write_track_model(tmp_path / "model"), device="cpu")
    with pytest.raises(NexVarError, match="has a trained head, which is not explained"):
        run(fasta, head, tmp_path / "x.bw", target="track:plus")
