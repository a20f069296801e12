"""Checkpoints that were wrapped, cut or given another head: the trunk loads and says what it lacks, or is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from nexvar import NexVar, cli, models
from nexvar.errors import NexVarError
from nexvar.weights import checkpoint
from nexvar.weights.load import load, save
from nexvar.weights.names import official_names, renaming
from places import GOLDEN

FOLDERS = sorted(p.parent.name for p in GOLDEN.glob("*/config.json"))
WRAPPERS = ("module.", "model.", "base_model.model.", "backbone.", "encoder.", "net.trunk.", "module.model.")
HEAD_APART = ["dnabert2_tiny", "genos_tiny", "nt_v1_tiny", "nt_v2_tiny", "nt_v2_3mer_tiny", "ntv3_pre_tiny",
              "ntv3_post_tiny"]  # fmt: skip
TEXT = "ACGTTGCAACGTGACGGTAC" * 13


def official(name: str) -> dict[str, Tensor]:
    return checkpoint.read_folder(GOLDEN / name)


def written(name: str, state: dict[str, Tensor], folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for path in GOLDEN.joinpath(name).iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copy(path, folder)
    if changes:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**values, **changes}))
    save_file({k: v.clone().contiguous() for k, v in state.items()}, folder / "model.safetensors")
    return folder


def outputs(folder: Path, logits: bool = True) -> tuple[Tensor | None, Tensor]:
    module = (loaded := load(folder, device="cpu", dtype="float32")).module
    ids = torch.tensor([loaded.tokenizer.encode(TEXT[:120], special=loaded.card.special_tokens).ids])
    with torch.no_grad():
        out = module(ids, taps=(module.last_hidden,), logits=logits)
    return out.logits, out.taps[module.last_hidden]


def assert_same(one: Tensor | None, other: Tensor | None) -> None:
    """To rounding: how a file's bytes are aligned decides which kernel multiplies them."""
    assert one is not None and other is not None
    torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def heads_of(name: str) -> tuple[str, ...]:
    """Beginnings of the official names of the language-model head."""
    return {"dnabert2_tiny": ("cls.",), "ntv3_pre_tiny": ("core.lm_head.",), "ntv3_post_tiny": ("core.lm_head.",)}.get(
        name, ("lm_head.",)
    )


def trunk_alone(name: str) -> dict[str, Tensor]:
    return {k: v for k, v in official(name).items() if not k.startswith(heads_of(name))}


# ------------------------------------------------------------------------------------------------------------ wrapped


@pytest.mark.parametrize("name", FOLDERS)
def test_any_wrapper_is_taken_off_every_architecture(tmp_path, name):
    state = official(name)
    logits, hidden = outputs(GOLDEN / name)
    for i, wrapper in enumerate(WRAPPERS):
        folder = written(name, {f"{wrapper}{k}": v for k, v in state.items()}, tmp_path / str(i))
        again = outputs(folder)
        assert_same(again[0], logits)
        assert_same(again[1], hidden)


@pytest.mark.parametrize("name", FOLDERS)
def test_torch_compile_is_taken_out_wherever_it_stands(tmp_path, name):
    def compiled(key: str) -> str:
        parts = key.split(".")
        return ".".join([*parts[:2], "_orig_mod", *parts[2:]]) if len(parts) > 3 else key

    state = {f"_orig_mod.{compiled(k)}": v for k, v in official(name).items()}
    assert_same(outputs(written(name, state, tmp_path))[0], outputs(GOLDEN / name)[0])


@pytest.mark.parametrize("name", FOLDERS)
@given(words=st.lists(st.sampled_from(["model", "backbone", "esm", "layers", "0", "core", "a", "_x", "é"]), max_size=4))
def test_any_wrapper_at_all_gives_the_official_names_back(name, words):
    state, wrapper = official(name), "".join(f"{word}." for word in words)
    trunk = {k for k in state if not k.startswith(heads_of(name))}
    found = renaming([f"{wrapper}{k}" for k in state], trunk, None, set(state))
    assert found == {f"{wrapper}{k}": k for k in state}


def test_names_of_hundreds_of_parts_cost_nothing():
    """A hostile file: 20,000 names of 250 parts; each is looked at as deep as an official name goes."""
    names = [f"{'a.' * 250}{i}" for i in range(20_000)]
    calls = len(renaming(names, {"esm.encoder.layer.0.weight", "esm.embeddings.weight"}, None))
    assert calls == len(names)


