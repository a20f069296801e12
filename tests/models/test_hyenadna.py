"""HyenaDNA: parity with the Hugging Face port, and what the port cannot do (padding, decoding, long inputs)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from nexvar import cards, models, tokenizers
from nexvar.errors import NexVarError
from nexvar.models import hyenadna
from nexvar.models.hyenadna import Config, Model
from nexvar.models.layouts.hyenadna import from_official
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import assign, convert, load
from nexvar.weights.names import unwrapped
from places import GOLDEN

FOLDERS = ("hyenadna_tiny", "hyenadna_tiny_z", "hyenadna_tiny_long")


@pytest.fixture(params=FOLDERS)
def golden_pair(request: pytest.FixtureRequest) -> tuple[Model, dict[str, Tensor]]:
    folder = GOLDEN / request.param
    return load(folder, device="cpu").module, load_file(folder / "io.safetensors")


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load(GOLDEN / "hyenadna_tiny", device="cpu").module


def cases(io: dict[str, Tensor]) -> list[str]:
    return [key.removeprefix("input_ids.") for key in io if key.startswith("input_ids.")]


def off(x: Tensor, reference: Tensor) -> float:
    """Largest difference, relative to the reference's largest value."""
    assert x.shape == reference.shape
    return float((x.detach() - reference.detach()).abs().max() / reference.detach().abs().max())


