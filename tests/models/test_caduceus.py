"""Caduceus: parity with the original code, reverse-complement equivariance, files of every layout, pieces."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from nexvar import cards, models, tokenizers
from nexvar.errors import NexVarError
from nexvar.models import caduceus
from nexvar.models.caduceus import Config, Model
from nexvar.models.layouts.caduceus import from_official
from nexvar.ops import ssm_scan_cpu
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import convert, load
from nexvar.weights.names import unwrapped
from places import GOLDEN

FOLDERS = ("caduceus_ph_tiny", "caduceus_ps_tiny", "caduceus_ps_tiny_unfused", "caduceus_ph_tiny_variants")
HUMAN = (0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11, 12, 13, 14, 15)


def cases(io: dict[str, Tensor]) -> list[str]:
    return [key.removeprefix("input_ids.") for key in io if key.startswith("input_ids.")]


def off(x: Tensor, reference: Tensor) -> float:
    """Largest difference, relative to the reference's largest value."""
    assert x.shape == reference.shape
    return float((x.detach() - reference.detach()).abs().max() / reference.detach().abs().max())


def draw(length: int, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(7, 12, (rows, length), generator=torch.Generator().manual_seed(seed))


def random_model(seed: int = 0, **changes: Any) -> Model:
    """Weights of the size that training gives them: every one matters."""
    torch.manual_seed(seed)
    values: dict[str, Any] = {"d_model": 12, "n_layer": 3, "rcps": True, "complement_map": HUMAN}
    model = Model(Config(**{**values, **changes})).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight", "norm_f.weight", "D")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif not name.endswith("A_log"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


# -- parity


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("scan", ["torch", "c"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_logits_hidden_states_and_residuals(
    folder: str, scan: str, grad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scan == "c" and not ssm_scan_cpu.available():
        pytest.skip(ssm_scan_cpu.status())
    monkeypatch.setenv("NEXVAR_SCAN", scan)
    model, io = load(GOLDEN / folder, device="cpu").module, load_file(GOLDEN / folder / "io.safetensors")
    compared = set()
    for case in cases(io):
        with torch.set_grad_enabled(grad):
            out = model(io[f"input_ids.{case}"], taps=model.tap_names)
        names = {f"logits.{case}": out.logits, f"last_hidden_state.{case}": out.taps[model.last_hidden]}
        for i in range(model.config.n_layer):
            residual = out.taps[f"caduceus.backbone.layers.{i}.residual"]
            names[f"residual_after_add.{i}.{case}"] = residual
        names |= {f"hidden_states.{k}.{case}": out.taps[f"hidden_states.{k}"] for k in range(model.config.n_layer + 1)}
        for key, value in names.items():
            if key in io:
                assert off(value, io[key]) < 1e-5, key
                compared.add(key)
    assert {key for key in io if not key.startswith("input_ids")} == compared


def test_fused_and_unfused_are_different_functions_of_the_same_weights() -> None:
    fused, unfused = random_model(fused_add_norm=True), random_model(fused_add_norm=False)
    unfused.load_state_dict(fused.state_dict())
    with torch.no_grad():
        ids = draw(40)
        assert off(fused(ids).logits, unfused(ids).logits) > 0.1


# -- the other strand


@given(st.integers(1, 70), st.integers(1, 2), st.booleans(), st.integers(0, 999))
def test_reverse_complement_of_ps(length: int, rows: int, fused: bool, seed: int) -> None:
    """Any weights: logits of the reverse complement are the reversed, complemented logits."""
    model = random_model(seed, fused_add_norm=fused, n_layer=1 + seed % 3, rms_norm=seed % 2 == 0)
    complement = torch.tensor(HUMAN)
    ids = torch.randint(0, 16, (rows, length))
    hidden = "caduceus.backbone.norm_f"
    with torch.no_grad():
        one, other = model(ids, taps=(hidden,)), model(complement[ids.flip(1)], taps=(hidden,))
    assert off(other.logits, one.logits.flip(1)[..., complement]) < 1e-5
    assert off(other.taps[hidden], one.taps[hidden].flip(1, 2)) < 1e-5
    assert model.rc_equivariant


def test_ph_is_not_equivariant() -> None:
    model = random_model(rcps=False, complement_map=())
    complement = torch.tensor(HUMAN)
    ids = draw(30)
    with torch.no_grad():
        other = model(complement[ids.flip(1)]).logits
        assert off(other, model(ids).logits.flip(1)[..., complement]) > 0.1
    assert not model.rc_equivariant


# -- pieces


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fused_add_norm": False, "bias": True},
        {"rcps": False, "complement_map": (), "bidirectional_weight_tie": False},
        {"rcps": False, "complement_map": (), "bidirectional_strategy": "ew_multiply", "rms_norm": False},
        {"bidirectional_weight_tie": False, "bidirectional_strategy": "ew_multiply", "bias": True, "d_conv": 3},
        {"rcps": False, "complement_map": (), "bidirectional": False, "conv_bias": False, "d_state": 5, "expand": 3},
    ],
)
def test_pieces_change_nothing(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk of long inputs from both ends equals the whole, with gradients and without."""
    model = random_model(**changes)
    ids = draw(203, rows=2)
    whole = model(ids, taps=model.tap_names)
    monkeypatch.setattr(caduceus, "PIECE_VALUES", 1)
    with torch.no_grad():
        pieces = model(ids, taps=model.tap_names)
    assert off(pieces.logits, whole.logits) < 2e-5
    for name in model.tap_names:
        assert off(pieces.taps[name], whole.taps[name]) < 2e-5, name


def test_definition_of_every_option() -> None:
    """One block against the formulas of the original code, written out: both directions project by themselves."""
    for tie, multiply, bias in ((True, False, True), (True, True, False), (False, True, True)):
        model = random_model(
            rcps=False, complement_map=(), n_layer=1, bidirectional_weight_tie=tie, bias=bias,
            bidirectional_strategy="ew_multiply" if multiply else "add",
        )  # fmt: skip
        backbone = model.caduceus["backbone"]
        (layer,) = backbone.layers
        ids = draw(25)
        with torch.no_grad():
            r = backbone.embeddings.word_embeddings(ids)
            n, fwd, rev = layer.norm(r), layer.mixer.mamba_fwd, layer.mixer.mamba_rev
            one, other = mamba(fwd, fwd, n), mamba(rev, fwd if tie else rev, n.flip(1)).flip(1)
            r = r + (one * other if multiply else one + other)
            expected = backbone.norm_f(r) @ backbone.embeddings.word_embeddings.weight.T
            assert off(model(ids).logits, expected) < 1e-5


def mamba(way: Any, owner: Any, n_BLD: Tensor) -> Tensor:
    x, z = owner.in_proj(n_BLD).transpose(1, 2).chunk(2, dim=1)
    x = torch.nn.functional.silu(way.conv1d(x)[..., : n_BLD.shape[1]])
    dt, B, C = way.x_proj(x.mT).split([way.dt_proj.in_features, way.A_log.shape[1], way.A_log.shape[1]], dim=-1)
    dt = torch.nn.functional.softplus(way.dt_proj(dt)).mT
    state, ys = 0, []
    for t in range(n_BLD.shape[1]):
        decay = (dt[:, :, t, None] * -way.A_log.exp()).exp()
        state = decay * state + (dt[:, :, t] * x[:, :, t])[..., None] * B[:, t, None]
        ys.append((state * C[:, t, None]).sum(-1) + way.D * x[:, :, t])
    return owner.out_proj((torch.stack(ys, 2) * torch.nn.functional.silu(z)).mT)


def test_bfloat16() -> None:
    exact = load(GOLDEN / "caduceus_ps_tiny", device="cpu").module
    rounded = load(GOLDEN / "caduceus_ps_tiny", device="cpu", dtype="bfloat16").module
    ids = draw(120)
    with torch.no_grad():
        assert off(rounded(ids).logits, exact(ids).logits) < 0.05
    assert rounded.caduceus["backbone"].layers[0].mixer.mamba_fwd.A_log.dtype == torch.float32
    rounded(ids).logits.logsumexp(-1).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in rounded.parameters())


# -- files


@pytest.fixture
def stored() -> tuple[dict[str, Tensor], Config]:
    folder = GOLDEN / "caduceus_ps_tiny"
    config = from_official(json.loads((folder / "config.json").read_text()))
    return load_file(folder / "weights.safetensors"), config


def test_tied_tensors_under_any_name(stored: tuple[dict[str, Tensor], Config]) -> None:
    """Held once, twice, under the other name, or in a backbone alone: the same model."""
    state, config = stored
    expected = convert(models.get("caduceus"), dict(state), config, None)
    everywhere = dict(state)
    embedding = "caduceus.backbone.embeddings.word_embeddings.embedding.weight"
    everywhere["lm_head.lm_head.weight"] = state[embedding].clone()
    for key in state:
        if ".mamba_fwd.in_proj." in key or ".mamba_fwd.out_proj." in key:
            everywhere[key.replace("mamba_fwd", "mamba_rev")] = state[key].clone()
    kept_under_the_other = dict(everywhere)
    for key in list(kept_under_the_other):
        if ".mamba_fwd.in_proj." in key or key == embedding:
            del kept_under_the_other[key]
    bare = {k.removeprefix("caduceus."): v for k, v in state.items() if not k.startswith("lm_head.")}
    no_maps = {k: v for k, v in state.items() if not k.endswith("complement_map")}
    for layout in (everywhere, kept_under_the_other, bare, no_maps):
        arch, module = models.get("caduceus"), build("caduceus", config)
        converted = convert(arch, unwrapped(layout, arch, module, config, None)[0], config, None)
        assert converted.keys() == expected.keys()
        assert all(torch.equal(converted[key], expected[key]) for key in expected)


def test_an_untied_copy_is_refused(stored: tuple[dict[str, Tensor], Config]) -> None:
    """Some transformers versions leave mamba_rev's projections uninitialised and save them so."""
    state, config = stored
    key = "caduceus.backbone.layers.1.mixer.submodule.mamba_rev.in_proj.weight"
    state[key] = torch.randn_like(state[key.replace("rev", "fwd")])
    with pytest.raises(NexVarError, match="layers.1.mixer.mamba_rev.in_proj.weight.*differs from.*mamba_fwd"):
        convert(models.get("caduceus"), state, config, None)


def test_complement_map_in_any_key_order() -> None:
    values = json.loads((GOLDEN / "caduceus_ps_tiny" / "config.json").read_text())
    pairs = list(values["complement_map"].items())
    for seed in range(3):
        random.Random(seed).shuffle(pairs)
        assert from_official(values | {"complement_map": dict(pairs)}).complement_map == HUMAN
    short = {"complement_map": {k: v for k, v in pairs if int(k) < 12}, "vocab_size": 12}
    assert from_official(values | short).complement_map == HUMAN


def test_the_checkpoints_complement_map_wins(stored: tuple[dict[str, Tensor], Config]) -> None:
    state, config = stored
    wrong = Config(**{**config.__dict__, "complement_map": tuple(range(16))})
    converted = convert(models.get("caduceus"), dict(state), wrong, None)
    assert converted["lm_head.complement_map"].tolist() == list(HUMAN)
    for key in state:
        if key.endswith("complement_map"):
            state[key] = torch.tensor([0, 1, 7, 11, 12, 13, 14, 15, 2, 3, 4, 5, 6, 10, 9, 8])
    with pytest.warns(UserWarning, match="not its own inverse"):
        convert(models.get("caduceus"), state, config, None)


def test_released_sizes() -> None:
    """Parameters, tied ones once: published for Caduceus; the file's size for PlantCaduceus l32."""
    for name, parameters in (
        ("caduceus_ps_131k", 7_725_312),
        ("caduceus_ph_131k", 7_725_312),
        ("caduceus_ps_1k_d256", 1_934_592),
        ("caduceus_ph_1k_d118", 470_702),
        ("plantcaduceus_l32", 225_354_752),
    ):
        model = build("caduceus", make_config("caduceus", cards.get(name).config, name))
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_recorded_values_fit_their_cards() -> None:
    folder = Path(cards.__file__).parent
    for name in ("caduceus_ph_1k_d256", "caduceus_ps_131k", "plantcaduceus_l32"):
        card = cards.get(name)
        (case,) = json.loads((folder / card.oracles["file"]).read_text())["cases"]
        assert tokenizers.make(card.tokenizer).encode(case["text"], special=False).ids == case["input_ids"]
        assert len(case["mean"]) == card.config["d_model"] * (2 if card.config["rcps"] else 1)


def test_plantcaduceus_folder(tmp_path: Path) -> None:
    """A folder in PlantCaduceus' layout: a bare backbone, eight tokens, its own tokenizer."""
    from safetensors.torch import save_file

    model = random_model(vocab_size=8, complement_map=(0, 1, 2, 6, 5, 4, 3, 7))
    official = {}
    for key, value in model.state_dict().items():
        if not key.startswith("lm_head."):
            key = key.removeprefix("caduceus.").replace(".mixer.", ".mixer.submodule.")
            official[key.replace("word_embeddings.weight", "word_embeddings.embedding.weight")] = value
    save_file(official, tmp_path / "model.safetensors")
    values = json.loads((GOLDEN / "caduceus_ps_tiny" / "config.json").read_text())
    pairs = {str(i): j for i, j in enumerate(model.config.complement_map)}
    values |= {"d_model": 12, "vocab_size": 8, "complement_map": pairs, "architectures": ["Caduceus"]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    loaded = load(tmp_path, device="cpu")
    assert loaded.tokenizer.tokenize("ACGTN") == [3, 4, 5, 6, 2]
    assert loaded.card.objective == "masked"
    ids = torch.tensor([loaded.tokenizer.tokenize("ACGTTAGC")])
    with torch.no_grad():
        assert torch.equal(loaded.module(ids).logits, model(ids).logits)


# -- what it refuses


def test_masks_and_caches_are_refused() -> None:
    model = random_model()
    ids = draw(10, rows=2)
    real = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(model(ids, mask_BL=real).logits, model(ids).logits)
    real[1, :3] = False
    with pytest.raises(NexVarError, match="no attention mask.*equal length"):
        model(ids, mask_BL=real)
    with pytest.raises(NexVarError, match="no cache"):
        model(ids, cache=object())
    assert not model.pads_safely


def test_bad_configs_are_refused() -> None:
    with pytest.raises(NexVarError, match="bidirectional_strategy 'max'"):
        Config(d_model=8, n_layer=1, bidirectional_strategy="max")
    with pytest.raises(NexVarError, match="complement_map"):
        Config(d_model=8, n_layer=1, rcps=True, complement_map=(0, 0))


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, ids = random_model(), draw(33, rows=3)
    with torch.no_grad():
        together = model(ids).logits
        for row in range(3):
            assert off(model(ids[row : row + 1]).logits, together[row : row + 1]) < 2e-6


def test_scan_choice_of_the_environment_reaches_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = random_model(), draw(20)
    monkeypatch.setenv("NEXVAR_SCAN", "naive")
    with torch.no_grad():
        naive = model(ids).logits
        os.environ["NEXVAR_SCAN"] = "torch"
        assert off(model(ids).logits, naive) < 2e-5
