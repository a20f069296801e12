"""Models out again: original layouts bit for bit, our own, the hub; nothing overwritten, what is lost is named."""

from __future__ import annotations

import fnmatch
import json
import shlex
import shutil
import subprocess
import sys

import huggingface_hub.constants as constants
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from fake_hub import FakeHub, Repository
from nexvar import NexVar, cards, cli, models
from nexvar.errors import NexVarError
from nexvar.weights import checkpoint, hub
from nexvar.weights.assemble import build, make_config
from nexvar.weights.export import FORMATS, export
from nexvar.weights.load import load
from places import GOLDEN

FOLDERS = sorted(p.parent.name for p in GOLDEN.glob("*/config.json"))
LOST = {  # what a folder of our own does not hold of the original file
    "nt_v1_tiny": {"esm.contact_head.regression.bias", "esm.contact_head.regression.weight"},
    "nt_v2_tiny": {"esm.contact_head.regression.bias", "esm.contact_head.regression.weight",
                   "esm.embeddings.position_embeddings.weight"},
    "sh1_b": {"backbone.unembed.weight"},  # a tied copy, which the released files do not have
}  # fmt: skip
LOST["segment_nt_tiny"] = LOST["nt_v2_3mer_tiny"] = LOST["nt_v2_tiny"]


def assert_same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name


def leftovers(name: str, state: dict[str, Tensor]) -> set[str]:
    """Of one file: training's left-overs, and FP8 scales that its config does not use."""
    return {n for n in state if n.endswith(("filter.t", "fp8_scale_fwd"))} if name == "sh2_pt_loader" else set()


# --------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("format", ["official", "huggingface"])
def test_an_official_folder_comes_out_as_it_went_in(tmp_path, name, format):
    made = export(GOLDEN / name, tmp_path / "o", format)
    assert not made.notes
    assert_same_bits(checkpoint.read_folder(tmp_path / "o"), checkpoint.read_folder(GOLDEN / name))
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "o", GOLDEN / name))
    assert ours == theirs
    for path in GOLDEN.joinpath(name).iterdir():
        if path.name in hub.SMALL_FILES[1:]:
            assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_ours_comes_out_in_the_original_layout(tmp_path, name):
    """As after a training run: made from our names and our config alone."""
    export(GOLDEN / name, tmp_path / "ours", "safetensors")
    made = export(tmp_path / "ours", tmp_path / "o", "official")
    state, original = checkpoint.read_folder(tmp_path / "o"), checkpoint.read_folder(GOLDEN / name)
    lost = LOST.get(name, set()) | leftovers(name, original)
    assert_same_bits(state, {n: t for n, t in original.items() if n not in lost})
    said = name.startswith(("nt_v", "segment_nt"))
    assert all("contact_head" in note for note in made.notes) and bool(made.notes) == said
    one, two = load(GOLDEN / name, device="cpu"), load(tmp_path / "o", device="cpu")
    assert one.module.config == two.module.config and one.card.tokenizer == two.card.tokenizer
    assert_same_bits(dict(two.module.state_dict()), dict(one.module.state_dict()))


@pytest.mark.parametrize("card", [c for c in cards.all_cards().values() if not c.config_file], ids=lambda c: c.name)
def test_every_cards_config_survives_the_official_one(card):
    arch = models.get(card.architecture)
    config = make_config(card.architecture, card.config, card.name)
    values = json.loads(json.dumps(arch.official_values(config)))
    assert models.infer(values) == card.architecture
    assert arch.from_official(values) == config