def draw(length: int, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(7, 12, (rows, length), generator=torch.Generator().manual_seed(seed))


# -- parity


@pytest.mark.parametrize("grad", [False, True])
def test_logits_and_every_hidden_state(golden_pair: tuple[Model, dict[str, Tensor]], grad: bool) -> None:
    model, io = golden_pair
    compared = 0
    for case in cases(io):
        taps = [f"hidden_states.{k}" for k in range(model.config.n_layer + 2)]
        with torch.set_grad_enabled(grad):
            out = model(io[f"input_ids.{case}"].long(), taps=taps)
        assert out.logits is not None
        if f"logits.{case}" in io:
            assert off(out.logits, io[f"logits.{case}"]) < 1e-5, case
            for name in taps:
                assert off(out.taps[name], io[f"{name}.{case}"]) < 1e-5, (case, name)
                compared += 1
        else:  # the long case
            at = io[f"positions.{case}"]
            assert off(out.logits[:, at], io[f"logits_at_positions.{case}"]) < 2e-5
            assert off(out.taps[taps[-1]][:, at], io[f"last_hidden_state_at_positions.{case}"]) < 2e-5
            for k, name in enumerate(taps):
                assert off(out.taps[name].mean(1), io[f"hidden_states_mean_over_length.{k}.{case}"]) < 2e-5, name
            compared += 2 + len(taps)
    assert compared >= 5


def test_filters() -> None:
    """The implicit filters alone; ours has the skip connection in its first tap."""
    folder = GOLDEN / "hyenadna_tiny"
    model, io = load(folder, device="cpu").module, load_file(folder / "io.safetensors")
    for i, layer in enumerate(model.hyena["backbone"].layers):
        with torch.no_grad():
            kernel = layer.mixer.filter_fn(64, keep=False).T
            kernel[0] -= layer.mixer.filter_fn.bias
        assert off(kernel, io[f"debug.filter_kernel.{i}.L64"]) < 1e-5


def test_positional_tensors_are_the_checkpoints(tiny: Model) -> None:
    stored = load_file(GOLDEN / "hyenadna_tiny_z" / "weights.safetensors")
    model = load(GOLDEN / "hyenadna_tiny_z", device="cpu").module
    for name in ("pos_emb.z", "pos_emb.t", "modulation.deltas"):
        key = f"hyena.backbone.layers.1.mixer.filter_fn.{name}"
        assert torch.equal(model.state_dict()[key], stored[key])
        assert not torch.equal(stored[key], tiny.state_dict()[key][:, : stored[key].shape[1]])


# -- filters are kept


def test_filters_are_computed_once_per_length_and_never_stale(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(GOLDEN / "hyenadna_tiny", device="cpu").module
    computed = []
    original = hyenadna.Filter.kernel
    monkeypatch.setattr(hyenadna.Filter, "kernel", lambda *a: computed.append(1) or original(*a))
    layers = model.config.n_layer
    with torch.no_grad():
        first = model(draw(200)).logits
        assert len(computed) == layers
        for length in (200, 100, 256):  # shorter, and as long as the power of two that was kept
            model(draw(length))
        assert len(computed) == layers
        with torch.inference_mode():
            model(draw(200))
        assert len(computed) == layers

        filter_fn = model.hyena["backbone"].layers[0].mixer.filter_fn
        filter_fn.implicit_filter["0"].weight.mul_(1.1)
        changed = model(draw(200)).logits
        assert len(computed) == layers + 1
        assert off(changed, first) > 1e-4
        model.train()
        filter_fn.implicit_filter["0"].weight.data.mul_(1.1)
        assert off(model(draw(200)).logits, changed) > 1e-4
        filter_fn.implicit_filter["0"].weight.data.div_(1.1)
        assert off(model.eval()(draw(200)).logits, changed) < 1e-6
        state = {k: v.clone() for k, v in tiny.state_dict().items()}
        model.load_state_dict(state, assign=True)
        assert off(model(draw(200)).logits, first) < 1e-6


def test_filters_kept_under_inference_mode_serve_training(tiny: Model) -> None:
    model = load(GOLDEN / "hyenadna_tiny", device="cpu").module
    for parameter in model.hyena["backbone"].layers[0].mixer.filter_fn.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        model(draw(50))
    model(draw(50)).logits.sum().backward()
    assert model.hyena["backbone"].layers[0].mixer.in_proj.weight.grad.abs().sum() > 0


def test_filters_learn(tiny: Model) -> None:
    model = load(GOLDEN / "hyenadna_tiny", device="cpu").module
    loss = model(draw(40)).logits.logsumexp(-1).sum()
    loss.backward()
    weight = model.hyena["backbone"].layers[1].mixer.filter_fn.implicit_filter["2"].weight
    step = 1e-3 * weight.grad / weight.grad.norm()
    with torch.no_grad():
        weight += step
        moved = model(draw(40)).logits.logsumexp(-1).sum()
    expected = float((step * weight.grad).sum())
    assert float(moved - loss.detach()) == pytest.approx(expected, rel=0.05)


# -- pieces: what a million bases need


@pytest.mark.parametrize("rows", [1, 2])
def test_pieces_and_channel_blocks_change_nothing(tiny: Model, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk of long inputs (pieces, residual in place, filters a few channels at a time) on a short one."""
    ids, taps = draw(250, rows), tiny.tap_names
    with torch.no_grad():
        whole = tiny(ids, taps=taps)
        monkeypatch.setattr(hyenadna, "ROWS", 64 * rows)
        monkeypatch.setattr(hyenadna, "KEPT_BYTES", 0)
        monkeypatch.setattr(hyenadna, "CHANNELS", 5)
        pieces = tiny(ids, taps=taps)
        assert off(pieces.logits, whole.logits) < 2e-6
        for name in taps:
            assert off(pieces.taps[name], whole.taps[name]) < 2e-6, name
        assert off(tiny(ids, logits=slice(-3, None)).logits, whole.logits[:, -3:]) < 2e-6


# -- padding


@pytest.mark.parametrize("side", ["left", "right"])
def test_masked_padding_is_as_if_absent(tiny: Model, side: str) -> None:
    ids = draw(60)
    pad = torch.full((1, 13), 4)
    padded = torch.cat([pad, ids] if side == "left" else [ids, pad], 1)
    real = padded != 4
    with torch.no_grad():
        alone = tiny(ids).logits
        assert off(tiny(padded, mask_BL=real).logits[real][None], alone) < 2e-6
        unmasked = tiny(padded).logits[real][None]
    assert off(unmasked, alone) < 2e-6 if side == "right" else off(unmasked, alone) > 1e-2


# -- cache


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_cached_forward_in_any_pieces(lengths: list[int]) -> None:
    model = load(GOLDEN / "hyenadna_tiny", device="cpu").module
    ids = draw(sum(lengths), 2)
    cache = model.new_cache(2, sum(lengths) + 3)
    with torch.no_grad():
        pieces = torch.cat([model(piece, cache=cache).logits for piece in ids.split(lengths, 1)], 1)
        assert off(pieces, model(ids).logits) < 5e-6
    assert cache.length == sum(lengths)


def test_cached_forward_of_left_padded_rows(tiny: Model) -> None:
    ids, real = draw(50, 2), torch.ones(2, 50, dtype=torch.bool)
    real[1, :20] = False
    cache = tiny.new_cache(2, 50)
    with torch.no_grad():
        pieces = [tiny(ids[:, at], mask_BL=real[:, at], cache=cache).logits for at in (slice(0, 30), slice(30, 50))]
        alone = tiny(ids[1:, 20:]).logits
    assert off(torch.cat(pieces, 1)[1:, 20:], alone) < 5e-6


def test_greedy_tokens_with_and_without_cache(tiny: Model) -> None:
    for prompt in (1, 2, 3, 30):
        ids = draw(prompt, seed=prompt)
        cache = tiny.new_cache(1, prompt + 20)
        plain, step = ids, ids
        with torch.no_grad():
            for _ in range(20):
                token = tiny(step, cache=cache).logits[:, -1:].argmax(-1)
                assert torch.equal(token, tiny(plain).logits[:, -1:].argmax(-1))
                plain, step = torch.cat([plain, token], 1), token


def test_bfloat16(tiny: Model) -> None:
    model = load(GOLDEN / "hyenadna_tiny", device="cpu", dtype="bfloat16").module
    ids = draw(200)
    cache = model.new_cache(1, 200)
    with torch.no_grad():
        exact, rounded = tiny(ids).logits, model(ids).logits
        cached = torch.cat([model(piece, cache=cache).logits for piece in ids.split([150, 1, 49], 1)], 1)
    assert rounded.dtype == torch.float32
    assert off(rounded, exact) < 0.05
    assert off(cached, exact) < 0.05
    assert model.hyena["backbone"].layers[0].mixer.filter_fn.implicit_filter["0"].weight.dtype == torch.float32


# -- length


def test_too_long_is_one_clear_error(tiny: Model) -> None:
    with pytest.raises(NexVarError, match="259 tokens, but this HyenaDNA reads at most 258"):
        tiny(draw(259))
    with pytest.raises(NexVarError, match="at most 258"):
        tiny.new_cache(1, 259)
    cache = tiny.new_cache(1, 258)
    with torch.no_grad():
        tiny(draw(258), cache=cache)
        with pytest.raises(NexVarError, match="at most 258"):
            tiny(draw(1), cache=cache)


# -- checkpoints


def test_other_layouts_of_the_same_weights() -> None:
    """Lightning names with wrapped layers and a tied head; every alias of freq; a backbone alone."""
    stored = load_file(GOLDEN / "hyenadna_tiny" / "weights.safetensors")
    config = from_official(json.loads((GOLDEN / "hyenadna_tiny" / "config.json").read_text()))
    stored["lm_head.weight"] = stored["hyena.backbone.embeddings.word_embeddings.weight"]
    expected = convert(models.get("hyenadna"), dict(stored), config, None)
    lightning = {}
    for key, value in stored.items():
        if key != "lm_head.weight":
            key = key.replace("hyena.", "model.").replace(".mixer.", ".mixer.layer.").replace(".mlp.", ".mlp.layer.")
            lightning[key] = value
    aliases = dict(stored)
    for key, value in stored.items():
        if key.endswith("implicit_filter.1.freq"):
            aliases |= {key.replace(".1.freq", f".{i}.freq"): value.clone() for i in (3, 5)}
    bare = {key.removeprefix("hyena."): value for key, value in stored.items() if key != "lm_head.weight"}
    for layout in (lightning, aliases, bare):
        arch, module = models.get("hyenadna"), build("hyenadna", config)
        converted = convert(arch, unwrapped(layout, arch, module, config, None)[0], config, None)
        assert converted.keys() == expected.keys()
        assert all(torch.equal(converted[key], expected[key]) for key in expected)

    aliases["hyena.backbone.layers.0.mixer.filter_fn.implicit_filter.3.freq"] += 1
    with pytest.raises(NexVarError, match="one freq for both"):
        convert(models.get("hyenadna"), aliases, config, None)


def test_released_sizes() -> None:
    """Elements of the released files: published for tiny-1k, from file sizes for medium-160k and large-1m."""
    for name, elements in (
        ("hyenadna_tiny_1k", 450_712),
        ("hyenadna_small_32k", 4_069_168),
        ("hyenadna_medium_160k", 14_236_768),
        ("hyenadna_large_1m", 54_556_768),
    ):
        model = build("hyenadna", make_config("hyenadna", cards.get(name).config, name))
        assert sum(tensor.numel() for tensor in model.state_dict().values()) == elements


def test_recorded_vectors_fit_their_cards() -> None:
    folder = Path(cards.__file__).parent
    for name in ("hyenadna_medium_160k", "hyenadna_large_1m"):
        card = cards.get(name)
        (case,) = json.loads((folder / card.oracles["file"]).read_text())["cases"]
        assert tokenizers.make(card.tokenizer).encode(case["text"], special=False).ids == case["input_ids"]
        assert len(case["mean"]) == card.config["d_model"]


def test_other_orders_are_refused() -> None:
    values = json.loads((GOLDEN / "hyenadna_tiny" / "config.json").read_text())
    with pytest.raises(NexVarError, match="hyena_order 3"):
        from_official(values | {"hyena_order": 3})


@pytest.mark.parametrize("inner", [1, 3])
def test_other_sizes_of_the_filter(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths and depths that no released checkpoint has: pieces equal the whole."""
    torch.manual_seed(0)
    model = Model(
        Config(
            d_model=20, n_layer=2, d_inner=28, max_seq_len=300, emb_dim=3, filter_order=16, num_inner_mlps=inner,
            short_filter_order=4,
        )
    )  # fmt: skip
    for name, buffer in model.named_buffers():
        torch.nn.init.normal_(buffer, std=0.3 if "deltas" in name else 1.0)
    assign(model, dict(model.state_dict()), device=torch.device("cpu"), dtype=torch.float32)
    ids = draw(230)
    with torch.no_grad():
        whole = model(ids).logits
        monkeypatch.setattr(hyenadna, "ROWS", 64)
        assert off(model(ids).logits, whole) < 5e-6