def test_two_models_in_one_file_are_not_chosen_between(tmp_path):
    state = official("hyenadna_tiny")
    both = {f"{who}.{k}": v for who in ("model", "ema_model") for k, v in state.items()}
    with pytest.raises(NexVarError, match="fit the model under 2 beginnings: '(ema_)?model.' and '(ema_)?model.'"):
        load(written("hyenadna_tiny", both, tmp_path))
    with pytest.raises(NexVarError, match="2 beginnings.*no prefix"):
        load(written("hyenadna_tiny", state | {f"ema.{k}": v for k, v in state.items()}, tmp_path))


def test_a_name_that_occurs_with_and_without_its_wrapper_is_refused(tmp_path):
    state = {f"module.{k}": v for k, v in official("genos_tiny").items()}
    state["module._orig_mod.model.norm.weight"] = state["module.model.norm.weight"]
    with pytest.raises(NexVarError, match="module.model.norm.weight occurs twice"):
        load(written("genos_tiny", state, tmp_path))


# ----------------------------------------------------------------------------------------------------------- headless


@pytest.mark.parametrize("name", HEAD_APART)
@pytest.mark.parametrize("wrapper", ["", "model."])
def test_a_trunk_alone_loads_and_embeds_as_with_its_head(tmp_path, name, wrapper):
    folder = written(name, {f"{wrapper}{k}": v for k, v in trunk_alone(name).items()}, tmp_path)
    with pytest.warns(UserWarning, match="without a language-model head"):
        _, hidden = outputs(folder, logits=False)
    assert_same(hidden, outputs(GOLDEN / name)[1])


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("dnabert2_tiny", "bert."), ("nt_v1_tiny", "esm."), ("nt_v2_tiny", "esm."), ("genos_tiny", "model."),
     ("ntv3_pre_tiny", "core.")],
)  # fmt: skip
@pytest.mark.parametrize("wrapper", ["", "backbone."])
def test_the_inner_model_saved_alone_gets_its_official_names_back(tmp_path, name, prefix, wrapper):
    state = {f"{wrapper}{k.removeprefix(prefix)}": v for k, v in trunk_alone(name).items()}
    with pytest.warns(UserWarning, match="without a language-model head"):
        _, hidden = outputs(written(name, state, tmp_path), logits=False)
    assert_same(hidden, outputs(GOLDEN / name)[1])


@pytest.mark.parametrize("name", ["hyenadna_tiny", "caduceus_ph_tiny", "caduceus_ps_tiny"])
def test_backbones_whose_head_is_the_embedding_keep_it(tmp_path, name):
    state = {
        k.removeprefix("hyena.").removeprefix("caduceus."): v
        for k, v in official(name).items() if not k.startswith("lm_head.")
    }  # fmt: skip
    logits, hidden = outputs(written(name, {f"model.{k}": v for k, v in state.items()}, tmp_path))
    assert logits is not None
    assert_same(hidden, outputs(GOLDEN / name)[1])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("nt_v2_tiny", {"classifier.dense.weight": (32, 32), "classifier.out_proj.weight": (2, 32)}),
        ("dnabert2_tiny", {"classifier.weight": (2, 36), "bert.pooler.dense.weight": (36, 36)}),
        ("caduceus_ph_tiny", {"decoder.0.output_transform.weight": (2, 32)}),
        ("hyenadna_tiny", {"score.weight": (2, 32)}),
        ("genos_tiny", {"score.weight": (2, 48)}),
        ("sh2_a", {"head.weight": (2, 64)}),
    ],
)
def test_another_head_is_left_out_by_name(tmp_path, name, head):
    trunk = official(name) if name in ("caduceus_ph_tiny", "hyenadna_tiny", "sh2_a") else trunk_alone(name)
    state = trunk | {k: torch.zeros(shape) for k, shape in head.items()}
    with pytest.warns(UserWarning, match="left out: .*|without a language-model head") as told:
        _, hidden = outputs(written(name, state, tmp_path), logits=False)
    assert next(iter(head)).split(".")[0] in str(told[0].message)
    assert_same(hidden, outputs(GOLDEN / name)[1])


def test_what_is_no_head_is_still_refused(tmp_path):
    state = official("genos_tiny") | {"surprise.weight": torch.zeros(3)}
    with pytest.raises(NexVarError, match="has unknown 1 tensor.*surprise.weight"):
        load(written("genos_tiny", state, tmp_path))