@given(data=st.data())
@settings(max_examples=60)
def test_rows_go_back_whatever_order_a_config_says(data):
    """Every combination of StripedHyena 2's row orders: there and back is the identity."""
    arch, flag = models.get("striped_hyena2"), st.booleans()
    config = arch.Config(
        hidden_size=24, pattern="SDH*", num_attention_heads=data.draw(st.sampled_from([2, 3, 4])), inner_mlp_size=32,
        interleave=data.draw(flag), column_split_hyena=data.draw(flag), hyena_flip_x1x2=data.draw(flag),
        column_split=data.draw(flag), short_filter_bias=data.draw(flag), qkv_proj_bias=data.draw(flag),
        tie_embeddings=data.draw(flag), fp8_projections=data.draw(flag),
    )  # fmt: skip
    shapes = {n: t.shape for n, t in build("striped_hyena2", config).state_dict().items()}
    ours = {n: torch.randn(shape) for n, shape in shapes.items()}
    again = arch.convert(arch.to_official(ours, config), config)
    assert_same_bits(again, ours)
    assert arch.from_official(arch.official_values(config)) == config


def test_vortex_gets_a_pt_and_a_yml_that_pyyaml_reads_as_numbers(tmp_path):
    yaml = pytest.importorskip("yaml")
    export(GOLDEN / "sh2_a", tmp_path / "ours", "safetensors")
    made = export(tmp_path / "ours", tmp_path / "o", "official")
    assert {"model.pt", "config.yml"} <= set(made.files)
    values = yaml.safe_load((tmp_path / "o/config.yml").read_text())
    assert values == json.loads((tmp_path / "o/config.json").read_text())
    assert isinstance(values["eps"], float)
    state = torch.load(tmp_path / "o/model.pt", weights_only=True)
    assert all(isinstance(t, Tensor) for t in state.values())


def test_fp8_scales_are_written_as_transformer_engine_keeps_them(tmp_path):
    folder = tmp_path / "fp8"
    shutil.copytree(GOLDEN / "sh2_pt_loader", folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "use_fp8_input_projections": True}))
    export(folder, tmp_path / "ours", "safetensors")
    made = export(tmp_path / "ours", tmp_path / "o", "official")
    assert any("FP8" in note for note in made.notes)
    raw = torch.load(tmp_path / "o/model.pt", weights_only=False)
    table = torch.load(raw["blocks.0.projections._extra_state"], weights_only=True)
    theirs = checkpoint.read_folder(folder)["blocks.0.projections.fp8_scale_fwd"]
    assert torch.equal(table["scale_fwd"][:2], theirs[:2]) and table["scale_fwd"].shape == (3,)
    again = load(tmp_path / "o", device="cpu").module.state_dict()
    assert_same_bits(dict(again), dict(load(folder, device="cpu").module.state_dict()))


@pytest.mark.parametrize("name", ["sh2_a", "sh1_a", "hyenadna_tiny", "genos_tiny", "caduceus_ps_tiny"])
@pytest.mark.parametrize("format", FORMATS)
def test_another_dtype_leaves_what_must_stay_exact(tmp_path, name, format):
    export(GOLDEN / name, tmp_path / "o", format, dtype="bfloat16")
    module, exact = load(tmp_path / "o", device="cpu").module, load(GOLDEN / name, device="cpu", dtype="float32").module
    arch = load(tmp_path / "o", device="cpu").card.architecture
    for key, tensor in module.state_dict().items():
        kept = any(fnmatch.fnmatch(key, p) for p in models.get(arch).KEEP_FLOAT32)
        expected = exact.state_dict()[key]
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float32 if kept else torch.bfloat16), key
            assert torch.equal(tensor, expected if kept else expected.bfloat16()), key


def test_a_classifiers_head_goes_along(tmp_path):
    state = {k: v for k, v in checkpoint.read_folder(GOLDEN / "nt_v2_tiny").items() if not k.startswith("lm_head.")}
    state["classifier.dense.weight"] = torch.randn(4, 4)
    folder = tmp_path / "classifier"
    folder.mkdir()
    shutil.copy(GOLDEN / "nt_v2_tiny/config.json", folder)
    save_file(state, folder / "model.safetensors")
    made = export(folder, tmp_path / "o")
    assert_same_bits(checkpoint.read_folder(tmp_path / "o"), state)
    assert "without a language-model head" in made.notes[0]


