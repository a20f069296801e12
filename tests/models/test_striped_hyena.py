"""StripedHyena 1 (Evo 1): parity with the original code, its cache bugs absent, its files as published."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_hyena import LENGTHS, greedy, in_pieces, load_golden, recorded_taps
from nexvar import cards, models
from nexvar.errors import NexVarError
from nexvar.models._striped_hyena import hyena_rows
from nexvar.models.layouts.striped_hyena import convert, from_official, matches
from nexvar.models.striped_hyena import Config, Model

FOLDERS = ("sh1_a", "sh1_b")
SMALL = Config(hidden_size=24, pattern="H*H", num_attention_heads=2, inner_mlp_size=40)
EVO1 = ("evo1_131k_base", "evo1_8k_base", "evo1.5_8k_base", "evo1_8k_crispr", "evo1_8k_transposon")


@pytest.fixture(scope="module", params=FOLDERS)
def reference(request, golden):
    return load_golden(golden / request.param)


def small(seed=0):
    model = Model(SMALL)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def some_ids(B, L, seed=0):
    return torch.randint(0, 512, (B, L), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("grad", [True, False])
def test_logits_and_layers_equal_the_original(reference, grad):
    model, io = reference
    compared = 0
    for case in (f"len{L:03d}" for L in LENGTHS if f"len{L:03d}.logits" in io):
        expected = recorded_taps(io, case)
        with torch.set_grad_enabled(grad):
            output = model(io[f"{case}.input_ids"], taps=tuple(expected))
        torch.testing.assert_close(output.logits, io[f"{case}.logits"], atol=1e-4, rtol=0)
        for name, value in expected.items():
            torch.testing.assert_close(output.taps[name], value, atol=1e-4, rtol=0)
            compared += 1
    assert compared >= 5


def test_padding_mask_equals_the_original(reference):
    model, io = reference
    mask = io["padmask.mask"].bool()
    logits = model(io["padmask.input_ids"], mask_BL=mask).logits
    torch.testing.assert_close(logits, io["padmask.logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["gen040", "gen150", "genforce", "genbatch", "genshort1"])
def test_greedy_tokens_equal_the_original(reference, case):
    model, io = reference
    expected, prompt = io[f"{case}.tokens_nocache"], io[f"{case}.input_ids"]
    assert greedy(model, prompt, expected.shape[1], cuts=()).tolist() == expected.tolist()
    forced = range(20, prompt.shape[1])
    assert greedy(model, prompt, expected.shape[1], cuts=forced).tolist() == expected.tolist()
    if case in ("genforce", "genshort1"):
        assert greedy(model, prompt, expected.shape[1]).tolist() == expected.tolist()


def test_cache_contents_equal_the_original(reference):
    model, io = reference
    cache = model.new_cache(1, 40)
    with torch.no_grad():
        model(io["len033.input_ids"][:1], cache=cache)
    channel = hyena_rows(model.config).argsort()
    for index, state in enumerate(cache.layers):
        recorded = {k.split(".")[-1]: v for k, v in io.items() if k.startswith(f"cache033.block_{index:02d}.")}
        if "kv" in recorded:
            ours = torch.stack([state.k, state.v], 2)[:, :33]
            torch.testing.assert_close(ours, recorded["kv"], atol=1e-4, rtol=0)
        else:
            short = state.short[..., channel].transpose(1, 2)
            torch.testing.assert_close(short, recorded["fir_state"], atol=1e-4, rtol=0)
            modes = torch.view_as_real(state.inner)
            torch.testing.assert_close(modes, recorded["iir_state_reim"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder", FOLDERS)
def test_bfloat16_is_as_close_to_float32_as_the_original(golden, folder):
    model, io = load_golden(golden / folder, "bfloat16")
    assert model.blocks[0].filter.poles.dtype == torch.float32
    exact, theirs = io["len033.logits"], io["bf16.len033.logits"].float()
    with torch.no_grad():
        ours = model(io["len033.input_ids"]).logits.float()
    assert (ours - exact).abs().mean() <= 1.1 * (theirs - exact).abs().mean()
    assert (ours - exact).abs().max() <= 1.2 * (theirs - exact).abs().max()


def test_the_rounded_frequencies_of_the_file_are_ignored(golden):
    model, io = load_golden(golden / "sh1_a")
    with torch.no_grad():
        logits = model(io["len197.input_ids"]).logits[:, -20:]
    rounded = io["roundedinvfreq.len197.logits"]
    assert (rounded - io["len197.logits"][:, -20:]).abs().max() > 1e-3  # the difference can be seen …
    assert (logits - rounded).abs().max() > 1e-3  # … and ours is on the right side of it


@settings(max_examples=10)
@given(st.lists(st.integers(1, 199), max_size=6))
def test_an_input_can_be_cut_anywhere(cuts):
    model, ids = small(), some_ids(2, 200)
    torch.testing.assert_close(in_pieces(model, ids, cuts), model(ids).logits.detach(), atol=1e-3, rtol=1e-3)


def test_any_prompt_length_gives_the_uncached_tokens():
    model, ids = small(), some_ids(1, 70)
    for length in (1, 2, 3, 4, 63, 64, 65, 70):
        assert greedy(model, ids[:, :length], 4, cuts=()).tolist() == greedy(model, ids[:, :length], 4).tolist()


def test_every_parameter_learns():
    model, ids = small(), some_ids(1, 600)
    torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_convert_undoes_the_split_by_heads_and_the_prefix():
    state = small().state_dict()
    official = {}
    for key, value in state.items():
        if "projections" in key or "short_filter" in key:
            value = value.unflatten(0, (3, 2, -1)).transpose(0, 1).flatten(0, 2)
        official[f"backbone.{key}"] = value
    official["backbone.blocks.1.inner_mha_cls.rotary_emb.inv_freq"] = torch.zeros(6)
    official["backbone.unembed.weight"] = state["embedding_layer.weight"]
    config = Config(**{**SMALL.__dict__, "column_split_hyena": True})
    converted = convert(official, config)
    assert set(converted) == set(state)
    assert all(torch.equal(converted[k], state[k]) for k in state)


def test_channels_that_share_a_filter():
    config = Config(**{**SMALL.__dict__, "hyena_filter_groups": 4})
    model = Model(config)
    assert model.blocks[0].filter.poles.shape == (6, 8, 1, 2)
    h = model.blocks[0].filter.prepare().within_DCC
    assert torch.equal(h[0], h[3]) and not torch.equal(h[3], h[4])


def test_official_configs_are_told_apart(golden):
    one = json.loads((golden / "sh1_a" / "config.json").read_text())
    two = json.loads((golden / "sh2_a" / "config.json").read_text())
    assert matches(one) and not matches(two) and not models.get("striped_hyena2").matches(one)
    assert models.infer(one) == "striped_hyena" and models.infer(two) == "striped_hyena2"
    config = from_official(one)
    assert config.pattern == "HH*H*H" and config.rotary_interpolation == 16 and config.inner_mlp_size == 176
    with pytest.raises(NexVarError, match=r"layers \[1\]"):
        from_official(dict(one, hyena_layer_idxs=[0, 3, 5]))
    with pytest.raises(NexVarError, match="only H"):
        Config(hidden_size=8, pattern="SH", num_attention_heads=2, inner_mlp_size=8)


@pytest.mark.parametrize("name", EVO1)
def test_full_size_on_the_meta_device(name):
    """438 tensors of 12,913,164,672 bytes, as published: the model's own, the three rotary buffers it ignores."""
    card = cards.get(name)
    config = Config(**card.config)
    with torch.device("meta"):
        model = Model(config)
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == card.parameters
    assert not any("inv_freq" in key or "unembed" in key for key in state)
    attention = [i for i, letter in enumerate(config.pattern) if letter == "*"]
    assert attention == [8, 16, 24] and len(config.pattern) == 32
    in_float32 = ("poles", "residues")
    size = sum(v.numel() * (4 if k.endswith(in_float32) else 2) for k, v in state.items())
    assert len(state) + len(attention) == 438
    assert size + len(attention) * config.head_dim // 2 * 2 == 12_913_164_672
    assert state["blocks.0.filter.poles"].shape == (4096, 8, 1, 2)
    assert state["blocks.0.mlp.l1.weight"].shape == (10928, 4096)
    assert config.rotary_interpolation == (16 if "131k" in name else 1)