@pytest.mark.parametrize("name", FOLDERS)
@given(data=st.data())
@settings(max_examples=6)
def test_a_trunk_that_misses_one_tensor_is_refused_by_its_name(tmp_path, name, data):
    state = official(name)
    values = json.loads((GOLDEN / name / "config.json").read_text())
    arch = models.get(str(models.infer(values)))
    config = arch.from_official(values)
    own = {n: t for n, t in arch.convert(dict(state), config).items() if not n.startswith(arch.HEADS or ("\0",))}
    needed = sorted(official_names(arch, config, own) & set(state))
    needed = [n for n in needed if not n.endswith(("inv_freq", "position_ids", "complement_map", "unembed.weight"))]
    lost = data.draw(st.sampled_from(needed))
    wrapper = data.draw(st.sampled_from(("", *WRAPPERS)))
    folder = written(name, {f"{wrapper}{k}": v for k, v in state.items() if k != lost}, tmp_path)
    with pytest.raises(NexVarError) as refused, warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folder)
    mine = next(n for n in own if lost in official_names(arch, config, {n: own[n]}))
    assert lost in str(refused.value) or mine in str(refused.value)


def test_caduceus_lightning_checkpoint(tmp_path):
    """As its trainer writes it: the model behind ``model.``, tied tensors several times, settings that are not read."""
    state = official("caduceus_ph_tiny")
    every = {f"model.{k}": v for k, v in state.items()}
    every["model.lm_head.weight"] = state["caduceus.backbone.embeddings.word_embeddings.weight"]
    for key, value in state.items():
        if ".mamba_fwd.in_proj." in key or ".mamba_fwd.out_proj." in key:
            every[f"model.{key.replace('mamba_fwd', 'mamba_rev')}"] = value
    folder = written("caduceus_ph_tiny", {}, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": every, "hyper_parameters": Namespace(lr=1e-3), "epoch": 3}, folder / "last.ckpt")
    assert_same(outputs(folder)[0], outputs(GOLDEN / "caduceus_ph_tiny")[0])


def test_the_command_line_says_it_in_one_line(tmp_path, monkeypatch, capfd):
    folder = written("nt_v2_tiny", trunk_alone("nt_v2_tiny"), tmp_path / "trunk")
    (tmp_path / "s.fa").write_text(f">a\n{TEXT[:60]}\n")
    arguments = ["embed", "--fasta", str(tmp_path / "s.fa"), "--model", str(folder), "-o", str(tmp_path / "o.npz")]
    monkeypatch.setattr("sys.argv", ["nexvar", *arguments, "--device", "cpu"])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("default")
        cli.main()
    told = [line for line in capfd.readouterr().err.splitlines() if "head" in line]
    assert not ended.value.code and len(told) == 1
    assert told[0].startswith("nexvar: trunk: loaded without a language-model head")


# -------------------------------------------------------------------------------------------------------------- verbs


@pytest.fixture(scope="module")
def headless(tmp_path_factory) -> dict[str, NexVar]:
    made = {}
    for name in ("genos_tiny", "nt_v2_tiny", "dnabert2_tiny"):
        folder = written(name, trunk_alone(name), tmp_path_factory.mktemp("headless") / name)
        with pytest.warns(UserWarning, match="without a language-model head"):
            made[name] = NexVar(folder, device="cpu", dtype="float32")
    return made


def test_readouts_of_a_trunk_are_refused_in_one_line_and_embeddings_work(headless, tmp_path):
    genome = tmp_path / "g.fa"
    genome.write_text(f">chr9\n{TEXT}\n")
    for model in headless.values():
        causal = model.card.objective == "causal"
        for readout in ("llr", "site") if causal else ("masked_llr", "pll"):
            with pytest.raises(NexVarError, match=f"no language-model head.*the readout {readout} needs"):
                list(model.score_variants(["chr9:30T>A"], genome, readouts=(readout,), window=96))
        with pytest.raises(NexVarError, match="no language-model head"):
            model.generate(["ACGT"], n_tokens=2) if causal else model.fill(["ACGTNACGT" * 4])
        assert model.embed([TEXT[:96]]).isfinite().all()
        tap = model.model.last_hidden
        ids = torch.tensor([model.tokenizer.encode(TEXT[:96], special=False).ids])
        outputs, embeddings = model(ids, return_embeddings=True, layer_names=[tap])
        assert outputs.logits is None and embeddings[tap].isfinite().all()
        with pytest.raises(NexVarError, match="no language-model head"):
            model(ids)
    with pytest.raises(NexVarError, match="no language-model head.*score_sequences"):
        headless["genos_tiny"].score_sequences(["ACGT"])


@pytest.mark.parametrize("name", ["genos_tiny", "nt_v2_tiny"])
def test_a_trunk_is_saved_and_loaded_again(headless, tmp_path, name):
    model = headless[name]
    config = model.model.config
    save(tmp_path / "m", model.model, architecture=model.card.architecture, config=config, card={})
    with pytest.warns(UserWarning, match="without a language-model head"):
        again = NexVar(tmp_path / "m", device="cpu")
    assert torch.equal(again.embed([TEXT[:96]]), model.embed([TEXT[:96]]))