def test_the_built_in_model_comes_out(tmp_path):
    export("nexvar_mito", tmp_path / "o", "huggingface")
    one, two = NexVar("nexvar_mito", device="cpu"), NexVar(tmp_path / "o", device="cpu")
    assert one.score_sequences(["ACGTACGTTT"]) == two.score_sequences(["ACGTACGTTT"])


# ------------------------------------------------------------------------------------------------------------ bad input


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path):
    for taken in ("file", "folder", "link"):
        path = tmp_path / taken
        path.write_text("mine") if taken == "file" else path.mkdir() if taken == "folder" else path.symlink_to("gone")
        with pytest.raises(NexVarError, match=f"{taken}: it exists already"):
            export(GOLDEN / "genos_tiny", path)
    broken = tmp_path / "broken"
    shutil.copytree(GOLDEN / "genos_tiny", broken)
    (broken / "weights.safetensors").write_bytes(b"no")
    damaged = tmp_path / "damaged"
    shutil.copytree(GOLDEN / "genos_tiny", damaged)
    state = checkpoint.read_folder(GOLDEN / "genos_tiny")
    save_file({**state, "lm_head.weight": torch.full((128, 48), torch.nan)}, damaged / "weights.safetensors")
    for source in (broken, damaged, tmp_path / "none"):
        with pytest.raises(NexVarError):
            export(source, tmp_path / "o")
    with pytest.raises(NexVarError, match="cannot be written"):
        export(GOLDEN / "genos_tiny", tmp_path / "no/such/folder")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder", "link", "broken", "damaged"}


CASES = {
    "--format onnx": "no format 'onnx'",
    "--format ''": "no format ''",
    "--dtype int7": "no dtype 'int7'",
    "--adapter nowhere": "no such folder",
    "--push-to-hub tiny": "no repository 'tiny'",
    "--push-to-hub a/b/c": "no repository 'a/b/c'",
    "--push-to-hub ../b": "no repository '../b'",
    "--push-to-hub 'a b/c'": "no repository 'a b/c'",
}


@pytest.mark.parametrize("options", CASES)
def test_bad_options_are_one_line(options, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    arguments = ["export", str(GOLDEN / "genos_tiny"), "-o", "o", *shlex.split(options)]
    monkeypatch.setattr("sys.argv", ["nexvar", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capfd.readouterr().err
    assert ended.value.code == 2 and CASES[options] in told and told.count("\n") == 1, told
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    with FakeHub({"owner/old": Repository({"README.md": b"mine"})}, tokens={"secret"}) as fake:
        monkeypatch.setattr(constants, "ENDPOINT", fake.endpoint)
        yield fake


def test_a_folder_is_uploaded_as_it_is(uploads, tmp_path):
    made = export(GOLDEN / "genos_tiny", tmp_path / "o", "huggingface")
    for repository in ("owner/new", "owner/old"):
        assert hub.push(made.folder, repository) == f"{uploads.endpoint}/{repository}"
        files = uploads.repositories[repository].files
        assert {n: files[n] for n in made.files} == {p.name: p.read_bytes() for p in made.folder.iterdir()}
    assert "owner/new" in uploads.private
    assert uploads.repositories["owner/old"].files["README.md"] == b"mine"


def test_a_wrong_token_is_one_line_and_the_folder_stays(uploads, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "wrong")
    made = export(GOLDEN / "genos_tiny", tmp_path / "o", "huggingface")
    with pytest.raises(NexVarError, match="owner/new: the upload failed.*hf auth login") as refused:
        hub.push(made.folder, "owner/new")
    assert "\n" not in str(refused.value) and (tmp_path / "o/model.safetensors").is_file()


def test_nothing_leaves_the_machine_unasked(uploads, tmp_path):
    export(GOLDEN / "genos_tiny", tmp_path / "o", "huggingface")
    assert not uploads.requests


def test_the_verb_says_what_it_wrote(tmp_path):
    command = [sys.executable, "-m", "nexvar", "export", str(GOLDEN / "nt_v2_tiny"), "-o", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "model.safetensors" in done.stdout and str(tmp_path / "o") in done.stdout
